"""The command line."""

import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from modal_clip_dual import PAPER_SETTINGS, DualLinearClassifier, DualPromptClassifier, random_sampling
from modal_clip_dual.cli import build_parser, demo, main
from modal_clip_dual.cli.demo import demo_table
from modal_clip_dual.evaluation import run_active_learning


def test_demo_computes_with_one_thread(tmp_path, monkeypatch):
    threads = []

    def note(args):
        threads.append(torch.get_num_threads())
        return 0

    monkeypatch.setattr(demo, "_run", note)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert main(["demo"]) == 0 and threads == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_demo(tmp_path, capsys):
    figure, csv = tmp_path / "curves.png", tmp_path / "runs.csv"
    arguments = ["demo", "--rounds", "2", "--seeds", "1", "--device", "cpu", "--budget", "0.02"]
    assert main([*arguments, "--figure", str(figure), "--csv", str(csv)]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Handwritten digits, 10 classes")
    lines = [line for line in output.splitlines() if line.startswith("seed 0")]
    assert len(lines) == 12 and sum("  0 labels" in line for line in lines) == 4
    curves = ["DualLinear, auto", "DualLinear, random", "DualPrompt, negative-prompt", "DualPrompt, random"]
    assert f"| accuracy          | {' | '.join(curves)} |" in output
    assert figure.read_bytes().startswith(b"\x89PNG")
    frame = pd.read_csv(csv)
    assert [f"{row.estimator}, {row.strategy}" for row in frame.itertuples()] == np.repeat(curves, 3).tolist()
    assert frame["n_labels"].tolist() == [0, 24, 48] * 4
    prompts = frame["estimator"] == "DualPrompt"
    for round_ in (0, 1):  # zero-shot, then the same labels for every strategy
        assert frame[prompts & (frame["round"] == round_)]["accuracy"].nunique() == 1
    assert (frame[prompts & (frame["round"] == 1)]["accuracy"] > 0.4).all()
    # What each learner believes of itself is printed as it is stored, but by zero-shot CLIP, which believes nothing.
    for line, row in zip(lines, frame.itertuples()):
        says = "zero-shot CLIP" if np.isnan(row.mean_correct) else f"believes {row.mean_correct:6.1%}"
        assert f"{row.n_labels:3d} labels  accuracy {row.accuracy:6.1%}, {says}" in line
    assert frame["mean_correct"].isna().equals(prompts & (frame["round"] == 0))


@pytest.mark.parametrize("learner", ["dual-linear", "prompts"])
def test_one_learner_with_strategies_of_ones_own_choice(tmp_path, learner):
    csv = tmp_path / "runs.csv"
    arguments = ["demo", "--learners", learner, "--strategies", "margin", "auto", "--rounds", "1", "--seeds", "2"]
    arguments += ["--device", "cpu", "--figure", str(tmp_path / "curves.png"), "--csv", str(csv)]
    assert main(arguments) == 0
    frame = pd.read_csv(csv)
    assert frame["estimator"].unique().tolist() == [{"dual-linear": "DualLinear", "prompts": "DualPrompt"}[learner]]
    assert frame["loop"].unique().tolist() == [{"dual-linear": "full", "prompts": "selection"}[learner]]
    assert frame["seed"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert frame["strategy"].tolist() == ["margin", "margin", "auto", "auto"] * 2


def test_dual_linear_starts_from_the_pool_and_the_names(tmp_path, digits):
    csv = tmp_path / "runs.csv"
    arguments = ["demo", "--learners", "dual-linear", "--strategies", "random", "--rounds", "1", "--seeds", "1"]
    assert main([*arguments, "--device", "cpu", "--figure", str(tmp_path / "curves.png"), "--csv", str(csv)]) == 0
    order = np.random.default_rng(0).permutation(1797)
    test, pool = order[:599], order[599:]
    clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
    clf.fit_unlabeled(digits.images[pool])
    zero = pd.read_csv(csv).iloc[0]
    assert zero["accuracy"] == clf.score(digits.images[test], digits.target[test]) > 0.85
    assert zero["mean_correct"] == pytest.approx(clf.predict_correct_proba(digits.images[test]).mean(), rel=1e-5)


@pytest.mark.parametrize("full", [False, True])
def test_draws_of_the_published_figures(tmp_path, digits, full):
    """The split, the first rows, and one generator for all rounds of a strategy, written out."""
    csv = tmp_path / "runs.csv"
    arguments = ["demo", "--rounds", "2", "--seeds", "2", "--device", "cpu", "--strategies", "random"]
    arguments += ["--learners", "prompts", "--figure", str(tmp_path / "curves.png"), "--csv", str(csv)]
    arguments += ["--full"] if full else []
    assert main(arguments) == 0
    settings = PAPER_SETTINGS | {"augment": None}
    clf = DualPromptClassifier(
        digits.class_names, model_name="demo", pretrained="bundled", device="cpu", **settings
    )
    order = np.random.default_rng(1).permutation(1797)
    test, pool = order[:599], order[599:]
    X, y = digits.images, digits.target
    records = run_active_learning(
        clf, partial(random_sampling, random_state=np.random.default_rng(1)), X[pool], y[pool], X[test], y[test],
        n_instances=12, n_rounds=2, first_query=None if full else np.arange(12),
        n_per_class=16 if full else 0, random_state=1,
    )  # fmt: skip
    frame = pd.read_csv(csv)
    frame = frame[frame["n_labels"] > 0]
    assert frame[frame["seed"] == 1]["accuracy"].tolist() == [record["accuracy"] for record in records]
    np.testing.assert_allclose(frame[frame["seed"] == 1]["nll"], [record["nll"] for record in records])


def test_table():
    frame = pd.DataFrame(
        {
            "estimator": ["b"] * 4 + ["c"] * 4,
            "strategy": ["a"] * 8,
            "seed": [0, 0, 1, 1] * 2,
            "round": [0, 1, 0, 1] * 2,
            "n_labels": [0, 12, 0, 12] * 2,
            "accuracy": [0.5, 0.7, 0.6, 0.7] + [0.2] * 4,
            "mean_correct": [None, 0.6, None, 0.5] + [0.3] * 4,
            "auroc_clean": [0.1, 0.8, 0.1, 0.8] + [0.4] * 4,
            "auroc_max_proba": [0.1, 0.9, 0.1, 0.9] + [0.5] * 4,
        }
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in demo_table(frame).splitlines()]
    assert rows[0] == ["accuracy", "b, a", "c, a"]
    assert rows[2:] == [
        ["0 labels", "55.0 +- 7.1", "20.0 +- 0.0"],
        ["12 labels", "70.0 +- 0.0", "20.0 +- 0.0"],
        ["it believes", "55.0 +- 7.1", "30.0 +- 0.0"],
        ["AUROC P(correct)", "80.0 +- 0.0", "40.0 +- 0.0"],
        ["AUROC max softmax", "90.0 +- 0.0", "50.0 +- 0.0"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--rounds", "0"], "not a whole number of at least 1"),
        (["demo", "--budget", "2"], "2 is not between 0 and 1"),
        (["demo", "--negative-weight", "-1"], "not a number of at least 0"),
        (["demo", "--strategies", "best"], "'best' is none of alfa-mix"),
        (["demo", "--learners", "prompts,linear"], "'linear' is none of dual-linear, prompts"),
        (["demo", "--learners", ","], "has no name"),
        (["dem"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "200"], "more than the pool of 1198 samples"),
        (["--figure", "no/such/folder/a.png"], "there is no folder"),
        (["--figure", "curves.xyz"], "expected .png, .pdf or .svg"),
    ],
)
def test_refused_before_any_work(arguments, message, capsys):
    assert main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_device_that_is_not_there(capsys):
    assert main(["demo", "--device", "gpu"]) == 2
    assert "device='gpu' cannot be used" in capsys.readouterr().err


def test_help_and_version():
    for name in (["-m", "modal_clip_dual"],):
        done = subprocess.run(
            [sys.executable, *name, "demo", "--help"], capture_output=True, text=True, check=True
        )
        assert "handwritten digits" in done.stdout
        assert "--strategies" in done.stdout
    help_text = build_parser().format_help()
    assert "demo" in help_text


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def interrupted(plan, runs):
        raise KeyboardInterrupt

    monkeypatch.setattr("modal_clip_dual.cli.estimates.estimate_seconds", interrupted)
    command = ["benchmark", "--data", "digits", "--model", "demo", "--strategies", "random", "--dry-run"]
    assert main(command) == 130
    assert capsys.readouterr().err.endswith("stopped\n")
