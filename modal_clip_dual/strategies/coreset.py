"""Core-set selection by greedy k-center (Sener and Savarese, ICLR 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._equal import equal_to
from ._strategy import query_strategy, query_utility
from .view import View

if TYPE_CHECKING:
    import torch

    from ._points import Points

AHEAD = 32  # centers whose distances are computed in one pass over the pool


@query_utility()
def coreset_distance(classifier: Any, X: Any, *, device: str | None = None) -> np.ndarray:
    """Distance from each sample to the nearest labeled one.

    A utility for modAL's `make_linear_combination` and `make_query_strategy`.

    Parameters
    ----------
    classifier : modAL learner or Committee
        Gives embeddings as in `coreset_sampling`.
    X : array-like of n samples
        Embeddings, images or paths.
    device : str or None, default=None
        Torch device of the computation; see `coreset_sampling`.

    Returns
    -------
    distance : ndarray of shape (n,), float32
        Euclidean distance between embeddings; infinite if nothing is labeled.

    Raises
    ------
    TypeError, ValueError
        As for `coreset_sampling`.

    Examples
    --------
    >>> import numpy as np
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual.strategies import coreset_distance
    >>> learner = ActiveLearner(LogisticRegression(), X_training=np.eye(2), y_training=[0, 1])
    >>> coreset_distance(learner, np.array([[3.0, 0.0], [0.0, 1.0]])).tolist()
    [2.0, 0.0]
    """
    from ._points import Points

    points = Points(classifier.embeddings, device, classifier.name)
    return _nearest_labeled(classifier, points).sqrt().cpu().numpy()


@query_strategy()
def coreset_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    random_state: Any = None,
    device: str | None = None,
) -> Any:
    """Query, one after the other, the sample farthest from all labeled and chosen ones.

    This is greedy k-center over embeddings, a 2-approximation of the smallest radius with which the labeled
    samples cover the pool ([1]_, Algorithm 1).  It does not use predictions.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Its ``transform`` embeds the samples; without one, X_pool itself is taken as it reaches the
        estimator.  The learner's ``X_training`` is the labeled set.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Choose among equally far samples at random instead of taking the first.
    random_state : int, Generator, RandomState or None, default=None
        Controls tie breaking, and the first sample if nothing is labeled.
    device : str or None, default=None
        Torch device of the computation; None is the device of the embeddings, for arrays the CPU.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, in the order of choice: farthest first.
    metrics : ndarray of shape (n_instances,)
        Their distance to the nearest labeled or chosen sample at that moment; returned with
        modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or there are no embeddings.
    ValueError
        If the pool is empty, n_instances does not fit it, an embedding is not finite, or the
        device does not exist.

    Notes
    -----
    Time n_pool (n_labeled + n_instances) D, memory 32 n_pool beyond the embeddings.

    References
    ----------
    .. [1] Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
       Approach", ICLR 2018, arXiv:1708.00489.

    Examples
    --------
    >>> import numpy as np
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import coreset_sampling
    >>> learner = ActiveLearner(
    ...     LogisticRegression(), coreset_sampling, X_training=np.eye(2), y_training=[0, 1]
    ... )
    >>> rows, _ = learner.query(np.array([[1.0, 0.1], [5.0, 5.0], [0.0, 3.0]]), n_instances=2)
    >>> rows.tolist()
    [1, 2]
    """
    from ._points import Points

    points = Points(classifier.embeddings, device)
    nearest = _nearest_labeled(classifier, points)
    return greedy_k_center(points, nearest, n_instances, random_state, random_tie_break)


def greedy_k_center(
    points: Points,
    nearest: torch.Tensor,
    n: int,
    rng: np.random.Generator,
    ties: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the n rows that are chosen one by one as farthest, and their distances at that moment.

    Among equally far ones the first is chosen, or with ``ties`` a random one.  ``nearest`` holds each point's
    squared distance to its nearest center, infinite before the first one; it is changed in place.
    """
    from ._points import highest

    rows, distances = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.float64)
    to_likely: dict[int, torch.Tensor] = {}  # squared distances (n,) to rows that are likely to be chosen soon
    for k in range(n):
        without_center = k == 0 and bool(nearest.isinf().all())
        row = int(rng.integers(len(points))) if without_center else highest(nearest, ties)
        rows[k], distances[k] = row, float(nearest[row]) ** 0.5
        if row not in to_likely:
            # One pass over the points serves many centers, because the next ones are mostly among
            # those that are far now.
            likely = nearest.topk(1 if without_center else min(AHEAD, n - k)).indices.tolist()
            likely = [row, *(other for other in likely if other != row)]
            to_likely = dict(zip(likely, points.to_each(points.x[likely])))
        nearest = nearest.minimum(to_likely[row])
        nearest[equal_to(row, points.first)] = 0.0
        nearest[rows[: k + 1]] = -1.0  # chosen
    return rows, distances


def _nearest_labeled(view: View, points: Points) -> torch.Tensor:
    """Squared distance (n,) of each point to the nearest labeled sample."""
    import torch

    from ._points import Points

    embeddings, _ = view.labeled()
    if embeddings is None:
        return torch.full_like(points.norms, torch.inf)
    return points.nearest(Points(embeddings, points.x.device, "X_training").x)
