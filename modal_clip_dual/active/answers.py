"""Labels that come: which samples they are for, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.images import as_array
from ..utils.labels import are_names, check_labels, encode_labels, resolve_classes


def rows_of(X: Any, rows: Any, pool: np.ndarray, asked: np.ndarray | None, labeled: np.ndarray) -> np.ndarray:
    """Positions in the pool of samples that get a label: ``rows``, or those that were asked for.

    Raises
    ------
    ValueError
        If X are not the samples that were asked for, or ``rows`` are no positions in the pool, not
        distinct, or have a label already.
    """
    if rows is None:
        if X is None:
            raise ValueError("teach needs X, the samples that were queried last, or rows")
        X = as_array(X)
        if asked is None or not np.array_equal(X, pool[asked]):
            raise ValueError(
                "X are not the samples that were queried last; expected those, in the same "
                "order, or rows, their positions in the pool"
            )
        rows = asked
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        raise ValueError(f"rows={rows!r}; expected positions in the pool")
    if rows.min() < 0 or rows.max() >= len(pool) or len(np.unique(rows)) < len(rows):
        raise ValueError(f"rows={rows!r}; expected distinct positions from 0 to {len(pool) - 1}")
    again = np.intersect1d(rows, labeled)
    if len(again):
        raise ValueError(f"rows {again.tolist()} have a label already")
    positions: np.ndarray = rows.astype(np.intp)
    return positions


def check_new_labels(y: np.ndarray, before: np.ndarray, class_names: Any) -> None:
    """Refuse labels that cannot be trained on, alone or together with those before.

    Raises
    ------
    ValueError
        Names what does not fit.
    """
    if len(before) and are_names(y) != are_names(before):
        kinds = ("positions", "names") if are_names(y) else ("names", "positions")
        old, new = before[:1].tolist()[0], y[:1].tolist()[0]
        raise ValueError(
            f"the labels so far are {kinds[0]} such as {old!r}, y holds {kinds[1]} such as {new!r}; "
            "expected one kind"
        )
    labels = np.concatenate([before, y]) if len(before) else y
    classes, _ = resolve_classes(class_names, labels)  # the message of a wrong one has its row in y
    encode_labels(y, classes)


def oracle_of(oracle: Any, n_pool: int) -> Callable[[np.ndarray, Any], Any]:
    """Return a function of (rows, instances) that gives labels, of one or of all labels of the pool.

    Raises
    ------
    ValueError
        If the labels are not as many as the pool's rows.
    """
    if callable(oracle):
        function: Callable[[np.ndarray, Any], Any] = oracle
        return function
    labels = check_labels(oracle, "oracle")
    if len(labels) != n_pool:
        raise ValueError(f"oracle has {len(labels)} labels, X_pool {n_pool} rows")
    return lambda rows, instances: labels[rows]
