"""The rows of a pool that are not labeled, and pool and labeled samples together."""

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


def merged(
    labeled: np.ndarray, target: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return labeled rows, their classes and weights, with copies of one class made one row of their summed weight.

    Copies must not stand in a fold each: then a held-out label would be known from the others.  Without copies and
    weights the weights stay None.
    """
    as_bytes = np.dtype((np.void, labeled.dtype.itemsize * labeled.shape[1]))
    _, group = np.unique(np.ascontiguousarray(labeled).view(as_bytes).ravel(), return_inverse=True)
    pairs = group * (target.max(initial=0) + 1) + target
    _, first, pair = np.unique(pairs, return_index=True, return_inverse=True)
    if len(first) == len(target):
        return labeled, target, weight
    order = np.argsort(first)
    rows = first[order]
    return labeled[rows], target[rows], np.bincount(pair, weight)[order].astype(np.float64)
