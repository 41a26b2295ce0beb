"""Correctness sampling: any classifier with predict_correct_proba, by brute force."""

import numpy as np
import pytest
from modAL.models import ActiveLearner
from references import literal
from template import StrategyTemplate, refused

from modal_clip_dual import negative_prompt_sampling
from modal_clip_dual.strategies import _ranking, correctness_sampling


class Knows:
    """A classifier with labels and P(correct), by row number; with class probabilities or without."""

    def __init__(self, predicted, right):
        self.classes_ = np.array(["ant", "bee", "cat", "dog"])
        self.predicted, self.right = predicted, right

    def predict(self, X):
        return self.classes_[self.predicted[np.ravel(X).astype(int)]]

    def predict_correct_proba(self, X):
        return self.right[np.ravel(X).astype(int)]


class KnowsProba(Knows):
    def predict_proba(self, X):
        return 0.1 + 0.6 * np.eye(4)[self.predicted[np.ravel(X).astype(int)]]


def case(kind, n=60, seed=0):
    rng = np.random.default_rng(seed)
    return kind(rng.integers(0, 4, n), rng.random(n).astype(np.float32)), np.arange(n)[:, None]


class TestCorrectnessSampling(StrategyTemplate):
    strategy = staticmethod(correctness_sampling)
    any_classifier = False
    lacking = (
        ("embeddings", r"method predict_correct_proba\(X\)"),
        ("svc", r"method predict_correct_proba\(X\)"),
    )

    @pytest.mark.parametrize("kind", [Knows, KnowsProba])
    @pytest.mark.parametrize("wrap", [lambda clf: clf, ActiveLearner])
    @pytest.mark.parametrize("remainder", ["per-class", "global"])
    def test_param_remainder(self, kind, wrap, remainder, monkeypatch):
        clf, X = case(kind)
        for part in (1000, 7):
            monkeypatch.setattr(_ranking, "POOL_ROWS", part)
            for n in (1, 3, 4, 7, 60):
                rows = self.rows(wrap(clf), X, n, remainder=remainder)
                assert rows.tolist() == literal(clf.right, clf.predicted, n, 4, remainder)
        with pytest.raises(ValueError, match=refused("remainder", "none")):
            self.rows(clf, X, remainder="none")

    def test_param_class_balanced(self):
        clf, X = case(Knows)
        expected = np.argsort(clf.right, kind="stable")[:10]
        np.testing.assert_array_equal(self.rows(clf, X, 10, class_balanced=False), expected)
        with pytest.raises(ValueError, match=refused("class_balanced", "no")):
            self.rows(clf, X, class_balanced="no")

    def test_metrics(self):
        clf, X = case(KnowsProba)
        rows = self.rows(clf, X, 9)
        np.testing.assert_allclose(self.metrics(clf, X, 9), 1 - clf.right[rows], atol=1e-7)

    def test_param_random_tie_break(self):
        clf, X = Knows(np.zeros(10, int), np.full(10, 0.5)), np.arange(10)[:, None]
        assert self.rows(clf, X, 2).tolist() == [0, 1]
        assert len({tuple(self.rows(clf, X, 2, True)) for _ in range(30)}) > 10

    def test_is_negative_prompt_sampling_by_its_score(self, learner, embeddings):
        rows = self.rows(learner, embeddings, 25)
        other = negative_prompt_sampling(learner, embeddings, 25, score="correct")
        np.testing.assert_array_equal(rows, other[0] if isinstance(other, tuple) else other)
        correct = learner.estimator.predict_correct_proba(embeddings)
        predicted = learner.predict_proba(embeddings).argmax(axis=1)
        assert rows.tolist() == literal(correct, predicted, 25, 10, "per-class")
