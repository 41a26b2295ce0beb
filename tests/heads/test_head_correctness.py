"""Log-odds of being right, against plain formulas."""

import numpy as np
import pytest
from scipy.special import expit

from modal_clip_dual.heads._correctness import log_odds, lowered


def test_log_odds_are_clipped():
    assert log_odds(np.array([0.0, 0.25, 1.0])) == pytest.approx([-np.log(199), -np.log(3), np.log(199)])


def test_lowered_brings_the_mean_down_but_never_up():
    odds = np.random.default_rng(0).normal(size=500) * 3 + 2
    assert lowered(odds, 0.99) == 0
    constant = lowered(odds, 0.4)
    assert constant < 0 and expit(odds + constant).mean() == pytest.approx(0.4, abs=1e-6)
    assert np.isfinite(lowered(odds, 0.0)) and lowered(odds[:0], 0.5) == 0
