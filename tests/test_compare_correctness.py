"""The comparison of correctness scores: one small run, that it goes on, and what its rows mean."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def script(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("compare_correctness", FOLDER / "compare_correctness.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LABELS", (12,))

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["compare_correctness.py", "--out", str(tmp_path), *args])
        module.main()
        return pd.read_csv(tmp_path / "correctness-digits.csv")

    return module, run


def test_rows_and_going_on(script, capsys):
    module, run = script
    models = ["ClassCodeClassifier", "DirichletMetaClassifier", "CorrectnessRegressor"]
    arguments = ["--seeds", "2", "--bases", "logistic regression", "--labels", "random", "--without", *models]
    first = run(*arguments)
    printed = capsys.readouterr().out
    for heading in ("## logistic regression, random labels, 2 seeds", "AUROC, percent", "| judge, weights domain |"):
        assert heading in printed
    base = module.bases_of(module.Data(Arguments), ["logistic regression"], 0)["logistic regression"]
    assert first["score"].nunique() == len(module.scores_of(base)) - 3 == len(first) / 2
    # All scores judge the same predictions.
    assert (first.groupby("seed")["accuracy"].nunique() == 1).all()
    wide = first.set_index(["seed", "score"])["auroc"].unstack()
    assert (wide["judge, weights domain"] > wide["largest probability"] + 0.02).all()
    np.testing.assert_allclose(wide["calibrated, weights None"], wide["largest probability"], atol=1e-3)
    again = run(*arguments)
    pd.testing.assert_frame_equal(first, again)
    more = run(*arguments[:2], "--bases", "logistic regression", "--labels", "random", "--without", *models[:2])
    assert set(more["score"]) - set(first["score"]) == {"CorrectnessRegressor"}
    pd.testing.assert_frame_equal(more[: len(first)], first)


class Arguments:
    data, model, weights = "digits", None, None
