"""Measurement of a model: the quality of its predictions and of their confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr, softmax
from sklearn.metrics import balanced_accuracy_score, f1_score

from ..scores import SCORES
from ..strategies.view import View
from ..utils.labels import as_labels, resolve_labels
from ..utils.predicted import predicts_the_likeliest
from .metrics import (
    auroc_of_correctness,
    coverage_at_accuracy,
    expected_calibration_error,
    negative_log_likelihood,
    prediction_rejection_ratio,
)


def measure(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    """Measure a fitted classifier on labeled samples.

    Parameters
    ----------
    estimator : classifier or Pipeline
        Estimator with ``predict_proba``; the correctness scores of ``predict_logits`` and
        ``predict_correct_proba`` are measured if it has these methods.  Its labels are those of its ``predict``,
        which need not be the likeliest ones: `sklearn.svm.SVC` and `sklearn.model_selection.FixedThresholdClassifier`
        predict others.
    X, y : array-like of n samples, array-like of shape (n,)
        Samples that were not used in training, and their labels.

    Returns
    -------
    measured : dict
        Fractions from 0 to 1, ``nll`` in nats.  ``accuracy``, ``balanced_accuracy``,
        ``macro_f1``; ``nll`` and ``ece_proba`` of the class probabilities; the AUROC of
        several scores for "the prediction is right": ``auroc_max_proba``, ``auroc_margin``
        and ``auroc_entropy`` of the class probabilities; with a negative prompt
        ``auroc_clean`` (z at the prediction), ``auroc_normalized`` (of its softmax),
        ``auroc_clean_margin``; and of P(correct) ``auroc_correct``, ``ece_correct`` and its mean,
        ``mean_correct``: what the classifier itself takes its accuracy for.  ``max_proba`` and ``ece_proba`` take the
        probability of the predicted label, and ``margin`` what it exceeds the largest other one by.  For that
        probability and for P(correct) also ``prr_max_proba`` and ``prr_correct`` (`prediction_rejection_ratio`), and
        ``coverage_max_proba`` and ``coverage_correct`` (`coverage_at_accuracy` of 0.95, the best threshold).

    Raises
    ------
    TypeError
        If the estimator has no ``predict_proba``.
    NotFittedError
        If it was never fitted.
    """
    y = np.asarray(y)
    view = View(estimator, X)
    # A template inside of a meta-estimator is not what predicts: it is not fitted, or to something else.
    logits_of = view.find("predict_logits", required=False, through_templates=False)
    dual = logits_of.has("predict_logits")
    if dual:
        logits, z = logits_of.ask("predict_logits")
        proba = softmax(logits.astype(np.float64), axis=1)  # float32 would tie the surest ones
    else:
        found = view.find("predict_proba", through_templates=False)
        proba = np.asarray(found.ask("predict_proba"), dtype=np.float64)
    classes = view.classes
    column = proba.argmax(axis=1)
    predicted, of_prediction = classes[column], proba.max(axis=1)
    labels_of = view.find("predict", required=False, through_templates=False)
    if labels_of.has("predict") and not predicts_the_likeliest(labels_of.object):
        predicted = np.asarray(labels_of.ask("predict"))
        column, of_prediction = _at_labels(predicted, classes, proba)
    correct = predicted == y
    highest = np.clip(of_prediction, 0, 1)
    measured = {
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(y, predicted)),
        "macro_f1": float(f1_score(y, predicted, average="macro", labels=np.unique(y))),
        "nll": negative_log_likelihood(*_of_all_classes(proba, classes, y)),
        "ece_proba": expected_calibration_error(highest, correct),
        "auroc_max_proba": auroc_of_correctness(highest, correct),
        "auroc_margin": auroc_of_correctness(_margin(proba, column, of_prediction), correct),
        "auroc_entropy": auroc_of_correctness(-entr(proba).sum(axis=1), correct),
        "prr_max_proba": prediction_rejection_ratio(highest, correct),
        "coverage_max_proba": coverage_at_accuracy(highest, correct),
    }
    if dual:
        for score in SCORES.values():
            if score.of_logits is not None:
                confidence, _ = score.of_logits(z, column)
                measured[f"auroc_{score.column}"] = auroc_of_correctness(confidence, correct)
    says = view.find("predict_correct_proba", required=False, through_templates=False)
    if says.has("predict_correct_proba"):
        probability = says.ask("predict_correct_proba")
        measured["auroc_correct"] = auroc_of_correctness(probability, correct)
        measured["ece_correct"] = expected_calibration_error(probability, correct)
        measured["mean_correct"] = float(np.mean(probability))
        measured["prr_correct"] = prediction_rejection_ratio(probability, correct)
        measured["coverage_correct"] = coverage_at_accuracy(probability, correct)
    return measured


def measure_without_labels(estimator: Any, X: Any, y: Any) -> dict[str, Any]:
    """Measure a CLIP classifier that no label has reached yet.

    Parameters
    ----------
    estimator : CLIPClassifier
        Fitted by ``fit_unlabeled``; or never fitted, which makes it zero-shot CLIP.
    X, y : array-like of n samples, array-like of shape (n,)
        Samples and their labels.

    Returns
    -------
    measured : dict
        As of `measure`, with the same keys in the same order.  Zero-shot CLIP says nothing of its own
        labels: these figures are None.
    """
    # Without labels the classes of a list of names are positions, whatever the labels will be.
    y = as_labels(np.asarray(y), np.empty(0, dtype=np.intp), estimator.class_names)
    if hasattr(estimator, "classes_"):
        return measure(estimator, X, y)
    unknown = [f"auroc_{score.column}" for score in SCORES.values() if score.of_logits is not None]
    unknown += ["auroc_correct", "ece_correct", "mean_correct", "prr_correct", "coverage_correct"]
    return measure(_ZeroShot(estimator), X, y) | dict.fromkeys(unknown)


class _ZeroShot:
    """A classifier that was never fitted, as the zero-shot CLIP that it is until then."""

    def __init__(self, estimator: Any):
        self.predict_proba = estimator.zero_shot_proba
        self.classes_, _, _ = resolve_labels(estimator.class_names, None)


def _at_labels(labels: np.ndarray, classes: np.ndarray, proba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the column (n,) of each label and its probability (n,), 0 for a label that has no column."""
    known = {label: column for column, label in enumerate(classes.tolist())}
    found = np.array([known.get(label, -1) for label in labels.tolist()], dtype=np.intp)
    column = np.where(found < 0, proba.argmax(axis=1), found)
    return column, np.where(found < 0, 0.0, proba[np.arange(len(proba)), column])


def _margin(proba: np.ndarray, column: np.ndarray, of_prediction: np.ndarray) -> np.ndarray:
    """Return what the probability of each prediction exceeds the largest other one by (n,)."""
    if proba.shape[1] == 1:
        return np.ones(len(proba))
    others = proba.copy()
    others[np.arange(len(others)), column] = -np.inf
    margin: np.ndarray = of_prediction - others.max(axis=1)
    return margin


def _of_all_classes(
    proba: np.ndarray, classes: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities with a column for every class that occurs, and the true columns."""
    every = np.unique(np.concatenate([classes, y]))
    full = np.zeros((len(proba), len(every)))
    full[:, np.searchsorted(every, classes)] = proba
    return full, np.searchsorted(every, y)
