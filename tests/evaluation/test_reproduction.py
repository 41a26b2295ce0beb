"""Accuracies beside those of the paper's Table 1."""

import math

import numpy as np
import pandas as pd
import pytest
from frames import runs

from modal_clip_dual.evaluation import reproduction_table
from modal_clip_dual.evaluation._published import paper_accuracy

# Table 1 of arXiv 2602.04340v1, a second copy: zero-shot, then 1, 2 and 5% of each method.
METHODS = ["random", "entropy", "coreset", "badge", "alfa-mix", "core-gcn", "cec", "selection only", "full"]
PRINTED = """
DTD | 44.3 | 38.4 44.2 54.1 | 35.2 40.9 49.3 | - 44.9 52.9 | 40.2 46.9 56.2 | - 49.6 55.6 | 38.8 44.8 55.0
    | 47.9 52.8 58.2 | 48.1 53.0 58.8 | 52.0 55.0 61.8
Caltech101 | 91.3 | 88.2 88.4 91.1 | 86.1 89.3 89.4 | - 91.1 91.3 | 88.2 89.8 92.2 | - 89.7 92.3 | 88.4 89.8 92.4
    | 88.7 89.0 92.8 | 92.4 93.9 94.1 | 93.9 94.4 95.4
EuroSAT | 42.0 | 82.2 86.1 87.8 | 70.5 78.1 84.8 | - 84.5 87.9 | 80.6 85.6 87.5 | - 86.1 88.3 | 82.1 84.0 88.2
    | 82.8 86.2 88.0 | 84.5 86.8 90.0 | 91.2 91.4 93.6
Aircraft | 24.9 | 18.4 21.2 26.0 | 19.7 22.0 24.7 | - 19.7 23.0 | 17.8 20.7 25.7 | - 20.2 28.7 | 18.4 21.2 26.3
    | 20.3 22.3 27.1 | 21.2 23.5 27.8 | 27.2 27.5 29.7
Flowers102 | 67.3 | 60.2 66.3 82.6 | 55.2 65.4 80.3 | - 62.2 76.2 | 53.5 68.2 86.2 | - 74.0 88.7 | 60.2 64.0 80.0
    | 64.1 75.6 88.2 | 66.1 76.8 88.9 | 74.5 80.9 89.9
UCF101 | 64.3 | 55.4 66.6 73.8 | 53.1 62.1 72.8 | - 65.4 74.1 | 50.7 63.7 75.3 | - 66.9 75.4 | 55.3 63.9 73.1
    | 57.6 67.0 76.2 | 60.8 68.5 77.0 | 75.4 75.8 77.9
"""


def printed():
    """Accuracy by data set, method and percentage."""
    figures = {}
    for row in PRINTED.strip().replace("\n    |", " |").splitlines():
        data, zero_shot, *cells = [cell.strip() for cell in row.split("|")]
        figures[data, "zero-shot", 0] = float(zero_shot)
        for method, cell in zip(METHODS, cells, strict=True):
            for percent, figure in zip((1, 2, 5), cell.split(), strict=True):
                figures[data, method, percent] = math.nan if figure == "-" else float(figure)
    return figures


def test_every_figure_of_table_1():
    figures = printed()
    assert len(figures) == 6 * (1 + 9 * 3) and sum(map(math.isnan, figures.values())) == 6 * 2
    own = {"selection only": ("negative-prompt", "selection"), "full": ("negative-prompt", "full")}
    for (data, method, percent), figure in figures.items():
        strategy, loop = own.get(method, (method, "selection"))
        np.testing.assert_equal(paper_accuracy(data, strategy, percent, loop), figure)


def measured():
    """Two data sets, of which the paper has one, in the wrong order; 5% was not reached."""
    parts = []
    for data in ("mine", "eurosat"):
        selection = {"data": data, "loop": "selection", "labels": (135, 270)}
        parts += [
            runs("negative-prompt", [[0.91, 0.92]], data=data, loop="full", labels=(135, 270)),
            runs("negative-prompt", [[0.85, 0.86]], **selection),
            runs("margin", [[0.5, 0.6]], **selection),
            runs("random", [[0.80, 0.85], [0.84, 0.87]], **selection),
            runs("random", [[0.42], [0.42]], (0,), data=data, loop="selection").assign(round=0),
            runs("negative-prompt", [[0.7]], (0,), data=data, loop="full").assign(round=0),  # not zero-shot CLIP
        ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(budget=frame["n_labels"] / 13500, estimator="any name")


def test_table():
    frame = measured().assign(estimator=lambda rows: rows["loop"] + " " + rows["strategy"])
    table = reproduction_table(frame, format="frame")
    assert table["data"].tolist() == ["eurosat"] * 9 + ["mine"] * 9
    first = table[table["data"] == "eurosat"].set_index(["method", "percent"])
    assert [*first.index] == [
        ("zero-shot", 0),
        *((method, percent) for percent in (1, 2) for method in ("random", "selection only", "full", "margin")),
    ]
    cell = first.loc[("random", 1)]
    assert cell["mean"] == pytest.approx(82.0) and cell["std"] == pytest.approx(math.sqrt(8.0))
    assert (cell["n_seeds"], cell["n_labels"], cell["paper"]) == (2, 135, 82.2)
    assert cell["difference"] == pytest.approx(-0.2)
    assert first.loc[("full", 2), "paper"] == 91.4 and first.loc[("selection only", 2), "paper"] == 86.8
    assert first.loc[("zero-shot", 0), ["mean", "paper", "n_seeds"]].tolist() == [42.0, 42.0, 1]
    assert np.isnan(first.loc[("margin", 1), "paper"])
    assert table.loc[table["data"] == "mine", "paper"].isna().all()


def test_table_as_markdown():
    lines = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in reproduction_table(measured(), rounds=(1,)).splitlines()
    ]
    del lines[1]
    assert lines == [
        ["data set", "labels", "accuracy in %", "zero-shot", "random", "selection only", "full", "margin"],
        ["EuroSAT", "1%", "ours", "42.0", "82.0 +- 2.8", "85.0", "91.0", "50.0"],
        ["EuroSAT", "1%", "paper", "42.0", "82.2", "84.5", "91.2", "-"],
        ["EuroSAT", "1%", "ours - paper", "+0.0", "-0.2", "+0.5", "-0.2", "-"],
        ["mine", "1%", "ours", "42.0", "82.0 +- 2.8", "85.0", "91.0", "50.0"],
    ]


def test_other_strategies_of_the_full_loop():
    frame = measured()
    others = frame[(frame["strategy"] != "negative-prompt") & (frame["round"] > 0)].assign(loop="full")
    table = reproduction_table(pd.concat([frame[frame["loop"] == "full"], others]), format="frame")
    assert set(table["method"]) == {"full", "random (full)", "margin (full)"}
    assert table.loc[table["method"] != "full", "paper"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="loop"), "no column 'loop'"),
        (lambda frame: frame.drop(columns="budget"), "no column 'budget'"),
        (lambda frame: pd.concat([frame, frame.assign(estimator="another")]), "a run twice"),
        (lambda frame: frame.assign(budget=0.5)[frame["round"] > 0], "no run has a budget"),
    ],
)
def test_frames_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        reproduction_table(change(measured()))


def test_format_is_checked():
    with pytest.raises(ValueError, match="format='html'"):
        reproduction_table(measured(), format="html")
