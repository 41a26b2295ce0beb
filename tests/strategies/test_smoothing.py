"""Smoothing sampling: the lowest share of the vote first, by brute force and by a real vote."""

import numpy as np
import pytest
from conftest import make_classifier
from references import literal
from template import StrategyTemplate, refused

from modal_clip_dual import SmoothedClassifier
from modal_clip_dual.strategies import smoothing_sampling


class Votes:
    """A classifier with shares of votes by row number."""

    classes_ = np.array(["ant", "bee", "cat", "dog"])

    def __init__(self, shares):
        self.shares = shares

    def predict_proba(self, X):
        return self.shares[np.ravel(X).astype(int)]


def case(n=60, votes=20, seed=0):
    shares = np.random.default_rng(seed).multinomial(votes, [0.4, 0.3, 0.2, 0.1], size=n) / votes
    return Votes(shares), np.arange(n)[:, None]


class TestSmoothingSampling(StrategyTemplate):
    strategy = staticmethod(smoothing_sampling)
    lacking = (("svc", r"method predict_proba\(X\)"),)

    @pytest.mark.parametrize("remainder", ["per-class", "global"])
    def test_param_remainder(self, remainder):
        clf, X = case()
        best = clf.shares.max(axis=1)
        for n in (1, 3, 4, 7, 60):
            rows = self.rows(clf, X, n, remainder=remainder)
            assert rows.tolist() == literal(best, clf.shares.argmax(axis=1), n, 4, remainder)
        with pytest.raises(ValueError, match=refused("remainder", "none")):
            self.rows(clf, X, remainder="none")

    def test_param_class_balanced(self):
        clf, X = case()
        expected = np.argsort(clf.shares.max(axis=1), kind="stable")[:10]
        np.testing.assert_array_equal(self.rows(clf, X, 10, class_balanced=False), expected)
        with pytest.raises(ValueError, match=refused("class_balanced", "no")):
            self.rows(clf, X, class_balanced="no")

    def test_param_random_tie_break(self):
        clf, X = Votes(np.tile([0.7, 0.1, 0.1, 0.1], (10, 1))), np.arange(10)[:, None]
        assert self.rows(clf, X, 2).tolist() == [0, 1]
        assert len({tuple(self.rows(clf, X, 2, True)) for _ in range(30)}) > 10

    def test_metrics(self):
        clf, X = case()
        rows = self.rows(clf, X, 9)
        np.testing.assert_allclose(self.metrics(clf, X, 9), 1 - clf.shares[rows].max(axis=1), atol=1e-12)

    def test_a_real_vote(self, digits):
        smoothed = SmoothedClassifier(make_classifier(digits), n_select=10, random_state=0)
        pool = digits.images[:25]
        rows = self.rows(smoothed, pool, 4, class_balanced=False)
        least = smoothed.predict_proba(pool).max(axis=1)
        np.testing.assert_array_equal(rows, np.argsort(least, kind="stable")[:4])
