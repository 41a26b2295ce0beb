"""The heads of `_dual_linear.py`: text, mixtures and logistic regressions, each linear in the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..utils.text_logistic import TEXT_MEAN, fit_logistic
from ..utils.whitening import Whitening
from ._mixture import LABEL_WEIGHT, ROUNDS, fit_mixture

DROP = 2.0  # spreads by which a class without examples is put below the mean of the others


@dataclass(frozen=True)
class Material:
    """The data that heads learn from, except the labels.

    Attributes
    ----------
    pool : ndarray of shape (N, D), float32
        Unlabeled embeddings of length 1; N may be 0.
    labeled : ndarray of shape (n, D), float32
        Labeled embeddings of length 1.
    text : ndarray of shape (C, D), float32, or None
        Text embeddings times the logit scale.
    n_classes : int
    whitening : Whitening
        The axes of ``pool`` and ``labeled`` together.
    weight : ndarray of shape (n,) or None
        Weights of the labeled rows; None is 1 for each.
    """

    pool: np.ndarray
    labeled: np.ndarray
    text: np.ndarray | None
    n_classes: int
    whitening: Whitening
    weight: np.ndarray | None = None

    def weight_of(self, rows: np.ndarray) -> np.ndarray | None:
        """The weights of some labeled rows."""
        return None if self.weight is None else self.weight[rows]

    @cached_property
    def pool_coordinates(self) -> np.ndarray:
        """The pool along the axes, (N, r)."""
        return self.whitening.coordinates(self.pool)

    @cached_property
    def labeled_coordinates(self) -> np.ndarray:
        """The labeled rows along the axes, (n, r)."""
        return self.whitening.coordinates(self.labeled)

    @cached_property
    def pool_text(self) -> np.ndarray:
        """Text logits of the pool, (N, C)."""
        assert self.text is not None
        logits: np.ndarray = self.pool @ self.text.T
        return logits

    @cached_property
    def labeled_text(self) -> np.ndarray:
        """Text logits of the labeled rows, (n, C)."""
        assert self.text is not None
        logits: np.ndarray = self.labeled @ self.text.T
        return logits


class TextHead:
    """The zero-shot head, which learns nothing."""

    name = "text"

    def __init__(self, material: Material):
        self.material = material

    def fit(self, target: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the text as a head."""
        assert self.material.text is not None
        return self.material.text.T, np.zeros(self.material.n_classes, np.float32)


class MixtureHead:
    """A mixture in the space of a whitening power, with a text prior of strength ``beta``; 0 is without text.

    Labeled rows whose labels are held out are part of its pool.
    """

    def __init__(
        self,
        material: Material,
        power: float,
        beta: float,
        *,
        label_weight: float = LABEL_WEIGHT,
        rounds: int = ROUNDS,
    ):
        self.material = material
        self.power = power
        self.beta = beta
        self.label_weight = label_weight
        self.rounds = rounds
        self.name = f"mixture(power={power:g}, beta={beta:g})"

    def fit(self, target: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fit the mixture; see `Head.fit`."""
        material, scale = self.material, self.material.whitening.scales[self.power]
        others = np.setdiff1d(np.arange(len(material.labeled)), rows)
        labeled = material.labeled_coordinates
        text = None
        if self.beta:
            text = np.concatenate([material.pool_text, material.labeled_text[others]])
        mixture = fit_mixture(
            np.concatenate([material.pool_coordinates, labeled[others]]) * scale,
            text,
            self.beta,
            labeled[rows] * scale,
            target[rows],
            material.n_classes,
            label_weight=self.label_weight,
            rounds=self.rounds,
            weight=None if material.weight is None else beside(material.pool, material.weight[others]),
            weight_labeled=material.weight_of(rows),
        )
        weights, offset = mixture.linear()
        A, c = material.whitening.linear(weights, self.power)
        c = c + offset
        if self.beta and material.text is not None:
            A = A + self.beta * material.text.T
        elif not mixture.known.all():
            A, c = _lower(A, c, mixture.known, self.material)
        return A.astype(np.float32), c.astype(np.float32)


class LogisticHead:
    """Logistic regression in the space of a whitening power, with the text or without."""

    def __init__(self, material: Material, power: float, penalty: float, text: bool):
        self.material = material
        self.power = power
        self.penalty = penalty
        self.text = text
        self.name = f"logistic(power={power:g}, penalty={penalty:g})"

    def fit(self, target: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fit the regression; see `Head.fit`."""
        material = self.material
        text = material.text if self.text else None
        if not len(rows):  # the minimum of the penalties alone
            if text is not None:
                return np.float32(TEXT_MEAN) * text.T, np.zeros(material.n_classes, np.float32)
            return (
                np.zeros((material.labeled.shape[1], material.n_classes), np.float32),
                np.zeros(material.n_classes, np.float32),
            )
        fitted = fit_logistic(
            material.labeled_coordinates[rows] * material.whitening.scales[self.power],
            material.labeled_text[rows] if text is not None else None,
            target[rows],
            material.n_classes,
            self.penalty,
            weight=material.weight_of(rows),
        )
        A, c = material.whitening.linear(fitted.weights, self.power)
        c = c + fitted.offset
        if text is not None:
            A = A + fitted.text_factor * text.T
        return A.astype(np.float32), c.astype(np.float32)


def beside(pool: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weights of a pool's rows, 1, and those of labeled rows behind them."""
    return np.concatenate([np.ones(len(pool)), weight])


def spread(logits: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the standard deviation within the rows of logits (n, C), a measure of how decided they are."""
    if not logits.size:
        return 0.0
    return float(np.sqrt(np.average(np.var(logits, axis=1, dtype=np.float64), weights=weight)))


def some_rows(material: Material) -> tuple[np.ndarray, np.ndarray | None]:
    """Return at most 1,000 rows, spread over pool and labeled samples, and their weights, for scaling heads."""
    n_pool, n = len(material.pool), len(material.pool) + len(material.labeled)
    rows = np.unique(np.arange(1000) * n // 1000)
    inside = rows < n_pool
    weight = None if material.weight is None else beside(material.pool, material.weight)[rows]
    return np.concatenate([material.pool[rows[inside]], material.labeled[rows[~inside] - n_pool]]), weight


def explained(z: np.ndarray, cluster: np.ndarray) -> float:
    """Return the share of the variance of rows (N, r) that their clusters' means explain."""
    z = z - z.mean(0)
    order = np.argsort(cluster, kind="stable")
    first = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    sums = np.add.reduceat(z[order], first, axis=0)
    sizes = np.diff(first, append=len(z))
    between = np.sum(np.einsum("kr,kr->k", sums, sums) / sizes)
    return float(between / max(np.einsum("ij,ij->", z, z), np.finfo(np.float32).tiny))


def agreement(X: np.ndarray, heads: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the share of rows for which all heads predict the same class."""
    predicted = [(X @ A + c).argmax(1) for A, c in heads]
    same = np.logical_and.reduce([other == predicted[0] for other in predicted[1:]])
    return float(np.mean(same))


def _lower(
    A: np.ndarray, c: np.ndarray, known: np.ndarray, material: Material
) -> tuple[np.ndarray, np.ndarray]:
    """Put classes without text and labels below the mean of the others."""
    A, c = A.copy(), c.copy()
    sample, weight = some_rows(material)
    width = spread(sample @ A[:, known] + c[known], weight)
    A[:, ~known] = A[:, known].mean(1, keepdims=True)
    c[~known] = c[known].mean() - DROP * (width or 1.0)
    return A, c
