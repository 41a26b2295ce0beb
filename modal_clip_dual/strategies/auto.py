"""Auto sampling: typical samples while the model is weak, doubtful and different ones once it is good."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval

from ..utils.arrays import as_array
from ..utils.selection import ascending_order
from ..utils.whitening import fit_whitening
from ._clustering import nearest_to_centers
from ._equal import lowest_rows
from ._strategy import query_strategy
from .class_balanced import closeness
from .typiclust import typiclust_sampling
from .view import call_strategy

NEEDS = "predict_correct_proba"  # method of the classifier


@query_strategy(
    threshold=[Interval(Real, 0, 1, closed="both")], oversampling=[Interval(Integral, 1, None, closed="left")]
)
def auto_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    threshold: float = 0.5,
    oversampling: int = 3,
    random_state: Any = None,
) -> Any:
    """Query typical samples while the classifier is weak, and doubtful ones of all kinds once it is good.

    The mean of P(correct) over the pool estimates the classifier's accuracy.  Below ``threshold`` the samples
    are those of `typiclust_sampling`, which looks at no prediction.  From there on the ``oversampling`` times
    n_instances samples of the smallest margin, the two largest probabilities' difference, are candidates.  k-means
    makes n_instances clusters of their embeddings, and the sample nearest to each center is chosen: the margin says
    where to look, and the clusters keep the chosen samples different.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Must lead to an estimator with ``predict_correct_proba``, such as `DualLinearClassifier`; its ``transform``,
        if it has one, embeds the samples.  One that was never fitted answers from its ``zero_shot_proba``.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal margin instead of keeping their order in the pool.
    threshold : float, default=0.5
        Estimated accuracy from which on doubtful samples are chosen; 0 always chooses those, 1 typical ones.
    oversampling : int, default=3
        Candidates per chosen sample; 1 is margin sampling.
    random_state : int, Generator, RandomState or None, default=None
        Controls k-means and tie breaking.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, the smallest margin first; typical ones in the order of choice.
    metrics : ndarray of shape (n_instances,)
        1 - margin, or typicality; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier lacks a required method.
    ValueError
        If the pool is empty, n_instances does not fit it, or ``threshold`` or ``oversampling`` is out of its range.
    NotFittedError
        If the classifier was never fitted and has no zero-shot probabilities.

    See Also
    --------
    typiclust_sampling : The strategy below the threshold.
    correctness_sampling : Ranks by P(correct) alone.

    Notes
    -----
    That typical samples win while labels are few, and doubtful ones later, is what [1]_ found; clusters of the
    samples of smallest margin are the idea of Cluster-Margin [2]_, which makes them by linkage and once for the whole
    pool.  Distances are measured in embeddings whose principal axes are whitened by half, so that the few axes of
    largest variance do not decide alone.  docs/learners.md says how the default was chosen.

    References
    ----------
    .. [1] Hacohen, Dekel and Weinshall, "Active Learning on a Budget: Opposite Strategies Suit
       High and Low Budgets", ICML 2022, arXiv:2202.02794.
    .. [2] Citovsky et al., "Batch Active Learning at Scale", NeurIPS 2021, arXiv:2107.14263.

    Examples
    --------
    >>> from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = DualLinearClassifier(class_names, model_name="demo", pretrained="bundled")
    >>> learner = DualPromptLearner(clf, X[:500], query_strategy=auto_sampling)
    >>> rows, images = learner.query(n_instances=10)
    >>> len(set(rows))
    10
    """
    if classifier.rank("correct").uncertainty.mean() > 1 - threshold:
        ties = random_tie_break is not None
        rows, typicality = call_strategy(
            typiclust_sampling, classifier, classifier.X, n_instances, random_state, random_tie_break=ties
        )
        return rows, np.zeros(len(rows)) if typicality is None else typicality  # None: old modAL
    doubt = closeness(np.asarray(classifier.proba, dtype=np.float64))
    order = ascending_order(-doubt, random_tie_break)
    if classifier.first is not None:  # copies of a sample come behind all others
        order = order[np.argsort(classifier.first[order] != order, kind="stable")]
    candidates = np.sort(order[: oversampling * n_instances])
    pool = as_array(classifier.embeddings).astype(np.float32, copy=False)
    whitening = fit_whitening(pool, rank=pool.shape[1], powers=(0.5,))
    half_white = whitening.coordinates(pool[candidates]) * whitening.scales[0.5]
    rows = candidates[np.sort(nearest_to_centers(half_white, n_instances, random_state))]
    rows = lowest_rows(rows, classifier.first)
    rows = rows[ascending_order(-doubt[rows], random_tie_break)]
    return rows, doubt[rows]
