"""The unlabeled pool as an argument of an estimator's fit, and the rows that represent a large one."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np

GOLDEN = (5**0.5 - 1) / 2


def pool_argument(estimator: Any, pool: Any) -> dict[str, Any]:
    """Return the pool as an argument of ``fit``; nothing if ``fit`` does not take it."""
    return {"X_pool": pool} if "X_pool" in signature(estimator.fit).parameters else {}


def spread_rows(n: int, at_most: int) -> np.ndarray:
    """Return all n rows, or ``at_most`` of them evenly spread, ascending.

    Each of equally long stretches gives one row, at a position that differs from stretch to stretch, so that the
    choice does not follow a periodic order of the rows (class after class, camera after camera).
    """
    if n <= at_most:
        return np.arange(n)
    stretch = np.arange(at_most)
    return ((stretch + stretch * GOLDEN % 1) * n / at_most).astype(np.intp)
