"""A Gaussian mixture with one variance whose classes are named by a text prior, fitted to a pool by EM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROUNDS = 15
TOLERANCE = 0.005  # largest change of a probability at which rounds end
LABEL_WEIGHT = 4.0  # weight of a labeled row, in unlabeled rows
BLOCK = 2**22  # class probabilities that are computed at a time


@dataclass(frozen=True)
class Mixture:
    """Class means (C, r) and the variance per dimension that all classes share.

    ``known`` (C,) tells which classes have a mean; the others have neither text nor labels.
    """

    means: np.ndarray
    variance: float
    known: np.ndarray
    rounds: int = 0

    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (r, C) and offsets (C,) of the logits: log-densities without their common terms."""
        weights = self.means.T / self.means.dtype.type(self.variance)
        return weights, -0.5 * np.einsum("kr,kr->k", self.means, self.means) / self.variance


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute the softmax over the last axis; overwrites its argument."""
    logits -= logits.max(-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(-1, keepdims=True)
    return logits


def maximize(
    z: np.ndarray,
    q: np.ndarray,
    labeled_mass: np.ndarray,
    labeled_sums: np.ndarray,
    squares: float,
    before: Mixture,
) -> Mixture:
    """Do the M step: weighted means, and the mean squared residual per dimension.

    Parameters
    ----------
    z : ndarray of shape (N, r)
        Unlabeled rows.
    q : ndarray of shape (N, C)
        Their class probabilities, times their weights.
    labeled_mass, labeled_sums : ndarray of shape (C,), ndarray of shape (C, r)
        Weight and weighted sum of each class's labeled rows.
    squares : float
        Sum of all rows' weights times squared lengths.
    before : Mixture
        Mixture of the round before; a class without any weight keeps its mean.
    """
    mass = q.sum(0, dtype=np.float64) + labeled_mass
    some = mass > 1e-8 * mass.sum()
    means = before.means.copy()
    means[some] = (q.T @ z + labeled_sums)[some] / mass[some, None]
    # |z - m|^2 sums to |z|^2 - mass |m|^2 at the weighted means.
    between = mass[some] @ np.einsum("kr,kr->k", means[some], means[some], dtype=np.float64)
    mean_square = squares / (mass.sum() * z.shape[1])
    residual = mean_square - between / (mass.sum() * z.shape[1])
    # The floor is below float32's precision of the difference; identical rows have no variance at all.
    variance = max(residual, 1e-6 * mean_square, 1e-12)
    return Mixture(means, float(variance), before.known, before.rounds + 1)


def expect(z: np.ndarray, text: np.ndarray | None, beta: float, mixture: Mixture, q: np.ndarray) -> float:
    """Do the E step: write class probabilities into ``q``; return the largest change of one."""
    weights, offset = mixture.linear()
    offset = np.where(mixture.known, offset, -np.inf).astype(z.dtype)
    change = 0.0
    size = max(1, BLOCK // q.shape[1])
    for start in range(0, len(z), size):
        part = slice(start, start + size)
        logits = z[part] @ weights
        logits += offset
        if text is not None:
            logits += z.dtype.type(beta) * text[part]
        softmax(logits)
        change = max(change, float(np.abs(logits - q[part]).max()))
        q[part] = logits
    return change


def _squares(z: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the sum of the squared lengths of rows (n, r), times their weights (n,)."""
    if weight is None:
        return float(np.einsum("ij,ij->", z, z, dtype=np.float64))
    return float(weight @ np.einsum("ij,ij->i", z, z, dtype=np.float64))


def fit_mixture(
    z: np.ndarray,
    text: np.ndarray | None,
    beta: float,
    z_labeled: np.ndarray,
    target: np.ndarray,
    n_classes: int,
    *,
    label_weight: float = LABEL_WEIGHT,
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
    weight: np.ndarray | None = None,
    weight_labeled: np.ndarray | None = None,
) -> Mixture:
    """Fit means and variance to unlabeled and labeled rows together.

    No round lowers ``sum_i log sum_k exp(beta text_ik) N(z_i; m_k, v) + label_weight sum_j log N(z_j; m_{y_j}, v)``,
    i over the unlabeled and j over the labeled rows.

    Parameters
    ----------
    z : ndarray of shape (N, r)
        Unlabeled rows.
    text : ndarray of shape (N, C) or None
        Text logits, a prior of each row's class.  With None, classes start from their labeled rows' means, and
        those without labels stay empty.
    beta : float
        Strength of the text prior.
    z_labeled : ndarray of shape (n, r)
    target : ndarray of int, shape (n,)
    label_weight : float
        Weight of a labeled row, in unlabeled rows.
    weight, weight_labeled : ndarray of shape (N,), ndarray of shape (n,), optional
        Weights of the single rows, by which their terms of the sums are multiplied; 1 by default.
    """
    labeled_mass = label_weight * np.bincount(target, weight_labeled, minlength=n_classes)
    labeled_sums = np.zeros((n_classes, z.shape[1]))
    np.add.at(labeled_sums, target, z_labeled if weight_labeled is None else weight_labeled[:, None] * z_labeled)
    labeled_sums *= label_weight
    squares = _squares(z, weight) + label_weight * _squares(z_labeled, weight_labeled)
    total_mass = (len(z) if weight is None else weight.sum()) + labeled_mass.sum()
    known = np.ones(n_classes, dtype=bool) if text is not None else labeled_mass > 0
    mixture = Mixture(np.zeros((n_classes, z.shape[1]), z.dtype), 1.0, known)
    q = np.zeros((len(z), n_classes), z.dtype)
    if text is not None:
        q += z.dtype.type(beta) * text
        softmax(q)
    else:
        means = labeled_sums / np.maximum(labeled_mass, 1)[:, None]
        total = squares / total_mass / z.shape[1]
        mixture = Mixture(means.astype(z.dtype), max(total, 1e-12), known)
        expect(z, None, 0.0, mixture, q)
    for _ in range(rounds):
        weighted = q if weight is None else weight[:, None].astype(z.dtype) * q
        mixture = maximize(z, weighted, labeled_mass, labeled_sums, squares, mixture)
        if expect(z, text, beta, mixture, q) < tolerance:
            break
    return mixture
