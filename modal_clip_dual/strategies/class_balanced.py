"""Entropy and margin sampling with equal shares of the predicted classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import entr
from sklearn.utils._param_validation import StrOptions

from ..utils.selection import REMAINDERS, select_per_class
from ._strategy import query_strategy
from .view import View

NEEDS = "predict_proba"  # method of the classifier
CONSTRAINTS = {"remainder": [StrOptions(set(REMAINDERS))]}


@query_strategy(**CONSTRAINTS)
def class_balanced_entropy_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    remainder: str = "per-class",
    random_state: Any = None,
) -> Any:
    """Query, per predicted class, the samples of highest entropy.

    This is modAL's `entropy_sampling` with the selection rule of `negative_prompt_sampling`, to tell the
    effect of its score from that of its rule.  The utility is
    `modAL.uncertainty.classifier_entropy`.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Needs ``predict_proba``; one that was never fitted needs ``zero_shot_proba``.  The
        probabilities of a Committee's members are averaged.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal entropy instead of keeping their order in the pool.
    remainder : {"per-class", "global"}, default="per-class"
        See `negative_prompt_sampling`.
    random_state : int, Generator, RandomState or None, default=None
        Controls ``random_tie_break``.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, highest entropy first.
    metrics : ndarray of shape (n_instances,)
        Their entropy in nats; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier has no ``predict_proba``.
    ValueError
        If the pool is empty, n_instances does not fit it, or remainder is unknown.
    NotFittedError
        If the classifier was never fitted and has no zero-shot probabilities.

    See Also
    --------
    class_balanced_margin_sampling : The same rule with the margin.

    References
    ----------
    .. [1] The rule: "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340, Eq. 7.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import class_balanced_entropy_sampling
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = LogisticRegression(max_iter=1000).fit(X[:50] / 16, y[:50])
    >>> rows, samples = ActiveLearner(clf, class_balanced_entropy_sampling).query(X / 16, 10)
    >>> sorted(clf.predict(samples).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    return _sample(_entropy, classifier, n_instances, remainder, random_tie_break)


@query_strategy(**CONSTRAINTS)
def class_balanced_margin_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    remainder: str = "per-class",
    random_state: Any = None,
) -> Any:
    """Query, per predicted class, the samples whose two likeliest classes are closest.

    This is modAL's `margin_sampling` with the selection rule of `negative_prompt_sampling`.  The utility
    is `modAL.uncertainty.classifier_margin`.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        As for `class_balanced_entropy_sampling`.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal margin instead of keeping their order in the pool.
    remainder : {"per-class", "global"}, default="per-class"
        See `negative_prompt_sampling`.
    random_state : int, Generator, RandomState or None, default=None
        Controls ``random_tie_break``.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, smallest margin first.
    metrics : ndarray of shape (n_instances,)
        1 minus their margin; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        As for `class_balanced_entropy_sampling`.

    References
    ----------
    .. [1] The rule: "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340, Eq. 7.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import DualPromptClassifier, class_balanced_margin_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> learner = ActiveLearner(clf, query_strategy=class_balanced_margin_sampling)
    >>> rows, images = learner.query(digits.images, n_instances=20)
    """
    return _sample(closeness, classifier, n_instances, remainder, random_tie_break)


def _sample(
    uncertainty_of: Callable[[np.ndarray], np.ndarray],
    view: View,
    n: int,
    remainder: str,
    ties: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray]:
    uncertainty = uncertainty_of(view.proba)
    rows = select_per_class(-uncertainty, view.predicted, n, view.proba.shape[1], remainder, ties)
    return rows, uncertainty[rows]


def _entropy(proba: np.ndarray) -> np.ndarray:
    entropy: np.ndarray = entr(proba).sum(axis=1)
    return entropy


def closeness(proba: np.ndarray) -> np.ndarray:
    """Return 1 minus the difference between the two largest probabilities (n, C), (n,): modAL's margin, turned."""
    if proba.shape[1] == 1:
        return np.zeros(len(proba))
    two = np.partition(proba, proba.shape[1] - 2, axis=1)[:, -2:]
    return 1 - (two[:, 1] - two[:, 0])
