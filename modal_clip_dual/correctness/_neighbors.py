"""Judged samples, and what those nearest to a sample say of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..utils.arrays import ROWS, blocks

OF_NEIGHBOR = ("similarity", "proba", "confidence", "product", "agrees")


@dataclass(frozen=True)
class Judged:
    """Labeled samples whose answers out of fold have been judged."""

    embeddings: np.ndarray  # (m, D) of unit length
    target: np.ndarray  # (m,) positions of their labels
    proba: np.ndarray  # (m,) largest probability of the estimator, out of fold
    confidence: np.ndarray  # (m,) of the first stage, out of fold, 0 to 1

    def features(
        self, embeddings: np.ndarray, predicted: np.ndarray, own: np.ndarray, k: int, itself: bool = False
    ) -> np.ndarray:
        """Return `OF_NEIGHBOR` of the k nearest judged samples, (n, 5 k); zeros where there are fewer.

        ``own`` (n,) are the samples' largest probabilities.  With ``itself``, the samples are the judged ones, none
        of which is a neighbor of its own.
        """
        out = np.zeros((len(embeddings), k, len(OF_NEIGHBOR)))
        n_found = min(k, len(self.target) - itself)
        for rows in blocks(len(embeddings), ROWS):
            cosine = embeddings[rows] @ self.embeddings.T
            if itself:
                cosine[np.arange(len(cosine)), np.arange(rows.start, rows.start + len(cosine))] = -np.inf
            nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :n_found]
            out[rows, :n_found] = np.stack(
                [
                    np.take_along_axis(cosine, nearest, axis=1),
                    self.proba[nearest],
                    self.confidence[nearest],
                    self.confidence[nearest] * own[rows, None],
                    self.target[nearest] == predicted[rows, None],
                ],
                axis=-1,
            )
        return out.reshape(len(out), -1)
