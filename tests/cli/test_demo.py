"""The command line."""

import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest

from modal_clip_dual import DualPromptClassifier, random_sampling
from modal_clip_dual.cli import build_parser, main
from modal_clip_dual.cli.demo import demo_table
from modal_clip_dual.evaluation import run_active_learning


def test_demo(tmp_path, capsys):
    figure, csv = tmp_path / "curves.png", tmp_path / "runs.csv"
    arguments = ["demo", "--rounds", "2", "--seeds", "1", "--device", "cpu", "--budget", "0.02"]
    assert main([*arguments, "--figure", str(figure), "--csv", str(csv)]) == 0
    output = capsys.readouterr().out
    assert output.count("round 1") == output.count("round 2") == 3
    assert "| negative-prompt |" in output
    assert figure.read_bytes().startswith(b"\x89PNG")
    frame = pd.read_csv(csv)
    assert len(frame) == 6
    assert frame["n_labels"].tolist() == [24, 48] * 3
    first = frame[frame["round"] == 1]["accuracy"]
    assert first.nunique() == 1  # every strategy starts from the same labels
    assert first.iloc[0] > 0.4


@pytest.mark.parametrize("full", [False, True])
def test_draws_of_the_published_figures(tmp_path, digits, full):
    """The split, the first rows, and one generator for all rounds of a strategy, written out."""
    csv = tmp_path / "runs.csv"
    arguments = ["demo", "--rounds", "2", "--seeds", "2", "--device", "cpu", "--strategies", "random"]
    arguments += ["--figure", str(tmp_path / "curves.png"), "--csv", str(csv), *(["--full"] if full else [])]
    assert main(arguments) == 0
    clf = DualPromptClassifier(
        digits.class_names, model_name="demo", pretrained="bundled", augment=None, device="cpu"
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
    assert frame[frame["seed"] == 1]["accuracy"].tolist() == [record["accuracy"] for record in records]
    np.testing.assert_allclose(frame[frame["seed"] == 1]["nll"], [record["nll"] for record in records])


def test_table():
    frame = pd.DataFrame(
        {
            "strategy": ["a"] * 4,
            "seed": [0, 0, 1, 1],
            "round": [1, 2, 1, 2],
            "n_labels": [12, 24, 12, 24],
            "accuracy": [0.5, 0.7, 0.6, 0.7],
            "auroc_clean": [0.1, 0.8, 0.1, 0.8],
            "auroc_max_proba": [0.1, 0.9, 0.1, 0.9],
        }
    )
    row = [cell.strip() for cell in demo_table(frame).splitlines()[2].strip("|").split("|")]
    assert row == ["a", "55.0 +- 7.1", "70.0 +- 0.0", "80.0 +- 0.0", "90.0 +- 0.0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--rounds", "0"], "not a whole number of at least 1"),
        (["demo", "--budget", "2"], "2 is not between 0 and 1"),
        (["demo", "--negative-weight", "-1"], "not a number of at least 0"),
        (["demo", "--strategies", "best"], "'best' is none of alfa-mix"),
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
