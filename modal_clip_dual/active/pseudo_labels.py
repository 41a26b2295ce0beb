"""Mining the pool for samples whose predicted label can be trusted (arXiv 2602.04340, 2602.04337)."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _num_samples

from ..base import CLIPClassifier
from ..heads.dual_linear import DualLinearClassifier
from ..scores import SCORES
from ..strategies.view import View
from ..utils.labels import encode_labels
from ..utils.selection import select_highest_per_class
from ..utils.validation import validated

# Clean logits from which on a judge accepts a label, by name and number of classes.
THRESHOLDS = {"clean": lambda n_classes: 0.0, "correct": lambda n_classes: math.log(max(n_classes - 1, 1))}


@validated(
    n_per_class=[Interval(Integral, 0, None, closed="left"), None],
    score=[StrOptions(set(SCORES))],
    threshold=[StrOptions(set(THRESHOLDS)), Interval(Real, None, None, closed="neither")],
)
def mine_confident(
    classifier: Any,
    X_pool: Any,
    n_per_class: int | None = 16,
    exclude: Any = None,
    *,
    score: str = "clean",
    judge: Any = None,
    threshold: str | float = "clean",
) -> tuple[np.ndarray, np.ndarray]:
    """Choose pseudo-labels: per predicted class the samples whose label is likeliest right.

    The counterpart of `negative_prompt_sampling`: it takes the other end of the ranking
    ([1]_, Sec. 3).  Choose anew in every round; pseudo-labels of an earlier model are not
    to be kept.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Fitted; must lead to an estimator with ``predict_proba`` and ``clean_logits``, or
        ``predict_correct_proba`` for ``score="correct"``.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_per_class : int or None, default=16
        Pseudo-labels per class (k); a class with fewer predictions gives all it has, and with None every class does.
    exclude : array-like of int, default=None
        Rows of X_pool that are not to be taken, such as those that were just queried.
    score : {"clean", "normalized", "margin", "correct"}, default="clean"
        What ranks; see `negative_prompt_uncertainty`.
    judge : modAL learner, Pipeline or estimator, default=None
        Another fitted classifier with ``clean_logits``: only labels that it accepts are taken, as by
        `collaborative_pseudo_labels`.
    threshold : {"clean", "correct"} or float, default="clean"
        Value that the judge's clean logit of the label has to exceed; see `collaborative_pseudo_labels`.

    Returns
    -------
    indices : ndarray of int, shape (n,)
        Rows of X_pool, class by class, most confident first.
    labels : ndarray of shape (n,)
        Their predicted labels.

    Raises
    ------
    TypeError
        If the classifier lacks a required method, or an argument is no integer.
    ValueError
        If the pool is empty, or a row of ``exclude`` is not in it.
    NotFittedError
        If the classifier was never fitted; `DualPromptClassifier.fit_unlabeled` does the
        first round.

    See Also
    --------
    DualPromptClassifier.fit : Takes what this returns as ``X_pseudo`` and ``y_pseudo``.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, mine_confident
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = DualPromptClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> clf = clf.fit_unlabeled(X)
    >>> rows, labels = mine_confident(clf, X, n_per_class=5, exclude=[0, 1])
    >>> clf = clf.fit(X[:2], y[:2], X_pseudo=X[rows], y_pseudo=labels)
    """
    left = _left(X_pool, exclude)
    view = View(classifier, X_pool)
    try:
        predicted, confidence, *_ = view.rank(score, zero_shot=False)
    except NotFittedError as error:
        raise NotFittedError(
            f"this {type(classifier).__name__} was never fitted, so it has no label to trust; fit "
            "it first, or without any label by fit_unlabeled(X_pool)"
        ) from error
    if judge is not None:
        left &= accepted(judge, X_pool, view.classes[predicted], threshold)
    rows, n_pool = np.flatnonzero(left), len(left)
    n_per_class = n_pool if n_per_class is None else n_per_class
    if not len(rows) or not n_per_class:
        rows = rows[:0]
    else:
        rows = rows[select_highest_per_class(confidence[left], predicted[left], n_per_class)]
    return rows, view.classes[predicted[rows]]


@validated(threshold=[StrOptions(set(THRESHOLDS)), Interval(Real, None, None, closed="neither")])
def collaborative_pseudo_labels(
    generator: Any, judge: Any, X_pool: Any, *, threshold: str | float = "clean", exclude: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Label the pool by one model, and keep the labels that a second model does not doubt.

    The ``generator`` predicts a label for every sample; the sample is kept if the clean logit z of the ``judge``
    at this label, not at the judge's own, is above a threshold ([1]_, Sec. 4).  The threshold is the same for all
    samples and classes, so that no number per class has to be chosen.

    Parameters
    ----------
    generator : modAL learner, Pipeline or estimator
        Fitted classifier with ``predict_proba`` that gives the labels.
    judge : modAL learner, Pipeline or estimator
        Fitted classifier with ``clean_logits``.  It has to know every label that the generator predicts.
    X_pool : array-like of n_pool samples
        The unlabeled pool, in a form that both take.
    threshold : {"clean", "correct"} or float, default="clean"
        Value that z has to exceed: 0 for ``"clean"``, as in [1]_, which is a probability of being right above 1/C
        if complements are drawn uniformly; log(C - 1) for ``"correct"``, a probability above one half; or a
        number.  With ``complement="hard"`` z is not inflated, and 0 is one half already.
    exclude : array-like of int, default=None
        Rows of X_pool that are not to be taken.

    Returns
    -------
    rows : ndarray of int, shape (n,)
        Rows of X_pool that are kept, class by class, those that the generator gives the highest probability first.
    labels : ndarray of shape (n,)
        The labels that the generator predicts for them.

    Raises
    ------
    TypeError
        If a classifier lacks a required method, or an argument has the wrong type.
    ValueError
        If the pool is empty, a row of ``exclude`` is not in it, ``threshold`` is unknown, or the judge does not know
        a label.
    NotFittedError
        If a classifier was never fitted.

    See Also
    --------
    mine_confident : Take the most confident samples per class, with ``judge`` those that are kept here.
    CollaborativePromptClassifier : Train two members and keep the labels of each that the other accepts.

    References
    ----------
    .. [1] "CoFT", arXiv:2602.04337.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, collaborative_pseudo_labels
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> demo = {"model_name": "demo", "pretrained": "bundled", "max_epochs": 20}
    >>> one, two = (
    ...     DualPromptClassifier(class_names, **demo, random_state=seed).fit(X[:80], y[:80]) for seed in (0, 1)
    ... )
    >>> rows, labels = collaborative_pseudo_labels(one, two, X[80:])
    >>> bool((labels == y[80:][rows]).mean() > one.score(X[80:], y[80:]))
    True
    """
    left = _left(X_pool, exclude)
    view = View(generator, X_pool)
    highest, classes = view.proba.max(axis=1), view.classes
    rows = np.flatnonzero(left & accepted(judge, X_pool, classes[view.predicted], threshold))
    if len(rows):
        rows = rows[select_highest_per_class(highest[rows], view.predicted[rows], len(rows))]
    return rows, classes[view.predicted[rows]]


