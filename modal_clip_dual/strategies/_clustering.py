"""k-means by scikit-learn, and one representative per cluster."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from ..utils.selection import fill_up

# From this many samples on k-means takes mini-batches, as scikit-learn's guide advises.
MINI_BATCH_FROM = 50_000


def k_means(
    embeddings: np.ndarray, n_clusters: int, rng: np.random.Generator, sample_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster (n,) of each sample, and the centers (n_clusters, D)."""
    algorithm = KMeans if len(embeddings) < MINI_BATCH_FROM else MiniBatchKMeans
    params = {} if algorithm is KMeans else {"batch_size": 8192}
    model = algorithm(n_clusters, n_init="auto", random_state=int(rng.integers(2**31)), **params)
    with warnings.catch_warnings():  # with fewer distinct samples than clusters, some stay empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = model.fit_predict(embeddings, sample_weight=sample_weight)
    return clusters, model.cluster_centers_


def nearest_to_centers(
    embeddings: np.ndarray, n: int, rng: np.random.Generator, sample_weight: np.ndarray | None = None
) -> np.ndarray:
    """n rows: the sample nearest to each of n centers, and random ones for empty clusters."""
    if n >= len(embeddings):
        return np.arange(len(embeddings))
    clusters, centers = k_means(embeddings, n, rng, sample_weight)
    squared = np.empty(len(embeddings), dtype=np.float32)
    for start in range(0, len(embeddings), 8192):
        block = slice(start, start + 8192)
        squared[block] = np.square(embeddings[block] - centers[clusters[block]]).sum(axis=1)
    order = np.lexsort([squared, clusters])
    first = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    return fill_up(order[first], n, len(embeddings), rng)
