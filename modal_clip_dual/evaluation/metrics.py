"""Metrics of how well scores tell right predictions from wrong ones, and of probabilities."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_consistent_length

from ..utils.arrays import as_array
from ..utils.validation import check_number, check_option

BINNINGS = ("mass", "width")
THRESHOLDS = ("best", "stated")


def as_correct(correct: Any) -> np.ndarray:
    """Return whether each prediction is right as booleans (n,); all metrics of correctness ask this.

    Raises
    ------
    ValueError
        If ``correct`` has not one axis, or an entry is neither a boolean nor the number 0 or 1; names the row.
    """
    expected = "expected booleans, or numbers that are 0 or 1, one per prediction"
    array = as_array(correct)
    if array.ndim != 1:
        raise ValueError(f"correct has shape {array.shape}; {expected}")
    if array.dtype.kind != "b":
        for row, said in enumerate(array.tolist()):
            if not isinstance(said, (Real, np.bool_)) or said not in (0, 1):
                raise ValueError(f"correct[{row}] is {said!r}; {expected}")
    booleans: np.ndarray = array.astype(bool)
    return booleans


def as_confidence(confidence: Any, name: str = "confidence") -> np.ndarray:
    """Return a confidence per prediction as numbers (n,); all metrics and figures of correctness ask this.

    Messages call it ``name``.

    Raises
    ------
    ValueError
        If it has not one axis, such as a table (n, C) of class probabilities, or holds nan or something that is no
        number.
    """
    expected = "expected (n,), a number per prediction"
    array = as_array(confidence)
    if array.ndim != 1:
        shape = array.shape
        hint = f"; {name}[:, 0] is the column" if array.ndim == 2 and shape[1] == 1 else ""
        raise ValueError(f"{name} has shape {shape}; {expected}{hint}")
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} holds something that is no number ({error}); {expected}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has the type {array.dtype}; {expected}")
    if np.isnan(array).any():
        raise ValueError(f"{name} has {np.isnan(array).sum()} nan; {expected}")
    return array


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
        If the score has not one axis, the two lengths differ, or ``correct`` is neither of booleans nor of 0 and 1.

    See Also
    --------
    sklearn.metrics.roc_auc_score : Compute the area for any binary target.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import auroc_of_correctness
    >>> auroc_of_correctness([0.9, 0.8, 0.3], [True, False, False])
    1.0
    """
    score, correct = as_confidence(score, "score"), as_correct(correct)
    check_consistent_length(score, correct)
    if correct.all() or not correct.any():
        return float("nan")
    return float(roc_auc_score(correct, score))


def expected_calibration_error(
    confidence: Any, correct: Any, n_bins: int = 15, *, binning: str = "mass"
) -> float:
    """Compute the expected calibration error: how far stated probabilities are off, on average.

    Samples are put into bins by their confidence; the result is the mean over samples of
    ``|accuracy - mean confidence|`` of their bin.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Stated probability of being right, in [0, 1].
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.
    n_bins : int, default=15
        Largest number of bins.
    binning : {"mass", "width"}, default="mass"
        Kind of bins: of (nearly) equal numbers of samples [1]_; or of equal width, from 0 to 1, each with its
        upper end and without its lower one [2]_.  A bin of equal width may hold most of the samples.

    Returns
    -------
    ece : float
        Error in [0, 1]; 0 is perfectly calibrated.

    Raises
    ------
    ValueError
        If the confidence has not one axis, the lengths differ, there is no sample, a confidence is outside [0, 1],
        ``correct`` is neither of booleans nor of 0 and 1, n_bins is less than 1, or binning is unknown.

    References
    ----------
    .. [1] Nguyen and O'Connor, "Posterior calibration and exploratory analysis for
       natural language processing models", EMNLP 2015 (bins of equal mass).
    .. [2] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (bins of equal width).

    Examples
    --------
    >>> from modal_clip_dual.evaluation import expected_calibration_error
    >>> round(expected_calibration_error([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], n_bins=2), 6)
    0.1
    """
    accuracy, mean_confidence, counts = calibration_bins(confidence, correct, n_bins, binning=binning)
    return float((counts * np.abs(accuracy - mean_confidence)).sum() / counts.sum())


