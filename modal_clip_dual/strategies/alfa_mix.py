"""ALFA-Mix: active learning by feature mixing (Parvaneh et al., CVPR 2022)."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval

from ..utils.arrays import as_array, as_tensor
from ..utils.selection import fill_up
from ._clustering import nearest_to_centers
from ._strategy import query_strategy
from .view import LinearHead, View

if TYPE_CHECKING:
    import torch

NEEDS = "coef_"  # attribute of the classifier after a fit


@query_strategy(eps=[Interval(Real, 0, 1, closed="right")])
def alfa_mix_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    eps: float = 0.2,
    random_state: Any = None,
    device: str | None = None,
) -> Any:
    """Query among samples whose prediction changes when labeled features are mixed in.

    An anchor is the mean embedding of a class's labeled samples.  A sample is a candidate if
    mixing an anchor into its embedding, a share of each feature that has a bounded norm and
    most increases the loss of the predicted label, changes the prediction ([1]_, Eq. 5).  The
    bound grows in steps of ``eps`` to 1 until there are more candidates than are wanted; k-means
    over the candidates makes n_instances clusters, and the sample nearest to each center is
    queried.  If there are too few candidates, and before the first labels, random samples fill up the
    query.

    Parameters
    ----------
    classifier : modAL learner
        Its estimator must be linear in its embeddings, with the attribute ``coef_``, as
        `DualPromptClassifier` and `sklearn.linear_model.LogisticRegression` are; it may be the last
        step of a Pipeline.  The learner's ``X_training`` and ``y_training`` make the anchors.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Not used: the strategy ranks nothing that could tie.
    eps : float, default=0.2
        First value and step of the bound on the norm of the shares, relative to the norm of a share of 1
        for every feature.
    random_state : int, Generator, RandomState or None, default=None
        Controls k-means and the random samples that fill up the query.
    device : str or None, default=None
        Torch device of the computation, k-means aside; None is the device of the embeddings.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, the smallest change first, random ones last.
    metrics : ndarray of shape (n_instances,)
        Minus the smallest bound that changes the prediction; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier is not linear in its embeddings.
    ValueError
        If the classifier is not a modAL learner, the pool is empty, or an argument is out of its range.
    NotFittedError
        If the classifier was never fitted.

    Notes
    -----
    With the closed form of [1]_ the mixed embedding is the sample's own plus ``bound / sqrt(D)
    |anchor - v|`` along the gradient of the loss, so that the anchor decides the length of the
    step alone.  The prediction of a linear classifier changes at one point of that ray, which is
    computed at once for the farthest anchor, in place of C predictions for every bound; tests
    compare with the mixing itself.  A class without labels has the mean of all labeled samples
    as its anchor, as in the authors' code.  Time n_pool C D, memory n_pool C.

    References
    ----------
    .. [1] Parvaneh et al., "Active Learning by Feature Mixing", CVPR 2022, arXiv:2203.07034.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import alfa_mix_sampling
    >>> X, y = load_digits(return_X_y=True)
    >>> learner = ActiveLearner(
    ...     LogisticRegression(max_iter=1000), alfa_mix_sampling,
    ...     X_training=X[:50] / 16, y_training=y[:50],
    ... )
    >>> rows, _ = learner.query(X[50:] / 16, n_instances=10)
    >>> len(set(rows.tolist()))
    10
    """
    known, y = classifier.labeled(required=True)
    if known is None:
        return fill_up([], n_instances, classifier.n_samples, random_state), np.zeros(n_instances)
    head: LinearHead = classifier.linear_head
    if known.shape[1] != head.embeddings.shape[1]:  # these are not the embeddings that the linear head takes
        learner = classifier.classifier
        known = as_array(View(learner, learner.X_training, "X_training").linear_head.embeddings)
    anchors = _anchors(known, y, classifier.classes)
    smallest = _smallest_change(*head, anchors, device)
    candidates = np.flatnonzero(smallest < 1.0)
    for bound in np.arange(1, np.ceil(1 / eps) + 1) * eps:
        within = np.flatnonzero(smallest < min(bound, 1.0))
        if len(within) > n_instances:
            candidates = within
            break
    rows = _unit(as_array(head.embeddings)[candidates])
    if len(rows):
        candidates = candidates[np.sort(nearest_to_centers(rows, n_instances, random_state))]
    candidates = candidates[np.argsort(smallest[candidates], kind="stable")]
    rows = fill_up(candidates, n_instances, len(smallest), random_state)
    return rows, -smallest[rows]


def _anchors(embeddings: np.ndarray, y: Any, classes: np.ndarray) -> np.ndarray:
    """Mean labeled embedding of each class, or of all classes for a class without labels."""
    means = [embeddings[y == label] for label in classes]
    return np.stack([part.mean(axis=0) if len(part) else embeddings.mean(axis=0) for part in means])


def _unit(embeddings: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: np.ndarray = embeddings / np.maximum(length, np.finfo(np.float32).tiny)
    return unit


def _smallest_change(
    embeddings: np.ndarray | torch.Tensor,
    weights: np.ndarray | torch.Tensor,
    biases: np.ndarray | torch.Tensor,
    anchors: np.ndarray | torch.Tensor,
    device: str | None,
) -> np.ndarray:
    """Smallest bound (n,) at which mixing in an anchor changes the prediction; infinite if no bound does."""
    import torch

    from ._points import Points

    points = Points(embeddings, device)
    weights, biases, anchors = (as_tensor(part).to(points.x) for part in (weights, biases, anchors))
    n_features = points.x.shape[1]
    smallest = []
    for rows, squared in points.blocks(anchors):
        logits = points.x[rows] @ weights.T + biases
        best = logits.argmax(dim=1, keepdim=True)
        gap = logits.gather(1, best) - logits  # to the other classes
        # The gradient of the loss of the prediction, up to a positive factor that would be 0
        # where the prediction is sure: mean weight of the other classes, less its own.
        others = (-gap).scatter(1, best, -torch.inf).softmax(dim=1)
        direction = others @ weights - weights[best[:, 0]]
        direction /= direction.norm(dim=1, keepdim=True).clamp(min=torch.finfo().tiny)
        closing = direction @ weights.T
        closing = closing - closing.gather(1, best)  # of the gap per unit of length
        length = torch.where(closing > 0, gap / closing, torch.inf).scatter(1, best, torch.inf)
        step = squared.max(dim=1).values.sqrt() / n_features**0.5  # at the bound 1
        smallest.append(length.min(dim=1).values / step)
    bounds = points.alike(torch.cat(smallest)).nan_to_num(nan=torch.inf, posinf=torch.inf)
    return bounds.cpu().numpy()
