"""Dirichlet uncertainty sampling: samples of which a Dirichlet model knows least."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import StrOptions

from ..utils.dirichlet import KINDS, uncertainty_of
from ..utils.selection import select_lowest
from ._strategy import query_strategy

NEEDS = "predict_alpha"  # method of the classifier


@query_strategy(kind=[StrOptions(set(KINDS))])
def dirichlet_uncertainty_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    kind: str = "mutual-information",
    random_state: Any = None,
) -> Any:
    """Query the samples whose class probabilities are most uncertain by a Dirichlet distribution.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Must lead to an estimator with ``predict_alpha``, such as `DirichletMetaClassifier`; the parameters of a
        Committee's members are averaged.  One that was never fitted ranks by the entropy of
        ``zero_shot_proba`` of the classifier that it wraps.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal uncertainty instead of keeping their order in the pool.
    kind : str, default="mutual-information"
        ``"entropy"`` of the mean probabilities; ``"data"``, the mean entropy, which more labels
        would not lessen; ``"mutual-information"``, their difference, which more labels would lessen;
        ``"max-probability"``, 1 less the largest mean; ``"precision"``, C over the sum of alpha; or
        ``"differential-entropy"``.
    random_state : int, Generator, RandomState or None, default=None
        Controls ``random_tie_break``.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, most uncertain first.
    metrics : ndarray of shape (n_instances,)
        Their uncertainty; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier lacks a required method.
    ValueError
        If the pool is empty, n_instances does not fit it, or kind is unknown.
    NotFittedError
        If the classifier was never fitted and has no zero-shot probabilities.

    See Also
    --------
    bald_sampling : Query by the mutual information of draws.

    References
    ----------
    .. [1] Shen et al., "Post-hoc Uncertainty Learning Using a Dirichlet Meta-Model", AAAI 2023,
       arXiv:2212.07359.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import BayesAdapterClassifier, DirichletMetaClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.strategies import dirichlet_uncertainty_sampling
    >>> X, y, class_names = load_digits_images().values()
    >>> base = BayesAdapterClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=20)
    >>> clf = DirichletMetaClassifier(base, cv=2, max_epochs=50)
    >>> learner = ActiveLearner(clf, dirichlet_uncertainty_sampling, X_training=X[:50], y_training=y[:50])
    >>> rows, images = learner.query(X[50:250], n_instances=10)
    >>> len(set(rows.tolist()))
    10
    """
    try:
        uncertainty = uncertainty_of(classifier.ask("predict_alpha"), kind)
    except NotFittedError:
        proba = np.asarray(classifier.proba, dtype=np.float64)  # by zero-shot CLIP
        uncertainty = uncertainty_of(proba, "entropy")
    rows = select_lowest(-uncertainty, n_instances, random_tie_break)
    return rows, uncertainty[rows]
