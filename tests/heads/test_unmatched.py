"""The rows of a pool that are not labeled."""

import numpy as np

from modal_clip_dual.heads._pool import unmatched
from modal_clip_dual.utils.arrays import unit_rows


def test_unmatched_takes_a_copy_per_labeled_row():
    pool = unit_rows(np.array([[1, 0], [0, 1], [1, 0], [2, 2], [1, 0], [0, 1]], np.float32))
    labeled = unit_rows(np.array([[1, 0], [1, 0], [0, 1], [-5, 5]], np.float32))
    assert unmatched(pool, labeled).tolist() == [3, 4, 5]
    assert unmatched(pool, labeled[:0]).tolist() == [0, 1, 2, 3, 4, 5]
    assert unmatched(pool[:0], labeled).tolist() == []


def test_a_picture_is_known_whatever_its_last_digits():
    rng = np.random.default_rng(0)
    pool = unit_rows(rng.normal(size=(50, 20)).astype(np.float32))
    pool[7] = pool[3]  # copies
    rows = [3, 10, 20, 21]
    for other in (pool[rows] * 3, pool[rows] * (1 + 1e-7), pool[rows] + rng.normal(0, 1e-6, (4, 20)).astype("f")):
        labeled = unit_rows(other)
        left = unmatched(pool, labeled)
        assert len(left) == 46 and not {10, 20, 21} & set(left) and len({3, 7} & set(left)) == 1
    near = unit_rows(pool[rows] + rng.normal(0, 1e-2, (4, 20)).astype(np.float32))  # other pictures
    assert len(unmatched(pool, near)) == 50
    twice = unit_rows(pool[[3, 3, 3]] * np.float32(1 + 1e-7))  # three labels of two copies
    assert sorted({3, 7} & set(unmatched(pool, twice))) == []
    assert len(unmatched(pool, twice)) == 48


def test_the_order_in_memory_does_not_matter():
    X = np.random.default_rng(1).normal(size=(300, 128)).astype(np.float32)
    for other in (np.asfortranarray(X), X[:, ::-1][:, ::-1], X.astype(np.float64), X.astype(float, order="F")):
        np.testing.assert_array_equal(unit_rows(other), unit_rows(X))
