"""Estimators that transform as the classifier inside does have its containers and names of columns, too."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modal_clip_dual import (
    CalibratedCorrectness,
    ClassCodeClassifier,
    CollaborativePromptClassifier,
    DualPromptClassifier,
    TestTimeCentroids,
    TipAdapterClassifier,
)

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


def tip(names):
    return TipAdapterClassifier(names, **DEMO)


@pytest.mark.parametrize(
    "make",
    [
        lambda names: CalibratedCorrectness(tip(names), cv=2, random_state=0),
        lambda names: TestTimeCentroids(tip(names)),
        lambda names: ClassCodeClassifier(tip(names), cv=2, max_epochs=2, random_state=0),
        lambda names: CollaborativePromptClassifier(
            DualPromptClassifier(names, max_epochs=1, **DEMO), random_state=0
        ),
    ],
    ids=["calibrated", "centroids", "codes", "collaborative"],
)
def test_set_output(make, embeddings, digits):
    X, y = embeddings[:40], digits.target[:40]
    plain = make(digits.class_names).fit(X, y)
    clf = make(digits.class_names)
    pipe = make_pipeline("passthrough", clf).set_output(transform="pandas").fit(X, y)
    np.testing.assert_array_equal(pipe.predict_proba(X), plain.predict_proba(X))
    frame = pipe[-1].transform(X)
    assert isinstance(frame, pd.DataFrame) and isinstance(plain.transform(X), np.ndarray)
    np.testing.assert_array_equal(frame, plain.transform(X))
    assert frame.columns.tolist() == clf.get_feature_names_out().tolist() == plain.get_feature_names_out().tolist()
    pipe.set_output(transform="default")
    assert isinstance(pipe[-1].transform(X), np.ndarray)


def test_without_a_transform_there_is_none():
    for kind in (CalibratedCorrectness, ClassCodeClassifier):
        for clf in (kind(LogisticRegression()), ClassCodeClassifier()):
            assert not any(hasattr(clf, name) for name in ("transform", "set_output", "get_feature_names_out"))
