"""Whose label is judged: that of predict, which need not be the class of the largest probability."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modal_clip_dual import CalibratedCorrectness, CorrectnessRegressor, TipAdapterClassifier
from modal_clip_dual.utils.predicted import predicts_the_likeliest


@pytest.fixture
def threshold():
    return FixedThresholdClassifier(LogisticRegression(), threshold=0.95, response_method="predict_proba")


def test_those_of_this_package_are_not_asked(digits, embeddings, threshold):
    X, y = embeddings[:40], digits.target[:40]
    tip = TipAdapterClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu").fit(X, y)
    assert predicts_the_likeliest(tip)
    assert predicts_the_likeliest(CorrectnessRegressor(tip).fit(X, y))
    assert not predicts_the_likeliest(CorrectnessRegressor(LogisticRegression()).fit(X, y))
    for other in (threshold, make_pipeline(StandardScaler(), tip)):
        assert not predicts_the_likeliest(other)

    class Minimal:
        """No predict, so no label but the likeliest."""

        predict_proba = None

    assert predicts_the_likeliest(Minimal())


def test_the_label_that_is_judged_is_the_predicted_one(threshold):
    """A classifier that says 1 from 95% on: of its labels 0 some are unlikely, and P(correct) says so."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    X = rng.normal(size=(400, 2)) + 1.5 * y[:, None]
    clf = CalibratedCorrectness(threshold, cv=5, random_state=0).fit(X[:200], y[:200])
    labels, correct = clf.predict(X[200:]), clf.predict_correct_proba(X[200:])
    proba = clf.predict_proba(X[200:])
    np.testing.assert_array_equal(labels, (proba[:, 1] >= 0.95).astype(int))
    unlikely = (labels == 0) & (proba[:, 1] > 0.8)
    assert unlikely.sum() > 20 and (labels == y[200:])[unlikely].mean() < 0.3
    assert correct[unlikely].mean() < 0.3
    assert abs(correct.mean() - (labels == y[200:]).mean()) < 0.1
