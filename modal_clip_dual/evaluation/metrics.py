"""How well a score tells right predictions from wrong ones."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_consistent_length


def auroc_of_correctness(score, correct):
    """Area under the ROC curve of a confidence score for "the prediction is right".

    The probability that a right prediction has a higher score than a wrong one; 0.5 is
    a score that carries nothing.

    Parameters
    ----------
    score : array-like of shape (n,)
        Confidence, higher is surer; any scale.
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.

    Returns
    -------
    auroc : float
        In [0, 1]; nan if all predictions are right or all are wrong.

    Raises
    ------
    ValueError
        If the two lengths differ.

    See Also
    --------
    sklearn.metrics.roc_auc_score : What computes it.

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


def expected_calibration_error(confidence, correct, n_bins=15):
    """Expected calibration error over bins of equal mass.

    Samples are sorted by confidence and cut into bins of (nearly) equal size; the result
    is the mean over samples of |accuracy - mean confidence| of their bin.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Stated probability of being right, in [0, 1].
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.
    n_bins : int, default=15
        At most n bins are used.

    Returns
    -------
    ece : float
        In [0, 1]; 0 is perfectly calibrated.

    Raises
    ------
    ValueError
        If the lengths differ, there is no sample, or a confidence is outside [0, 1].

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
    confidence = np.asarray(confidence, dtype=np.float64)
    correct = np.asarray(correct, dtype=np.float64)
    check_consistent_length(confidence, correct)
    if len(confidence) == 0:
        raise ValueError("confidence is empty; expected at least one sample")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence has values outside [0, 1]; expected probabilities")
    order = np.argsort(confidence, kind="stable")
    gap = 0.0
    for rows in np.array_split(order, min(n_bins, len(order))):
        gap += len(rows) * abs(correct[rows].mean() - confidence[rows].mean())
    return float(gap / len(order))
