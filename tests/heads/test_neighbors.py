"""Nearest rows against scikit-learn; what they say."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from modal_clip_dual.heads._neighbors import nearest, neighbor_shares
from modal_clip_dual.utils.arrays import unit_rows


def rows(n, width=6, seed=0):
    return unit_rows(np.random.default_rng(seed).normal(size=(n, width)))


@pytest.mark.parametrize("block", [7, 10**6])
def test_equals_scikit_learn(block, monkeypatch):
    monkeypatch.setattr("modal_clip_dual.heads._neighbors.BLOCK", block)
    query, store = rows(23), rows(90, seed=1)
    found, counts = nearest(query, store, 5)
    reference = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(store)
    expected = reference.kneighbors(query, return_distance=False)
    assert counts.all()
    assert np.array_equal(found, expected)  # nearest first


def test_a_row_and_its_copies_are_not_its_neighbors():
    store = np.concatenate([rows(30), rows(30)[:4]])
    found, counts = nearest(store[:4], store, 5)
    reference = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(store)
    expected = reference.kneighbors(store[:4], return_distance=False)
    assert counts.all()
    for i in range(4):
        others = [row for row in expected[i] if row not in (i, 30 + i)]
        assert sorted(found[i].tolist()) == sorted(others[:5])


def test_too_few_neighbors_do_not_count():
    store = rows(3)
    found, counts = nearest(store, store, 5)
    assert found.shape == (3, 3) and counts.sum(1).tolist() == [2, 2, 2]
    _, counts = nearest(store[:1], store[:1], 5)
    assert not counts.any()


def test_shares_are_means_over_those_that_count():
    probabilities = np.array([[1, 0], [0.5, 0.5], [0, 1]], np.float16)
    neighbors = np.array([[0, 1], [1, 2], [0, 2]]), np.array([[True, True], [False, True], [False, False]])
    missing = np.array([[0.3, 0.7]] * 3)
    shares = neighbor_shares(neighbors, probabilities, missing)
    np.testing.assert_allclose(shares, [[0.75, 0.25], [0, 1], [0.3, 0.7]], atol=1e-6)
