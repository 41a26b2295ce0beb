"""Calibration of P(correct) out of fold: log-odds, weights and the interval against formulas, loops and draws."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from modal_clip_dual import CalibratedCorrectness, DualLinearClassifier
from modal_clip_dual.correctness.calibrated import Calibration, Odds, fit_calibration, importance_weights
from modal_clip_dual.utils.logistic import fit_logistic


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(150)
    return X[order, :2], y[order]  # two columns, so that there are errors


class Stated:
    """A classifier whose answers are set."""

    def __init__(self, classes, proba):
        self.classes_, self.proba = np.asarray(classes), np.asarray(proba, dtype=np.float64)

    def predict_proba(self, X):
        return self.proba

    def predict(self, X):
        return self.classes_[self.proba.argmax(axis=1)]


# ---------------------------------------------------------------- log-odds


def test_log_odds_sample_by_sample():
    own = Stated(["a", "b", "c"], [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]])
    judge = Stated(["a", "b"], [[0.9, 0.1], [0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    labels, odds = Odds(own, judge, "proba").of(None)
    assert labels.tolist() == ["a", "c", "b", "c"]
    expected = [[0.0, math.log(9)], [math.log(7 / 3), -8], [8, math.log(3)], [math.log(1.5), -8]]
    np.testing.assert_allclose(odds, expected, atol=1e-12)  # "c" is unknown to the judge; 8 is the limit
    assert Odds(own, None, "proba").of(None)[1].shape == (4, 1)
    own.predict_correct_proba = lambda X: np.array([0.5, 0.8, 1.0, 0.0])
    np.testing.assert_allclose(
        Odds(own, None, "correct").of(None)[1][:, 0], [0, math.log(4), 8, -8], atol=1e-12
    )


# ---------------------------------------------------------------- weights


def test_density_ratio_of_two_gaussians():
    rng = np.random.default_rng(0)
    labeled, pool = rng.normal(1, 1, (4000, 1)), rng.normal(0, 1, (8000, 1))
    nothing = np.zeros(4000), np.zeros(8000)
    weights = importance_weights(labeled, nothing[0], pool, nothing[1], "domain")
    ratio = np.exp(0.5 - labeled[:, 0])  # of the densities
    inside = (ratio > 0.2) & (ratio < 5)
    scale = (weights[inside] / ratio[inside]).mean()
    np.testing.assert_allclose(weights[inside] / ratio[inside] / scale, 1, atol=0.25)
    assert np.average(labeled[:, 0], weights=weights) == pytest.approx(0, abs=0.1)
    # The sum is the effective sample size by Kish.
    shape = weights / weights.mean()
    assert weights.sum() == pytest.approx(4000**2 / (shape**2).sum())
    assert weights.sum() < 0.8 * 4000


def test_strata_get_the_shares_of_the_pool():
    rng = np.random.default_rng(0)
    pool_odds, pool_labels = rng.normal(size=(6000, 1)), rng.integers(0, 3, 6000)
    keep = rng.random(6000) < np.where(pool_odds[:, 0] < 0, 0.4, 0.1) * np.where(pool_labels == 0, 1, 0.5)
    odds, labels = pool_odds[keep], pool_labels[keep]
    weights = importance_weights(odds, labels, pool_odds, pool_labels, "strata")
    thirds = np.quantile(pool_odds[:, 0], [1 / 3, 2 / 3])
    for group in [labels == k for k in range(3)] + [np.searchsorted(thirds, odds[:, 0]) == k for k in range(3)]:
        assert weights[group].sum() / weights.sum() == pytest.approx(1 / 3, abs=0.04)
    assert abs((labels == 0).mean() - 1 / 3) > 0.1


def test_weights_of_all_the_same():
    ones = importance_weights(np.zeros((3, 1)), np.zeros(3), np.ones((9, 1)), np.zeros(9), None)
    assert ones.tolist() == [1, 1, 1]


# ---------------------------------------------------------------- the calibration and its interval


def test_interval_is_that_of_draws():
    rng = np.random.default_rng(0)
    odds, train = rng.normal(1, 1.5, (400, 1)), rng.normal(1, 1.5, (80, 1))
    calibration = fit_calibration(train, rng.random(80) < expit(0.7 * train[:, 0] + 0.3))
    estimate, low, high = calibration.accuracy(odds, 0.9)
    assert estimate == pytest.approx(calibration.proba(odds).mean())
    draws = rng.multivariate_normal(calibration.coef, calibration.covariance, 4000)
    proba = expit(odds @ draws[:, :1].T + draws[:, 1])
    shares = (rng.random(proba.shape) < proba).mean(axis=0)
    np.testing.assert_allclose([low, high], np.quantile(shares, [0.05, 0.95]), atol=0.015)
    wider = calibration.accuracy(odds, 0.99)
    assert wider[1] < low < estimate < high < wider[2]


def test_a_judge_may_err_for_the_pool():
    """By a constant of 0.2 in the log-odds, which no number of labels takes away."""
    rng = np.random.default_rng(0)
    odds = rng.normal(1, 2, (4000, 2))
    right = rng.random(4000) < expit(0.1 * odds[:, 0] + 0.8 * odds[:, 1])
    calibration = fit_calibration(odds, right)
    _, covariance = fit_logistic(
        np.column_stack([odds, np.ones(4000)]), right, np.array([0.1, 0.8, 0]), np.array([0.2, 0.2, 0.5])
    )
    np.testing.assert_allclose(calibration.covariance - covariance, np.diag([0, 0, 0.04]), atol=1e-12)
    estimate, low, high = calibration.accuracy(odds, 0.9)
    proba = calibration.proba(odds)
    slope = (proba * (1 - proba)).mean()  # of the mean by the constant
    assert high - low == pytest.approx(2 * 1.645 * 0.2 * slope, rel=0.1)


def test_interval_holds_as_often_as_it_says():
    """Where the log-odds are calibrated up to factors as the prior has them."""
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        slope, constant = rng.normal([1, 0], [0.5, 1.0])
        odds, pool = rng.normal(1, 1.5, (25, 1)), rng.normal(1, 1.5, (300, 1))
        right, of_pool = (rng.random(len(x)) < expit(slope * x[:, 0] + constant) for x in (odds, pool))
        _, low, high = fit_calibration(odds, right).accuracy(pool, 0.9)
        held.append(low <= of_pool.mean() <= high)
    assert 0.85 < np.mean(held) < 0.95  # standard error 0.015


def test_weights_mend_what_selection_bent():
    """The truth is no line in the log-odds, and labels come where the odds are low: unweighted, the mean is off."""
    rng, off = np.random.default_rng(0), {None: [], "domain": [], "strata": []}
    for _ in range(30):
        pool = rng.normal(0, 2, (1000, 1))
        right = rng.random(1000) < np.where(pool[:, 0] < 0, 0.2, 0.9)
        chosen = np.flatnonzero(rng.random(1000) < 0.25 * expit(-1.0 * pool[:, 0]))
        for method, found in off.items():
            weights = importance_weights(pool[chosen], np.zeros(len(chosen)), pool, np.zeros(1000), method)
            estimate = fit_calibration(pool[chosen], right[chosen], weights).proba(pool).mean()
            found.append(estimate - right.mean())
    bias = {method: abs(np.mean(found)) for method, found in off.items()}
    assert bias["domain"] < 0.6 * bias[None] and bias["strata"] < bias[None]


# ---------------------------------------------------------------- the classifier


@pytest.mark.parametrize("judged", [False, True])
@pytest.mark.parametrize("weights", [None, "domain"])
def test_fit_by_hand(iris, judged, weights):
    X, y = iris
    base, judge, folds = LogisticRegression(), GaussianNB() if judged else None, KFold(4)
    clf = CalibratedCorrectness(base, judge=judge, weights=weights, cv=folds).fit(X[:60], y[:60], X_pool=X)

    def odds_of(one, other, rows):
        table = []
        for x in X[rows]:
            proba = one.predict_proba([x])[0]
            k = proba.argmax()
            own = math.log(proba[k] / (proba.sum() - proba[k]))
            p = other.predict_proba([x])[0][k] if judged else None
            table.append([own, np.clip(math.log(p / (1 - p)), -8, 8)] if judged else [own])
        return np.array(table)

    tables, right = [], []
    for train, test in folds.split(X[:60]):
        one = clone(base).fit(X[train], y[train])
        other = clone(judge).fit(X[train], y[train]) if judged else None
        tables.append(odds_of(one, other, test))
        right.append(one.predict(X[test]) == y[test])
    table, right = np.concatenate(tables), np.concatenate(right)
    assert 0.5 < right.mean() < 0.95
    one, other = base.fit(X[:60], y[:60]), judge.fit(X[:60], y[:60]) if judged else None
    given = importance_weights(table, None, odds_of(one, other, np.arange(150)), None, weights)
    np.testing.assert_allclose(clf.weights_, given, rtol=1e-6)
    np.testing.assert_array_equal(clf.right_, right)
    prior = ([0.1, 0.8, 0], [0.2, 0.2, 0.5]) if judged else ([1, 0], [0.5, 1])
    coef, _ = fit_logistic(np.column_stack([table, np.ones(60)]), right, *map(np.array, prior), given)
    np.testing.assert_allclose(clf.coef_, coef, atol=1e-5)
    rows = np.arange(60, 150)
    expected = expit(np.column_stack([odds_of(one, other, rows), np.ones(90)]) @ coef)
    np.testing.assert_allclose(clf.predict_correct_proba(X[60:]), expected, atol=1e-5)
    labels, correct = clf.predict_with_confidence(X[60:])
    np.testing.assert_array_equal(labels, one.predict(X[60:]))
    np.testing.assert_array_equal(clf.predict_proba(X[60:]), one.predict_proba(X[60:]))
    estimate, low, high = clf.accuracy_interval(X[60:])
    assert estimate == pytest.approx(correct.mean()) and 0 < low < estimate < high < 1
    assert not hasattr(base, "estimator_") and judge is clf.judge


def test_no_label_is_judged_by_a_model_that_saw_it():
    """Labels without any pattern: the answers in the sample would be right, those out of it are not."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 60)), np.arange(40) % 2
    base = LogisticRegression(C=1e4, max_iter=1000)
    assert base.fit(X, y).score(X, y) == 1.0
    clf = CalibratedCorrectness(base, random_state=0).fit(X, y)
    assert clf.right_.mean() < 0.75
    assert clf.predict_correct_proba(X).mean() < 0.9 * base.predict_proba(X).max(axis=1).mean()


