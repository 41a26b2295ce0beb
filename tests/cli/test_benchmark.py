"""The commands ``benchmark`` and ``report``."""

import re

import numpy as np
import pandas as pd
import pytest
from frames import Page, table

from modal_clip_dual.cli import main
from modal_clip_dual.evaluation import read_results

COMMAND = ["benchmark", "--data", "digits", "--model", "demo", "--strategies", "random,negative-prompt",
           "--seeds", "1", "--rounds", "2", "--epochs", "1", "--device", "cpu"]  # fmt: skip


def test_benchmark_and_report(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = [*COMMAND, "--out", str(out), "--loop", "selection,full", "--score", "normalized"]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "4 runs of 2 rounds of 12 labels" in said and "0 of 4 runs are done" in said
    assert "about " in said and not out.exists()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert re.search(r"\| demo \(full\) +\| negative-prompt \|", said)
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
        (["--data", "mine/x.npz"], "embeddings in a file are compared by examples/compare_learners.py"),
        (["--data", "eurosat", "--root", "/nowhere"], "/nowhere"),
        (["--rounds", "200"], "200 rounds of 12 labels are more than the pool of 1198"),
        (["--strategies", "random,random"], None),
        (["--strategies", "nosuch:function"], "cannot be imported"),
        (["--lr", "0"], "'lr' parameter"),
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
        ([*COMMAND, "--strategies", "best"], "'best' is none of alfa-mix"),
        ([*COMMAND, "--loop", "half"], "'half' is neither"),
        ([*COMMAND, "--loop", ","], "',' has no name"),
        ([*COMMAND, "--strategies", ","], "',' has no name"),
        ([*COMMAND, "--protocol", "5pct"], "invalid choice"),
        ([*COMMAND, "--negative-weight", "nan"], "nan is not a number of at least 0"),
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
    from modal_clip_dual import DualPromptClassifier
    from modal_clip_dual.strategies import available_strategies

    monkeypatch.setattr("modal_clip_dual.cli.estimates.estimate_seconds", lambda plan, runs: 600.0)
    command = [*COMMAND, "--strategies", "all", "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(command) == 0
    said = capsys.readouterr().out
    names = available_strategies(DualPromptClassifier())
    assert "negative-prompt" in names and "code-distance" not in names
    assert f"{len(names)} runs" in said and "about 10 minutes" in said


def test_estimate_counts_a_pass_of_the_image_tower_per_round_of_visual_prompts(digits):
    """With visual prompts every round encodes the images anew; without, they are encoded once."""
    from modal_clip_dual import DualPromptClassifier
    from modal_clip_dual.active import Protocol
    from modal_clip_dual.cli.estimates import estimate_seconds
    from modal_clip_dual.evaluation.plan import find_samples, make_plan

    seconds, samples = {}, find_samples(digits.images, digits.target)
    for visual_prompts in (None, "vpt-shallow"):
        clf = DualPromptClassifier(
            digits.class_names, model_name="demo", pretrained="bundled", device="cpu",
            visual_prompts=visual_prompts, max_epochs=1, n_jobs=None, random_state=0,
        )  # fmt: skip
        plan = make_plan(samples, clf, ["random"], Protocol(20, per_class=1), seeds=1)
        seconds[visual_prompts] = estimate_seconds(plan, plan.runs)
    assert 0 < seconds[None] < seconds["vpt-shallow"] < 3600


def test_tables_with_the_papers_figures():
    from modal_clip_dual.cli.benchmark import text_tables

    frame = table(("random", "negative-prompt"), data="eurosat", estimator="ViT-B-16")
    ours = text_tables(frame)
    with_paper = text_tables(frame, with_paper=True)
    assert with_paper.count("paper") > ours.count("paper")
    late = frame.assign(budget=frame["budget"] + 0.5)  # no round has 1, 2 or 5% of the pool
    assert "| eurosat" not in text_tables(late).split("\n\n")[0]
