"""What is measured of a model: the quality of its predictions and of their confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr, softmax
from sklearn.metrics import balanced_accuracy_score, f1_score

from ..strategies._ask import find
from ..strategies.negative_prompt import confidence
from .metrics import auroc_of_correctness, expected_calibration_error, negative_log_likelihood


def measure(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    """Measure a fitted classifier on labelled samples.

    Parameters
    ----------
    estimator : classifier or Pipeline
        With ``predict_proba``; of one that ends in a `DualPromptClassifier`, its negative prompt
        is measured too.
    X, y : array-like of n samples, array-like of shape (n,)
        Samples that it was not trained on, and their labels.

    Returns
    -------
    measured : dict
        Fractions from 0 to 1, ``nll`` in nats.  ``accuracy``, ``balanced_accuracy``,
        ``macro_f1``; ``nll`` and ``ece_proba`` of the class probabilities; the AUROC of
        several scores for "the prediction is right": ``auroc_max_proba``, ``auroc_margin``
        and ``auroc_entropy`` of the class probabilities; and with a negative prompt
        ``auroc_clean`` (z at the prediction), ``auroc_normalized`` (of its softmax),
        ``auroc_clean_margin`` and ``ece_correct`` (of P(correct)).
    """
    y = np.asarray(y)
    inner, inputs = find(estimator, X, "predict_logits", required=False)
    dual = hasattr(inner, "predict_logits")
    if dual:
        logits, z = inner.predict_logits(inputs)
        proba = softmax(logits.astype(np.float64), axis=1)  # float32 would tie the surest ones
        classes = inner.classes_
    else:
        proba = np.asarray(estimator.predict_proba(X), dtype=np.float64)
        classes = estimator.classes_
    column = proba.argmax(axis=1)
    predicted = classes[column]
    correct = predicted == y
    highest = np.clip(proba.max(axis=1), 0, 1)
    measured = {
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(y, predicted)),
        "macro_f1": float(f1_score(y, predicted, average="macro", labels=np.unique(y))),
        "nll": negative_log_likelihood(*_of_all_classes(proba, classes, y)),
        "ece_proba": expected_calibration_error(highest, correct),
        "auroc_max_proba": auroc_of_correctness(highest, correct),
        "auroc_margin": auroc_of_correctness(_margin(proba), correct),
        "auroc_entropy": auroc_of_correctness(-entr(proba).sum(axis=1), correct),
    }
    if dual:
        for name, score in (("", "clean"), ("", "normalized"), ("clean_", "margin")):
            sure = confidence(z, column, score)[0]
            measured[f"auroc_{name}{score}"] = auroc_of_correctness(sure, correct)
        measured["ece_correct"] = expected_calibration_error(
            inner.predict_correct_proba(inputs), correct
        )
    return measured


def _margin(proba: np.ndarray) -> np.ndarray:
    if proba.shape[1] == 1:
        return np.ones(len(proba))
    two = np.partition(proba, proba.shape[1] - 2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def _of_all_classes(
    proba: np.ndarray, classes: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities with a column for every class that occurs, and the true columns."""
    every = np.unique(np.concatenate([classes, y]))
    full = np.zeros((len(proba), len(every)))
    full[:, np.searchsorted(every, classes)] = proba
    return full, np.searchsorted(every, y)
