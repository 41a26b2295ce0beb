"""A pool reaches the classifier that takes it, through a Pipeline, or a warning says that it does not."""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from modal_clip_dual import CalibratedCorrectness, ClassCodeClassifier, CorrectnessRegressor, SmoothedClassifier
from modal_clip_dual.utils.pool import fit_with_pool


class Nearest(ClassifierMixin, BaseEstimator):
    """Nearest class means, which remembers the pool that it was given."""

    def __init__(self, size=1):
        self.size = size

    def fit(self, X, y, X_pool=None):
        self.pool_, self.classes_ = X_pool, np.unique(y)
        self.means_ = np.stack([np.asarray(X)[np.asarray(y) == k].mean(axis=0) for k in self.classes_])
        return self

    def predict_proba(self, X):
        near = np.exp(-((np.asarray(X)[:, None] - self.means_) ** 2).sum(axis=2))
        return near / near.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = np.arange(30) % 2
    return rng.normal(3, 2, (30, 3)) + y[:, None], y, rng.normal(3, 2, (40, 3))


@pytest.mark.parametrize("memory", [False, True])
def test_through_a_pipeline(data, memory, tmp_path):
    X, y, pool = data
    plain = Pipeline([("a", StandardScaler()), ("none", "passthrough"), ("b", make_pipeline(Nearest()))])
    pipe = clone(plain).set_params(memory=str(tmp_path) if memory else None)
    fitted = fit_with_pool(pipe, X, y, pool)
    assert fitted is pipe
    np.testing.assert_allclose(pipe[-1][-1].pool_, StandardScaler().fit(X).transform(pool))
    np.testing.assert_allclose(pipe.predict_proba(pool), plain.fit(X, y).predict_proba(pool))  # as scikit-learn fits
    assert fit_with_pool(clone(plain), X, y, None)[-1][-1].pool_ is None


def test_models_of_correctness_pass_it_on(data):
    X, y, pool = data
    pipe = make_pipeline(StandardScaler(), Nearest())
    expected = StandardScaler().fit(X).transform(pool)
    for clf in (CalibratedCorrectness(pipe, judge=pipe), CorrectnessRegressor(pipe), SmoothedClassifier(pipe)):
        fitted = clf.fit(X, y, X_pool=pool)
        for part in (fitted.estimator_, getattr(fitted, "judge_", fitted.estimator_)):
            np.testing.assert_allclose(part[-1].pool_, expected)


def test_what_is_not_passed_on_is_told_once(data):
    X, y, pool = data
    search = GridSearchCV(Nearest(), {"size": [1]}, cv=2)
    for clf in (CalibratedCorrectness(search), CorrectnessRegressor(search), SmoothedClassifier(search)):
        with pytest.warns(UserWarning, match="X_pool is not passed on to Nearest inside of the esti.*GridS") as told:
            clf.fit(X, y, X_pool=pool)
        assert len(told) == 1 and told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CalibratedCorrectness(make_pipeline(StandardScaler(), LogisticRegression())).fit(X, y, X_pool=pool)
        CalibratedCorrectness(search).fit(X, y)


class Untrained(LogisticRegression):
    """A classifier that must not be trained."""

    def fit(self, X, y):
        raise AssertionError("it was trained")


KINDS = [CalibratedCorrectness, ClassCodeClassifier, CorrectnessRegressor, SmoothedClassifier]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_pool_is_refused_before_any_training(data, kind):
    X, y, pool = data
    cases = [("nonsense", TypeError, "X_pool is 'nonsense'"), (3, TypeError, "X_pool is 3"),
             (pool[:0], ValueError, "X_pool is empty"),
             (pool[:, :2], ValueError, "X_pool has 2 features, and X has 3"),
             (pool[:, :2].tolist(), ValueError, "X_pool has 2 features, and X has 3")]  # fmt: skip
    for wrong, error, message in cases:
        with pytest.raises(error, match=message):
            kind(Untrained()).fit(X, y, X_pool=wrong)


def test_confidence_of_a_pipeline_is_refused_before_any_training(data):
    pipe = make_pipeline(StandardScaler(), Untrained())
    with pytest.raises(TypeError, match="confidence='correct' asks for predict_correct_proba, which Pipeline lacks"):
        CalibratedCorrectness(pipe, confidence="correct").fit(*data[:2])
