"""Metrics of how well scores tell right predictions from wrong ones, and of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_consistent_length


def auroc_of_correctness(score: Any, correct: Any) -> float:
    """Compute the area under the ROC curve of a confidence score for "the prediction is right".

    This is the probability that a right prediction has a higher score than a wrong one; a score
    without information has 0.5.

    Parameters
    ----------
    score : array-like of shape (n,)
        Confidence on any scale; higher is more confident.
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.

    Returns
    -------
    auroc : float
        Area in [0, 1]; nan if all predictions are right or all are wrong.

    Raises
    ------
    ValueError
        If the two lengths differ.

    See Also
    --------
    sklearn.metrics.roc_auc_score : Compute the area for any binary target.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import auroc_of_correctness
    >>> auroc_of_correctness([0.9, 0.8, 0.3], [True, False, False])
    1.0
    """
    correct = np.asarray(correct, dtype=bool)
    check_consistent_length(score, correct)
    if correct.all() or not correct.any():
        return float("nan")
    return float(roc_auc_score(correct, score))


def expected_calibration_error(confidence: Any, correct: Any, n_bins: int = 15) -> float:
    """Compute the expected calibration error over bins of equal mass.

    Samples are sorted by confidence and cut into bins of (nearly) equal size; the result
    is the mean over samples of ``|accuracy - mean confidence|`` of their bin.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Stated probability of being right, in [0, 1].
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.
    n_bins : int, default=15
        Largest number of bins.

    Returns
    -------
    ece : float
        Error in [0, 1]; 0 is perfectly calibrated.

    Raises
    ------
    ValueError
        If the lengths differ, there is no sample, a confidence is outside [0, 1], or n_bins is less
        than 1.

    References
    ----------
    .. [1] Nguyen and O'Connor, "Posterior calibration and exploratory analysis for
       natural language processing models", EMNLP 2015 (bins of equal mass).

    Examples
    --------
    >>> from modal_clip_dual.evaluation import expected_calibration_error
    >>> round(expected_calibration_error([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], n_bins=2), 6)
    0.1
    """
    accuracy, mean_confidence, counts = calibration_bins(confidence, correct, n_bins)
    return float((counts * np.abs(accuracy - mean_confidence)).sum() / counts.sum())


def calibration_bins(
    confidence: Any, correct: Any, n_bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute accuracy, mean confidence and number of samples of bins of equal mass.

    Parameters
    ----------
    confidence, correct, n_bins
        As for `expected_calibration_error`.

    Returns
    -------
    accuracy, mean_confidence, counts : ndarray of shape (min(n_bins, n),)
        Figures of the bins, in the order of their confidence. Equal confidences may fall into two bins.

    Raises
    ------
    ValueError
        As for `expected_calibration_error`.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    correct = np.asarray(correct, dtype=np.float64)
    check_consistent_length(confidence, correct)
    if len(confidence) == 0:
        raise ValueError("confidence is empty; expected at least one sample")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence has values outside [0, 1]; expected probabilities")
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins!r}; expected at least 1")
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order)))
    accuracy, mean_confidence = (
        np.array([values[rows].mean() for rows in bins]) for values in (correct, confidence)
    )
    return accuracy, mean_confidence, np.array([len(rows) for rows in bins])


def negative_log_likelihood(proba: Any, target_column: Any) -> float:
    """Compute the mean negative log probability of the true classes, in nats.

    This is `sklearn.metrics.log_loss` for targets that are columns of ``proba``, without labels to sort
    and without names of classes that have no sample. Probabilities are clipped as there, to
    [eps, 1 - eps] with the eps of their own type (1.2e-7 for float32, 2.2e-16 for float64), so that a
    true class with probability 0 costs at most 15.9 or 36.0 nats. The mean is taken in float64. Rows
    are not rescaled to sum to 1: with many classes float32 rows differ from 1 by rounding.

    Parameters
    ----------
    proba : array-like of shape (n, C)
        Class probabilities.
    target_column : array-like of int, shape (n,)
        Column of each sample's true class.

    Returns
    -------
    nll : float
        Value of at least 0; log(C) for the uniform guess.

    Raises
    ------
    ValueError
        If there is no sample, the shapes do not fit, a probability is missing or outside [0, 1], or a
        target is not a column.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import negative_log_likelihood
    >>> round(negative_log_likelihood([[0.5, 0.5], [0.9, 0.1]], [0, 0]), 4)  # log(2) and log(1/0.9)
    0.3993
    """
    proba = np.asarray(proba)
    if proba.dtype not in (np.float32, np.float64):
        proba = proba.astype(np.float64)
    column = np.asarray(target_column)
    if proba.ndim != 2 or len(proba) == 0 or column.shape != proba.shape[:1]:
        raise ValueError(
            f"proba has shape {proba.shape} and target_column {column.shape}; expected (n, C) and "
            "(n,), with at least one sample"
        )
    if column.dtype.kind not in "iu" or not ((column >= 0) & (column < proba.shape[1])).all():
        raise ValueError(
            f"target_column has values that are not columns of proba: {np.unique(column)[:5]!r} ...; "
            f"expected integers from 0 to {proba.shape[1] - 1}"
        )
    eps = np.finfo(proba.dtype).eps
    # One or two units in the last place above 1 are rounding; nan fails the comparison.
    if not ((proba >= 0) & (proba <= 1 + 8 * eps)).all():
        raise ValueError("proba has values outside [0, 1]; expected probabilities")
    true = np.clip(proba[np.arange(len(proba)), column], eps, 1 - eps)
    return float(-np.log(true.astype(np.float64)).mean())


def area_under_risk_coverage(score: Any, correct: Any) -> float:
    """Compute the area under the risk-coverage curve: errors left when doubtful predictions are withheld.

    This is the mean, over k from 1 to n, of the share of wrong predictions among the k with the highest
    scores. A score without information has the error rate; lower is better.

    Parameters
    ----------
    score : array-like of shape (n,)
        Confidence on any scale; higher is more confident. For equal scores, the expected risk over all their
        orders is taken.
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.

    Returns
    -------
    aurc : float
        Area in [0, 1].

    Raises
    ------
    ValueError
        If the lengths differ, there is no sample or a score is nan.

    See Also
    --------
    auroc_of_correctness : Measure the order alone, whatever the error rate.

    References
    ----------
    .. [1] Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
       Classifiers", ICLR 2019.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import area_under_risk_coverage
    >>> round(area_under_risk_coverage([0.9, 0.8, 0.3], [True, True, False]), 4)  # 0, 0 and 1/3
    0.1111
    """
    return float(risk_coverage(score, correct)[1].mean())


def risk_coverage(score: Any, correct: Any) -> tuple[np.ndarray, np.ndarray]:
    """Compute coverage k / n and the risk at it, for k from 1 to n.

    Parameters
    ----------
    score, correct
        As for `area_under_risk_coverage`.

    Returns
    -------
    coverage, risk : ndarray of shape (n,)

    Raises
    ------
    ValueError
        As for `area_under_risk_coverage`.
    """
    score = np.asarray(score)
    wrong = 1.0 - np.asarray(correct, dtype=bool)
    check_consistent_length(score, wrong)
    if len(score) == 0:
        raise ValueError("score is empty; expected at least one sample")
    if np.isnan(score).any():
        raise ValueError(f"score has {np.isnan(score).sum()} nan; expected a number per prediction")
    n = len(score)
    # In a random order of equal scores the expected number of errors grows along a line.
    values, sizes = np.unique(score, return_counts=True)
    per_value = np.bincount(np.searchsorted(values, score), weights=wrong)
    taken = np.concatenate([[0], np.cumsum(sizes[::-1])])
    errors = np.concatenate([[0], np.cumsum(per_value[::-1])])
    k = np.arange(1, n + 1)
    return k / n, np.interp(k, taken, errors) / k
