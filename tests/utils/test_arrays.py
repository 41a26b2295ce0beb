"""Tables that are joined only where they are read."""

import numpy as np
import pytest

from modal_clip_dual.utils.arrays import Stacked


@pytest.mark.parametrize("n_upper, n_lower", [(7, 4), (7, 0), (0, 4)])
def test_stacked_tables_read_as_one(n_upper, n_lower):
    rng = np.random.default_rng(0)
    upper, lower = rng.normal(size=(n_upper, 3)).astype("f"), rng.normal(size=(n_lower, 3)).astype("f")
    whole, stacked = np.concatenate([upper, lower]), Stacked(upper, lower)
    assert len(stacked) == len(whole)
    np.testing.assert_array_equal(np.asarray(stacked), whole)
    for start in range(len(whole) + 1):
        for stop in range(start, len(whole) + 3):
            np.testing.assert_array_equal(stacked[start:stop], whole[start:stop])
    for _ in range(20):
        rows = np.flatnonzero(rng.random(len(whole)) < 0.5)
        np.testing.assert_array_equal(stacked[rows], whole[rows])
    assert n_upper == 0 or np.shares_memory(stacked[:n_upper], upper)  # the pool is not copied
    with pytest.raises(ValueError, match="joined from two arrays"):
        stacked.__array__(copy=False)
