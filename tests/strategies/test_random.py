import numpy as np
from template import StrategyTemplate

from modal_clip_dual import random_sampling


class TestRandomSampling(StrategyTemplate):
    strategy = staticmethod(random_sampling)
    in_row_order = ()
    draws = True

    def test_param_random_tie_break(self, fitted, embeddings):
        for tie_break in (False, True):
            rows = self.rows(fitted, embeddings, 5, tie_break, random_state=0)
            np.testing.assert_array_equal(rows, self.rows(fitted, embeddings, 5, random_state=0))

    def test_uniform(self):
        """Chi-square of how often each of 10 rows is among 3: 9 degrees of freedom."""
        generator = np.random.default_rng(0)
        counts = np.zeros(10)
        for _ in range(2000):
            counts[self.rows(None, np.zeros((10, 1)), 3, random_state=generator)] += 1
        assert ((counts - 600) ** 2 / 600).sum() < 27.9  # p = 0.001
