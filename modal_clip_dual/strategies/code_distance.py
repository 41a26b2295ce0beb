"""Code distance sampling: the samples that are farthest from the code of their label."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import StrOptions

from ..utils.selection import REMAINDERS
from ._ranking import Ranking
from ._strategy import query_strategy

NEEDS = "code_margin"  # method of the classifier


@query_strategy(class_balanced=["boolean"], remainder=[StrOptions(set(REMAINDERS))])
def code_distance_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    class_balanced: bool = True,
    remainder: str = "per-class",
    random_state: Any = None,
) -> Any:
    """Query the samples whose activations agree least with the class code of their predicted label.

    This is the score of TAC ([1]_) with the selection rule of `negative_prompt_sampling`: the lowest of each
    predicted class, in equal shares.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Must lead to an estimator with ``code_margin`` and ``predict_proba``, such as `ClassCodeClassifier`.  One that
        was never fitted answers from ``zero_shot_proba`` of the classifier that it wraps.  The margins of a
        Committee's members, each of its own label, are averaged.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal margin instead of keeping their order in the pool.
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
        Distinct rows of X_pool, smallest margin first.
    metrics : ndarray of shape (n_instances,)
        Sigmoid of the negative margin, 0 to 1; returned with modAL 0.4.2 or later.

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
    correctness_sampling : Rank by P(correct), into which `ClassCodeClassifier` turns the margin.

    References
    ----------
    .. [1] Monteiro et al., "Constraining Representations Yields Models That Know What They Don't Know", ICLR 2023,
       arXiv:2208.14488.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import BayesAdapterClassifier, ClassCodeClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.strategies import code_distance_sampling
    >>> X, y, class_names = load_digits_images().values()
    >>> base = BayesAdapterClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=20)
    >>> clf = ClassCodeClassifier(base, cv=2, max_epochs=50)
    >>> learner = ActiveLearner(clf, code_distance_sampling, X_training=X[:50], y_training=y[:50])
    >>> rows, images = learner.query(X[50:250], n_instances=10)
    >>> len(set(rows.tolist()))
    10
    """
    try:
        margin = np.asarray(classifier.ask("code_margin"), dtype=np.float64)
        predicted = classifier.predicted
        ranking = Ranking(predicted, margin, expit(-margin), classifier.proba.shape[1])
    except NotFittedError:
        ranking = classifier.rank("correct")  # by zero-shot probabilities
    return ranking.least_confident(n_instances, class_balanced, remainder, random_tie_break)
