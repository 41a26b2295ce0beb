"""Log-odds of classes."""

from __future__ import annotations

import numpy as np


def against_rest(logits: np.ndarray) -> np.ndarray:
    """Return the log-odds (n, C) of each class: its logit minus the log-sum-exp of the others."""
    odds = logits.astype(np.float64)
    rows, top = np.arange(len(odds)), np.argmax(odds, axis=1)
    odds -= odds[rows, top][:, None]
    shares = np.exp(odds)
    others = shares.sum(1, keepdims=True) - shares  # precise: but for the top class it includes a 1
    shares[rows, top] = 0
    others[rows, top] = shares.sum(1)
    odds -= np.log(np.maximum(others, np.finfo(np.float64).tiny))
    return odds
