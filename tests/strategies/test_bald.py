"""BALD against sums over draws, scipy.stats and modAL."""

import numpy as np
import pytest
from conftest import LABELLED, make_learner
from modAL.disagreement import consensus_entropy
from modAL.models import Committee
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from template import StrategyTemplate, refused, small_blocks

from modal_clip_dual import BayesAdapterClassifier, bald_sampling
from modal_clip_dual.strategies import bald_uncertainty


@pytest.fixture(scope="module")
def classifier(digits):
    clip = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0, "random_state": 0}
    return lambda **params: BayesAdapterClassifier(digits.class_names, **{**clip, "max_epochs": 20, **params})


@pytest.fixture(scope="module")
def fitted(classifier, digits, embeddings):
    return classifier().fit(embeddings[LABELLED], digits.target[LABELLED])


@pytest.fixture(scope="module")
def learner(fitted, digits, embeddings):
    return make_learner(fitted, embeddings[LABELLED], digits.target[LABELLED])


class TestBaldSampling(StrategyTemplate):
    strategy = staticmethod(bald_sampling)
    lacking = (("svc", r"method predict_proba\(X\)"),)

    def test_param_random_tie_break(self, learner, embeddings):
        pool = np.repeat(embeddings[:1], 20, axis=0)
        assert self.rows(learner, pool, 3).tolist() == [0, 1, 2]
        assert len({tuple(self.rows(learner, pool, 3, True)) for _ in range(20)}) > 10

    @pytest.mark.parametrize("score", ["information", "entropy", "variation-ratio"])
    def test_param_score(self, learner, fitted, embeddings, score):
        pool = embeddings[:60]
        draws = fitted.sample_proba(pool).astype(np.float64)
        expected = np.array([literal(draws[:, row], score) for row in range(60)])
        actual = bald_uncertainty(learner, pool, score=score)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
        rows = self.rows(learner, pool, 60, score=score)
        np.testing.assert_allclose(expected[rows], np.sort(expected)[::-1], atol=1e-5)
        np.testing.assert_allclose(self.metrics(learner, pool, 60, score=score), actual[rows])
        with pytest.raises(ValueError, match=refused("score", "none")):
            self.rows(learner, pool, score="none")

    def test_information_is_the_mean_divergence_from_the_mean(self, fitted, embeddings):
        pool = embeddings[:60]
        draws = fitted.sample_proba(pool).astype(np.float64)
        divergence = np.mean([entropy(draw, draws.mean(axis=0), axis=1) for draw in draws], axis=0)
        np.testing.assert_allclose(bald_uncertainty(fitted, pool), divergence, atol=1e-5)
        assert divergence.max() > 10 * divergence.min()

    def test_draws_in_parts(self, fitted, embeddings, monkeypatch):
        pool = embeddings[:101]
        whole = bald_uncertainty(fitted, pool)
        small_blocks(monkeypatch)
        # Products of float32 round by where a row stands; logits are below 22 in size.
        np.testing.assert_allclose(bald_uncertainty(fitted, pool), whole, atol=1e-4)

    def test_what_has_one_draw_is_ranked_by_its_entropy(self, classifier, fitted, embeddings, digits):
        X, y, pool = embeddings[:60], digits.target[:60], embeddings[60:100]
        point = classifier(n_samples=0).fit(X, y)
        for clf in (point, LogisticRegression(max_iter=300).fit(X, y)):
            expected = entropy(clf.predict_proba(pool).astype(np.float64), axis=1)
            np.testing.assert_allclose(bald_uncertainty(clf, pool), expected, atol=1e-5)
        never = classifier()
        expected = entropy(never.zero_shot_proba(pool).astype(np.float64), axis=1)
        np.testing.assert_allclose(bald_uncertainty(never, pool), expected, atol=1e-5)

    def test_members_of_a_committee_are_draws(self, digits, embeddings):
        X, y, pool = embeddings[:90], digits.target[:90], embeddings[90:150]
        members = [LogisticRegression(C=C, max_iter=300).fit(X[k::3], y[k::3]) for k, C in enumerate((1, 9, 99))]
        committee = Committee([make_learner(clf, X[k::3], y[k::3]) for k, clf in enumerate(members)])
        draws = np.array([clf.predict_proba(pool) for clf in members], dtype=np.float64)
        for score in ("information", "entropy", "variation-ratio"):
            expected = [literal(draws[:, row], score) for row in range(60)]
            np.testing.assert_allclose(bald_uncertainty(committee, pool, score=score), expected, atol=1e-9)
        same = bald_uncertainty(committee, pool, score="entropy")
        np.testing.assert_allclose(same, consensus_entropy(committee, pool), atol=1e-5)

    def test_members_count_the_same_however_many_draws_they_have(self, fitted, digits, embeddings):
        X, y, pool = embeddings[:60], digits.target[:60], embeddings[60:100]
        logistic = LogisticRegression(max_iter=300).fit(X, y)
        mixed = Committee([make_learner(clf, X, y) for clf in (fitted, logistic)])
        expected = entropy((fitted.predict_proba(pool) + logistic.predict_proba(pool)) / 2, axis=1)
        np.testing.assert_allclose(bald_uncertainty(mixed, pool, score="entropy"), expected, atol=1e-5)


def literal(draws, score):
    """Of one sample, draws (S, C), sum by sum."""

    def nats(p):
        return -sum(value * np.log(value) for value in p if value > 0)

    mean = [sum(draw[k] for draw in draws) / len(draws) for k in range(draws.shape[1])]
    if score == "variation-ratio":
        votes = [draw.argmax() for draw in draws]
        return 1 - max(votes.count(k) for k in votes) / len(votes)
    return nats(mean) - (score == "information") * sum(nats(draw) for draw in draws) / len(draws)
