"""Smoothing sampling: query where noise on the image changes the prediction most often."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import StrOptions

from ..utils.selection import REMAINDERS
from ._ranking import Ranking
from ._strategy import query_strategy

NEEDS = "predict_proba"  # method of the classifier


@query_strategy(class_balanced=["boolean"], remainder=[StrOptions(set(REMAINDERS))])
def smoothing_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    class_balanced: bool = True,
    remainder: str = "per-class",
    random_state: Any = None,
) -> Any:
    """Query the samples whose label changes most often when noise is added to the image.

    A `SmoothedClassifier` lets many noisy copies of an image vote.  The samples whose winning label has the smallest
    share of the votes come first; the selection is that of `negative_prompt_sampling`.  A vote costs ``n_select``
    passes of the image tower per sample of the pool, and shares are multiples of 1 / n_select: many samples tie.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Must lead to an estimator with ``predict_proba``.  The one of a `SmoothedClassifier` returns shares of votes.
         **Any other classifier** is not smoothed: then its largest probability is ranked.
    X_pool : array-like of n_pool samples
        The unlabeled pool: images or paths.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal share instead of keeping their order in the pool.
    class_balanced : bool, default=True
        Whether each predicted class is ranked on its own; False ranks the whole pool at once.
    remainder : {"per-class", "global"}, default="per-class"
        Source of the samples that do not divide evenly among the classes; see
        `negative_prompt_sampling`.
    random_state : int, Generator, RandomState or None, default=None
        Controls ``random_tie_break``; the noise is the classifier's.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, least stable first.
    metrics : ndarray of shape (n_instances,)
        Share of the votes for other labels than the winner; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier has no ``predict_proba``.
    ValueError
        If the pool is empty or holds embeddings, n_instances does not fit it, or an option is unknown.

    References
    ----------
    .. [1] The vote: Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
       ICML 2019, arXiv:1902.02918.  Ranking a pool by it is our use.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import DualPromptClassifier, SmoothedClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.strategies import smoothing_sampling
    >>> X, y, class_names = load_digits_images().values()
    >>> zero_shot = DualPromptClassifier(class_names, model_name="demo", pretrained="bundled")
    >>> smoothed = SmoothedClassifier(zero_shot, n_select=10, random_state=0)
    >>> learner = ActiveLearner(smoothed, query_strategy=smoothing_sampling)
    >>> rows, images = learner.query(X[:30], n_instances=5)
    >>> len(set(rows.tolist()))
    5
    """
    shares = classifier.proba
    best = shares.max(axis=1)
    ranking = Ranking(shares.argmax(axis=1), best, 1 - best, shares.shape[1])
    return ranking.least_confident(n_instances, class_balanced, remainder, random_tie_break)
