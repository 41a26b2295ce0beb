"""Runs that fail: the others end, and one error tells of all."""

import argparse
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from modal_clip_dual import cli, random_sampling
from modal_clip_dual.active import Protocol
from modal_clip_dual.cli.parsing import refuse
from modal_clip_dual.evaluation import FailedRunsError, compare_strategies, read_results, run_active_learning
from modal_clip_dual.evaluation.compare import run_plan
from modal_clip_dual.evaluation.plan import find_samples, make_plan

PROTOCOL = Protocol(n_rounds=2, per_class=1)
SECONDS = ["train_seconds", "score_seconds", "select_seconds", "peak_memory_mib"]


class Unsendable(Exception):
    """An error that cannot be made from its arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def broken(learner, X, n_instances):
    raise RuntimeError("broken")


def unsendable(learner, X, n_instances):
    raise Unsendable("not", "sendable")


@pytest.fixture
def data(embeddings, digits):
    return {"X": embeddings[:240].astype(np.float64), "y": digits.target[:240]}


def compare(strategies, data, estimator=None, **kwargs):
    settings = {"protocol": PROTOCOL, "verbose": 0, "seeds": 2} | kwargs
    return compare_strategies(GaussianNB() if estimator is None else estimator, strategies, **data, **settings)


@pytest.mark.parametrize(("n_jobs", "stored"), [(None, False), (None, True), (2, True)])
def test_the_other_runs_end(data, tmp_path, n_jobs, stored):
    strategies = {"bad": broken, "good": random_sampling, "worse": unsendable, "fine": random_sampling}
    path = tmp_path if stored else None
    with pytest.raises(FailedRunsError, match="^4 of 8 runs failed: 'bad' with 'GaussianNB', seed 0; ") as caught:
        compare(strategies, data, path=path, n_jobs=n_jobs)
    error, text = caught.value, str(caught.value)
    assert "'bad' with 'GaussianNB', seed 1; 'worse' with 'GaussianNB', seed 0; 'worse'" in text
    assert "The first with RuntimeError: broken. The 4 others are" in text
    failed = [(run["strategy"], run["seed"]) for run in error.runs]
    assert failed == [("bad", 0), ("bad", 1), ("worse", 0), ("worse", 1)]
    assert error.__cause__ is error.errors[0] and "broken" in str(error.errors[0])
    assert "not sendable" in str(error.errors[2])
    if n_jobs:
        assert "in broken" in str(error.errors[0].__cause__) and "in unsendable" in str(error.errors[2].__cause__)
    good = compare({"good": random_sampling, "fine": random_sampling}, data)
    pd.testing.assert_frame_equal(error.finished.drop(columns=SECONDS), good.drop(columns=SECONDS))
    assert (repr(str(tmp_path)) in text) == stored and ("attribute 'finished'" in text) != stored
    if stored:
        assert len(read_results(path)) == 8 and not list(tmp_path.rglob("*.partial"))


def test_the_error_can_be_sent():
    error = FailedRunsError("text", [{"seed": 1}], [ValueError("one")], pd.DataFrame({"seed": [0]}))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.runs, str(again.errors[0])) == ("text", [{"seed": 1}], "one")
    pd.testing.assert_frame_equal(again.finished, error.finished)


def test_a_stored_comparison_is_gone_on_with(data, tmp_path):
    with pytest.raises(FailedRunsError):
        compare({"good": random_sampling, "bad": broken}, data, path=tmp_path)
    before = read_results(tmp_path)
    frame = compare({"good": random_sampling, "bad": random_sampling}, data, path=tmp_path)
    pd.testing.assert_frame_equal(frame[frame["strategy"] == "good"].reset_index(drop=True), before)


def test_no_run_ended(data):
    with pytest.raises(FailedRunsError, match=r"^6 of 6 .* seed 4; and 1 more\. .* No other run ended$") as caught:
        compare(broken, data, seeds=6)
    assert caught.value.finished is None


def test_ctrl_c_and_errors_of_who_is_told_stop_at_once(data):
    asked = []

    def stopping(learner, X, n_instances):
        asked.append(len(X))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare({"bad": broken, "stopping": stopping}, data)
    assert len(asked) == 1

    def told(row):
        asked.append(row)
        raise BrokenPipeError

    plan = make_plan(find_samples(**data), GaussianNB(), ["random", "margin"], PROTOCOL, seeds=2)
    with pytest.raises(BrokenPipeError):
        run_plan(plan, verbose=0, on_round=told)
    assert len(asked) == 2


def test_labels_of_one_class(data, capsys):
    """What scikit-learn's solvers refuse is said in words of the loop."""
    X, y = data["X"], (data["y"] == 3).astype(int)  # a tenth of them
    with pytest.raises(ValueError, match="at least 2 classes") as caught:
        run_active_learning(
            LogisticRegression(), random_sampling, X, y, X, y, n_instances=2, n_rounds=1, random_state=7,
            first_query=np.flatnonzero(y == 0)[:2],
        )  # fmt: skip
    (note,) = caught.value.__notes__
    assert note.startswith("with random_state=7 the 2 labels of round 1 are of one class, 0, which")
    assert note.endswith("expected more labels per round or other seeds")
    protocol = Protocol(n_rounds=1, per_class=1)
    with pytest.raises(FailedRunsError) as caught:
        compare("random", {"X": X, "y": y}, LogisticRegression(), protocol=protocol, seeds=6)
    assert caught.value.__notes__[0].startswith(f"with random_state={caught.value.runs[0]['seed']} the 2 labels")
    assert refuse(caught.value) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "expected more labels per round or other seeds" in said


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        (lambda: LogisticRegression().fit([[0.0]], [0]), True),
        (lambda: Protocol(0, per_class=1), False),
        (lambda: int("x"), True),
    ],
)
def test_the_command_says_how_to_see_where_an_error_of_another_package_came_from(monkeypatch, capsys, call, shown):
    def run(args):
        return call()

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=run, traceback=False)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert cli.main([]) == 2
    assert ("--traceback COMMAND ... shows where" in capsys.readouterr().err) == shown


def test_the_command_looks_into_a_comparison_for_where_an_error_came_from(data, capsys):
    plan = make_plan(find_samples(**data), GaussianNB(priors=[2.0]), "random", PROTOCOL, seeds=1)
    with pytest.raises(FailedRunsError, match="ValueError") as caught:
        run_plan(plan, verbose=0)
    refuse(caught.value, has_traceback=True)
    assert "--traceback" in capsys.readouterr().err
