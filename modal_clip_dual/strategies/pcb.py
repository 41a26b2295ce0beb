"""PCB: balance the classes of what another strategy proposes (Bang et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from .._compat import format_query
from ..utils.selection import generator_of, subsample
from ..utils.validation import check_integer, check_n_instances, check_number
from ._ask import ask_proba, call_strategy, classes_of
from .badge import badge_sampling
from .registry import get_strategy


def pcb_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: bool = False,
    *,
    base: str | Callable[..., Any] = badge_sampling,
    fraction: float = 0.1,
    max_samples: int = 20_000,
    random_state: Any = None,
) -> Any:
    """Query, among what a base strategy proposes, the classes with the fewest labels so far.

    The base strategy proposes a share of the pool.  Then, one after the other, a random proposed
    sample that is predicted as the class with the fewest labels, those of this query counted by
    their predictions; if there is none, any proposed sample ([1]_, Algorithm 1).

    Parameters
    ----------
    classifier : modAL learner or Committee
        Needs ``predict_proba`` (one that was never fitted ``zero_shot_proba``), and what the base
        strategy needs.  The learner's ``y_training`` gives the labels so far, in a Committee
        their mean number over the members.
    X_pool : array-like of n_pool samples
        The unlabelled pool.
    n_instances : int, default=1
        Samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Choose among classes with equally few labels at random instead of taking the first.
    base : callable or str, default=badge_sampling
        A query strategy, modAL's own too, or a name of the registry; see `get_strategy`.
    fraction : float, default=0.1
        Share of the pool that the base strategy proposes, but at least n_instances samples.
    max_samples : int, default=20_000
        Of a larger pool, so many random samples are shown to the base strategy, which would
        otherwise have to propose tens of thousands.
    random_state : int, Generator, RandomState or None, default=None
        Of the draws, and of the base strategy if it takes one.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, in the order of choice.
    metrics : ndarray of shape (n_instances,)
        What the base strategy gave for them, zeros if it gave nothing; returned with modAL 0.4.2
        or later.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        If an argument does not fit, or as the base strategy does.

    Notes
    -----
    As in the paper, a class without a proposed sample stays the one with the fewest labels: from
    there on the query is a random choice of the proposals.  Beyond the base strategy time and
    memory are min(n_pool, max_samples) C.

    References
    ----------
    .. [1] Bang, Ahn and Lee, "Active Prompt Learning in Vision Language Models", CVPR 2024,
       arXiv:2311.11178.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import DualPromptClassifier, pcb_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled")
    >>> learner = ActiveLearner(clf, query_strategy=pcb_sampling)
    >>> rows, images = learner.query(digits.images, n_instances=10, base="entropy")
    >>> len(set(clf.zero_shot_proba(images).argmax(axis=1).tolist()))
    10
    """
    n_pool = _num_samples(X_pool)
    n_instances = check_n_instances(n_instances, n_pool)
    check_number("fraction", fraction, 0.0, 1.0, ends="high")
    base = get_strategy(base, name="base")
    check_integer("max_samples", max_samples, least=1)
    rng = generator_of(random_state)
    sample = subsample(n_pool, max(max_samples, n_instances), rng)
    if len(sample) < n_pool:
        from modAL.utils.data import retrieve_rows

        X_pool, n_pool = retrieve_rows(X_pool, sample), len(sample)
    proba = ask_proba(classifier, X_pool)
    predicted, counts = proba.argmax(axis=1), _labels_per_class(classifier, proba.shape[1])
    n_proposed = min(n_pool, max(n_instances, round(fraction * n_pool)))
    proposed, scores = call_strategy(base, classifier, X_pool, n_proposed, rng)
    proposed = proposed.astype(np.int64)
    scores = np.zeros(len(proposed)) if scores is None else np.asarray(scores)
    ties = rng if random_tie_break else None
    chosen = balance(predicted[proposed], counts, n_instances, rng, ties)
    return format_query(sample[proposed[chosen]], scores[chosen])


def _labels_per_class(classifier: Any, n_classes: int) -> np.ndarray:
    members = getattr(classifier, "learner_list", None) or [classifier]
    labels = [getattr(member, "y_training", None) for member in members]
    labels = [y for y in labels if y is not None]
    if not labels:
        return np.zeros(n_classes)
    classes = classes_of(classifier)
    means: np.ndarray = np.mean([[np.sum(y == label) for label in classes] for y in labels], axis=0)
    return means


def balance(
    predicted: np.ndarray,
    counts: np.ndarray,
    n: int,
    rng: np.random.Generator,
    ties: np.random.Generator | None = None,
) -> np.ndarray:
    """n positions in ``predicted``, each of the class with the fewest labels if it has one left.

    ``counts`` holds the labels per class so far, and goes up with each choice by what that is
    predicted as.
    """
    counts = np.asarray(counts, dtype=float).copy()
    left = np.ones(len(predicted), dtype=bool)
    chosen = np.empty(n, dtype=np.int64)
    for k in range(n):
        fewest = np.flatnonzero(counts == counts.min())
        wanted = fewest[0] if ties is None else ties.choice(fewest)
        candidates = np.flatnonzero(left & (predicted == wanted))
        if not len(candidates):
            candidates = np.flatnonzero(left)
        chosen[k] = candidates[rng.integers(len(candidates))]
        left[chosen[k]] = False
        counts[predicted[chosen[k]]] += 1
    return chosen
