"""How far the texts of the classes may move: a penalty that labeled samples choose, held out from a linear model."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, softmax

from ..utils.folds import deal_folds, merged
from ..utils.pool import spread_rows
from ..utils.text_logistic import fit_logistic

PENALTIES = np.array([0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0])
USUAL = 0.01  # with one label or none
DEVIATION = 1.5  # of the logarithm
N_FOLDS = 5
AT_MOST = 200  # labeled samples that are asked
MOST_CLASSES = 100  # that they are told apart from
TOLERANCE = 3e-5  # of the fits; ten times more moves the answer by up to a fifth


def choose_text_penalty(
    embeddings: np.ndarray, target: np.ndarray, text: np.ndarray, logit_scale: float, weight: np.ndarray | None = None
) -> float:
    """Return the penalty with which texts that move predict held-out labels best.

    In place of the prompts it trains texts t_k that are free, on the cross-entropy (a sum) of the logits
    s <x, t_k> plus penalty / 2 * s^2 * sum_k |t_k - t_0k|^2.  This is convex and takes milliseconds.  The penalty
    is the inverse variance of a normal prior, in units of logits, so that it neither depends on the number of
    labels nor on the CLIP's width or temperature.  The answer is the mean over a posterior of its logarithm: a normal
    prior around 0.01 times the likelihood of the held-out labels.

    Parameters
    ----------
    embeddings : ndarray of shape (n, D)
        Unit embeddings x of labeled images by the frozen CLIP; of more than 200, 200 are used.  Copies count as one
        sample of more weight, since a copy would know the label that is held out.
    target : ndarray of int, shape (n,)
        Positions of the labels.
    text : ndarray of shape (C, D)
        Unit embeddings t_0k of the hand-written texts; of more than 100 classes, 100 are used, those with labels
        first.
    logit_scale : float
        s = 1 / tau.
    weight : ndarray of shape (n,), optional
        Weights of the samples.

    Returns
    -------
    penalty : float
        Within the range of ``PENALTIES``; 0.01 if n < 2.
    """
    embeddings, target, weight = merged(embeddings, target, weight)
    if len(target) < 2:
        return USUAL
    score = -((np.log(PENALTIES / USUAL) / DEVIATION) ** 2) / 2
    classes = _some_classes(target, len(text))
    rows = np.flatnonzero(np.isin(target, classes))
    rows = rows[spread_rows(len(rows), AT_MOST)]
    x, y = embeddings[rows].astype(np.float64), np.searchsorted(classes, target[rows])
    logits = logit_scale * x @ text[classes].T.astype(np.float64)
    score = score + _held_out(x, logits, y, None if weight is None else weight[rows])
    return float(np.exp(softmax(score) @ np.log(PENALTIES)))


def _some_classes(target: np.ndarray, n_classes: int) -> np.ndarray:
    """Return all classes, or some of many, ascending: those with labels, and others if there is room."""
    seen = np.unique(target)
    others = np.setdiff1d(np.arange(n_classes), seen)
    seen = seen[spread_rows(len(seen), MOST_CLASSES)]
    others = others[spread_rows(len(others), MOST_CLASSES - len(seen))]
    return np.sort(np.concatenate([seen, others]))


def _by_values(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return labels that are numbered by the samples, so that folds do not depend on the order of the classes."""
    order = np.lexsort(x.T[:8][::-1])
    _, first, number = np.unique(y[order], return_index=True, return_inverse=True)
    labels = np.empty_like(y)
    labels[order] = first[number]
    return labels


def _held_out(x: np.ndarray, logits: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Return the log-likelihood of held-out labels for each penalty; weights are s (t_k - t_0k)."""
    n_folds = min(len(y), N_FOLDS)
    folds = deal_folds(x, _by_values(x, y), n_folds)
    total = np.zeros(len(PENALTIES))
    for fold in range(n_folds):
        out = folds == fold
        some = None if weight is None else weight[~out]
        for number, penalty in enumerate(PENALTIES):
            fitted = fit_logistic(
                x[~out], logits[~out], y[~out], logits.shape[1], float(penalty),
                weight=some, tolerance=TOLERANCE, fixed=True,
            )  # fmt: skip
            found = log_softmax(logits[out] + x[out] @ fitted.weights, axis=1)[np.arange(out.sum()), y[out]]
            total[number] += found.sum() if weight is None else weight[out] @ found
    return total
