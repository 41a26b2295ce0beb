"""PCB: balance the classes of the samples that another strategy proposes (Bang et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval

from ..utils.selection import subsample
from ._strategy import query_strategy
from .badge import badge_sampling
from .registry import get_strategy
from .view import View, call_strategy

NEEDS = "predict_proba"  # method of the classifier


@query_strategy(
    fraction=[Interval(Real, 0, 1, closed="right")],
    max_samples=[Interval(Integral, 1, None, closed="left"), None],
)
def pcb_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    base: str | Callable[..., Any] = badge_sampling,
    fraction: float = 0.1,
    max_samples: int | None = 20_000,
    random_state: Any = None,
) -> Any:
    """Query from the classes with the fewest labels, among the samples that a base strategy proposes.

    The base strategy proposes a share of the pool.  From these, one after the other, a random sample is
    chosen that is predicted as the class with the fewest labels, where samples of this query count by their
    predictions; if the class has no proposed sample left, any of them is taken ([1]_, Algorithm 1).

    Parameters
    ----------
    classifier : modAL learner or Committee
        Needs ``predict_proba`` (or ``zero_shot_proba`` if it was never fitted), and the methods that the
        base strategy needs.  The learner's ``y_training`` gives the labels so far, for a Committee
        their mean number over the members.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Choose among classes with equally few labels at random instead of taking the first.
    base : callable or str, default=badge_sampling
        A query strategy, of modAL as well, or a registered name; see `get_strategy`.
    fraction : float, default=0.1
        Share of the pool that the base strategy proposes, but at least n_instances samples.
    max_samples : int or None, default=20_000
        At most this many random samples of the pool are shown to the base strategy, which would
        otherwise have to propose tens of thousands.  None shows it the whole pool, for a base that only
        ranks, such as ``"entropy"``; the name ``"pcb-entropy"`` does.
    random_state : int, Generator, RandomState or None, default=None
        Controls the draws, and the base strategy if it takes one.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, in the order of choice.
    metrics : ndarray of shape (n_instances,)
        Their metrics by the base strategy, zeros if it returns none; returned with modAL 0.4.2
        or later.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        If an argument does not fit, or the base strategy raises it.

    Notes
    -----
    As in the paper, a class without a proposed sample stays the one with the fewest labels: from then on
    the query is a random choice among the proposals.  In addition to the base strategy, time and memory are
    min(n_pool, max_samples) C.

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
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> learner = ActiveLearner(clf, query_strategy=pcb_sampling)
    >>> rows, images = learner.query(digits.images, n_instances=10, base="entropy")
    >>> len(set(clf.zero_shot_proba(images).argmax(axis=1).tolist()))
    10
    """
    base, view = get_strategy(base, name="base"), classifier
    n_shown = view.n_samples if max_samples is None else max(max_samples, n_instances)
    sample = subsample(view.n_samples, n_shown, random_state)
    if len(sample) < view.n_samples:
        view = view.take(sample)
    predicted, counts = view.predicted, _labels_per_class(view)
    n_proposed = min(len(sample), max(n_instances, round(fraction * len(sample))))
    proposed, scores = call_strategy(base, view, view.X, n_proposed, random_state)
    proposed = proposed.astype(np.int64)
    scores = np.zeros(len(proposed)) if scores is None else np.asarray(scores)
    chosen = balance(predicted[proposed], counts, n_instances, random_state, random_tie_break)
    return sample[proposed[chosen]], scores[chosen]


def _labels_per_class(view: View) -> np.ndarray:
    if not view.labels:
        return np.zeros(view.proba.shape[1])
    counts = [[np.sum(y == label) for label in view.classes] for y in view.labels]
    means: np.ndarray = np.mean(counts, axis=0)
    return means


def balance(
    predicted: np.ndarray,
    counts: np.ndarray,
    n: int,
    rng: np.random.Generator,
    ties: np.random.Generator | None = None,
) -> np.ndarray:
    """Return n positions in ``predicted``, each of the class with the fewest labels if it has one left.

    ``counts`` holds the labels per class so far, and grows with each choice at its
    predicted class.
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
