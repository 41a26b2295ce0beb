"""The unlabeled pool as an argument of an estimator's fit, and the rows that represent a large one."""

from __future__ import annotations

import warnings
from inspect import signature
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from .arrays import n_samples

GOLDEN = (5**0.5 - 1) / 2


def pool_argument(estimator: Any, pool: Any) -> dict[str, Any]:
    """Return the pool as an argument of ``fit``; nothing if ``fit`` does not take it."""
    return {"X_pool": pool} if "X_pool" in signature(estimator.fit).parameters else {}


def fit_with_pool(estimator: Any, X: Any, y: Any, pool: Any) -> Any:
    """Fit an estimator, in place, with the pool if its ``fit`` takes it; None is no pool.

    A Pipeline whose last step takes a pool gets it there, as the fitted steps before transform it.
    """
    if pool is None or pool_argument(estimator, pool):
        return estimator.fit(X, y, **({} if pool is None else {"X_pool": pool}))
    if not _ends_in_one_that_takes_it(estimator):
        return estimator.fit(X, y)
    before, last = estimator[:-1], estimator.steps[-1][1]
    table = before.fit_transform(X, y) if len(before) else X
    estimator.steps[:-1] = before.steps  # with ``memory`` they are fitted copies
    fit_with_pool(last, table, y, before.transform(pool) if len(before) else pool)
    return estimator


def _ends_in_one_that_takes_it(estimator: Any) -> bool:
    if not isinstance(estimator, Pipeline):
        return bool(pool_argument(estimator, True))
    last = estimator.steps[-1][1]
    return hasattr(last, "fit") and _ends_in_one_that_takes_it(last)


def warn_of_lost_pool(estimators: dict[str, Any], what: str, stacklevel: int) -> None:
    """Warn, in the name of ``what``, of estimators by name around one that takes a pool and would not get it."""
    for name, estimator in estimators.items():
        inside = [] if estimator is None else estimator.get_params().values()
        takes = [part for part in inside if hasattr(part, "fit") and pool_argument(part, True)]
        if takes and not _ends_in_one_that_takes_it(estimator):
            warnings.warn(
                f"{what}: X_pool is not passed on to {type(takes[0]).__name__} inside of the {name}, since the fit "
                f"of {type(estimator).__name__} does not take it",
                UserWarning,
                stacklevel=stacklevel,
            )


def check_pool(pool: Any, X: Any) -> None:
    """Refuse what is no samples, or a table of another width than that of X.

    Raises
    ------
    TypeError
        If the pool has no length, or is a text.
    ValueError
        If it is empty, or has another number of columns.
    """
    expected = "expected samples as those of X"
    if isinstance(pool, (str, bytes)):
        raise TypeError(f"X_pool is {pool!r:.60} ({type(pool).__name__}); {expected}")
    if not n_samples(pool, "X_pool", expected):
        raise ValueError(f"X_pool is empty; {expected}, at least one")
    given, wanted = width_of(pool), width_of(X)
    if given is not None and wanted is not None and given != wanted:
        raise ValueError(f"X_pool has {given} features, and X has {wanted}; expected as many")


def width_of(X: Any) -> int | None:
    """Return the number of columns of a table; None for anything else, and for one that may hold a list per row."""
    if hasattr(X, "shape"):
        shape = tuple(X.shape[1:])
    else:
        shape = np.shape(X[0]) if isinstance(X, (list, tuple)) and len(X) else ()
    return int(shape[0]) if len(shape) == 1 and shape[0] > 1 else None


def spread_rows(n: int, at_most: int) -> np.ndarray:
    """Return all n rows, or ``at_most`` of them evenly spread, ascending.

    Each of equally long stretches gives one row, at a position that differs from stretch to stretch, so that the
    choice does not follow a periodic order of the rows (class after class, camera after camera).
    """
    if n <= at_most:
        return np.arange(n)
    stretch = np.arange(at_most)
    return ((stretch + stretch * GOLDEN % 1) * n / at_most).astype(np.intp)
