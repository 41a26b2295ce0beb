"""What a query strategy answered, checked before anybody acts on it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..utils.arrays import as_array


def check_answer(
    answer: Any, strategy: Callable[..., Any], n_instances: int, n_pool: int
) -> tuple[np.ndarray, Any]:
    """Return the rows (n_instances,) and the scores that a strategy gave; scores are None if it gave none.

    A tuple is a pair of rows and something else: in modAL 0.4.2 scores, in the older form that 0.4.1 still takes
    the samples.

    Raises
    ------
    TypeError
        If the rows are no whole numbers; a boolean mask is refused as well.
    ValueError
        If there are more or fewer than n_instances rows, one is outside of the pool or comes twice, or
        they have no shape (n_instances,).
    """
    pair = isinstance(answer, tuple)
    rows, scores = answer if pair and len(answer) == 2 else (None, None) if pair else (answer, None)
    try:
        rows = as_array(rows)
    except ValueError:  # lists of several lengths
        rows = np.asarray(None)
    received, error = _misfit(rows, n_instances, n_pool)
    if error is not None:
        received = received or reprlib.repr(answer)
        many = "1 whole number" if n_instances == 1 else f"{n_instances} distinct whole numbers"
        hint = "; a tuple is read as (rows, scores)" if pair else ""
        raise error(
            f"the query strategy {name_of(strategy)} returned {received}; expected {many} from 0 to {n_pool - 1}, "
            f"rows of X_pool, since n_instances={n_instances}{hint}"
        )
    return rows, scores


def name_of(strategy: Callable[..., Any]) -> str:
    """Return what a strategy is called in messages: its function, or the class of an object."""
    while hasattr(strategy, "func"):  # of partials
        strategy = strategy.func
    return str(getattr(strategy, "__name__", type(strategy).__name__))


def _misfit(rows: np.ndarray, n_instances: int, n_pool: int) -> tuple[str, type[Exception] | None]:
    """What is wrong with rows, empty where only the whole answer tells, and the error; None if they fit."""
    if rows.ndim != 1:
        return (f"rows of shape {rows.shape}" if rows.ndim else ""), ValueError
    if rows.dtype.kind == "b":
        return "a boolean mask, which numpy.flatnonzero makes rows of", TypeError
    if len(rows) and rows.dtype.kind not in "iu":
        return f"rows of type {rows.dtype}, such as {reprlib.repr(rows[:1].tolist()[0])}", TypeError
    if len(rows) != n_instances:
        return f"{len(rows)} row{'' if len(rows) == 1 else 's'}", ValueError
    outside = (rows < 0) | (rows >= n_pool)
    if outside.any():
        return f"row {rows[outside][0]}", ValueError
    distinct, times = np.unique(rows, return_counts=True)
    if len(distinct) < len(rows):
        return f"row {distinct[times.argmax()]} {times.max()} times", ValueError
    return "", None
