"""k-means of both sizes, and one representative per cluster."""

import numpy as np
import pytest

from modal_clip_dual.strategies import _clustering
from modal_clip_dual.strategies._clustering import k_means, nearest_to_centers


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
