"""Features of predictions from which a regression tells right ones from wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import entr

from ._layers import block_features_of, embeddings_of

LARGEST = 10  # probabilities that are features
LEAST = 1e-4  # of a probability, for its logarithm


def _proba(estimator: Any, X: Any, predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the logarithms of the class probabilities, largest first; the least for classes that a copy lacks.

    Small probabilities lie orders of magnitude apart, which a linear regression sees in logarithms only.
    """
    proba = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    columns = np.full((len(proba), min(len(classes), LARGEST)), np.log(LEAST))
    n = min(columns.shape[1], proba.shape[1])
    columns[:, :n] = np.log(np.maximum(-np.sort(-proba, axis=1)[:, :n], LEAST))
    return columns


def _clean(estimator: Any, X: Any, predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the clean logit of the label, and what it is above the largest other one."""
    logits = np.array(estimator.clean_logits(X), dtype=np.float64)
    rows, column = np.arange(len(logits)), np.searchsorted(estimator.classes_, classes[predicted])
    own = logits[rows, column]
    logits[rows, column] = -np.inf
    return np.column_stack([own, own - logits.max(axis=1)])


def _attention(estimator: Any, X: Any, predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return of each head of each block: attention of CLS to itself, entropy, largest among the patches."""
    attention = block_features_of(estimator, X, "attention").astype(np.float64)
    figures = attention[..., 0], entr(attention).sum(axis=-1), attention[..., 1:].max(axis=-1)
    return np.stack(figures, axis=-1).reshape(len(attention), -1)


def _embedding(estimator: Any, X: Any, predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return embeddings_of(estimator, X)


FEATURES: dict[str, Callable[[Any, Any, np.ndarray, np.ndarray], np.ndarray]] = {
    "proba": _proba, "clean": _clean, "attention": _attention, "embedding": _embedding,
}  # fmt: skip


def check_features(features: Sequence[str], estimator: Any) -> None:
    """Refuse unknown features, and those that the estimator cannot give.

    Raises
    ------
    ValueError
        Names what is unknown.
    TypeError
        Names the method that the estimator lacks.
    """
    wrong = [name for name in features if name not in FEATURES]
    if wrong or not features:
        raise ValueError(f"features={features!r}; expected one or more of {list(FEATURES)}")
    needed = ["predict_proba", *(["clean_logits"] if "clean" in features else [])]
    missing = [method for method in needed if not hasattr(estimator, method)]
    if missing:
        raise TypeError(
            f"features={features!r} need an estimator with {missing[0]}, which {type(estimator).__name__} lacks"
        )


def features_of(
    estimator: Any, X: Any, predicted: np.ndarray, classes: np.ndarray, features: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Return the features (n, m) of the estimator's predictions (n,), positions in ``classes``, and their m names."""
    tables = [FEATURES[name](estimator, X, predicted, classes) for name in features]
    names = [f"{name}{k}" for name, table in zip(features, tables) for k in range(table.shape[1])]
    return np.hstack(tables), names
