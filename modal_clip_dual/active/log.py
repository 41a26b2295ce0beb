"""What is noted of a round."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score

FIELDS = (
    "round", "n_labels", "n_pseudo", "pseudo_accuracy", "accuracy", "estimated_accuracy", "kappa", "rows",
    "scores", "query_seconds", "train_seconds",
)  # fmt: skip


def agreement(
    predicted: np.ndarray | None,
    correct: np.ndarray | None,
    before: np.ndarray | None,
    left: np.ndarray,
    truth: np.ndarray | None,
) -> dict[str, float | None]:
    """How far predictions (n_pool,) agree with the truth, with P(correct), and with those before.

    ``left`` are the rows without a label; accuracy and its estimate are those of these.  What is
    not known is None.
    """
    figures: dict[str, float | None] = dict.fromkeys(("accuracy", "estimated_accuracy", "kappa"))
    if predicted is None:
        return figures
    if len(left) and correct is not None:
        figures["estimated_accuracy"] = float(correct[left].mean())
    if before is not None:
        same = np.array_equal(before, predicted)  # kappa is not defined for one class only
        figures["kappa"] = 1.0 if same else float(cohen_kappa_score(before, predicted))
    if len(left):
        figures["accuracy"] = share_right(predicted[left], truth, left)
    return figures


def share_right(labels: np.ndarray, truth: np.ndarray | None, rows: np.ndarray) -> float | None:
    """Share of labels that are those of their rows; None if there are none, or no truth."""
    if truth is None or not len(rows):
        return None
    return float((labels == truth[rows]).mean())


def asked_for(query: dict[str, Any] | None, labeled: np.ndarray) -> dict[str, Any]:
    """The rows that got a label, and scores and seconds of the query if it asked for just these."""
    asked = query or {"rows": None, "scores": None, "query_seconds": 0.0}
    noted = {name: asked[name] for name in ("rows", "scores", "query_seconds")}
    if len(labeled) and noted["rows"] != labeled.tolist():  # labels of others than asked
        noted["rows"], noted["scores"] = labeled.tolist(), None
    return noted
