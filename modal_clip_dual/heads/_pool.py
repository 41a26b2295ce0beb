"""The rows of a pool that are not labeled."""

from __future__ import annotations

import numpy as np


def unmatched(pool: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Return the rows of the pool (N, D) that equal none of the labeled ones (n, D), bit by bit.

    Each labeled row removes one equal row of the pool; further copies stay.
    """
    as_bytes = np.dtype((np.void, pool.dtype.itemsize * pool.shape[1]))
    every = np.ascontiguousarray(np.concatenate([labeled, pool])).view(as_bytes).ravel()
    _, group = np.unique(every, return_inverse=True)
    taken = np.bincount(group[: len(labeled)], minlength=group.max(initial=-1) + 1)
    group = group[len(labeled) :]
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])
    copy = np.empty(len(pool), dtype=np.intp)  # the number of the row among its copies
    copy[order] = np.arange(len(pool)) - first
    rows: np.ndarray = np.flatnonzero(copy >= taken[group])
    return rows
