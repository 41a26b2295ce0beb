"""The model of P(correct): log-odds of a class by the blend, neighbors and a second opinion, calibrated on labels."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

CLIP = 0.005  # the neighbors' share of a class is clipped to this distance from 0 and 1
# Priors, means and deviations, of the factors of own log-odds, the neighbors', a constant, and the second opinion's.
PRIOR = (0.4, 0.4, 0.0, 0.1), (0.1, 0.2, 0.5, 0.1)
PRIOR_NO_SECOND = (0.6, 0.4, 0.0), (0.2, 0.2, 0.5)
PRIOR_ALONE = (1.0, 0.0), (0.2, 0.5)  # of own log-odds and a constant, without neighbors


def log_odds(shares: np.ndarray) -> np.ndarray:
    """Return the log-odds of shares, clipped."""
    clipped = np.clip(shares, CLIP, 1 - CLIP)
    odds: np.ndarray = np.log(clipped / (1 - clipped))
    return odds


def lowered(odds: np.ndarray, share: float) -> float:
    """Find the constant, at most 0, that lowers the mean of sigmoid(odds + constant) to a share."""
    share = max(share, 1e-3)
    if not len(odds) or expit(odds).mean() <= share:
        return 0.0
    low, high = -50.0, 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if expit(odds + middle).mean() > share else (middle, high)
    return high
