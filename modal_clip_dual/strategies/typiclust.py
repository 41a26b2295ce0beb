"""TypiClust: typical samples of clusters without labels (Hacohen et al., ICML 2022)."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.utils._param_validation import Interval

from ..utils.arrays import Stacked, as_array
from ..utils.selection import subsample as random_rows
from ._clustering import SUBSAMPLE, k_means, rows_to_fit
from ._equal import alike, first_equal
from ._strategy import query_strategy


@query_strategy(
    n_neighbors=[Interval(Integral, 1, None, closed="left")],
    max_clusters=[Interval(Integral, 1, None, closed="left")],
    min_cluster_size=[Interval(Integral, 0, None, closed="left")],
    max_samples=[Interval(Integral, 2, None, closed="left")],
    subsample=[Interval(Integral, 1, None, closed="left"), None],
)
def typiclust_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    n_neighbors: int = 20,
    max_clusters: int = 500,
    min_cluster_size: int = 5,
    max_samples: int = 20_000,
    subsample: int | None = SUBSAMPLE,
    random_state: Any = None,
) -> Any:
    """Query the most typical samples of large clusters that have no label yet.

    k-means makes one cluster per label that there will be, of labeled and unlabeled samples together.
    Those with the fewest labels come first, larger ones before smaller ones; each gives its
    sample of highest typicality, the inverse of the mean distance to its nearest neighbors in
    the cluster ([1]_, Algorithm 1).  It does not use predictions.

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
        Choose among equally typical samples at random.
    n_neighbors : int, default=20
        Number of neighbors that define typicality, at most half of the cluster.
    max_clusters : int, default=500
        Largest number of clusters; if more labels are wanted, clusters give a second sample, and so on.
    min_cluster_size : int, default=5
        Clusters of at most this size give samples only when the others are used up.
    max_samples : int, default=20_000
        At most this many random samples of a cluster are searched for neighbors.
    subsample : int or None, default=50_000
        k-means is fitted to at most this many random samples, labeled ones included; all samples are then
        assigned to its clusters.  None takes all.
    random_state : int, Generator, RandomState or None, default=None
        Controls k-means, tie breaking and subsampling.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, in the order of choice.
    metrics : ndarray of shape (n_instances,)
        Their typicality; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If an argument is not an integer, or there are no embeddings.
    ValueError
        If the pool is empty, or an argument is out of its range.

    Notes
    -----
    Distances are as in the paper; the authors' code takes squared ones.  The time is min(n_pool, subsample)
    (n_labeled + n_instances) D for a pass of k-means, in mini-batches for large pools, n_pool (n_labeled +
    n_instances) D to assign all samples, and (size of the cluster)^2 D for the neighbors of each queried
    sample; the memory is n_pool D.

    References
    ----------
    .. [1] Hacohen, Dekel and Weinshall, "Active Learning on a Budget: Opposite Strategies Suit
       High and Low Budgets", ICML 2022, arXiv:2202.02794.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import typiclust_sampling
    >>> X, y = load_digits(return_X_y=True)
    >>> learner = ActiveLearner(LogisticRegression(), query_strategy=typiclust_sampling)
    >>> rows, _ = learner.query(X[:500] / 16, n_instances=10)
    >>> len(set(y[rows].tolist())) > 5
    True
    """
    pool = as_array(classifier.embeddings).astype(np.float32, copy=False)
    known, _ = classifier.labeled()
    n_labeled = 0 if known is None else len(known)
    everything = pool if known is None else Stacked(pool, known.astype(np.float32))
    n_clusters = min(n_labeled + n_instances, max_clusters, len(everything))
    fitted_to = rows_to_fit(len(everything), subsample, n_clusters, random_state)
    clusters, _ = k_means(everything, n_clusters, random_state, fitted_to=fitted_to)
    clusters = np.concatenate([classifier.alike(clusters[: len(pool)]), clusters[len(pool) :]])
    sizes = np.bincount(clusters, minlength=n_clusters)
    n_known = np.bincount(clusters[len(pool) :], minlength=n_clusters)
    order = np.lexsort([-sizes, n_known])
    large = sizes[order] > min_cluster_size

    clusters = clusters[: len(pool)].copy()
    rows: list[int] = []
    typicalities: list[float] = []
    for group in (order[large], order[~large]):
        while len(rows) < n_instances and np.isin(clusters, group).any():
            for cluster in group:
                members = np.flatnonzero(clusters == cluster)
                if not len(members) or len(rows) == n_instances:
                    continue
                typicality = _typicality(pool[members], n_neighbors, max_samples, random_state)
                best = typicality.argmax()
                if random_tie_break:
                    best = random_state.choice(np.flatnonzero(typicality == typicality[best]))
                rows.append(members[best])
                typicalities.append(typicality[best])
                clusters[members[best]] = -1
    return np.array(rows, dtype=np.int64), np.array(typicalities)


def _typicality(members: np.ndarray, n_neighbors: int, max_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Inverse of the mean distance (n,) of a cluster's samples to their nearest neighbors."""
    k = max(1, min(n_neighbors, len(members) // 2))
    reference = random_rows(len(members), max_samples, rng)
    search = NearestNeighbors(algorithm="brute").fit(members[reference])
    # One more than k, because the nearest is the sample itself, at distance 0.
    distances, _ = search.kneighbors(members, n_neighbors=min(k + 1, len(reference)))
    itself = np.isin(np.arange(len(members)), reference)
    distances = np.where(itself[:, None], np.roll(distances, -1, axis=1), distances)[:, :k]
    typicality: np.ndarray = alike(1 / (distances.mean(axis=1) + 1e-5), first_equal(members))
    return typicality