def test_a_judge_that_knows_the_pool(classifier, digits, embeddings):
    """On digits: prompts err, and DualLinear knows where; few labels, chosen by the prompts' own doubt."""
    order = np.random.default_rng(0).permutation(1797)
    pool, test = order[:1198], order[1198:]
    X, y = embeddings[pool], digits.target[pool]
    first = classifier(max_epochs=5).fit_unlabeled(X)
    rows = np.argsort(first.predict_proba(X).max(axis=1))[:15]
    judge = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
    clf = CalibratedCorrectness(classifier(max_epochs=5), judge=judge, random_state=0, cv=3)
    clf.fit(X[rows], y[rows], X_pool=X)
    left = np.delete(pool, rows)
    estimate, low, high = clf.accuracy_interval(embeddings[left])
    accuracy = clf.score(embeddings[left], digits.target[left])
    assert abs(estimate - accuracy) < 0.05 and low < accuracy < high
    own = clf.estimator_.predict_correct_proba(embeddings[left]).mean()
    assert abs(own - accuracy) > abs(estimate - accuracy)
    zero = clone(clf).fit_unlabeled(X)
    np.testing.assert_allclose(zero.coef_, [0.1, 0.8, 0.0])
    estimate, low, high = zero.accuracy_interval(embeddings[test])
    assert low < zero.score(embeddings[test], digits.target[test]) < high
    assert zero.transform(embeddings[:3]).shape == (3, 128)


