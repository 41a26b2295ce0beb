"""Folds of labeled samples."""

from __future__ import annotations

import numpy as np


def deal_folds(X: np.ndarray, target: np.ndarray, n_folds: int) -> np.ndarray:
    """Return the fold of each row: rows sorted by label are dealt in turn.

    Rows of one label are sorted by their values, so that the order of the samples does not matter.
    """
    order = np.lexsort((*X.T[:8][::-1], target))
    folds = np.empty(len(target), dtype=np.intp)
    folds[order] = np.arange(len(target)) % n_folds
    return folds
