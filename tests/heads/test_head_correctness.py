"""Log-odds of being right, against plain formulas and scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from modal_clip_dual.heads._correctness import calibrate, log_odds, lowered


def test_log_odds_are_clipped():
    assert log_odds(np.array([0.0, 0.25, 1.0])) == pytest.approx([-np.log(199), -np.log(3), np.log(199)])


def test_calibration_equals_scikit_learn_around_zero():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3))
    right = rng.random(60) < expit(features @ [1.0, -0.5, 0.2])
    found = calibrate(features, right, np.zeros(3), np.full(3, 0.5))
    reference = LogisticRegression(C=0.25, fit_intercept=False, tol=1e-10).fit(features, right)
    np.testing.assert_allclose(found, reference.coef_[0], atol=1e-4)
    # With a narrow prior nothing moves.
    np.testing.assert_allclose(calibrate(features, right, np.ones(3), np.full(3, 1e-3)), 1, atol=1e-3)


def test_lowered_brings_the_mean_down_but_never_up():
    odds = np.random.default_rng(0).normal(size=500) * 3 + 2
    assert lowered(odds, 0.99) == 0
    constant = lowered(odds, 0.4)
    assert constant < 0 and expit(odds + constant).mean() == pytest.approx(0.4, abs=1e-6)
    assert np.isfinite(lowered(odds, 0.0)) and lowered(odds[:0], 0.5) == 0
