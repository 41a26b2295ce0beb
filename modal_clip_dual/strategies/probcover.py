"""ProbCover: cover the pool with balls of one radius (Yehuda et al., NeurIPS 2022)."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import Interval

from ..utils.arrays import as_array
from ..utils.selection import subsample
from ._clustering import k_means
from ._equal import equal_to
from ._strategy import query_strategy
from .view import View

if TYPE_CHECKING:
    import torch

    from ._points import Points


@query_strategy(
    delta=[Interval(Real, 0, None, closed="left"), None],
    purity=[Interval(Real, 0, 1, closed="neither")],
    n_clusters=[Interval(Integral, 1, None, closed="left"), None],
    max_samples=[Interval(Integral, 1, None, closed="left")],
)
def probcover_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    delta: float | None = None,
    purity: float = 0.95,
    n_clusters: int | None = None,
    max_samples: int = 20_000,
    random_state: Any = None,
    device: str | None = None,
) -> Any:
    """Query the samples whose balls of radius ``delta`` cover most samples that are not covered yet.

    Labeled samples cover their balls.  Then the sample with the most uncovered ones within ``delta`` is
    chosen, one after the other ([1]_, Algorithm 1).  It does not use predictions.

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
        Choose among samples that cover equally many at random instead of taking the first.
    delta : float or None, default=None
        Euclidean radius of the balls.  None takes the largest one at which a share of ``purity`` of
        the balls hold samples of one k-means cluster alone ([1]_, Sec. 3.3).
    purity : float, default=0.95
        Share of pure balls in the estimate of ``delta``.
    n_clusters : int or None, default=None
        Number of clusters in the estimate of ``delta``; None is the number of classes that the classifier knows.
    max_samples : int, default=20_000
        At most this many random samples represent the pool: they are chosen from, and covered.
    random_state : int, Generator, RandomState or None, default=None
        Controls tie breaking, k-means and subsampling.
    device : str or None, default=None
        Torch device of the distances; None is the device of the embeddings, for arrays the CPU.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, in the order of choice: the largest gain first.
    metrics : ndarray of shape (n_instances,)
        Number of samples that each one newly covers; returned with modAL 0.4.2 or
        later.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or there are no embeddings.
    ValueError
        If the pool is empty, an argument is out of its range, or ``n_clusters`` is None and the
        classifier does not know its classes.

    Notes
    -----
    The graph of all pairs is never stored.  Each sample is covered once and then subtracted from the counts
    of its neighbors, so the time is m^2 D for m = min(n_pool, max_samples), twice that if
    ``delta`` is estimated, and memory m.  Once everything is covered the counts are all 0, and
    ties decide.

    References
    ----------
    .. [1] Yehuda, Dekel, Hacohen and Weinshall, "Active Learning Through a Covering Lens",
       NeurIPS 2022, arXiv:2205.11320.

    Examples
    --------
    >>> import numpy as np
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import probcover_sampling
    >>> learner = ActiveLearner(LogisticRegression(), query_strategy=probcover_sampling)
    >>> X = np.array([[0.0, 0.0], [0.0, 3.0], [0.1, 3.0], [0.2, 3.0]])
    >>> rows, _ = learner.query(X, n_instances=2, delta=0.15)
    >>> rows.tolist()
    [2, 0]
    """
    from ._points import Points

    if delta is None and n_clusters is None:
        n_clusters = _n_classes(classifier)
    embeddings = classifier.embeddings
    sample = subsample(len(embeddings), max(max_samples, n_instances), random_state)
    if len(sample) < len(embeddings):
        embeddings = embeddings[sample]
    known: np.ndarray | torch.Tensor | None
    known, _ = classifier.labeled()
    points = Points(embeddings, device)
    if delta is None:
        wanted: Any = n_clusters  # it is a number wherever delta is None
        clusters, _ = k_means(as_array(embeddings), min(wanted, len(sample)), random_state)
        delta = _purest_radius(points, clusters, purity)
    known = None if known is None else Points(known, str(points.x.device), "X_training").x
    rows, gains = _greedy_cover(points, known, delta, n_instances, random_tie_break)
    return sample[rows], gains


def _n_classes(view: View) -> int:
    for known in (lambda: view.classes, lambda: view.take(np.arange(1)).proba[0]):
        try:
            return len(known())
        except (TypeError, AttributeError, NotFittedError):
            continue
    raise ValueError(
        f"n_clusters=None, but {type(view.classifier).__name__} does not know its classes yet; expected "
        "n_clusters, the number of classes, or delta"
    )


def _purest_radius(points: Points, clusters: np.ndarray, purity: float) -> float:
    """The largest radius at which at least a share of ``purity`` of the balls are pure.

    A ball is pure below the distance to the nearest sample of another cluster, so the radius is
    a quantile of these distances.
    """
    import torch

    cluster = torch.as_tensor(clusters, device=points.x.device)
    parts = []
    for rows, squared in points.blocks(points.x):
        squared[cluster[rows, None] == cluster] = torch.inf
        parts.append(squared.min(dim=1).values)
    nearest = np.sort(torch.cat(parts).cpu().numpy())
    # Balls whose nearest other sample is farther than the radius are pure; this many may be impure.
    impure = int(np.floor((1 - purity) * len(nearest) + 1e-9))
    limit = nearest[min(impure, len(nearest) - 1)]
    if np.isinf(limit):  # one cluster: every ball is pure
        return 2 * math.sqrt(float(points.norms.max()))
    # The radius stays below the limit, however both are rounded.
    return math.sqrt(max(float(np.nextafter(limit, np.float32(0))) - 2 * points.resolution, 0.0))


def _greedy_cover(
    points: Points, known: torch.Tensor | None, delta: float, n: int, ties: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the n rows that cover most, one by one, and the gain of each.  Edges are never stored."""
    import torch

    from ._points import highest

    radius = float(delta) ** 2 + points.resolution  # so that rounding of the last bit excludes none
    uncovered = torch.ones(len(points), dtype=torch.bool, device=points.x.device)
    if known is not None:
        uncovered &= points.nearest(known) > radius
    gains = _within(points, points.x[uncovered], radius)
    rows, gained = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for k in range(n):
        row = highest(gains, ties)
        rows[k], gained[k] = row, int(gains[row])
        newly = uncovered & (points.to(points.x[row]) <= radius)
        itself = equal_to(row, points.first)
        newly[itself] = uncovered[itself]  # a sample covers itself, whatever the rounding
        uncovered &= ~newly
        gains -= _within(points, points.x[newly], radius)
        gains[row] = -1 - len(points)  # chosen
    return rows, gained


def _within(points: Points, others: torch.Tensor, radius: float) -> torch.Tensor:
    """Number (n,) of the others (m, D) that lie within the radius of each point."""
    import torch

    counts = torch.zeros(len(points), dtype=torch.int64, device=points.x.device)
    for start in range(0, len(others), 4096):
        for rows, squared in points.blocks(others[start : start + 4096]):
            counts[rows] += (squared <= radius).sum(dim=1)
    return points.alike(counts)
