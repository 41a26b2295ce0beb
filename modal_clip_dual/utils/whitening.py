"""Principal axes of a pool, which are not whitened, whitened by half or fully."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR = 0.1  # share of the mean eigenvalue, added to each, so that faint directions are not blown up
BLOCK = 16384  # rows that are centered at a time


@dataclass(frozen=True)
class Whitening:
    """The mean and the leading principal axes of some embeddings.

    Attributes
    ----------
    mean : ndarray of shape (D,), float32
    axes : ndarray of shape (D, r), float32
        Orthonormal columns, most variance first.
    scales : dict of {float: ndarray of shape (r,)}
        ``scales[p]`` shrinks the coordinates along the axes: by the variance to the power -p / 2, and
        so that the embeddings' mean squared length is 1.
    """

    mean: np.ndarray
    axes: np.ndarray
    scales: dict[float, np.ndarray]

    def coordinates(self, X: np.ndarray) -> np.ndarray:
        """Return coordinates (n, r) of embeddings (n, D) along the axes, not whitened."""
        along: np.ndarray = X @ self.axes - self.mean @ self.axes
        return along

    def linear(self, weights: np.ndarray, power: float) -> tuple[np.ndarray, np.ndarray]:
        """Convert weights (r, C) of whitened coordinates to a matrix (D, C) and an offset (C,) for embeddings."""
        matrix = self.axes @ (self.scales[power][:, None] * weights)
        return matrix, -(self.mean @ matrix)


def fit_whitening(
    X: np.ndarray, rank: int, powers: tuple[float, ...] = (0.0, 0.5, 1.0), weight: np.ndarray | None = None
) -> Whitening:
    """Find the mean and the leading axes of embeddings (N, D).

    Sums are in float64, so that the order of the rows changes only their last digits.

    Parameters
    ----------
    X : ndarray of shape (N, D)
    rank : int
        Largest number of axes; there are never more than D.
    powers : tuple of float
        Strengths of whitening: 0 does nothing, 1 gives all axes the same variance (apart from a floor under
        small ones).
    weight : ndarray of shape (N,), optional
        Weights of the rows; 2 is a row that comes twice.
    """
    n_rows, width = X.shape
    mean = X.mean(0, dtype=np.float64) if weight is None else weight @ X / weight.sum()
    total = n_rows if weight is None else float(weight.sum())
    covariance = np.zeros((width, width))
    for start in range(0, n_rows, BLOCK):
        rows = slice(start, start + BLOCK)
        part = X[rows] - mean
        covariance += (part if weight is None else weight[rows, None] * part).T @ part
    values, vectors = np.linalg.eigh(covariance / total)
    values, vectors = np.maximum(values[::-1][:rank], 0), vectors[:, ::-1][:, :rank]
    # The sign of an axis is arbitrary: the largest entry is made positive.
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
    # Identical rows have no variance; then any positive floor will do.
    floor = FLOOR * np.trace(covariance) / total / width or 1.0
    scales = {}
    for power in powers:
        scale = (values + floor) ** (-power / 2)
        length = np.sqrt(np.sum(values * scale**2))
        scales[power] = (scale / (length or 1.0)).astype(np.float32)
    return Whitening(mean.astype(np.float32), (vectors * signs).astype(np.float32), scales)
