"""The rows of a pool that are not labeled."""

import numpy as np

from modal_clip_dual.heads._pool import unmatched


def test_unmatched_takes_a_copy_per_labeled_row():
    pool = np.array([[1, 0], [0, 1], [1, 0], [2, 2], [1, 0], [0, 1]], np.float32)
    labeled = np.array([[1, 0], [1, 0], [0, 1], [5, 5]], np.float32)
    assert unmatched(pool, labeled).tolist() == [3, 4, 5]
    assert unmatched(pool, labeled[:0]).tolist() == [0, 1, 2, 3, 4, 5]
    assert unmatched(pool[:0], labeled).tolist() == []
