"""Tables of accuracies, and the paper's figures in them."""

import math

import numpy as np
import pandas as pd
import pytest
from frames import runs

from modal_clip_dual.evaluation import paper_table
from modal_clip_dual.evaluation._published import COLUMNS, TABLE_1, ZERO_SHOT, paper_accuracy


def test_the_papers_figures_are_those_of_the_notes():
    assert list(TABLE_1) == ["DTD", "Caltech101", "EuroSAT", "Aircraft", "Flowers102", "UCF101"]
    assert list(ZERO_SHOT) == list(TABLE_1)
    assert sum(ZERO_SHOT.values()) == pytest.approx(334.1)
    for cells in TABLE_1.values():
        assert len(cells) == len(COLUMNS) == 9
        assert all(len(cell) == 3 for cell in cells)
        assert all(10 < f < 100 for cell in cells for f in cell if f is not None)
        assert [cell[0] is None for cell in cells] == [k in (2, 4) for k in range(9)]
    # A sum per column, added up by hand from the printed table.
    full = [sum(row[-1][k] for row in TABLE_1.values()) for k in range(3)]
    assert full == pytest.approx([414.2, 425.0, 448.3])
    selection = [sum(row[-2][k] for row in TABLE_1.values()) for k in range(3)]
    assert selection == pytest.approx([373.1, 402.5, 436.6])


@pytest.mark.parametrize(
    ("arguments", "figure"),
    [(("DTD", "random", 1), 38.4), (("caltech-101", "cec", 5), 92.8),
     (("FGVC Aircraft", "alfa-mix", 2), 20.2), (("eurosat", "negative-prompt", 2), 86.8),
     (("eurosat", "negative-prompt", 2, "full"), 91.4), (("UCF101", "uncertain-gcn", 5), 73.1),
     (("Flowers102", "zero-shot", 0), 67.3)],
)  # fmt: skip
def test_paper_accuracy(arguments, figure):
    assert paper_accuracy(*arguments) == figure


@pytest.mark.parametrize(
    "arguments",
    [("DTD", "coreset", 1), ("DTD", "random", 3), ("digits", "random", 1), ("DTD", "margin", 1),
     ("DTD", "random", 1, "full"), ("DTD", "full", 1), ("DTD", "zero-shot", 1)],
)  # fmt: skip
def test_no_paper_accuracy(arguments):
    assert np.isnan(paper_accuracy(*arguments))


def paper_runs():
    labels = (28, 56, 84, 112, 140)  # of 2,820: 0.993% a round
    frame = pd.concat(
        [
            runs("random", [[0.38, 0.44, 0, 0, 0.54], [0.40, 0.46, 0, 0, 0.54]], labels,
                 data="DTD", estimator="selection"),
            runs("my|way_%", [[0.5, 0.6], [0.5, 0.6]], labels, data="DTD", estimator="selection"),
            runs("negative-prompt", [[0.521]], labels, data="DTD", estimator="full"),
            runs("random", [[0.9]], labels, data="my & data", estimator="selection"),
        ],
        ignore_index=True,
    )  # fmt: skip
    return frame.assign(budget=frame["n_labels"] / 2820)


def test_table_as_markdown():
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")]
             for line in paper_table(paper_runs()).splitlines()]  # fmt: skip
    assert lines[0] == ["data (accuracy in % at 1 / 2 / 5% of the pool)", "random", "my\\|way\\_%",
                        "negative-prompt"]  # fmt: skip
    assert lines[2:] == [
        ["DTD (selection)", "39.0 +- 1.4 / 45.0 +- 1.4 / 54.0 +- 0.0",
         "50.0 +- 0.0 / 60.0 +- 0.0 / -", "-"],
        ["DTD (selection), paper", "38.4 / 44.2 / 54.1", "-", "-"],
        ["DTD (full)", "-", "-", "52.1 / - / -"],
        ["DTD (full), paper", "-", "-", "52.0 / - / -"],
        ["my \\& data (selection)", "90.0 / - / -", "-", "-"],
    ]  # fmt: skip
    without = paper_table(paper_runs(), with_paper=False)
    assert "paper" not in without
    assert len(without.splitlines()) == 5
    other = paper_table(paper_runs(), with_paper={"full": "selection"})
    assert "48.1" in other
    assert "38.4" not in other


def test_table_as_latex():
    lines = paper_table(paper_runs(), format="latex").splitlines()
    assert lines[0] == r"\begin{tabular}{lccc}"
    assert lines[2] == (
        r"data (accuracy in \% at 1 / 2 / 5\% of the pool) & random & my\textbar{}way\_\% & "
        r"negative-prompt \\"
    )
    assert lines[4].startswith(r"DTD (selection) & 39.0 $\pm$ 1.4 / 45.0 $\pm$ 1.4 / 54.0 $\pm$ 0.0 & ")
    assert lines[-3].startswith(r"my \& data (selection) & 90.0 / - / - & - & - \\")
    assert all(line.count(" & ") == 3 for line in lines if line.endswith(r"\\"))


def test_latex_and_markdown_escapes():
    frame = paper_runs()
    frame["strategy"] = frame["strategy"].replace("random", "a\\b^c~{d}#$\n<e>*`[f]")
    assert r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}\{d\}\#\$ " in paper_table(
        frame, format="latex"
    )
    markdown = paper_table(frame)
    assert r"a\\b^c\~{d}\#\$ \<e\>\*\`\[f\]" in markdown
    assert len(markdown.splitlines()) == 6  # the line break of the name is none


def test_table_as_frame():
    table = paper_table(paper_runs(), format="frame")
    row = table[(table["strategy"] == "random") & (table["percent"] == 2)].iloc[0]
    assert row["mean"] == pytest.approx(45)
    assert row["std"] == pytest.approx(math.sqrt(2))
    assert (row["n_labels"], row["n_seeds"], row["paper"]) == (56, 2, 44.2)
    assert len(table) == 7


@pytest.mark.parametrize(
    ("labels", "pool", "percent", "fits"),
    [((12,), 1198, 1, True), ((16,), 1198, 1, False), ((28, 56, 84, 112, 140), 2820, 5, True),
     ((1,), 60, 1, False), ((1,), 60, 2, True), ((11,), 1000, 1, False),
     ((20,), 1000, 2, True), ((20,), 1000, 1, False)],
)  # fmt: skip
def test_budgets_agree_within_the_rounding_of_each_round(labels, pool, percent, fits):
    frame = runs("random", [[0.5] * len(labels)], labels, data="DTD")
    frame["budget"] = frame["n_labels"] / pool
    if fits:
        table = paper_table(frame, rounds=(percent,), format="frame")
        assert table["n_labels"].tolist() == [labels[-1]]
    else:
        with pytest.raises(ValueError, match="no run has a budget of any of these percentages"):
            paper_table(frame, rounds=(percent,))


def test_paper_table_of_rounds_put_together():
    rounds = [
        pd.DataFrame({"data": "DTD", "strategy": ["random", "margin"], "seed": 0, "round": r,
                      "n_labels": 28 * r, "budget": 0.01 * r, "accuracy": [0.5, 0.6]})
        for r in (1, 2)
    ]  # fmt: skip
    table = paper_table(pd.concat(rounds), with_paper=False)
    assert table == paper_table(pd.concat(rounds, ignore_index=True), with_paper=False)
