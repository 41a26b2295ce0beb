"""The page of a comparison, and the commands that make it."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from modal_clip_dual.__main__ import main
from modal_clip_dual.evaluation import read_results, write_report
from modal_clip_dual.evaluation.report import curves, label_table


def table(strategies=("random", "a"), data="d", estimator="e", seeds=3, **columns):
    rng = np.random.default_rng(0)
    rows = [
        {"data": data, "estimator": estimator, "learner": "selection", "strategy": name, "seed": seed,
         "round": k, "n_labels": 10 * k, "budget": 0.01 * k, "accuracy": 0.5 + 0.05 * k + rng.normal(0, 0.01)}
        for name in strategies for seed in range(seeds) for k in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


class Page(HTMLParser):
    """Cells of the tables, tags, and the addresses that the page refers to."""

    def __init__(self, path):
        super().__init__()
        self.cells, self.tags, self.addresses, self.open = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, "tags that are never closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


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
    assert "\\|&" in label_table(frame)


@pytest.mark.parametrize("strategies", [("random",), ("a", "b")])
def test_parts_that_cannot_be_made_are_left_out(tmp_path, strategies):
    path = write_report(table(strategies, seeds=1), tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert "Labels to the accuracy" not in text
    assert ("Differences" in text) == (len(strategies) > 1)


def test_many_curves_are_drawn_by_estimator():
    names = [f"s{k}" for k in range(6)]
    frame = pd.concat([table(names, estimator=name) for name in ("one", "two")])
    assert [(name, set(rows["estimator"])) for name, rows in curves(frame)] == [
        ("one", {"one"}), ("two", {"two"})
    ]  # fmt: skip
    assert [name for name, _ in curves(table(names[:3]))] == ["all"]


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


# -------------------------------------------------------------------- commands

COMMAND = ["benchmark", "--data", "digits", "--model", "demo", "--strategies", "random,negative-prompt",
           "--seeds", "1", "--rounds", "2", "--epochs", "1", "--device", "cpu"]  # fmt: skip


def test_benchmark_and_report(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = [*COMMAND, "--out", str(out), "--learner", "selection,full", "--score", "normalized"]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "4 runs of 2 rounds of 12 labels" in said and "0 of 4 runs are done" in said
    assert "about " in said and not out.exists()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "| demo (full) | negative-prompt |" in said
    assert said.count("that could have come out is 1.") == 2  # one seed shows nothing
    frame = read_results(out)
    assert len(frame) == 8
    stored = pd.read_csv(out / "results.csv")
    np.testing.assert_allclose(stored["accuracy"], frame.set_index(["estimator", "strategy", "round"]).loc[
        list(zip(stored["estimator"], stored["strategy"], stored["round"]))]["accuracy"])  # fmt: skip
    made = {file.name for file in out.iterdir()}
    assert {"report.html", "learning-curves-digits_all.png", "runs"} <= made
    assert sum(name.startswith("wins-") for name in made) == 2
    assert main([*command, "--dry-run"]) == 0
    assert "4 of 4 runs are done" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["report", str(out), "--out", str(page)]) == 0
    assert Page(page).tags.count("h2") == 1


@pytest.mark.parametrize(
    ["arguments", "message"],
    [
        (["--data", "digts"], "digts"),
        (["--data", "eurosat", "--root", "/nowhere"], "/nowhere"),
        (["--rounds", "200"], "200 rounds of 12 labels are more than the pool of 1198"),
        (["--strategies", "random,random"], None),
        (["--strategies", "nosuch:function"], "cannot be imported"),
        (["--lr", "0"], "'lr' parameter"),
        (["--negative-weight", "nan"], "'negative_weight' parameter"),
        (["--device", "nosuch"], "device='nosuch' cannot be used"),
        (["--model", "nosuch"], "model_name='nosuch'"),
    ],
)
def test_wrong_arguments(arguments, message, capsys, tmp_path):
    code = main([*COMMAND, *arguments, "--out", str(tmp_path / "out"), "--dry-run"])
    assert code == (2 if message else 0)
    if message:
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ["arguments", "message"],
    [
        (["benchmark"], "--data"),
        ([*COMMAND, "--strategies", "best"], "'best' is none of negative-prompt"),
        ([*COMMAND, "--learner", "half"], "'half' is neither"),
        ([*COMMAND, "--learner", ","], "',' has no name"),
        ([*COMMAND, "--strategies", ","], "',' has no name"),
        ([*COMMAND, "--protocol", "5pct"], "invalid choice"),
        (["report"], "RESULTS"),
    ],
)
def test_arguments_that_do_not_parse(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_out_that_is_a_file(tmp_path, capsys):
    (tmp_path / "out").touch()
    assert main([*COMMAND, "--out", str(tmp_path / "out")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_report_without_results(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "no folder with finished runs" in capsys.readouterr().err


def test_all_strategies(capsys, tmp_path, monkeypatch):
    from modal_clip_dual.strategies import available_strategies

    monkeypatch.setattr("modal_clip_dual._benchmark.estimate_seconds", lambda plan, runs: 600.0)
    command = [*COMMAND, "--strategies", "all", "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"{len(available_strategies())} runs" in said and "about 10 minutes" in said


def test_estimate_counts_a_pass_of_the_image_tower_per_round_of_visual_prompts(digits):
    """With visual prompts every round encodes the images anew; without, they are encoded once."""
    from modal_clip_dual import DualPromptClassifier
    from modal_clip_dual._benchmark import estimate_seconds
    from modal_clip_dual.active import Protocol
    from modal_clip_dual.evaluation.compare import make_plan

    seconds = {}
    for visual_prompts in (None, "vpt-shallow"):
        clf = DualPromptClassifier(
            digits.class_names, model_name="demo", pretrained="bundled", device="cpu",
            visual_prompts=visual_prompts, max_epochs=1, n_jobs=None, random_state=0,
        )  # fmt: skip
        plan = make_plan(clf, ["random"], digits.images, digits.target, protocol=Protocol(20, per_class=1), seeds=1)
        seconds[visual_prompts] = estimate_seconds(plan, plan.runs)
    assert 0 < seconds[None] < seconds["vpt-shallow"] < 3600


def test_tables_with_the_papers_figures():
    from modal_clip_dual._benchmark import text_tables

    frame = table(("random", "negative-prompt"), data="eurosat", estimator="ViT-B-16")
    ours = text_tables(frame)
    with_paper = text_tables(frame, with_paper=True)
    assert with_paper.count("paper") > ours.count("paper")
    late = frame.assign(budget=frame["budget"] + 0.5)  # no round has 1, 2 or 5% of the pool
    assert "| eurosat" not in text_tables(late).split("\n\n")[0]
