"""Folds of labeled samples, and copies of one sample, which belong together."""

from __future__ import annotations

import numpy as np


def deal_folds(X: np.ndarray, target: np.ndarray, n_folds: int) -> np.ndarray:
    """Return the fold of each row: rows sorted by label are dealt in turn.

    Rows of one label are sorted by their values, so that the order of the samples does not matter.
    """
    order = np.lexsort((equal_rows(X), *X.T[:8][::-1], target))
    folds = np.empty(len(target), dtype=np.intp)
    folds[order] = np.arange(len(target)) % n_folds
    return folds


def equal_rows(X: np.ndarray) -> np.ndarray:
    """Return a number for each row, the same for rows that are equal bit by bit, whatever the order of the rows."""
    as_bytes = np.dtype((np.void, X.dtype.itemsize * X.shape[1]))
    numbers: np.ndarray = np.unique(np.ascontiguousarray(X).view(as_bytes).ravel(), return_inverse=True)[1]
    return numbers


def merged(
    labeled: np.ndarray, target: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return labeled rows, their classes and weights, with copies of one class made one row of their summed weight.

    Copies must not stand in a fold each: then a held-out label would be known from the others.  Without copies and
    weights the weights stay None.
    """
    pairs = equal_rows(labeled) * (target.max(initial=0) + 1) + target
    _, first, pair = np.unique(pairs, return_index=True, return_inverse=True)
    if len(first) == len(target):
        return labeled, target, weight
    order = np.argsort(first)
    rows = first[order]
    return labeled[rows], target[rows], np.bincount(pair, weight)[order].astype(np.float64)
