"""Heads that are linear in the embeddings, cross-fitted and blended in their logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.optimize import minimize

DEVIATION = 0.1  # distance of weights from their prior that costs half a nat


class Head(Protocol):
    """One head of the stack: a model that learns a linear classifier from labels.

    Attributes
    ----------
    name : str
    """

    name: str

    def fit(self, target: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Learn from some labeled rows, whose labels are ``target[rows]``, without the other labels.

        Returns
        -------
        A, c : ndarray of shape (D, C), ndarray of shape (C,)
            The logits of unit embeddings X (n, D) are ``X @ A + c``.
        """


def stacking_loss(
    weights: np.ndarray,
    logits: np.ndarray,
    target: np.ndarray,
    prior: np.ndarray,
    deviation: float,
    counts: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Return cross-entropy of blended logits + |w - prior|^2 / (2 deviation^2), and its gradient.

    ``logits`` are (n, H, C), ``counts`` (n,) the weights of the samples.
    """
    blended = np.einsum("h,nhc->nc", weights, logits)
    blended -= blended.max(1, keepdims=True)
    index = np.arange(len(target))
    chosen = blended[index, target]
    np.exp(blended, out=blended)
    sums = blended.sum(1)
    off = (weights - prior) / deviation
    losses = np.log(sums) - chosen
    loss = float((losses.sum() if counts is None else counts @ losses) + 0.5 * off @ off)
    blended /= sums[:, None]
    blended[index, target] -= 1
    if counts is not None:
        blended *= counts[:, None]
    return loss, np.einsum("nc,nhc->h", blended, logits) + off / deviation


def stack_weights(
    logits: Sequence[np.ndarray],
    target: np.ndarray,
    prior: np.ndarray,
    deviation: float = DEVIATION,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Return the weights w >= 0 of heads' logits, each (n, C), that minimize the convex `stacking_loss`."""
    stacked = np.stack(logits, axis=1).astype(np.float64)
    found = minimize(
        stacking_loss,
        np.maximum(prior, 0),
        args=(stacked, target, prior, deviation, counts),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * len(prior),
        options={"gtol": 1e-6, "ftol": 1e-13, "maxiter": 500},
    )
    weights: np.ndarray = found.x
    return weights
