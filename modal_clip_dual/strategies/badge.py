"""BADGE: diverse, uncertain gradient embeddings (Ash et al., ICLR 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._equal import alike, also_equal, equal_to
from ._strategy import query_strategy, query_utility
from .view import View

if TYPE_CHECKING:
    import torch

    from ._points import Points

NEEDS = "predict_proba"  # method of the classifier


@query_utility()
def badge_gradient_norm(classifier: Any, X: Any, *, device: str | None = None) -> np.ndarray:
    """Norm of each sample's gradient embedding, as if the predicted label were the true one.

    A utility for modAL's `make_linear_combination` and `make_query_strategy`: large where the
    prediction is unsure.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        As for `badge_sampling`.
    X : array-like of n samples
        Embeddings, images or paths.
    device : str or None, default=None
        Torch device of the computation; see `badge_sampling`.

    Returns
    -------
    norm : ndarray of shape (n,), float32
        Euclidean norm, 0 or more.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        As for `badge_sampling`.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.strategies import badge_gradient_norm
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> badge_gradient_norm(clf, digits.images[:5]).shape
    (5,)
    """
    norms: np.ndarray = _gradients(classifier, device).squared_norms.sqrt().cpu().numpy()
    return norms


@query_strategy()
def badge_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    random_state: Any = None,
    device: str | None = None,
) -> Any:
    """Query samples whose last-layer gradients are large and differ from each other.

    The gradient embedding of a sample is the outer product of (one-hot prediction minus class
    probabilities) and its image embedding.  The first sample is the one with the largest norm; each next
    one is drawn with a probability proportional to the squared distance to the nearest
    chosen one: the seeding of k-means++ ([1]_, Algorithm 1).

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Needs ``predict_proba``; one that was never fitted needs ``zero_shot_proba``.  Its ``transform``
        embeds the samples; without one, X_pool itself is taken as it reaches the estimator.
        The probabilities of a Committee's members are averaged.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Choose the first sample at random among equally large gradients.
    random_state : int, Generator, RandomState or None, default=None
        Controls the draws.
    device : str or None, default=None
        Torch device of the computation; None is the device of the embeddings, for arrays the CPU.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, in the order of choice.
    metrics : ndarray of shape (n_instances,)
        Norms of their gradients; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier lacks a required method.
    ValueError
        If the pool is empty, n_instances does not fit it, an embedding is not finite, or the
        device does not exist.
    NotFittedError
        If the classifier was never fitted and has no zero-shot probabilities.

    Notes
    -----
    Squared distances factor over the outer product, ``|a|^2 |v|^2 + |b|^2 |w|^2 - 2 <a, b>
    <v, w>``, so that no (n_pool, C D) matrix is needed: time n_pool n_instances (C + D), memory
    n_pool C beyond the embeddings.

    References
    ----------
    .. [1] Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
       ICLR 2020, arXiv:1906.03671.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import DualPromptClassifier, badge_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> learner = ActiveLearner(clf, query_strategy=badge_sampling)
    >>> rows, images = learner.query(digits.images, n_instances=20)
    >>> len(set(rows.tolist()))
    20
    """
    gradients = _gradients(classifier, device)
    rows = _k_means_plus_plus(gradients, n_instances, random_state, random_tie_break)
    return rows, gradients.squared_norms[rows].sqrt().cpu().numpy()


class _Gradients:
    """Gradient embeddings g_i = a_i (x) v_i, stored as their factors."""

    def __init__(self, proba: np.ndarray, points: Points):
        from ..utils.arrays import as_tensor

        self.points = points
        self.a = -as_tensor(proba, points.x.device)
        best = self.a.argmin(dim=1, keepdim=True)
        # 1 - P of the prediction as the sum of the others: exact where P is nearly 1.
        self.a.scatter_(1, best, 0.0)
        self.a.scatter_(1, best, -self.a.sum(dim=1, keepdim=True))
        self.first = also_equal(points.first, self.a)
        self.squared_norms = alike(self.a.square().sum(dim=1) * points.norms, self.first)

    def to(self, row: int) -> torch.Tensor:
        """Squared distances (n,) of all gradient embeddings to one of them."""
        inner = (self.a @ self.a[row]).mul_(self.points.x @ self.points.x[row])
        both = self.squared_norms + self.squared_norms[row]
        squared: torch.Tensor = alike(both.sub_(inner, alpha=2).clamp_(min=0), self.first)
        squared[equal_to(row, self.first)] = 0.0
        return squared


def _gradients(view: View, device: str | None) -> _Gradients:
    from ._points import Points

    points = Points(view.embeddings, device, view.name)
    return _Gradients(view.proba, points)


def _k_means_plus_plus(
    gradients: _Gradients, n: int, rng: np.random.Generator, ties: np.random.Generator | None = None
) -> np.ndarray:
    """n distinct rows by the seeding of k-means++, the largest gradient first."""
    from ._points import highest

    rows = [highest(gradients.squared_norms, ties)]
    squared = gradients.to(rows[0])
    for _ in range(1, n):
        squared[rows] = 0.0
        row = _draw(squared, rng)
        if row is None:  # all other samples equal chosen ones
            left = np.setdiff1d(np.arange(len(squared)), rows)
            row = int(left[rng.integers(len(left))])
        rows.append(row)
        squared = squared.minimum(gradients.to(row))
    return np.array(rows, dtype=np.int64)


def _draw(weights: torch.Tensor, rng: np.random.Generator) -> int | None:
    """A row with probability proportional to its weight; None if all weights are zero."""
    cumulative = weights.double().cumsum(dim=0)
    total = cumulative[-1]
    if not total > 0:
        return None
    # The first row whose sum exceeds the draw has a weight of its own.
    return int((cumulative <= total * rng.random()).sum())
