"""The unlabeled pool as an argument of an estimator's fit."""

from __future__ import annotations

from inspect import signature
from typing import Any


def pool_argument(estimator: Any, pool: Any) -> dict[str, Any]:
    """Return the pool as an argument of ``fit``; nothing if ``fit`` does not take it."""
    return {"X_pool": pool} if "X_pool" in signature(estimator.fit).parameters else {}
