"""What every query strategy has to do; each strategy's test class inherits it."""

from inspect import signature

import numpy as np
import pytest
from modAL.models import ActiveLearner

from modal_clip_dual._compat import query_returns_metrics


class StrategyTemplate:
    """Set `strategy`; have a method ``test_param_NAME`` for every parameter of it."""

    strategy = None

    def rows(self, *args, **kwargs):
        result = type(self).strategy(*args, **kwargs)
        return result[0] if query_returns_metrics() else result

    def test_every_parameter_has_a_test(self):
        for name in list(signature(type(self).strategy).parameters)[2:]:
            assert hasattr(self, f"test_param_{name}"), f"no test for {name}"

    def test_returns_what_the_installed_modal_expects(self, fitted, embeddings):
        result = type(self).strategy(fitted, embeddings[:30], 3)
        assert isinstance(result, tuple) == query_returns_metrics()
        if query_returns_metrics():
            assert result[0].shape == result[1].shape == (3,)

    @pytest.mark.parametrize("n_pool", [1, 2, 9, 30])
    def test_param_n_instances(self, fitted, embeddings, n_pool):
        pool = embeddings[:n_pool]
        for n in range(1, n_pool + 1):
            rows = self.rows(fitted, pool, n_instances=n)
            assert rows.shape == (n,)
            assert rows.dtype.kind == "i"
            assert len(set(rows.tolist())) == n
            assert set(rows.tolist()) <= set(range(n_pool))
        for wrong in (0, -1, n_pool + 1):
            with pytest.raises(ValueError, match=f"n_instances={wrong}"):
                self.rows(fitted, pool, n_instances=wrong)

    def test_empty_pool(self, fitted, embeddings):
        for pool in (embeddings[:0], []):
            with pytest.raises(ValueError, match="X_pool is empty"):
                self.rows(fitted, pool)

    def test_global_random_state_is_left_alone(self, fitted, embeddings):
        np.random.seed(0)
        before = np.random.get_state()[1].copy()
        self.rows(fitted, embeddings[:30], 3, random_tie_break=True)
        np.testing.assert_array_equal(np.random.get_state()[1], before)

    def test_whole_loop(self, classifier, embeddings, digits):
        learner = ActiveLearner(
            classifier(max_epochs=2),
            query_strategy=type(self).strategy,
            X_training=embeddings[:10],
            y_training=digits.target[:10],
        )
        left = np.arange(10, 60)
        for _ in range(5):
            chosen, instances = learner.query(embeddings[left], n_instances=10)
            np.testing.assert_array_equal(instances, embeddings[left[chosen]])
            learner.teach(instances, digits.target[left[chosen]])
            left = np.delete(left, chosen)
        assert len(left) == 0
        assert len(learner.X_training) == 60
