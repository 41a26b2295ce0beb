"""Code distance sampling: by the margins of a stand-in, and around a real model."""

import numpy as np
import pytest
from conftest import LABELLED, make_learner
from references import literal
from template import StrategyTemplate, refused

from modal_clip_dual import BayesAdapterClassifier, ClassCodeClassifier
from modal_clip_dual.strategies import code_distance_sampling


@pytest.fixture(scope="module")
def classifier(digits):
    clip = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0, "random_state": 0}

    def make(max_epochs=10, **params):
        base = BayesAdapterClassifier(digits.class_names, n_samples=0, max_epochs=max_epochs, **clip)
        return ClassCodeClassifier(base, max_epochs=max_epochs, cv=2, random_state=0, **params)

    return make


@pytest.fixture(scope="module")
def fitted(classifier, digits, embeddings):
    return classifier(30).fit(embeddings[LABELLED], digits.target[LABELLED])


@pytest.fixture(scope="module")
def learner(fitted, digits, embeddings):
    return make_learner(fitted, embeddings[LABELLED], digits.target[LABELLED])


class Margins:
    """A classifier of four classes with margins by row number."""

    def __init__(self, n=60):
        rng = np.random.default_rng(0)
        self.classes_ = np.arange(4)
        self.predicted, self.margin = rng.integers(0, 4, n), rng.normal(size=n)

    def predict_proba(self, X):
        return 0.1 + 0.6 * np.eye(4)[self.predicted[np.ravel(X).astype(int)]]

    def code_margin(self, X):
        return self.margin[np.ravel(X).astype(int)]


class TestCodeDistanceSampling(StrategyTemplate):
    strategy = staticmethod(code_distance_sampling)
    any_classifier = False
    lacking = (("embeddings", r"method code_margin\(X\)"), ("svc", r"method code_margin\(X\)"))

    def counted(self, classifier, digits, embeddings):
        pipeline, lengths = super().counted(lambda **kwargs: classifier(1), digits, embeddings)
        pipeline.steps[-1][1].verbose = 0
        return pipeline, lengths

    def test_a_pipeline_transforms_the_pool_once(self, classifier, digits, embeddings):
        pipeline, lengths = self.counted(classifier, digits, embeddings)
        lengths.clear()
        X, y = embeddings[:60], digits.target[:60]
        self.rows(make_learner(pipeline, X, y), embeddings[60:300], 10)
        assert lengths.count(240) == 1

    @pytest.mark.parametrize("remainder", ["per-class", "global"])
    def test_param_remainder(self, remainder):
        clf, X = Margins(), np.arange(60)[:, None]
        for n in (1, 4, 7, 60):
            rows = self.rows(clf, X, n, remainder=remainder)
            assert rows.tolist() == literal(clf.margin, clf.predicted, n, 4, remainder)
        with pytest.raises(ValueError, match=refused("remainder", "none")):
            self.rows(clf, X, remainder="none")

    def test_param_class_balanced(self):
        clf, X = Margins(), np.arange(60)[:, None]
        rows = self.rows(clf, X, 9, class_balanced=False)
        np.testing.assert_array_equal(rows, np.argsort(clf.margin)[:9])
        metrics = self.metrics(clf, X, 9, class_balanced=False)
        np.testing.assert_allclose(metrics, 1 / (1 + np.exp(clf.margin[rows])))
        with pytest.raises(ValueError, match=refused("class_balanced", "no")):
            self.rows(clf, X, class_balanced="no")

    def test_param_random_tie_break(self):
        clf, X = Margins(10), np.arange(10)[:, None]
        clf.predicted[:], clf.margin[:] = 0, 0.5
        assert self.rows(clf, X, 2).tolist() == [0, 1]
        assert len({tuple(self.rows(clf, X, 2, True)) for _ in range(30)}) > 10

    def test_the_rows_of_the_model(self, learner, fitted, embeddings):
        rows = self.rows(learner, embeddings, 15, class_balanced=False)
        margin = fitted.code_margin(embeddings)
        np.testing.assert_allclose(margin[rows], np.sort(margin)[:15], atol=1e-5)
