"""The rows of a pool that are not labeled."""

from __future__ import annotations

import numpy as np

from ..utils.folds import equal_rows
from ._neighbors import BLOCK, SAME


def unmatched(pool: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """Return the rows of the pool (N, D) that are none of the labeled ones (n, D), both of length 1.

    Each labeled row removes one row of the pool: one that equals it bit by bit, or else the nearest whose cosine is 1
    within rounding, since the same picture may have been encoded in another batch or been saved with other digits.
    Further copies stay.
    """
    group = equal_rows(np.concatenate([labeled, pool]))
    of_labeled, of_pool = group[: len(labeled)], group[len(labeled) :]
    size = group.max(initial=-1) + 1
    taken, there = np.bincount(of_labeled, minlength=size), np.bincount(of_pool, minlength=size)
    rows: np.ndarray = np.flatnonzero(_copy(of_pool) >= taken[of_pool])
    lost = labeled[_copy(of_labeled) >= there[of_labeled]]
    return rows[_far(pool[rows], lost)] if len(lost) else rows


def _copy(group: np.ndarray) -> np.ndarray:
    """Return the number of each row among its copies: 0 for the first of its group."""
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])
    copy = np.empty(len(group), dtype=np.intp)
    copy[order] = np.arange(len(group)) - first
    return copy


def _far(pool: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Tell which rows of the pool stay, when each of the lost rows takes the nearest that is the same picture."""
    stays = np.ones(len(pool), dtype=bool)
    size = max(1, BLOCK // max(1, len(pool)))
    for start in range(0, len(lost), size):
        cosines = lost[start : start + size] @ pool.T
        for row in np.flatnonzero((cosines > 1 - SAME).any(axis=1)):
            left = np.where(stays, cosines[row], -2)
            nearest = int(left.argmax())
            stays[nearest] &= left[nearest] <= 1 - SAME
    return stays
