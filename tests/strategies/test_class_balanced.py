"""Class-balanced entropy and margin: modAL's scores, the paper's rule."""

import numpy as np
import pytest
from modAL.uncertainty import classifier_entropy, classifier_margin
from references import literal
from template import StrategyTemplate, refused

from modal_clip_dual import class_balanced_entropy_sampling, class_balanced_margin_sampling
from modal_clip_dual.strategies.class_balanced import closeness


class BalancedTemplate(StrategyTemplate):
    score = None  # lower is more informative
    lacking = (("svc", r"method predict_proba\(X\)"),)

    @pytest.mark.parametrize("remainder", ["per-class", "global"])
    def test_param_remainder(self, learner, embeddings, remainder):
        scores = type(self).score(learner, embeddings)
        predicted = learner.predict_proba(embeddings).argmax(axis=1)
        for n in (1, 7, 10, 25, 200):
            rows = self.rows(learner, embeddings, n, remainder=remainder)
            assert rows.tolist() == literal(scores, predicted, n, 10, remainder)
        with pytest.raises(ValueError, match=refused("remainder", "none")):
            self.rows(learner, embeddings, remainder="none")

    def test_metrics(self, learner, embeddings):
        rows = self.rows(learner, embeddings, 9)
        scores = type(self).score(learner, embeddings)[rows]
        shift = 1 if self.__class__ is TestClassBalancedMarginSampling else 0
        np.testing.assert_allclose(self.metrics(learner, embeddings, 9), shift - scores, atol=1e-6)

    def test_param_random_tie_break(self, learner, embeddings):
        pool = np.repeat(embeddings[:1], 8, axis=0)
        assert self.rows(learner, pool, 8).tolist() == list(range(8))
        drawn = {tuple(self.rows(learner, pool, 8, True, random_state=s)) for s in range(20)}
        assert len(drawn) > 10


class TestClassBalancedEntropySampling(BalancedTemplate):
    strategy = staticmethod(class_balanced_entropy_sampling)
    score = staticmethod(lambda learner, X: -classifier_entropy(learner, X))


class TestClassBalancedMarginSampling(BalancedTemplate):
    strategy = staticmethod(class_balanced_margin_sampling)
    score = staticmethod(classifier_margin)


def test_margin_of_one_and_two_classes():
    np.testing.assert_allclose(closeness(np.ones((3, 1))), 0)
    np.testing.assert_allclose(closeness(np.array([[0.9, 0.1], [0.4, 0.6]])), [0.2, 0.8])
