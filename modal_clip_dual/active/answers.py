"""Labels that come: which samples they are for, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.images import as_array
from ..utils.labels import check_labels
from .annotations import Annotations
from .identity import absolute


def check_rows(rows: Any, n_pool: int) -> np.ndarray:
    """Return positions in the pool as an array.

    Raises
    ------
    ValueError
        If they are none, or not distinct.
    """
    rows = np.asarray(rows)
    if rows.dtype.kind == "b":
        raise ValueError(
            f"rows is a mask of shape {rows.shape}; expected positions in the pool: numpy.flatnonzero(mask)"
        )
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        raise ValueError(f"rows={rows!r}; expected positions in the pool")
    if rows.min() < 0 or rows.max() >= n_pool or len(np.unique(rows)) < len(rows):
        raise ValueError(f"rows={rows!r}; expected distinct positions from 0 to {n_pool - 1}")
    positions: np.ndarray = rows.astype(np.intp)
    return positions


def rows_of(X: Any, rows: Any, pool: Any, asked: list[int], folder: str) -> np.ndarray:
    """Positions in the pool of samples that get a label: ``rows``, or those that were asked for.

    Raises
    ------
    ValueError
        If X are not the samples that were asked for, or ``rows`` are no distinct positions in the pool.
    """
    if rows is None:
        if X is None:
            raise ValueError("teach needs X, the samples that were queried last, or rows")
        if not asked or not np.array_equal(absolute(as_array(X), folder), pool[asked]):
            raise ValueError(
                "X are not the samples that were queried last; expected those, in the same "
                "order, or rows, their positions in the pool"
            )
        rows = asked
    return check_rows(rows, len(pool))


def refuse_repeated(
    rows: np.ndarray, annotator: str | None, said: Annotations, trained: np.ndarray, gone: np.ndarray
) -> None:
    """Refuse labels of samples that are left out, and a second one by the same annotator.

    What was not trained on yet may be said again.

    Raises
    ------
    ValueError
        Names the rows.
    """
    left_out = [row for row in rows.tolist() if row in said.dropped or row in gone]
    if left_out:
        raise ValueError(f"rows {left_out} were dropped, or their files are gone; forget(rows) takes a drop back")
    answered = [row for row in np.intersect1d(rows, trained).tolist() if row in said.answers]
    again = [row for row in answered if annotator is None or annotator in said.annotators(row)]
    if again:
        raise ValueError(f"rows {again} have a label already; relabel(rows, y) changes it")


def check_annotator(annotator: Any) -> str | None:
    """Return the name of an annotator, or None.

    Raises
    ------
    TypeError
        If it is no text with a letter in it.
    """
    if annotator is not None and not (isinstance(annotator, str) and annotator.strip()):
        raise TypeError(f"annotator={annotator!r}; expected a name, or None")
    return None if annotator is None else str(annotator)


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
