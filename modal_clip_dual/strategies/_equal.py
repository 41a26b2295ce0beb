"""Equal samples of a pool, so that they get equal scores.

A matrix product may round the same row differently, depending on its place in a block, on the
thread and on the processor.  So the results of equal samples may differ in the last bit, and that
bit would rank them.  Here all equal samples get the result of the first of them.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..utils.arrays import Rows, as_array, blocks

ROWS = 8192  # that are hashed or compared at a time
LOOK = 32  # bytes of each sample that are hashed first: few different samples share them


def first_equal(X: Any, keys: np.ndarray | None = None) -> np.ndarray | None:
    """Return the row (n,) of the first sample that equals each one bit by bit; None if all differ.

    X is an array or tensor of numbers, something that `numpy.asarray` converts to one, or paths; samples
    of any other kind count as different.  ``keys`` are the `keys_of` X, if they are known.
    """
    X = _comparable(X)
    if X is None:
        return None
    if isinstance(X, list):
        seen: dict[str, int] = {}
        first = np.array([seen.setdefault(path, row) for row, path in enumerate(X)])
        return first if len(seen) < len(X) else None
    suspects = _repeated(keys_of(X) if keys is None else keys)
    if not len(suspects):
        return None
    whole = np.empty(len(suspects), dtype=np.uint64)
    for part in blocks(len(suspects), ROWS):
        whole[part] = _hash(_words(X, suspects[part]))
    distinct, index = np.unique(whole, return_index=True)
    first = np.arange(len(X))
    first[suspects] = suspects[index[np.searchsorted(distinct, whole)]]
    copies = _copies(first)
    for part in blocks(len(copies), ROWS):
        rows = copies[part]
        differ = (_words(X, rows) != _words(X, first[rows])).any(axis=1)  # of one hash all the same
        first[rows[differ]] = rows[differ]
    return first if len(_copies(first)) else None


def also_equal(first: np.ndarray | None, values: Any) -> np.ndarray | None:
    """`first_equal` of samples that are equal by ``first`` and in their values (n, w) as well."""
    other = None if first is None else first_equal(values)
    return None if first is None or other is None else first_equal(np.column_stack([first, other]))


def alike(values: Any, first: np.ndarray | None) -> Any:
    """Return the values (n, ...), an array or a tensor, with those of the first for all equal samples.

    ``first`` is the result of `first_equal`.  The values passed are not changed.
    """
    if first is None:
        return values
    copies = _copies(first)
    originals = first[copies]
    if all(bool((values[copies[part]] == values[originals[part]]).all()) for part in blocks(len(copies), ROWS)):
        return values
    values = values.clone() if hasattr(values, "detach") else values.copy()
    values[copies] = values[originals]
    return values


def equal_to(row: int, first: np.ndarray | None) -> np.ndarray:
    """Rows of the samples that equal one of them, itself included."""
    return np.array([row]) if first is None else np.flatnonzero(first == first[row])


def lowest_rows(rows: np.ndarray, first: np.ndarray | None) -> np.ndarray:
    """Distinct rows in which the first samples of the pool stand for those that equal them, as many of each.

    Which of equal samples is nearest to something, rounding alone would decide.
    """
    if first is None:
        return rows
    rows = rows.copy()
    for one in np.unique(first[rows[first[rows] != rows]]):
        chosen = np.flatnonzero(first[rows] == one)
        rows[chosen] = equal_to(one, first)[: len(chosen)]
    return rows


def keys_of(X: Any) -> np.ndarray:
    """A number (n,) for each sample of an array or tensor, the same for equal ones."""
    return np.concatenate([_hash(_words(X, rows, LOOK)) for rows in blocks(len(X), ROWS)])


def _repeated(keys: np.ndarray) -> np.ndarray:
    """Rows of keys that occur more than once, ascending."""
    ordered = np.sort(keys)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.flatnonzero(np.isin(keys, again)) if len(again) else np.empty(0, dtype=np.intp)


def _copies(first: np.ndarray) -> np.ndarray:
    return np.flatnonzero(first != np.arange(len(first)))


def _comparable(X: Any) -> Any:
    """X as an array or tensor of numbers, or as a list of paths; None if it is neither."""
    if hasattr(X, "detach") or isinstance(X, Rows):
        return X
    if hasattr(X, "toarray"):  # sparse
        return None
    try:
        array = X if isinstance(X, np.ndarray) else np.asarray(X)
    except ValueError:  # objects of different shapes
        return None
    if array.dtype.kind in "biuf" and array.ndim > 1 and array.size:
        return array
    if array.ndim and array.size == len(array):  # maybe one column of a frame
        paths = array.ravel().tolist()
        if all(isinstance(path, (str, os.PathLike)) for path in paths):
            return [os.fspath(path) for path in paths]
    return None


def _words(X: Any, rows: Any, most: int | None = None) -> np.ndarray:
    """Some rows of X as 64-bit words; ``most``: at most that many bytes of each, from its middle."""
    part = X[rows]
    part = part.reshape(len(part), -1)
    if most is not None:
        width = max(1, most // part.dtype.itemsize)
        start = max(0, (part.shape[1] - width) // 2)
        part = part[:, start : start + width]
    values = as_array(part.float() if hasattr(part, "detach") else part)
    data = np.ascontiguousarray(values).view(np.uint8)
    if missing := -data.shape[1] % 8:
        data = np.pad(data, [(0, 0), (0, missing)])
    return data.view(np.uint64)


def _hash(words: np.ndarray) -> np.ndarray:
    """A sum (n,) of the words (n, w), each times a random odd number of its own, modulo 2^64."""
    factors = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64) * 2 + 1
    hashed: np.ndarray = words @ factors
    return hashed
