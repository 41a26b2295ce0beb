"""Folds, and from scores to probabilities."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import KFold

from modal_clip_dual.correctness._calibration import LEAST_SLOPE, fit_calibrator, fit_sigmoid
from modal_clip_dual.correctness._out_of_fold import folds_of


@pytest.mark.parametrize("counts", [(10, 10, 10), (17, 4, 1), (5, 5), (6, 1, 1, 1, 1, 1, 1)])
def test_folds_are_a_partition_as_even_as_counts_allow(counts):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    folds = folds_of(y, 5, np.random.default_rng(1))
    n_folds = len(y) if len(y) <= 10 else 5
    n_folds = min(n_folds, counts[0]) if len(set(counts)) == 1 else n_folds
    assert len(folds) == n_folds
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(y)))
    for train, test in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(y)))
        for label, count in enumerate(counts):
            assert np.ceil(count / n_folds) >= (y[test] == label).sum() >= count // n_folds


@pytest.mark.parametrize("per_class", [2, 3, 4, 7])
def test_with_equally_many_labels_no_fold_lacks_just_the_class_that_is_asked_for(per_class):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(10), per_class))
    folds = folds_of(y, 5, np.random.default_rng(1))
    assert len(folds) == min(per_class, 5)
    for train, test in folds[: per_class if per_class < 5 else 0]:
        assert np.bincount(y[train]).tolist() == [per_class - 1] * 10
        assert np.bincount(y[test]).tolist() == [1] * 10


def test_folds_of_other_labels_are_what_they_were():
    """The dealing that the published tables were measured with, written out once more."""
    for seed, n in [(0, 12), (1, 12), (2, 36), (3, 9), (4, 1)]:
        y = np.random.default_rng(seed).integers(0, 7, n)
        shuffled = np.random.default_rng(9).permutation(n)
        n_folds, fold_of, dealt = (n if n <= 10 else 5), {}, 0
        for label in sorted(set(y)):
            for row in shuffled[y[shuffled] == label]:
                fold_of[row], dealt = dealt % n_folds, dealt + 1
        expected = [sorted(row for row in range(n) if fold_of[row] == fold) for fold in range(n_folds)]
        trains = [np.setdiff1d(np.arange(n), test) for test in expected]
        expected = [test for test, train in zip(expected, trains) if len(set(y[train])) >= 2]
        assert [sorted(test) for _, test in folds_of(y, 5, np.random.default_rng(9))] == expected


def test_every_fold_trains_on_two_classes():
    assert len(folds_of(np.array([0, 1]), 5, np.random.default_rng(0))) == 0
    assert len(folds_of(np.array([0, 0, 1]), 5, np.random.default_rng(0))) == 2
    assert len(folds_of(np.array([], dtype=int), 5, np.random.default_rng(0))) == 0


def test_a_splitter_splits():
    y = np.arange(12) % 2
    for (train, test), (a, b) in zip(folds_of(y, KFold(3), np.random.default_rng(0)), KFold(3).split(y)):
        np.testing.assert_array_equal(train, a)
        np.testing.assert_array_equal(test, b)


def test_sigmoid_against_another_optimizer():
    rng = np.random.default_rng(0)
    score = rng.normal(3, 5, 80)
    right = rng.random(80) < expit(0.3 * score)
    z = (score - score.mean()) / score.std()
    n = right.sum()
    target = np.where(right, (n + 1) / (n + 2), 1 / (80 - n + 2))

    def loss(b):
        p = expit(b[0] * z + b[1])
        return -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum() + 0.5 * (b[0] - 1) ** 2

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10}).x
    np.testing.assert_allclose(fit_sigmoid(score, right)(score), expit(best[0] * z + best[1]), atol=1e-4)


def test_sigmoid_never_turns_the_order():
    score, right = np.arange(40.0), np.arange(40) < 20  # high scores are wrong
    p = fit_sigmoid(score, right)(score)
    assert (np.diff(p) > 0).all() and LEAST_SLOPE > 0


def test_isotonic_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    score, right = rng.normal(size=60), rng.random(60) < 0.7
    expected = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, right).predict(score)
    np.testing.assert_array_equal(fit_calibrator(score, right, "isotonic", "it")(score), expected)


@pytest.mark.parametrize("method", ["isotonic", "sigmoid"])
@pytest.mark.parametrize("shift", [0, 50])  # the final model may be far surer than those out of fold
def test_nothing_but_the_mean_can_be_learned_from_wrong_answers(shift, method):
    score = np.linspace(-1, 1, 20)
    with pytest.warns(UserWarning, match="it: none of the 20 answers .* P.correct. is 0.0455 for every sample"):
        p = fit_calibrator(score, np.zeros(20, dtype=bool), method, "it")(score + shift)
    np.testing.assert_allclose(p, 1 / 22)


@pytest.mark.parametrize("method", ["isotonic", "sigmoid"])
def test_scores_keep_their_order_where_all_answers_are_right(method):
    score = np.linspace(-1, 1, 20)
    with pytest.warns(UserWarning, match="it: all of the 20 answers .* P.correct. is 0.955 for a score like theirs"):
        p = fit_calibrator(score, np.ones(20, dtype=bool), method, "it")(score)
    assert abs(p.mean() - 21 / 22) < 0.02
    assert (np.diff(p) > 0).all()
