"""Dirichlet uncertainty sampling: by the parameters of a stand-in, and around a real model."""

import numpy as np
import pytest
from conftest import LABELLED, make_learner
from scipy.stats import dirichlet, entropy
from template import StrategyTemplate, refused

from modal_clip_dual import BayesAdapterClassifier, DirichletMetaClassifier
from modal_clip_dual.strategies import dirichlet_uncertainty_sampling
from modal_clip_dual.utils.dirichlet import KINDS


@pytest.fixture(scope="module")
def classifier(digits):
    clip = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0, "random_state": 0}

    def make(max_epochs=10, **params):
        base = BayesAdapterClassifier(digits.class_names, n_samples=0, max_epochs=max_epochs, **clip)
        return DirichletMetaClassifier(base, max_epochs=max_epochs, cv=2, random_state=0, **params)

    return make


@pytest.fixture(scope="module")
def fitted(classifier, digits, embeddings):
    return classifier(30).fit(embeddings[LABELLED], digits.target[LABELLED])


@pytest.fixture(scope="module")
def learner(fitted, digits, embeddings):
    return make_learner(fitted, embeddings[LABELLED], digits.target[LABELLED])


class Alphas:
    """A classifier of four classes with Dirichlet parameters by row number."""

    def __init__(self, n=60):
        self.classes_ = np.arange(4)
        self.alpha = np.random.default_rng(0).lognormal(sigma=1.5, size=(n, 4))

    def predict_alpha(self, X):
        return self.alpha[np.ravel(X).astype(int)]


class TestDirichletUncertaintySampling(StrategyTemplate):
    strategy = staticmethod(dirichlet_uncertainty_sampling)
    any_classifier = False
    lacking = (("embeddings", r"method predict_alpha\(X\)"), ("svc", r"method predict_alpha\(X\)"))

    def test_a_pipeline_transforms_the_pool_once(self, classifier, digits, embeddings):
        pipeline, lengths = self.counted(lambda **kwargs: classifier(1), digits, embeddings)
        lengths.clear()
        X, y = embeddings[:60], digits.target[:60]
        self.rows(make_learner(pipeline, X, y), embeddings[60:300], 10)
        assert lengths.count(240) == 1

    @pytest.mark.parametrize("kind", KINDS)
    def test_param_kind(self, kind):
        clf, X = Alphas(), np.arange(60)[:, None]
        a = clf.alpha
        p = a / a.sum(axis=1, keepdims=True)
        from modal_clip_dual.utils.dirichlet import uncertainty_of

        expected = {
            "entropy": entropy(a, axis=1),
            "max-probability": 1 - p.max(axis=1),
            "precision": 4 / a.sum(axis=1),
            "differential-entropy": np.array([dirichlet(row).entropy() for row in a]),
        }.get(kind, uncertainty_of(a, kind))  # the others: tests/utils/test_dirichlet_utils.py
        rows = self.rows(clf, X, 20, kind=kind)
        np.testing.assert_array_equal(rows, np.argsort(-expected, kind="stable")[:20])
        np.testing.assert_allclose(self.metrics(clf, X, 20, kind=kind), expected[rows], rtol=1e-9)
        with pytest.raises(ValueError, match=refused("kind", "none")):
            self.rows(clf, X, kind="none")

    def test_param_random_tie_break(self):
        clf, X = Alphas(10), np.arange(10)[:, None]
        clf.alpha[:] = 2.0
        assert self.rows(clf, X, 2).tolist() == [0, 1]
        assert len({tuple(self.rows(clf, X, 2, True)) for _ in range(30)}) > 10

    def test_unfitted_ranks_by_the_entropy_of_zero_shot(self, classifier, embeddings):
        never = classifier()
        expected = entropy(never.estimator.zero_shot_proba(embeddings[:99]).astype(np.float64), axis=1)
        rows = self.rows(never, embeddings[:99], 9)
        np.testing.assert_allclose(expected[rows], np.sort(expected)[::-1][:9], atol=1e-5)
