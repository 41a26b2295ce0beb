"""Negative-prompt sampling, the query strategy of arXiv 2602.04340."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions

from ..scores import SCORES
from ..utils.selection import REMAINDERS
from ._ranking import Ranking
from ._strategy import query_strategy, query_utility

SCORE = [StrOptions(set(SCORES))]

NEEDS = "clean_logits"  # method of the classifier


@query_utility(score=SCORE)
def negative_prompt_uncertainty(classifier: Any, X: Any, score: str = "clean") -> np.ndarray:
    """Probability that the predicted label is wrong, according to the negative prompt.

    A utility for modAL's `make_linear_combination`, `make_product` and
    `make_query_strategy`, beside `modAL.uncertainty.classifier_uncertainty`.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Must lead to an estimator with ``predict_proba`` and ``clean_logits``, or
        ``predict_correct_proba`` for ``score="correct"``; one that was never fitted needs
        ``zero_shot_proba``.  A Committee's members are averaged.
    X : array-like of n samples
        Samples in a form that the estimator takes.
    score : {"clean", "normalized", "margin", "correct"}, default="clean"
        Score that ranks the samples.  With the clean logits z at the predicted class y^ it is
        ``sigmoid(log(C - 1) - z)``, which for uniform complements is 1 minus
        `DualPromptClassifier.predict_correct_proba`;
        ``1 - softmax(z)`` over the classes; or ``sigmoid(-margin)``, the margin being z
        minus the largest z of another class.  ``"correct"`` needs no logits: it is 1 minus what
        ``predict_correct_proba`` of the estimator gives, whatever that estimator is.

    Returns
    -------
    uncertainty : ndarray of shape (n,), float64
        Value in [0, 1]; higher is more informative.

    Raises
    ------
    TypeError
        If the classifier lacks a required method.
    ValueError
        If X is empty, or score is not one of the four.

    See Also
    --------
    negative_prompt_sampling : The query strategy, which ranks by z itself.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340, Eq. 3.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, negative_prompt_uncertainty
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> negative_prompt_uncertainty(clf, digits.images[:5]).shape
    (5,)
    """
    uncertainty: np.ndarray = classifier.rank(score).uncertainty
    return uncertainty


@query_strategy(class_balanced=["boolean"], score=SCORE, remainder=[StrOptions(set(REMAINDERS))])
def negative_prompt_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    class_balanced: bool = True,
    score: str = "clean",
    remainder: str = "per-class",
    random_state: Any = None,
) -> Any:
    """Query the samples whose predicted label is least likely to be right, class by class.

    The pool is grouped by predicted class and ranked within each group by the clean logit
    of that class.  Each group gives the same number of samples, its lowest; a remainder
    is taken from the groups' next ones ([1]_, Sec. 3).

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        As for `negative_prompt_uncertainty`.  One that was never fitted answers from its
        zero-shot probabilities.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal score instead of keeping their order in the pool.
    class_balanced : bool, default=True
        Whether each predicted class is ranked on its own; False ranks the whole pool at once.
    score : {"clean", "normalized", "margin", "correct"}, default="clean"
        Score that ranks the samples; see `negative_prompt_uncertainty`.
    remainder : {"per-class", "global"}, default="per-class"
        Source of the samples that do not divide evenly among the classes: at most
        one more from each class, or the lowest of the rest of the pool.
    random_state : int, Generator, RandomState or None, default=None
        Controls ``random_tie_break``.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, most informative first.
    metrics : ndarray of shape (n_instances,)
        Their uncertainty; returned with modAL 0.4.2 or later, which expects it.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier lacks a required method.
    ValueError
        If the pool is empty, n_instances does not fit it, or an option is unknown.

    See Also
    --------
    correctness_sampling : The same rule for any classifier with ``predict_correct_proba``.
    random_sampling : The baseline that every strategy has to beat.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import DualPromptClassifier, negative_prompt_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> learner = ActiveLearner(clf, query_strategy=negative_prompt_sampling)
    >>> rows, images = learner.query(digits.images, n_instances=20)
    >>> len(set(rows)), images.shape
    (20, (20, 8, 8))
    """
    ranking: Ranking = classifier.rank(score)
    return ranking.least_confident(n_instances, class_balanced, remainder, random_tie_break)
