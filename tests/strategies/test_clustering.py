"""k-means of both sizes, and one representative per cluster."""

import numpy as np
import pytest

from modal_clip_dual.strategies import _clustering
from modal_clip_dual.strategies._clustering import k_means, nearest_to_centers, rows_to_fit


def blobs(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=(n, 2)) + c for c in ([0, 0], [90, 0], [0, 90])]).astype("f")


@pytest.mark.parametrize("limit", [50_000, 10])
def test_nearest_sample_of_each_blob(monkeypatch, limit):
    monkeypatch.setattr(_clustering, "MINI_BATCH_FROM", limit)
    X = blobs(30)
    rows = nearest_to_centers(X, 3, np.random.default_rng(0))
    assert sorted(rows // 30) == [0, 1, 2]
    if limit > 90:
        for row in rows:
            blob = X[30 * (row // 30) : 30 * (row // 30) + 30]
            distances = np.linalg.norm(blob - blob.mean(axis=0), axis=1)
            assert distances.argmin() == row % 30


def test_weights_move_the_centres():
    X = np.array([[0.0], [1.0], [2.0]], dtype=np.float32)
    for heavy in range(3):
        weights = np.full(3, 1e-3)
        weights[heavy] = 1.0
        assert nearest_to_centers(X, 1, np.random.default_rng(0), weights).tolist() == [heavy]


def test_empty_clusters_are_filled_up():
    X = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    rows = nearest_to_centers(X, 7, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 7
    assert {row // 10 for row in rows} == {0, 1}


def test_k_means_of_a_seed():
    X = blobs(20)
    first, centres = k_means(X, 4, np.random.default_rng(1))
    again, _ = k_means(X, 4, np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    assert centres.shape == (4, 2)


@pytest.mark.parametrize("limit", [50_000, 10])
def test_fitted_to_some_rows(monkeypatch, limit):
    """Two blobs are seen: samples of the third belong to the nearer of their centers."""
    monkeypatch.setattr(_clustering, "MINI_BATCH_FROM", limit)
    X = blobs(30)
    X[60:, 0] += 40  # nearer to the second
    seen = np.r_[0:20, 30:50]
    clusters, centers = k_means(X, 2, np.random.default_rng(0), fitted_to=seen)
    assert centers.shape == (2, 2)
    distances = np.linalg.norm(X[:, None] - centers, axis=2)
    np.testing.assert_array_equal(clusters, distances.argmin(axis=1))
    assert len(set(clusters[:30])) == len(set(clusters[30:60])) == 1
    assert clusters[0] != clusters[30]
    rows = nearest_to_centers(X, 2, np.random.default_rng(0), fitted_to=seen)
    assert set(rows.tolist()) == set(distances.argmin(axis=0).tolist())


def test_rows_to_fit():
    assert rows_to_fit(100, None, 5, None) is None
    assert rows_to_fit(100, 100, 5, None) is None
    rows = rows_to_fit(100, 30, 5, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 30 and (np.diff(rows) > 0).all() and rows.max() < 100
    assert len(rows_to_fit(100, 3, 5, np.random.default_rng(0))) == 5  # a sample per cluster at least


def test_first_centers_of_mini_batches(monkeypatch):
    """Are drawn among enough samples for all clusters."""
    seen = []

    class Spy(_clustering.MiniBatchKMeans):
        def __init__(self, n_clusters, **params):
            seen.append(params["init_size"])
            super().__init__(n_clusters, **params)

    monkeypatch.setattr(_clustering, "MINI_BATCH_FROM", 10)
    monkeypatch.setattr(_clustering, "MiniBatchKMeans", Spy)
    monkeypatch.setattr(_clustering, "INIT_SAMPLES", 20)
    for n_clusters in (2, 6, 20):
        k_means(blobs(30), n_clusters, np.random.default_rng(0))
    assert seen == [20, 48, 90]
