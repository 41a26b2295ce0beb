"""What is noted of a round."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score

FIELDS = (
    "round", "n_labels", "n_pseudo", "pseudo_accuracy", "accuracy", "estimated_accuracy", "accuracy_interval",
    "kappa", "rows", "scores", "changes", "query_seconds", "train_seconds",
)  # fmt: skip


def kappa(before: np.ndarray, after: np.ndarray) -> float | None:
    """Cohen's kappa between predictions of two rounds for the same samples; None for no sample."""
    if not len(before):
        return None
    same = np.array_equal(before, after)  # kappa is not defined for one class only
    return 1.0 if same else float(cohen_kappa_score(before, after))


def share_right(labels: np.ndarray, truth: np.ndarray | None, rows: np.ndarray) -> float | None:
    """Share of labels that are those of their rows; None if there are none, or no truth."""
    if truth is None or not len(rows):
        return None
    return float((labels == truth[rows]).mean())


def asked_for(query: dict[str, Any] | None, labeled: np.ndarray) -> dict[str, Any]:
    """The rows that got a label, and scores and seconds of the query if it asked for these."""
    asked = query or {"rows": [], "scores": None, "query_seconds": 0.0}
    scores = None
    if len(labeled) and asked["scores"] is not None and set(labeled.tolist()) <= set(asked["rows"]):
        of_row = dict(zip(asked["rows"], asked["scores"]))
        scores = [of_row[row] for row in labeled.tolist()]
    rows = labeled.tolist() if len(labeled) else None
    return {"rows": rows, "scores": scores, "query_seconds": asked["query_seconds"] if rows else 0.0}
