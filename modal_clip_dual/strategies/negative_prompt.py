"""Negative-prompt sampling, the query strategy of arXiv 2602.04340."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import _num_samples

from .._compat import format_query
from ..scores import SCORES, clean
from ..utils.arrays import Rows, blocks
from ..utils.selection import REMAINDERS, generator_of, select_lowest, select_per_class
from ..utils.validation import check_n_instances, check_option
from ._ask import ask, find

POOL_ROWS = 1 << 16  # of embeddings whose logits are held at a time


class Ranking(NamedTuple):
    """What is known of each sample of a pool."""

    predicted: np.ndarray  # (n,) position of the predicted label in classes_
    confidence: np.ndarray  # (n,) in it, free of saturation where the score is one of logits
    uncertainty: np.ndarray  # (n,) of the same, 0 to 1
    n_classes: int


def rank(classifier: Any, X: Any, score: str, zero_shot: bool = True) -> Ranking:
    """Predict a pool and tell how sure each prediction is.

    A classifier that was never fitted has no negative prompt yet.  Its zero-shot
    probabilities stand in, unless ``zero_shot`` is False: the clean logit estimates the log
    odds of a class against the others, plus log(C - 1).
    """
    of_logits = SCORES[score].of_logits
    if of_logits is not None and not hasattr(classifier, "learner_list"):
        inner, inputs = find(classifier, X, "predict_logits", required=False)
        if hasattr(inner, "classes_") and hasattr(inner, "predict_logits"):  # one pass for both
            whole = not isinstance(inputs, (np.ndarray, Rows)) or inputs.ndim != 2
            size = len(inputs) if whole else POOL_ROWS
            parts = []
            for rows in blocks(len(inputs), size):
                positive, logits = inner.predict_logits(inputs[rows] if size < len(inputs) else inputs)
                predicted = positive.argmax(axis=1)
                parts.append((predicted, *of_logits(logits, predicted)))
            predicted, confidence, uncertainty = map(np.concatenate, zip(*parts))
            return Ranking(predicted, confidence, uncertainty, logits.shape[1])
    try:
        proba = ask(classifier, X, "predict_proba")
    except NotFittedError:
        if not zero_shot:
            raise
        proba, logits = _zero_shot(classifier, X)
        predicted = proba.argmax(axis=1)
        confidence, uncertainty = (of_logits or clean)(logits, predicted)
        return Ranking(predicted, confidence, uncertainty, proba.shape[1])
    try:
        answer = ask(classifier, X, SCORES[score].method)
    except NotFittedError as error:
        raise TypeError(
            f"{type(classifier).__name__} is fitted, but the estimator that it shows is not (it "
            "fits copies); this query strategy needs the estimator itself, a modAL learner, a "
            "Committee, a Pipeline or a refitted search"
        ) from error
    predicted = proba.argmax(axis=1)
    if of_logits is None:
        confidence = answer.astype(np.float64)
        return Ranking(predicted, confidence, 1 - confidence, proba.shape[1])
    return Ranking(predicted, *of_logits(answer, predicted), proba.shape[1])


def _zero_shot(classifier: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    proba = np.asarray(ask(classifier, X, "zero_shot_proba"), dtype=np.float64)
    # Not 1 - p for the likeliest class: that is 0 for the most confident samples.
    rows, best = np.arange(len(proba)), proba.argmax(axis=1)
    rest = proba.copy()
    rest[rows, best] = 0
    others = proba.sum(axis=1, keepdims=True) - proba
    others[rows, best] = rest.sum(axis=1)
    tiny = np.finfo(np.float64).tiny
    log_odds = np.log(np.maximum(proba, tiny)) - np.log(np.maximum(others, tiny))
    return proba, log_odds + np.log(max(proba.shape[1] - 1, 1))


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
        Whatever that estimator takes.
    score : {"clean", "normalized", "margin", "correct"}, default="clean"
        What ranks.  From the clean logits z at the predicted class y^:
        ``sigmoid(log(C - 1) - z)``, which for uniform complements is 1 minus
        `DualPromptClassifier.predict_correct_proba`;
        ``1 - softmax(z)`` over the classes; or ``sigmoid(-margin)``, the margin being z
        minus the largest z of another class.  ``"correct"`` needs no logits: it is 1 minus what
        ``predict_correct_proba`` of the estimator gives, whatever that estimator is.

    Returns
    -------
    uncertainty : ndarray of shape (n,), float64
        In [0, 1], higher is more informative.

    Raises
    ------
    TypeError
        If the classifier lacks a required method.
    ValueError
        If X is empty, or score is not one of the four.

    See Also
    --------
    negative_prompt_sampling : The strategy; it ranks by z itself.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt
       Tuning", arXiv:2602.04340, Eq. 3.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, negative_prompt_uncertainty
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled")
    >>> negative_prompt_uncertainty(clf, digits.images[:5]).shape
    (5,)
    """
    check_option("score", score, tuple(SCORES))
    if not _num_samples(X):
        raise ValueError("X is empty; expected at least one sample")
    return rank(classifier, X, score).uncertainty


def negative_prompt_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
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
        The unlabelled pool.
    n_instances : int, default=1
        Samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal score instead of keeping their order in the pool.
    class_balanced : bool, default=True
        False ranks the whole pool at once.
    score : {"clean", "normalized", "margin", "correct"}, default="clean"
        What ranks; see `negative_prompt_uncertainty`.
    remainder : {"per-class", "global"}, default="per-class"
        Where the samples come from that do not divide evenly among the classes: at most
        one more from each class, or the lowest of the rest of the pool.
    random_state : int, Generator, RandomState or None, default=None
        Of ``random_tie_break``.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, most informative first.
    metrics : ndarray of shape (n_instances,)
        Their uncertainty; returned with modAL 0.4.2 or later, which expects it.

    Raises
    ------
    TypeError
        If n_instances is no integer, or the classifier lacks a required method.
    ValueError
        If the pool is empty, n_instances does not fit it, or an option is unknown.

    See Also
    --------
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
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled")
    >>> learner = ActiveLearner(clf, query_strategy=negative_prompt_sampling)
    >>> rows, images = learner.query(digits.images, n_instances=20)
    >>> len(set(rows)), images.shape
    (20, (20, 8, 8))
    """
    n_instances = check_n_instances(n_instances, _num_samples(X_pool))
    check_option("score", score, tuple(SCORES))
    check_option("remainder", remainder, REMAINDERS)
    rng = generator_of(random_state) if random_tie_break else None
    predicted, confidence, uncertainty, n_classes = rank(classifier, X_pool, score)
    if class_balanced:
        rows = select_per_class(confidence, predicted, n_instances, n_classes, remainder, rng)
    else:
        rows = select_lowest(confidence, n_instances, rng)
    return format_query(rows, uncertainty[rows])