def calibration_bins(
    confidence: Any, correct: Any, n_bins: int = 15, *, binning: str = "mass"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute accuracy, mean confidence and number of samples of the bins of a calibration error.

    Parameters
    ----------
    confidence, correct, n_bins, binning
        As for `expected_calibration_error`.

    Returns
    -------
    accuracy, mean_confidence, counts : ndarray of shape (n_used,)
        Figures of the bins that hold a sample, in the order of their confidence.  There are min(n_bins, n)
        of equal mass, where equal confidences may fall into two bins, and at most n_bins of equal width.

    Raises
    ------
    ValueError
        As for `expected_calibration_error`.
    """
    confidence = as_confidence(confidence).astype(np.float64)
    correct = as_correct(correct).astype(np.float64)
    check_consistent_length(confidence, correct)
    if len(confidence) == 0:
        raise ValueError("confidence is empty; expected at least one sample")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence has values outside [0, 1]; expected probabilities")
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins!r}; expected at least 1")
    check_option("binning", binning, BINNINGS)
    order = np.argsort(confidence, kind="stable")
    if binning == "mass":
        bins = np.array_split(order, min(n_bins, len(order)))
    else:
        ends = np.arange(1, n_bins) / n_bins
        cuts = np.searchsorted(confidence[order], ends, side="right")
        bins = [rows for rows in np.split(order, cuts) if len(rows)]
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
        If the score has not one axis, the lengths differ, there is no sample, a score is nan, or ``correct`` is
        neither of booleans nor of 0 and 1.

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


def prediction_rejection_ratio(score: Any, correct: Any) -> float:
    """Compute the share of the possible gain that a score reaches when doubtful predictions are withheld.

    The gain is how far the `area_under_risk_coverage` lies below that of a random order.  The ratio divides it
    by the gain of the perfect order, in which all right predictions come before the wrong ones.

    Parameters
    ----------
    score : array-like of shape (n,)
        Confidence on any scale; higher is more confident.
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.

    Returns
    -------
    prr : float
        1 for the perfect order, 0 on average for a random one, negative for a worse one; nan if all
        predictions are right or all are wrong.

    Raises
    ------
    ValueError
        As for `area_under_risk_coverage`.

    Notes
    -----
    The risk is the error rate among the predictions that are kept, as in [2]_.  [1]_ divides the errors by
    the number of all predictions instead; for right and wrong answers that ratio is 2 AUROC - 1.

    References
    ----------
    .. [1] Malinin and Gales, "Uncertainty Estimation in Autoregressive Structured Prediction", ICLR 2021.
    .. [2] Vashurin et al., "Benchmarking Uncertainty Quantification Methods for Large Language Models with
       LM-Polygraph", arXiv:2406.15627.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import prediction_rejection_ratio
    >>> prediction_rejection_ratio([0.9, 0.8, 0.3], [True, True, False])
    1.0
    """
    score, correct = as_confidence(score, "score"), as_correct(correct)
    area = area_under_risk_coverage(score, correct)
    if correct.all() or not correct.any():
        return float("nan")
    error, best = 1 - correct.mean(), area_under_risk_coverage(correct.astype(float), correct)
    return float((error - area) / (error - best))


def coverage_at_accuracy(
    score: Any, correct: Any, accuracy: float = 0.95, *, threshold: str = "best"
) -> float:
    """Compute the share of predictions that may be kept so that this accuracy is reached among them.

    Parameters
    ----------
    score : array-like of shape (n,)
        Confidence on any scale, higher is more confident; for ``threshold="stated"`` a probability.
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.
    accuracy : float, default=0.95
        Accuracy to be reached, from 0 to 1.
    threshold : {"best", "stated"}, default="best"
        Which predictions are kept.  ``"best"``: as many of those with the highest scores as reach the
        accuracy, where equal scores are kept or withheld together (selective classification [1]_); this judges
        the order alone, and looks at the answers to find the threshold.  ``"stated"``: those whose score is at
        least ``accuracy``, and none count if their accuracy is lower [2]_; this judges order and calibration.

    Returns
    -------
    coverage : float
        Share in [0, 1]; 0 if no threshold reaches the accuracy.

    Raises
    ------
    TypeError
        If accuracy is not a number.
    ValueError
        If the score has not one axis, the lengths differ, there is no sample, a score is nan, accuracy or, with
        ``"stated"``, a score is outside [0, 1], ``correct`` is neither of booleans nor of 0 and 1, or
        threshold is unknown.

    References
    ----------
    .. [1] Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017.
    .. [2] Morales-Alvarez et al., "BayesAdapter: enhanced uncertainty estimation in CLIP few-shot
       adaptation", arXiv:2412.09718.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import coverage_at_accuracy
    >>> score, correct = [0.9, 0.8, 0.7, 0.6], [True, True, False, True]
    >>> coverage_at_accuracy(score, correct, 0.75), coverage_at_accuracy(score, correct, 0.95)
    (1.0, 0.5)
    >>> coverage_at_accuracy(score, correct, 0.8, threshold="stated")
    0.5
    """
    check_number("accuracy", accuracy, 0, 1, ends="low high")
    check_option("threshold", threshold, THRESHOLDS)
    score, correct = as_confidence(score, "score"), as_correct(correct)
    coverage, risk = risk_coverage(score, correct)
    if threshold == "stated":
        if not ((score >= 0) & (score <= 1)).all():
            raise ValueError("score has values outside [0, 1]; expected probabilities for threshold='stated'")
        kept = score >= accuracy
        return float(kept.mean()) if kept.any() and correct[kept].mean() >= accuracy else 0.0
    descending = np.sort(score)[::-1]
    whole = np.append(descending[1:] != descending[:-1], True)  # the last of equal scores
    enough = whole & (1 - risk >= accuracy - 1e-12)  # 19 of 20 reach 0.95, whatever the rounding
    return float(coverage[enough].max(initial=0.0))


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
    score = as_confidence(score, "score")
    wrong = 1.0 - as_correct(correct)
    check_consistent_length(score, wrong)
    if len(score) == 0:
        raise ValueError("score is empty; expected at least one sample")
    n = len(score)
    # In a random order of equal scores the expected number of errors grows along a line.
    values, sizes = np.unique(score, return_counts=True)
    per_value = np.bincount(np.searchsorted(values, score), weights=wrong)
    taken = np.concatenate([[0], np.cumsum(sizes[::-1])])
    errors = np.concatenate([[0], np.cumsum(per_value[::-1])])
    k = np.arange(1, n + 1)
    return k / n, np.interp(k, taken, errors) / k