def accepted(judge: Any, X: Any, labels: np.ndarray, threshold: str | float = "clean") -> np.ndarray:
    """Whether the judge's clean logit at each label (n,) exceeds the threshold of `collaborative_pseudo_labels`."""
    view = View(judge, X)
    z = view.ask("clean_logits")
    column = encode_labels(labels, view.classes, "labels of the generator")
    least = THRESHOLDS[threshold](z.shape[1]) if isinstance(threshold, str) else float(threshold)
    above: np.ndarray = np.take_along_axis(z, column[:, None], axis=1)[:, 0] > least
    return above


def transductive(estimator: CLIPClassifier, X: Any, y: Any, X_pool: Any) -> DualLinearClassifier:
    """Fit a `DualLinearClassifier` on the names and the frozen CLIP of an estimator; X is None without labels.

    Its mixtures are fitted to the pool that is to get pseudo-labels, so they are right far more often than what an
    inductive classifier says of it while labels are few.
    """
    params = estimator.get_params(deep=False)
    labeler = DualLinearClassifier(**{name: params[name] for name in CLIPClassifier._get_param_names()})
    return labeler.fit_unlabeled(X_pool) if X is None else labeler.fit(X, y, X_pool=X_pool)


def _left(X_pool: Any, exclude: Any) -> np.ndarray:
    """Which rows (n_pool,) of a pool may be taken."""
    n_pool = _num_samples(X_pool)
    if n_pool == 0:
        raise ValueError("X_pool is empty; expected at least one unlabeled sample")
    left = np.ones(n_pool, dtype=bool)
    if exclude is not None:
        left[_check_rows(exclude, n_pool)] = False
    return left


def _check_rows(exclude: Any, n_pool: int) -> np.ndarray:
    rows = np.asarray(exclude)
    if rows.size == 0:
        return rows.astype(np.intp).reshape(-1)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TypeError(
            f"exclude has shape {rows.shape} and dtype {rows.dtype}; expected row numbers of X_pool"
        )
    if rows.min() < 0 or rows.max() >= n_pool:
        raise ValueError(
            f"exclude has rows from {rows.min()} to {rows.max()}; expected 0 to {n_pool - 1}, the rows "
            "of X_pool"
        )
    return rows
