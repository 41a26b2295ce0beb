"""The page of a comparison."""

import numpy as np
import pandas as pd
import pytest
from frames import Page, table

from modal_clip_dual.evaluation import write_report
from modal_clip_dual.evaluation.plots.learning_curves import drawn_together
from modal_clip_dual.evaluation.tables import label_table


def test_page_needs_nothing_else(tmp_path):
    frame = pd.concat([table(auroc_clean=0.7, train_seconds=1.5, peak_memory_mib=300.0), table(data="d2")])
    page = Page(write_report(frame, tmp_path / "page.html"))
    assert page.tags.count("h2") == 2
    assert page.addresses and all(a.startswith("data:image/png;base64,") for a in page.addresses)
    assert "link" not in page.tags and "script" not in page.tags
    first = frame[(frame["data"] == "d") & (frame["strategy"] == "a") & (frame["round"] == 2)]["accuracy"]
    assert f"{100 * first.mean():.1f} +- {100 * first.std():.1f}" in page.cells
    assert "70.0 +- 0.0" in page.cells and "1.50" in page.cells and "300" in page.cells


def test_names_of_users_are_escaped(tmp_path):
    evil = '<script>alert("1")</script>|&'
    frame = table(strategies=("random", evil), data=evil, estimator=evil)
    path = write_report(frame, tmp_path / "page.html", title=evil)
    page = Page(path)
    assert "script" not in page.tags
    assert evil in page.cells
    assert "<script" not in path.read_text()
    assert "\\|\\&" in label_table(frame)


@pytest.mark.parametrize("strategies", [("random",), ("a", "b")])
def test_parts_that_cannot_be_made_are_left_out(tmp_path, strategies):
    path = write_report(table(strategies, seeds=1), tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert "Labels to the accuracy" not in text
    assert ("Differences" in text) == (len(strategies) > 1)


def test_many_curves_are_drawn_by_estimator():
    names = [f"s{k}" for k in range(6)]
    frame = pd.concat([table(names, estimator=name) for name in ("one", "two")])
    assert [(name, set(rows["estimator"])) for name, rows in drawn_together(frame)] == [
        ("one", {"one"}), ("two", {"two"})
    ]  # fmt: skip
    assert [name for name, _ in drawn_together(table(names[:3]))] == ["all"]


def test_strategies_with_other_seeds_are_not_compared(tmp_path):
    frame = table()
    frame = frame[(frame["strategy"] == "random") | (frame["seed"] > 0)]
    text = write_report(frame, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Not compared: " in text


@pytest.mark.parametrize("change", [
    lambda frame: frame[(frame["estimator"] == "one") | (frame["strategy"] != "random")],
    lambda frame: frame[(frame["estimator"] == "one") | (frame["round"] < 2)],
    lambda frame: frame[(frame["strategy"] != "random") | (frame["round"] < 2)],
], ids=["no random", "fewer rounds", "fewer rounds of random"])  # fmt: skip
def test_labels_to_what_random_ends_with_in_each_estimator(tmp_path, change):
    names = ("random", "a", "b")
    frame = change(pd.concat([table(names, estimator="one"), table(names, estimator="two")]))
    text = write_report(frame, tmp_path / "page.html").read_text(encoding="utf-8")
    last = frame[(frame["estimator"] == "one") & (frame["strategy"] == "random")]
    target = last.loc[last["round"] == last["round"].max(), "accuracy"].mean()
    assert f"Labels to the accuracy that random ends with ({target:.1%}), one" in text


def test_random_reaches_what_it_ends_with(tmp_path):
    """Means over seeds in two orders of summation differ in the last bit."""
    frame = table(seeds=3)
    random = (frame["strategy"] == "random") & (frame["round"] == 2)
    frame.loc[random, "accuracy"] = np.array([455, 462, 453]) / 599
    page = write_report(frame, tmp_path / "page.html").read_text(encoding="utf-8")
    row = page[page.index("Labels to the accuracy") :].partition("<td class=name>random</td>")[2]
    assert row.startswith("<td>20</td>")


def test_no_interval_of_one_seed(tmp_path):
    assert "nan" not in write_report(table(seeds=1), tmp_path / "page.html").read_text(encoding="utf-8")


def test_no_table(tmp_path):
    with pytest.raises(ValueError, match="no column 'data'"):
        write_report(table().drop(columns="data"), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
