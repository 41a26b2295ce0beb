"""The rows that stand for a pool."""

import numpy as np
import pytest

from modal_clip_dual.utils.pool import spread_rows


@pytest.mark.parametrize("n, at_most", [(7, 10), (10, 10), (1000, 10), (1_000_003, 3000)])
def test_rows_are_distinct_and_spread(n, at_most):
    chosen = spread_rows(n, at_most)
    assert len(chosen) == min(n, at_most)
    assert np.all(np.diff(chosen) > 0) and 0 <= chosen[0] and chosen[-1] < n
    if n > at_most:  # one in each stretch
        assert np.array_equal((chosen * at_most // n), np.arange(at_most)) or np.abs(
            chosen - np.arange(at_most) * n / at_most
        ).max() <= n / at_most


def test_rows_do_not_walk_in_step_with_classes():
    classes = np.arange(30000) % 10  # class after class, and ten rows to a stretch
    counts = np.bincount(classes[spread_rows(30000, 3000)], minlength=10)
    assert counts.min() > 250 and counts.max() < 350
