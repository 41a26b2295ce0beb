"""BALD: samples about which draws of a model contradict each other (Houlsby et al., 2011)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import entr
from sklearn.utils._param_validation import StrOptions

from ..utils.selection import select_lowest
from ._strategy import query_strategy, query_utility

NEEDS = "predict_proba"  # method of the classifier


def _information(draws: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the entropy of the mean minus the mean entropy; for one draw, its entropy."""
    entropy = _entropy(draws, weights)
    if len(draws) == 1:  # nothing contradicts it
        return entropy
    information: np.ndarray = np.maximum(entropy - weights @ entr(draws).sum(axis=2), 0)
    return information


def _entropy(draws: np.ndarray, weights: np.ndarray) -> np.ndarray:
    entropy: np.ndarray = entr(np.tensordot(weights, draws, axes=1)).sum(axis=1)
    return entropy


def _variation_ratio(draws: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weight of the draws whose likeliest class is not that of most."""
    best = draws.argmax(axis=2)
    votes = np.stack([weights @ (best == k) for k in range(draws.shape[2])])
    ratio: np.ndarray = 1 - votes.max(axis=0)
    return ratio


SCORES = {"information": _information, "entropy": _entropy, "variation-ratio": _variation_ratio}
CONSTRAINTS = {"score": [StrOptions(set(SCORES))]}


@query_utility(**CONSTRAINTS)
def bald_uncertainty(classifier: Any, X: Any, *, score: str = "information") -> np.ndarray:
    """Measure how far draws of the model contradict each other about each sample.

    A utility for modAL's `make_linear_combination` and `make_query_strategy`.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        As for `bald_sampling`.
    X : array-like of n samples
        Embeddings, images or paths.
    score : {"information", "entropy", "variation-ratio"}, default="information"
        Score of the samples; see `bald_sampling`.

    Returns
    -------
    uncertainty : ndarray of shape (n,), float64
        Score in nats, 0 to log C; for ``"variation-ratio"`` a share, 0 to 1.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        As for `bald_sampling`.

    Examples
    --------
    >>> from modal_clip_dual import BayesAdapterClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.strategies import bald_uncertainty
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = BayesAdapterClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=20)
    >>> bald_uncertainty(clf.fit(X[:50], y[:50]), X[50:150]).shape
    (100,)
    """
    return _uncertainty(classifier, score)


@query_strategy(**CONSTRAINTS)
def bald_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    score: str = "information",
    random_state: Any = None,
) -> Any:
    """Query the samples about which draws of the model contradict each other most.

    A model that knows how sure it is of its own weights can draw many models, all of which agree with the labels
    so far.  Where each of them is sure, but of different labels, a label tells most about which is right: the
    mutual information of label and model is the entropy of the mean of their probabilities minus the mean of their
    entropies ([1]_).  Samples about which all draws are equally in doubt score low.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Must lead to an estimator with ``sample_proba(X)``, draws of class probabilities (S, n, C), such as
        `BayesAdapterClassifier`, or is a Committee: its members count the same, and one that has none is a draw
        itself, by its ``predict_proba``.  **Any other classifier** gives one draw, which nothing
        contradicts; then ``"information"`` ranks its entropy, or that of ``zero_shot_proba`` if it was never fitted.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal score instead of keeping their order in the pool.
    score : {"information", "entropy", "variation-ratio"}, default="information"
        ``"information"`` is the mutual information above.  ``"entropy"`` is the entropy of the mean.
        ``"variation-ratio"`` is the share of draws whose likeliest class is not that of most draws.
    random_state : int, Generator, RandomState or None, default=None
        Controls ``random_tie_break``.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, highest score first.
    metrics : ndarray of shape (n_instances,)
        Their score, in nats except for ``"variation-ratio"``; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier lacks a required method.
    ValueError
        If the pool is empty, n_instances does not fit it, score is unknown, or the members of a
        Committee do not know the same classes.
    NotFittedError
        If the classifier was never fitted and has no zero-shot probabilities.

    See Also
    --------
    class_balanced_entropy_sampling : Query by entropy, without draws.

    Notes
    -----
    The time is S n C beyond the predictions; draws of a large table are held in parts.

    References
    ----------
    .. [1] Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning",
       2011, arXiv:1112.5745.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import BayesAdapterClassifier, bald_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = BayesAdapterClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=20)
    >>> learner = ActiveLearner(clf, bald_sampling, X_training=X[:50], y_training=y[:50])
    >>> rows, images = learner.query(X[50:250], n_instances=10)
    >>> len(set(rows.tolist()))
    10
    """
    uncertainty = _uncertainty(classifier, score)
    rows = select_lowest(-uncertainty, n_instances, random_tie_break)
    return rows, uncertainty[rows]


def _uncertainty(view: Any, score: str) -> np.ndarray:
    uncertainty: np.ndarray = view.of_draws(SCORES[score])
    return uncertainty
