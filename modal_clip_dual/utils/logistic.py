"""Logistic regression with a normal prior of its coefficients."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit


def fit_logistic(
    features: np.ndarray,
    right: np.ndarray,
    mean: np.ndarray,
    deviation: np.ndarray,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the likeliest coefficients (m,) and their covariance (m, m) by Laplace's approximation.

    ``features`` are (n, m), ``right`` (n,) bool, ``weights`` (n,) of the samples, 1 by default; ``mean`` and
    ``deviation`` (m,) are those of the prior.
    """
    sign = np.where(right, 1.0, -1.0)
    counts = np.ones(len(sign)) if weights is None else weights

    def objective(b: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features @ b)
        off = (b - mean) / deviation
        gradient = -(counts * sign * expit(-margin)) @ features + off / deviation
        return float(counts @ np.logaddexp(0, -margin) + 0.5 * off @ off), gradient

    found = minimize(objective, mean, jac=True, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 1e-14})
    proba = expit(features @ found.x)
    curvature = (features * (counts * proba * (1 - proba))[:, None]).T @ features + np.diag(deviation**-2.0)
    return found.x, np.linalg.inv(curvature)
