"""Multinomial logistic regression around the text's logits; convex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

TEXT_MEAN, TEXT_DEVIATION = 0.7, 0.5  # prior of the factor of the text's logits


@dataclass(frozen=True)
class Logistic:
    """Logits are ``text_factor * text_logits + features @ weights + offset``."""

    weights: np.ndarray
    offset: np.ndarray
    text_factor: float
    iterations: int


def objective(
    parameters: np.ndarray,
    features: np.ndarray,
    text: np.ndarray | None,
    target: np.ndarray,
    penalties: np.ndarray,
    weight: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Return the penalized loss and its gradient.

    ``parameters`` holds the weights (r, C), row by row, the offsets (C,), and, with text, its factor.
    ``penalties`` (r,) belong to the rows of the weights, ``weight`` (n,) to the samples.
    """
    n, n_features = features.shape
    rows = parameters[: len(parameters) - (text is not None)].reshape(n_features + 1, -1)
    weights, offset = rows[:-1], rows[-1]
    logits = features @ weights.astype(features.dtype, copy=False) + offset.astype(features.dtype, copy=False)
    factor = float(parameters[-1]) if text is not None else 0.0
    if text is not None:
        logits += features.dtype.type(factor) * text
    logits -= logits.max(1, keepdims=True)
    index = np.arange(n)
    chosen = logits[index, target].astype(np.float64)
    np.exp(logits, out=logits)
    sums = logits.sum(1, keepdims=True)
    losses = np.log(sums.astype(np.float64))[:, 0]
    loss = float(losses.sum() - chosen.sum() if weight is None else weight @ (losses - chosen))
    logits /= sums
    logits[index, target] -= 1  # now the residuals
    if weight is not None:
        logits *= weight[:, None].astype(features.dtype, copy=False)
    gradient = np.empty_like(parameters)
    rows_gradient = gradient[: rows.size].reshape(rows.shape)
    rows_gradient[:-1] = features.T @ logits
    rows_gradient[-1] = logits.sum(0)
    penalized = penalties[:, None] * weights
    rows_gradient[:-1] += penalized
    rows_gradient[-1] += offset
    loss += 0.5 * float(np.vdot(penalized, weights) + offset @ offset)
    if text is not None:
        gradient[-1] = np.vdot(text, logits) + (factor - TEXT_MEAN) / TEXT_DEVIATION**2
        loss += 0.5 * ((factor - TEXT_MEAN) / TEXT_DEVIATION) ** 2
    return loss, gradient


def fit_logistic(
    features: np.ndarray,
    text: np.ndarray | None,
    target: np.ndarray,
    n_classes: int,
    penalty: float,
    *,
    tolerance: float = 3e-4,
    iterations: int = 300,
    weight: np.ndarray | None = None,
    fixed: bool = False,
) -> Logistic:
    """Minimize cross-entropy (a sum) + penalty / 2 |weights|^2 + |offset|^2 / 2 + (a - 0.7)^2 / (2 * 0.5^2), a >= 0.

    Parameters
    ----------
    features : ndarray of shape (n, r)
    text : ndarray of shape (n, C) or None
        Logits that are added with a learned factor a.
    target : ndarray of int, shape (n,)
    penalty : float
    tolerance : float
        Fitting ends when no derivative is larger than ``tolerance * sqrt(n)``.
    weight : ndarray of shape (n,), optional
        Weights of the samples' cross-entropies; n is their sum then.
    fixed : bool, default=False
        Whether only the weights are learned: a is 1 and the offsets are 0.
    """
    n = len(features)
    # In the principal axes of the features, of which n < r rows leave most empty, the problem is smaller; with each
    # axis scaled by its curvature it is well conditioned: it takes a tenth of the iterations.
    total = n if weight is None else float(weight.sum())
    sides = features if weight is None else np.sqrt(weight)[:, None].astype(features.dtype) * features
    gram = sides.T @ sides if n >= features.shape[1] else sides @ sides.T
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    some = values > 1e-7 * values[-1]
    values, vectors = values[some], vectors[:, some]
    axes = vectors if n >= features.shape[1] else sides.T @ (vectors / np.sqrt(values))
    axes = axes.astype(features.dtype)
    curvature = np.sqrt(values / n_classes + penalty)
    scaled = (features @ axes) / curvature.astype(features.dtype)
    penalties = penalty / curvature**2

    n_weights = (len(values) + 1) * n_classes
    start = np.zeros(n_weights + (text is not None))
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * n_weights
    if fixed:
        bounds[-n_classes:] = [(0.0, 0.0)] * n_classes
    if text is not None:
        start[-1] = 1.0 if fixed else TEXT_MEAN
        bounds.append((1.0, 1.0) if fixed else (0.0, None))
    precision = float(np.finfo(features.dtype).eps)
    found = minimize(
        objective,
        start,
        args=(scaled, text, target, penalties, weight),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxcor": 20, "gtol": tolerance * np.sqrt(total), "maxiter": iterations, "ftol": precision / 10},
    )
    rows = found.x[:n_weights].reshape(-1, n_classes)
    weights = axes @ (rows[:-1] / curvature[:, None]).astype(features.dtype)
    factor = 0.0 if text is None else float(found.x[-1])
    return Logistic(weights, rows[-1].astype(features.dtype), factor, found.nit)
