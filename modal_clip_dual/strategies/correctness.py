"""Correctness sampling: rank by P(correct), select by the rule of arXiv 2602.04340."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import StrOptions

from ..utils.selection import REMAINDERS
from ._ranking import Ranking
from ._strategy import query_strategy

NEEDS = "predict_correct_proba"  # method of the classifier


@query_strategy(class_balanced=["boolean"], remainder=[StrOptions(set(REMAINDERS))])
def correctness_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    class_balanced: bool = True,
    remainder: str = "per-class",
    random_state: Any = None,
) -> Any:
    """Query the samples whose predicted label the classifier finds least likely to be right.

    The strategy calls the classifier's ``predict_correct_proba``, whatever model is behind it, and selects as
    `negative_prompt_sampling` does: the lowest of each predicted class, in equal shares.  For a
    `DualPromptClassifier` both strategies are the same, except among probabilities that float32 rounds to
    the same number.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Must lead to an estimator with ``predict_correct_proba``, and ``predict_proba`` or
        ``predict``.  One that was never fitted answers from its ``zero_shot_proba``.  A
        Committee's members are averaged; a member that predicts another label than the Committee
        shares its doubt among its other labels by its ``predict_proba``.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal probability instead of keeping their order in the pool.
    class_balanced : bool, default=True
        Whether each predicted class is ranked on its own; False ranks the whole pool at once.
    remainder : {"per-class", "global"}, default="per-class"
        Source of the samples that do not divide evenly among the classes; see
        `negative_prompt_sampling`.
    random_state : int, Generator, RandomState or None, default=None
        Controls ``random_tie_break``.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, least likely to be right first.
    metrics : ndarray of shape (n_instances,)
        Probability that their predicted label is wrong; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier lacks a required method.
    ValueError
        If the pool is empty, n_instances does not fit it, or an option is unknown.
    NotFittedError
        If the classifier was never fitted and has no zero-shot probabilities.

    See Also
    --------
    negative_prompt_sampling : Rank by the clean logit of a negative prompt.

    References
    ----------
    .. [1] The rule: "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340, Eq. 7.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import DualPromptClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.strategies import correctness_sampling
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> learner = ActiveLearner(clf, query_strategy=correctness_sampling)
    >>> rows, images = learner.query(digits.images, n_instances=20)
    >>> len(set(rows)), images.shape
    (20, (20, 8, 8))
    """
    ranking: Ranking = classifier.rank("correct")
    return ranking.least_confident(n_instances, class_balanced, remainder, random_tie_break)
