"""Core-set: brute-force greedy k-center, scikit-activeml's, and distances that cancel."""

import numpy as np
import pytest
from modAL.models import ActiveLearner
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from template import StrategyTemplate

from modal_clip_dual.strategies import coreset_distance, coreset_sampling


def brute_force(pool, labelled, n):
    """Sener and Savarese, Algorithm 1, in float64, every distance anew."""
    pool, centres = pool.astype(np.float64), list(labelled.astype(np.float64))
    rows, distances = [], []
    for _ in range(n):
        nearest = cdist(pool, np.array(centres)).min(axis=1)
        nearest[rows] = -1
        rows.append(int(nearest.argmax()))
        distances.append(nearest[rows[-1]])
        centres.append(pool[rows[-1]])
    return rows, distances


class TestCoresetSampling(StrategyTemplate):
    strategy = staticmethod(coreset_sampling)
    lacking = (("images", r"method transform\(X\)"),)

    @pytest.mark.parametrize("offset", [0.0, 1000.0])
    def test_equals_brute_force(self, offset):
        """Also far from the origin, where |x|^2 - 2 <x, y> + |y|^2 would lose all digits."""
        rng = np.random.default_rng(0)
        learner = ActiveLearner(LogisticRegression())
        for _ in range(5):
            X = (rng.normal(size=(300, 16)) + offset).astype(np.float32)
            learner.X_training, learner.y_training = X[:7], np.arange(7)
            expected, distances = brute_force(X[7:], X[:7], 40)
            assert self.rows(learner, X[7:], 40).tolist() == expected
            np.testing.assert_allclose(
                coreset_distance(learner, X[7:]), cdist(X[7:], X[:7]).min(axis=1), rtol=1e-4
            )

    def test_equals_brute_force_on_digits(self, learner, embeddings):
        expected, distances = brute_force(embeddings, learner.X_training, 30)
        assert self.rows(learner, embeddings, 30).tolist() == expected
        metrics = self.metrics(learner, embeddings, 30)
        np.testing.assert_allclose(metrics, distances, atol=1e-4)

    def test_agrees_with_scikit_activeml(self, learner, embeddings):
        pool = pytest.importorskip("skactiveml.pool")
        X = np.concatenate([embeddings[:500], learner.X_training])
        y = np.concatenate([np.full(500, np.nan), learner.y_training])
        theirs = pool.CoreSet(random_state=0).query(X, y, batch_size=50)
        np.testing.assert_array_equal(self.rows(learner, embeddings[:500], 50), theirs)

    def test_param_random_tie_break(self):
        """Two opposite points equally far from the only labelled one."""
        learner = ActiveLearner(LogisticRegression())
        learner.X_training, learner.y_training = np.zeros((1, 2)), np.zeros(1)
        pool = np.array([[1.0, 0.0], [0.5, 0.5], [-1.0, 0.0]])
        assert self.rows(learner, pool).tolist() == [0]
        drawn = {tuple(self.rows(learner, pool, 1, True)) for _ in range(30)}
        assert drawn == {(0,), (2,)}

    def test_first_sample_is_drawn_where_nothing_is_labelled(self, embeddings):
        learner = ActiveLearner(LogisticRegression())
        rows = [self.rows(learner, embeddings[:50], 3, random_state=seed) for seed in range(20)]
        assert len({row[0] for row in rows}) > 10
        for first, *others in rows:
            expected, _ = brute_force(embeddings[:50], embeddings[[first]], 2)
            assert others == expected
        assert np.isinf(coreset_distance(learner, embeddings[:5])).all()
