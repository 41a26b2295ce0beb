"""How certain class probabilities are, by Renyi's entropy."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

MERGES = ("renyi", "printed", "mean")


def renyi_entropy(proba: np.ndarray, alpha: float) -> np.ndarray:
    """Return Renyi's entropy of order alpha, log(sum_j p_j^alpha) / (1 - alpha), along the last axis.

    Its limits are Shannon's entropy at 1 and -log max_j p_j at infinity.
    """
    proba = np.asarray(proba, dtype=np.float64)
    entropy: np.ndarray
    if alpha == 1:
        entropy = entr(proba).sum(axis=-1)
    elif np.isinf(alpha):
        entropy = -np.log(proba.max(axis=-1))
    else:
        # Divided by the largest, so that large powers do not underflow.
        top = proba.max(axis=-1, keepdims=True)
        powers = np.log(((proba / top) ** alpha).sum(axis=-1)) + alpha * np.log(top[..., 0])
        entropy = powers / (1 - alpha)
    entropy = np.maximum(entropy, 0)
    return entropy


def weights_of(proba: np.ndarray, alpha: float, merge: str) -> np.ndarray:
    """Return the weight of each distribution along the last axis, at least 0.

    ``"renyi"`` is 1 - H / log C, so that certain ones count most; ``"printed"`` is H, so that they count least;
    ``"mean"`` is 1.
    """
    if merge == "mean":
        return np.ones(np.shape(proba)[:-1])
    entropy = renyi_entropy(proba, alpha)
    if merge == "printed":
        return entropy
    weights: np.ndarray = np.maximum(1 - entropy / np.log(max(np.shape(proba)[-1], 2)), 0)
    return weights


def shares(weights: np.ndarray) -> np.ndarray:
    """Return weights divided by their sum along the last axis; equal shares where all are 0."""
    total = weights.sum(axis=-1, keepdims=True)
    found: np.ndarray = np.where(total > 0, weights, 1) / np.where(total > 0, total, np.shape(weights)[-1])
    return found
