"""Calibrated P(correct) in the loop: by hand, in the log, saved, from old files, and stopping by it."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Perceptron

from modal_clip_dual import (
    BayesAdapterClassifier,
    CalibratedCorrectness,
    DualLinearClassifier,
    DualPromptClassifier,
    DualPromptLearner,
    random_sampling,
)
from modal_clip_dual.active import EstimatedAccuracy, Protocol
from modal_clip_dual.correctness.calibrated import Odds, answers_out_of_fold, calibrate

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu"}


@pytest.fixture(scope="module")
def pool(digits, embeddings):
    rows = np.random.default_rng(1).permutation(1797)[:300]
    return embeddings[rows], digits.target[rows]


def make(classifier, X, calibration="transductive", **params):
    return DualPromptLearner(classifier(max_epochs=2), X, calibration=calibration, **{"n_per_class": 4} | params)


@pytest.mark.parametrize("calibration", ["own", "transductive", "judge", "auto"])
def test_a_round_by_hand(classifier, pool, digits, calibration):
    X, y = pool
    learner = make(classifier, X, calibration).start()
    rows = np.arange(20)
    learner.teach(rows=rows, y=y[:20])
    estimator = learner.estimator
    pseudo = X[learner.pseudo_rows_], learner.pseudo_labels_

    def judge_of(train):
        if calibration == "own":
            return None
        return DualLinearClassifier(digits.class_names, **DEMO).fit(X[train], y[train], X_pool=X)

    def fit(train):
        copy = clone(estimator)  # with the seed of the round
        copy.fit(X[train], y[train], X_pseudo=pseudo[0], y_pseudo=pseudo[1])
        return Odds(copy, judge_of(train), "proba")

    answers = []
    if calibration in ("own", "transductive"):
        answers = list(answers_out_of_fold(fit, X[:20], y[:20], 5, np.random.default_rng([0, 1, 2])))
    odds = Odds(estimator, judge_of(rows), "proba")
    expected, _, _ = calibrate(answers, odds, X, "domain")
    estimate, low, high = expected.accuracy(odds.of(X[20:])[1])
    record = learner.log_[-1]
    assert record["estimated_accuracy"] == pytest.approx(estimate, abs=1e-6)
    assert record["accuracy_interval"] == pytest.approx([low, high], abs=1e-6)
    assert learner.accuracy_interval() == pytest.approx((estimate, low, high), abs=1e-6)
    assert learner.accuracy_interval(X[20:], level=0.5)[1] > low
    np.testing.assert_allclose(learner.predict_correct_proba(X), expected.proba(odds.of(X)[1]), atol=1e-6)
    asked, _ = learner.query(n_instances=3)
    before = expected.proba(odds.of(X[asked])[1])
    learner.teach(rows=asked, y=y[asked])
    assert learner.log_[-1]["scores"] == pytest.approx(before.tolist(), abs=1e-5)


def test_estimates_hold_on_digits(classifier, digits, embeddings):
    """In every round, also in that without labels; the estimate without calibration does not."""
    order = np.random.default_rng(0).permutation(1797)[:900]
    X, y = embeddings[order], digits.target[order]
    off = {}
    for calibration in (None, "auto", "transductive"):
        learner = make(classifier, X, calibration, y_pool=y, query_strategy=random_sampling, n_per_class=16)
        log = learner.run(y, protocol=Protocol(1, fraction=0.015)).log_
        off[calibration] = [abs(record["estimated_accuracy"] - record["accuracy"]) for record in log]
        for record in log if calibration else ():
            low, high = record["accuracy_interval"]
            assert low < record["accuracy"] < high
    assert max(off["transductive"] + off["auto"]) < 0.05 < max(off[None])


@pytest.mark.parametrize(
    ["estimator", "judged"],
    [
        (DualPromptClassifier(**DEMO), True),
        (BayesAdapterClassifier(**DEMO), True),
        (DualLinearClassifier(**DEMO), False),  # which learns from the pool itself
        (LogisticRegression(), False),  # on no CLIP
        (Perceptron(), False),  # without probabilities
    ],
)
def test_who_is_judged_by_default(estimator, judged, digits, pool):
    X, y = pool
    if "class_names" in estimator.get_params():
        estimator.set_params(class_names=digits.class_names)
    if "max_epochs" in estimator.get_params():
        estimator.set_params(max_epochs=2)
    learner = DualPromptLearner(estimator, X, n_per_class=0, query_strategy=random_sampling)
    learner.teach(rows=np.arange(30), y=y[:30])
    assert learner.calibration == "auto"
    record = learner.log_[-1]
    assert (record["accuracy_interval"] is not None) == judged
    assert hasattr(learner, "predict_correct_proba") == judged
    if judged:
        judged_by = learner.predict_correct_proba(X[30:])
        assert record["estimated_accuracy"] == pytest.approx(judged_by.mean(), abs=1e-6)
        assert np.abs(judged_by - learner.estimator.predict_correct_proba(X[30:])).mean() > 0.05
        return
    with pytest.raises(AttributeError) as error:
        learner.predict_correct_proba(X)
    message = f"calibration='auto', which leaves P(correct) to the {type(estimator).__name__}"
    assert message in str(error.value.__cause__)


def test_round_without_labels_and_without_calibration(classifier, pool):
    X, _ = pool
    record = make(classifier, X).start().log_[0]
    low, high = record["accuracy_interval"]
    assert low < record["estimated_accuracy"] < high
    plain = make(classifier, X, None).start()
    assert plain.log_[0]["accuracy_interval"] is None
    assert not hasattr(plain, "predict_correct_proba") and not hasattr(plain, "accuracy_interval")
    own = plain.estimator.predict_correct_proba(X).mean()
    assert plain.log_[0]["estimated_accuracy"] == pytest.approx(own, abs=1e-5)


def test_resumed(classifier, pool, tmp_path):
    X, y = pool
    protocol = Protocol(2, fraction=0.04)
    expected = make(classifier, X).run(y, protocol=protocol)
    path = tmp_path / "state.npz"
    make(classifier, X, path=path).run(y, protocol=Protocol(1, fraction=0.04)).close()
    resumed = DualPromptLearner.resume(path, X)
    assert resumed.calibration == "transductive"
    resumed.run(y, protocol=protocol)
    names = ("rows", "scores", "estimated_accuracy", "accuracy_interval")
    assert [[r[n] for n in names] for r in resumed.log_] == [[r[n] for n in names] for r in expected.log_]
    resumed.close()
    again = DualPromptLearner.resume(path, X)
    np.testing.assert_array_equal(again.predict_correct_proba(X), expected.predict_correct_proba(X))
    assert again.accuracy_interval() == expected.accuracy_interval()
    again.close()


def test_judge_is_that_of_the_last_training_after_resume(classifier, pool, tmp_path):
    """It is fitted anew, to the pool as it was then: rows were dropped and added since."""
    X, y = pool
    path = tmp_path / "state.npz"
    learner = make(classifier, X[:200], "judge", path=path, n_per_class=0, query_strategy=random_sampling)
    learner.teach(rows=np.arange(20), y=y[:20])
    expected = learner.predict_correct_proba(X)
    learner.drop(np.arange(100, 160))
    learner.extend(X[200:])
    np.testing.assert_array_equal(learner.predict_correct_proba(X), expected)
    learner.close()
    resumed = DualPromptLearner.resume(path, X)
    np.testing.assert_array_equal(resumed.predict_correct_proba(X), expected)
    resumed.close()


def test_files_of_versions_before_it(classifier, pool, tmp_path, monkeypatch):
    from modal_clip_dual.active import saving

    X, y = pool
    path = tmp_path / "state.npz"
    learner = make(classifier, X, None, path=path).run(y, protocol=Protocol(1, fraction=0.04))
    settings, arrays = saving.read_state(path, "learner")
    del settings["calibration"]
    for record in settings["log"]:
        del record["accuracy_interval"]
    learner.close()
    saving.write_state(str(path), "learner", settings, arrays)
    resumed = DualPromptLearner.resume(path, X)
    assert resumed.calibration is None
    assert resumed.log_ == [record | {"accuracy_interval": None} for record in learner.log_]
    resumed.close()


def test_an_error_changes_nothing(classifier, pool, monkeypatch):
    from modal_clip_dual.active import calibration

    X, y = pool
    learner = make(classifier, X).start()
    before = learner.predict_correct_proba(X), list(learner.log_)
    monkeypatch.setattr(calibration, "calibrate", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        learner.teach(rows=[0, 1, 2], y=y[:3])
    assert learner.log_ == before[1]
    np.testing.assert_array_equal(learner.predict_correct_proba(X), before[0])


def test_other_estimators(pool, digits):
    """One without a CLIP by itself; and one that calibrates itself."""
    X, y = pool
    learner = DualPromptLearner(LogisticRegression(), X, calibration="own", query_strategy=random_sampling)
    learner.teach(rows=np.arange(30), y=y[:30])
    assert 0 < learner.log_[-1]["accuracy_interval"][0] < learner.log_[-1]["estimated_accuracy"] < 1
    judge = DualLinearClassifier(digits.class_names, **DEMO)
    wrapped = CalibratedCorrectness(LogisticRegression(), judge=judge, random_state=0)
    other = DualPromptLearner(wrapped, X, query_strategy=random_sampling)
    other.teach(rows=np.arange(30), y=y[:30])
    record = other.log_[-1]
    estimate = other.estimator.accuracy_interval(X[30:])
    assert [record["estimated_accuracy"], *record["accuracy_interval"]] == pytest.approx(estimate, abs=1e-6)


def test_refuses(pool):
    X, _ = pool
    with pytest.raises(ValueError, match="calibration='yes'; expected one of"):
        DualPromptLearner(LogisticRegression(), X, calibration="yes").start()
    with pytest.raises(TypeError, match="calibration='transductive' with a LogisticRegression"):
        DualPromptLearner(LogisticRegression(), X, calibration="transductive").start()


def test_stopping_by_the_lower_end():
    stop = EstimatedAccuracy(0.9, bound="low")
    log = [{"estimated_accuracy": 0.93, "accuracy_interval": [0.89, 0.95]}]
    assert stop(log) is None and EstimatedAccuracy(0.9)(log) is not None
    assert stop([{"estimated_accuracy": 0.93, "accuracy_interval": [0.9, 0.95]}]) == (
        "estimated accuracy 93.0%, at least 90.0%, has reached 90.0%"
    )
    assert stop([{"estimated_accuracy": None, "accuracy_interval": None}]) is None
    with pytest.raises(ValueError, match="bound='low', but the log has no accuracy_interval"):
        stop([{"estimated_accuracy": 0.95, "accuracy_interval": None}])
    with pytest.raises(ValueError, match="bound='high'"):
        EstimatedAccuracy(0.9, bound="high")
