"""k-means by scikit-learn, and one representative per cluster."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from ..utils.arrays import CACHED, Rows, Stacked, blocks
from ..utils.selection import fill_up, subsample as random_rows

# From this many samples on k-means takes mini-batches, as scikit-learn's guide advises.
MINI_BATCH_FROM = 50_000
# First centers are drawn among this many samples, but among INIT_PER_CLUSTER for each: of 24,576, scikit-learn's
# number for batches of this size, drawing 500 centers takes longer than all that comes after.
INIT_SAMPLES = 4096
INIT_PER_CLUSTER = 8
# Of a larger pool strategies fit k-means to so many random samples, unless they are told otherwise.
SUBSAMPLE = 50_000
ASSIGNED = 4096  # samples whose clusters are looked up at a time


def rows_to_fit(n: int, subsample: int | None, n_clusters: int, rng: np.random.Generator) -> np.ndarray | None:
    """Return ``subsample`` random rows of n for k-means, ascending; None, which is all, if there are no more."""
    if subsample is None or n <= subsample:
        return None
    return random_rows(n, max(subsample, n_clusters), rng)


def k_means(
    embeddings: np.ndarray | Rows | Stacked,
    n_clusters: int,
    rng: np.random.Generator,
    sample_weight: np.ndarray | None = None,
    fitted_to: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster (n,) of each sample, and the centers (n_clusters, D).

    The centers are fitted to all samples, or to the rows ``fitted_to``; there is a weight for each of these.
    """
    training = np.asarray(embeddings) if fitted_to is None else embeddings[fitted_to]
    algorithm = KMeans if len(training) < MINI_BATCH_FROM else MiniBatchKMeans
    params = {}
    if algorithm is MiniBatchKMeans:
        n_first = min(len(training), max(INIT_SAMPLES, INIT_PER_CLUSTER * n_clusters))
        params = {"batch_size": 8192, "init_size": n_first}
    model = algorithm(n_clusters, n_init="auto", random_state=int(rng.integers(2**31)), **params)
    with warnings.catch_warnings():  # with fewer distinct samples than clusters, some stay empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(training, sample_weight=sample_weight)
    if fitted_to is None:
        return model.labels_, model.cluster_centers_
    parts = [model.predict(embeddings[rows]) for rows in blocks(len(embeddings), ASSIGNED)]
    return np.concatenate(parts), model.cluster_centers_


def nearest_to_centers(
    embeddings: np.ndarray | Rows,
    n: int,
    rng: np.random.Generator,
    sample_weight: np.ndarray | None = None,
    fitted_to: np.ndarray | None = None,
) -> np.ndarray:
    """n rows: the sample nearest to each of n centers of `k_means`, and random ones for empty clusters."""
    if n >= len(embeddings):
        return np.arange(len(embeddings))
    clusters, centers = k_means(embeddings, n, rng, sample_weight, fitted_to)
    squared = np.empty(len(embeddings), dtype=np.float32)
    for rows in blocks(len(embeddings), CACHED):
        squared[rows] = np.square(embeddings[rows] - centers[clusters[rows]]).sum(axis=1)
    order = np.lexsort([squared, clusters])
    first = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    return fill_up(order[first], n, len(embeddings), rng)