def test_two_labels_of_every_class(embeddings, digits):
    """A fold of its own for each label would leave its class a label short, which is then hardly ever predicted."""
    y, off = digits.target, []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(y))
        rows = np.concatenate([order[y[order] == k][:2] for k in range(10)])
        rest = np.setdiff1d(order, rows)
        clf = CalibratedCorrectness(LogisticRegression(), random_state=seed).fit(embeddings[rows], y[rows])
        accuracy = clf.score(embeddings[rest], y[rest])
        off.append(abs(clf.accuracy_interval(embeddings[rest])[0] - accuracy))
        assert accuracy > 0.65 and clf.right_.mean() > 0.5
    assert np.mean(off) < 0.2


def test_says_that_no_copy_could_be_right(embeddings, digits):
    X, y = embeddings[:200], digits.target[:200]
    one_each = np.unique(y, return_index=True)[1]
    clf = CalibratedCorrectness(LogisticRegression(), random_state=0)
    with pytest.warns(UserWarning, match="none of the 10 answers out of fold are right, and 10 of the 10") as told:
        clf.fit(X[one_each], y[one_each])
    assert not clf.right_.any() and told[0].filename == __file__
    rows = np.append(one_each, np.flatnonzero(y == y[0])[:7])
    with pytest.warns(UserWarning, match="CalibratedCorrectness: 9 of the 17 labels are of classes that the copy"):
        clf.fit(X[rows], y[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.fit(X[:40], y[:40])  # random ones
        knows = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
        CalibratedCorrectness(knows, cv=3, random_state=0).fit(X[one_each], y[one_each], X_pool=X)


def test_what_there_is_without_labels(iris):
    assert not hasattr(CalibratedCorrectness(LogisticRegression()), "fit_unlabeled")
    with pytest.raises(AttributeError, match="not fitted yet: it has no coef_"):
        CalibratedCorrectness(LogisticRegression()).coef_


def test_refuses(iris):
    X, y = iris
    for params, message in (
        ({"confidence": "clean"}, "'confidence' parameter"), ({"weights": "kmm"}, "'weights' parameter"),
        ({"level": 1.0}, "'level' parameter"), ({"judge": 3}, "'judge' parameter"), ({"cv": 1}, "'cv' parameter"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            CalibratedCorrectness(LogisticRegression(), **params).fit(X, y)
    clf = CalibratedCorrectness(LogisticRegression(), random_state=0).fit(X, y)
    before = clf.coef_
    with pytest.raises(ValueError, match="inconsistent"):
        clf.fit(X, y[:5])
    assert clf.coef_ is before


class Untrained(LogisticRegression):
    """A classifier that must not be trained."""

    def fit(self, X, y):
        raise AssertionError("it was trained")


@pytest.mark.parametrize("as_type", [np.asarray, pd.DataFrame, list])
def test_a_pool_that_does_not_fit_is_refused_before_any_training(iris, as_type):
    X, y = iris
    holes = X.copy()
    holes[4, 1] = np.nan
    cases = [(np.hstack([X, X]), "X_pool has 4 features, and X has 2"),
             (holes, "X_pool has values that are not finite, in row 4")]  # fmt: skip
    for pool, message in cases:
        with pytest.raises(ValueError, match=message):
            CalibratedCorrectness(Untrained()).fit(X, y, X_pool=as_type(pool))
    with pytest.raises(TypeError, match="X_pool is 3"):
        CalibratedCorrectness(Untrained()).fit(X, y, X_pool=3)
    imputing = make_pipeline(SimpleImputer(), GaussianNB())
    clf = CalibratedCorrectness(imputing, cv=2).fit(X, y, X_pool=as_type(holes))
    assert clf.predict_correct_proba(holes).shape == (150,)


def test_seeds():
    X, y = make_classification(80, random_state=0)
    one, same, other = (
        CalibratedCorrectness(LogisticRegression(), random_state=seed).fit(X, y).coef_ for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_calibration_is_plain_arrays():
    calibration = Calibration(np.array([1.0, 0.0]), np.eye(2))
    assert calibration.proba(np.array([[0.0], [logit(0.8)]])).tolist() == pytest.approx([0.5, 0.8])


@parametrize_with_checks(
    [
        CalibratedCorrectness(LogisticRegression(), random_state=0),
        CalibratedCorrectness(LogisticRegression(), judge=LogisticRegression(C=0.1), cv=2, random_state=0),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
