"""What ``fit`` of every meta-estimator takes: X and y by position, the pool by name, and no weights."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import has_fit_parameter

from modal_clip_dual import (
    CalibratedCorrectness,
    ClassCodeClassifier,
    CollaborativePromptClassifier,
    CorrectnessRegressor,
    DirichletMetaClassifier,
    DualPromptClassifier,
    SmoothedClassifier,
    TestTimeCentroids,
    TipAdapterClassifier,
)

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


class Untrained(LogisticRegression):
    """A classifier that must not be trained."""

    def fit(self, X, y):
        raise AssertionError("it was trained")


def wrappers(names):
    plain = Untrained()
    yield from (kind(plain) for kind in (
        CalibratedCorrectness, ClassCodeClassifier, CorrectnessRegressor, DirichletMetaClassifier, SmoothedClassifier
    ))  # fmt: skip
    yield TestTimeCentroids(TipAdapterClassifier(names, **DEMO))
    yield CollaborativePromptClassifier(DualPromptClassifier(names, **DEMO))


def test_weights_are_refused_as_weights_and_not_taken_for_a_pool(embeddings, digits):
    X, y, weight = embeddings[:40], digits.target[:40], np.ones(40)
    for clf in wrappers(digits.class_names):
        name = type(clf).__name__
        with pytest.raises(TypeError, match=rf"{name}\.fit got 3 arguments by position; .* as X_pool="):
            clf.fit(X, y, weight)
        with pytest.raises(TypeError, match=rf"{name}\.fit takes no sample_weight"):
            clf.fit(X, y, sample_weight=weight)
        assert not has_fit_parameter(clf, "sample_weight") and has_fit_parameter(clf, "X_pool")
    with pytest.raises(TypeError, match=r"TestTimeCentroids\.fit_transform takes no sample_weight"):
        TestTimeCentroids(TipAdapterClassifier(digits.class_names, **DEMO)).fit_transform(X, y, sample_weight=weight)
