"""Confidence intervals of means of few repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

METHODS = ("studentized", "t", "percentile", "bca")
_BLOCK = 4_000_000  # numbers in memory at once


def mean_interval(
    values: np.ndarray,
    confidence_level: float = 0.95,
    n_resamples: int = 9999,
    random_state: Any = 0,
    method: str = "studentized",
) -> np.ndarray:
    """Compute confidence intervals of the means of the rows of a matrix, (low, high) of shape (rows,).

    All rows are resampled with the same draws, so that a row's interval depends on its own
    values, the seed and the number of resamples alone.  `summarize` documents the methods.

    Parameters
    ----------
    values : ndarray of shape (rows, n)
        Finite values of n repetitions per row.
    confidence_level : float, default=0.95
        Level of the interval, between 0 and 1.
    n_resamples : int, default=9999
        Number of bootstrap samples.
    random_state : int, default=0
        Seed of the resampling.
    method : {"studentized", "t", "percentile", "bca"}, default="studentized"

    Returns
    -------
    low, high : ndarray of shape (rows,)
        Bounds; nan with fewer than two repetitions.

    Examples
    --------
    >>> import numpy as np
    >>> from modal_clip_dual.evaluation._intervals import mean_interval
    >>> low, high = mean_interval(np.array([[0.7, 0.8, 0.9]]), method="t")
    >>> [round(float(bound), 3) for bound in (*low, *high)]
    [0.552, 1.048]
    """
    values = np.asarray(values, dtype=np.float64)
    n = values.shape[1]
    if n < 2:
        return np.full((2, len(values)), np.nan)
    tail = (1 - confidence_level) / 2
    mean: np.ndarray = values.mean(axis=1)
    # The variance of equal numbers is exactly zero only if their mean is subtracted exactly.
    deviations = np.where(np.ptp(values, axis=1, keepdims=True) == 0, 0, values - mean[:, None])
    # With three repetitions 3 of 27 resamples are three copies of one of them, without any
    # spread, and the rest say too little about the tails: see the coverage in `summarize`.
    if method == "t" or (method == "studentized" and n <= 3):
        error = np.sqrt((deviations**2).sum(axis=1) / (n - 1) / n)
        offsets = np.outer([-1, 1], stats.t.ppf(1 - tail, n - 1) * error)
        return mean + offsets
    # How often each repetition is in each resample: means of resamples are then products.
    rng = np.random.default_rng(random_state)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(np.float64)
    offsets_of = {"studentized": _studentized, "percentile": _percentile, "bca": _bca}[method]
    rows = max(1, _BLOCK // n_resamples)
    blocks = [
        offsets_of(deviations[start : start + rows], counts, tail)
        for start in range(0, len(values), rows)
    ]
    bounds: np.ndarray = mean + np.concatenate(blocks, axis=1)
    return bounds


def _percentile(deviations: np.ndarray, counts: np.ndarray, tail: float) -> np.ndarray:
    means = deviations @ counts.T / deviations.shape[1]
    bounds: np.ndarray = np.quantile(means, [tail, 1 - tail], axis=1)
    return bounds


def _studentized(deviations: np.ndarray, counts: np.ndarray, tail: float) -> np.ndarray:
    """Compute bounds from the bootstrap's own t statistics (mean of a resample over its error)."""
    n = deviations.shape[1]
    means = deviations @ counts.T / n
    squares = deviations**2 @ counts.T / n
    variances = squares - means**2
    spread = variances > 1e-12 * squares  # if all draws are the same number, there is no t statistic
    with np.errstate(divide="ignore", invalid="ignore"):
        t = means / np.sqrt(variances / (n - 1))
    t = np.sort(np.where(spread, t, np.inf), axis=1)
    upper, lower = _quantiles_of_first(t, spread.sum(axis=1), [1 - tail, tail])
    # A resample of seeds that nearly agree has almost no error, and a huge t: of 5 seeds one
    # interval in twenty would be 3 to 5 times Student's.  No bound is farther than twice Student's.
    farthest = 2 * stats.t.ppf(1 - tail, n - 1)
    error = np.sqrt((deviations**2).sum(axis=1) / (n - 1) / n)
    bounds: np.ndarray = np.clip([-upper, -lower], -farthest, farthest) * error
    return bounds


def _quantiles_of_first(
    values: np.ndarray, lengths: np.ndarray, levels: Sequence[float]
) -> list[np.ndarray]:
    """Return quantiles of the first ``lengths`` numbers of each sorted row; 0 for empty rows."""
    rows = np.arange(len(values))
    result = []
    for level in levels:
        position = level * np.maximum(lengths - 1, 0)
        below = position.astype(int)
        above = np.minimum(below + 1, np.maximum(lengths - 1, 0))
        low, high = values[rows, below], values[rows, above]
        with np.errstate(invalid="ignore"):
            quantile = low + (position - below) * (high - low)
        result.append(np.where(lengths > 0, quantile, 0))
    return result


def _bca(deviations: np.ndarray, counts: np.ndarray, tail: float) -> np.ndarray:
    """Compute Efron's bias-corrected and accelerated percentiles."""
    means = np.sort(deviations @ counts.T / deviations.shape[1], axis=1)
    # A resample with every seed once has the mean of the seeds, except for rounding.
    tiny = 1e-12 * np.abs(deviations).max(axis=1, keepdims=True)
    below = ((means < -tiny).mean(axis=1) + (means <= tiny).mean(axis=1)) / 2
    bias = stats.norm.ppf(below)
    # The jackknife's means are the deviations, mirrored and scaled; the scale cancels.
    cubes, squares = (deviations**3).sum(axis=1), (deviations**2).sum(axis=1)
    acceleration = cubes / np.where(squares > 0, 6 * squares**1.5, 1)
    bounds = []
    for z in stats.norm.ppf([tail, 1 - tail]):
        level = stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        position = level * (means.shape[1] - 1)
        first = np.floor(position).astype(int)
        last = np.ceil(position).astype(int)
        rows = np.arange(len(means))
        low, high = means[rows, first], means[rows, last]
        bounds.append(low + (position - first) * (high - low))
    return np.stack(bounds)
