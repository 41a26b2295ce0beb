"""Exact search of the nearest rows of the pool, block by block."""

from __future__ import annotations

import numpy as np

BLOCK = 2**24  # similarities in memory at a time: 64 MB
SAME = 1e-5  # rows whose cosine is this close to 1 are the same picture


def nearest(query: np.ndarray, store: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k rows of ``store`` of largest cosine with each row of ``query``, and whether each counts.

    A row is not its own neighbor: rows with a cosine of 1, within rounding, do not count, nor do missing
    rows of a small store.

    Parameters
    ----------
    query : ndarray of shape (n, r), float32
        Rows of length 1.
    store : ndarray of shape (N, r), float32
        Rows of length 1.
    k : int

    Returns
    -------
    rows : ndarray of int, shape (n, k')
        k' = min(k, N), nearest first.
    counts : ndarray of bool, shape (n, k')
    """
    k = min(k, len(store))
    rows = np.empty((len(query), k), dtype=np.intp)
    counts = np.empty((len(query), k), dtype=bool)
    size = max(1, BLOCK // max(1, len(store)))
    for start in range(0, len(query), size):
        part = slice(start, start + size)
        cosines = query[part] @ store.T
        cosines[cosines > 1 - SAME] = -2
        index = np.arange(len(cosines))
        for column in range(k):  # for few neighbors this is several times as fast as a partial sort
            found = cosines.argmax(1)
            rows[part, column] = found
            counts[part, column] = cosines[index, found] > -2
            cosines[index, found] = -2
    return rows, counts


def neighbor_shares(
    neighbors: tuple[np.ndarray, np.ndarray], probabilities: np.ndarray, missing: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean class probabilities (n, C) of each row's neighbors.

    Parameters
    ----------
    neighbors : tuple
        Result of `nearest`.
    probabilities : ndarray of shape (N, C)
        Class probabilities of the rows of the store.
    missing : ndarray of shape (n, C), optional
        Shares for rows without neighbors; zeros by default.
    """
    rows, counts = neighbors
    shares = np.zeros((len(rows), probabilities.shape[1]), dtype=np.float32)
    for column in range(rows.shape[1]):
        shares += counts[:, column, None] * probabilities[rows[:, column]].astype(np.float32)
    number = counts.sum(1, keepdims=True)
    shares /= np.maximum(number, 1)
    if missing is not None:
        np.copyto(shares, missing, where=number == 0)
    return shares
