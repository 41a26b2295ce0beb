"""The predicted label of each sample, and how sure the classifier is of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..scores import Score
from ..utils.arrays import Rows, blocks
from ..utils.odds import against_rest
from ..utils.selection import select_lowest, select_per_class
from ._equal import alike, first_equal, keys_of
from ._inside import Inside

POOL_ROWS = 1 << 16  # of embeddings whose logits are held at a time


class Ranking(NamedTuple):
    """The prediction for each sample of a pool, with its confidence."""

    predicted: np.ndarray  # (n,) position of the predicted label in the classes
    confidence: np.ndarray  # (n,) in it, free of saturation where the score is one of logits
    uncertainty: np.ndarray  # (n,) of the same, 0 to 1
    n_classes: int

    def least_confident(
        self, n: int, class_balanced: bool, remainder: str, ties: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the n rows of lowest confidence, per predicted class or overall, and their uncertainty."""
        if class_balanced:
            rows = select_per_class(self.confidence, self.predicted, n, self.n_classes, remainder, ties)
        else:
            rows = select_lowest(self.confidence, n, ties)
        return rows, self.uncertainty[rows]


def rank_by_blocks(inside: Inside, entry: Score, samples: Any) -> Ranking:
    """Rank by one estimator with all required methods; logits of a large table are computed in blocks.

    Equal ones of ``samples`` get equal values, even if the estimator sees them transformed.
    """
    X = inside.X
    table = isinstance(X, (np.ndarray, Rows)) and X.ndim == 2 and len(X) > POOL_ROWS
    # Keys are computed while a part is in memory, so that a file is read once.
    keyed = X is samples and table and X.dtype.kind == "f"
    parts, keys, n_classes = [], [], 0
    for part in (X[rows] for rows in blocks(len(X), POOL_ROWS)) if table else (X,):
        predicted, n_classes, answer = _answers(inside.object, part, entry)
        parts.append((predicted, *of_answer(entry, answer, predicted)))
        if keyed:
            keys.append(keys_of(part))
    first = first_equal(samples, np.concatenate(keys) if keyed else None)
    predicted, confidence, uncertainty = (alike(np.concatenate(column), first) for column in zip(*parts))
    return Ranking(predicted, confidence, uncertainty, n_classes)


def of_answer(entry: Score, answer: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence and uncertainty, both (n,), from the output of the score's method."""
    if entry.of_logits is not None:
        return entry.of_logits(answer, predicted)
    right = np.asarray(answer, dtype=np.float64)
    return right, 1 - right


def _answers(estimator: Any, X: Any, entry: Score) -> tuple[np.ndarray, int, np.ndarray]:
    """Return predicted columns, their number of classes, and the output of the score's method."""
    if entry.of_logits is None and hasattr(estimator, "classes_") and hasattr(estimator, "predict"):
        both = getattr(estimator, "predict_with_confidence", None)
        labels, right = both(X) if both else (estimator.predict(X), getattr(estimator, entry.method)(X))
        return np.searchsorted(estimator.classes_, labels), len(estimator.classes_), right
    if entry.of_logits is not None and hasattr(estimator, "predict_logits"):
        positive, answer = estimator.predict_logits(X)
    else:
        positive, answer = estimator.predict_proba(X), getattr(estimator, entry.method)(X)
    return positive.argmax(axis=1), positive.shape[1], answer


def log_odds(proba: np.ndarray) -> np.ndarray:
    """Log odds (n, C) of each class against the others, plus log(C - 1), in float64."""
    proba = np.asarray(proba, dtype=np.float64)
    odds: np.ndarray = against_rest(np.log(np.maximum(proba, np.finfo(np.float64).tiny)))
    odds += np.log(max(proba.shape[1] - 1, 1))
    return odds
