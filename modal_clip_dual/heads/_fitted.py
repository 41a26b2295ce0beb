"""The result of a fit of dual-linear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from ..utils.arrays import blocks, unit_rows
from ..utils.odds import against_rest
from ._correctness import log_odds
from ._mixture import softmax
from ._neighbors import nearest, neighbor_shares

ROWS = 4096  # rows that are scored at a time


@dataclass(frozen=True)
class DualLinearFit:
    """The result of a fit, as plain arrays and numbers.

    Attributes
    ----------
    coef : ndarray of shape (C, D), float32
        Logits of unit embeddings X are ``X @ coef.T + intercept``.
    intercept : ndarray of shape (C,), float32
    calibration : ndarray of shape (3,)
        Factors of a class's own log-odds and of its neighbors', and a constant: log-odds of being right.
    calibration_alone : ndarray of shape (2,)
        Factor of the own log-odds and constant, for use without neighbors.
    head_names : ndarray of str, shape (H,)
    head_weights : ndarray of shape (H,)
        Weights with which ``coef`` blends the heads' logits, after scaling each to the same spread.
    text_share : float
        Share of the heads with text in the blend, 0 to 1.
    evidence : float
        Nats by which the zero-shot text explains the labels better than chance; 0 if not at all.
    gain : float
        Explained variance of the pool's clusters over that of its zero-shot classes; 1 without a pool or text.
    agreement : float
        The share of the pool on which all mixtures agree; 1 without a pool or text.
    n_neighbors : int
    projection : ndarray of shape (D, r), float32
        Projection into the space in which neighbors are searched.
    projection_offset : ndarray of shape (r,), float32
    store : ndarray of shape (M, r), float32
        Projected rows of the pool and of the labeled samples, of length 1; M is 0 without neighbors.
    store_probabilities : ndarray of shape (M, C), float16
        Their class probabilities.
    second : ndarray of shape (D + 1, C), float32, or None
        Weights, and beneath them biases, of the second opinion: one mixture of the blend that enters the log-odds of
        being right by itself, too.  None without text or pool, and in files that were saved before there was one.
    second_factor : float
        Factor of its log-odds.
    """

    coef: np.ndarray
    intercept: np.ndarray
    calibration: np.ndarray
    calibration_alone: np.ndarray
    head_names: np.ndarray
    head_weights: np.ndarray
    text_share: float
    evidence: float
    gain: float
    agreement: float
    n_neighbors: int
    projection: np.ndarray
    projection_offset: np.ndarray
    store: np.ndarray
    store_probabilities: np.ndarray
    second: np.ndarray | None = None
    second_factor: float = 0.0

    def logits(self, X: np.ndarray) -> np.ndarray:
        """Return logits (n, C) of embeddings of length 1."""
        logits: np.ndarray = X @ self.coef.T + self.intercept
        return logits

    def correctness_logits(self, X: np.ndarray) -> np.ndarray:
        """Return log-odds (n, C), float32, that each class is the right one."""
        odds = np.empty((len(X), len(self.coef)), dtype=np.float32)
        for rows in blocks(len(X), ROWS):
            logits = self.logits(X[rows])
            own = against_rest(logits)
            if len(self.store):
                found = nearest(self.project(X[rows]), self.store, self.n_neighbors)
                shares = neighbor_shares(found, self.store_probabilities, softmax(logits))
                factors = self.calibration
                odds[rows] = factors[0] * own + factors[1] * log_odds(shares) + factors[2]
                if self.second is not None:
                    other = against_rest(X[rows] @ self.second[:-1] + self.second[-1])
                    odds[rows] += np.float32(self.second_factor) * other
            else:
                odds[rows] = self.calibration_alone[0] * own + self.calibration_alone[1]
        return odds

    def correct_proba(self, X: np.ndarray) -> np.ndarray:
        """Return P(correct) (n,) of the predicted class of each row."""
        odds, predicted = self.correctness_logits(X), self.logits(X).argmax(1)
        proba: np.ndarray = expit(odds[np.arange(len(odds)), predicted])
        return proba

    def project(self, X: np.ndarray) -> np.ndarray:
        """Project embeddings to rows of length 1 in the space in which neighbors are searched."""
        return unit_rows(X @ self.projection + self.projection_offset)
