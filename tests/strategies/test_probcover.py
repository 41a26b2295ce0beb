"""ProbCover against a literal graph, scikit-activeml's, and cases worked by hand."""

import numpy as np
import pytest
from modAL.models import ActiveLearner
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from template import StrategyTemplate, refused

from modal_clip_dual.strategies import probcover_sampling
from modal_clip_dual.strategies._points import Points
from modal_clip_dual.strategies.probcover import _purest_radius


def literal(pool, known, delta, n):
    """Yehuda et al., Algorithm 1, on the graph of all pairs; and what each choice covers."""
    everything = np.concatenate([pool, known])
    edges = cdist(everything, everything) <= delta
    covered = edges[len(pool) :].any(axis=0)
    edges[:, covered] = False
    chosen, gains = [], []
    for _ in range(n):
        degree = edges[: len(pool), : len(pool)].sum(axis=1).astype(int)
        degree[chosen] = -1
        chosen.append(int(degree.argmax()))
        gains.append(int(degree.max()))
        edges[:, edges[chosen[-1]]] = False
    return chosen, gains


def purity_of(X, clusters, delta):
    """Share of the balls whose samples are all of one cluster."""
    distances = cdist(X, X)
    return np.mean([len(set(clusters[row <= delta])) == 1 for row in distances])


class TestProbCoverSampling(StrategyTemplate):
    strategy = staticmethod(probcover_sampling)
    lacking = (("images", r"method transform\(X\)"),)

    @pytest.mark.parametrize("delta", [0.3, 0.8, 5.0])
    def test_param_delta(self, delta):
        rng = np.random.default_rng(0)
        learner = ActiveLearner(LogisticRegression())
        for n_known in (0, 8):
            pool, known = rng.normal(size=(120, 2)), rng.normal(size=(n_known, 2))
            learner.X_training = known if n_known else None
            learner.y_training = np.zeros(n_known)
            expected, gains = literal(pool, known, delta, 40)
            assert self.rows(learner, pool, 40, delta=delta).tolist() == expected
        for wrong in (-1.0, "far"):
            with pytest.raises((TypeError, ValueError), match=refused("delta", wrong)):
                self.rows(learner, pool, delta=wrong)

    def test_samples_at_the_radius_are_covered(self):
        """A grid whose neighbors stand at delta, which float32 rounds to either side."""
        x = np.arange(12)
        pool = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
        expected, _ = literal(pool, pool[:0], 1, 20)
        learner = ActiveLearner(LogisticRegression())
        assert self.rows(learner, pool / 10 + 0.5, 20, delta=0.1).tolist() == expected

    def test_a_radius_of_none_covers_equal_samples(self, embeddings):
        pool = np.repeat(embeddings[:5], [1, 2, 3, 4, 2], axis=0)
        learner = ActiveLearner(LogisticRegression())
        assert self.rows(learner, pool, 5, delta=0.0).tolist() == [6, 3, 1, 10, 0]
        assert self.metrics(learner, pool, 5, delta=0.0).tolist() == [4, 3, 2, 2, 1]

    def test_gains(self, learner, embeddings):
        expected, gains = literal(embeddings[:200], learner.X_training, 0.5, 10)
        metrics = self.metrics(learner, embeddings[:200], 10, delta=0.5)
        np.testing.assert_array_equal(metrics, gains)

    def test_blocks_make_no_difference(self, learner, embeddings, monkeypatch):
        from modal_clip_dual.strategies import _points

        whole = self.rows(learner, embeddings[:300], 30, random_state=0)
        monkeypatch.setattr(_points, "BLOCK", 4096)
        np.testing.assert_array_equal(self.rows(learner, embeddings[:300], 30, random_state=0), whole)

    @pytest.mark.filterwarnings("ignore:The maximum purity was")  # theirs, of an estimate not made
    def test_agrees_with_scikit_activeml(self):
        """As far as its choices are unique: among equals it draws."""
        pool = pytest.importorskip("skactiveml.pool")
        X = np.random.default_rng(0).normal(size=(1000, 2))
        y = np.full(1000, np.nan)
        y[-5:] = [0, 1, 2, 0, 1]
        learner = ActiveLearner(LogisticRegression())
        learner.X_training, learner.y_training = X[-5:], y[-5:]
        theirs, utilities = pool.ProbCover(deltas=[0.7], random_state=0).query(
            X, y, batch_size=12, return_utilities=True
        )
        unique = [np.sum(u == np.nanmax(u)) == 1 for u in utilities].index(False)
        assert unique == 4
        rows = self.rows(learner, X[:-5], unique, delta=0.7)
        np.testing.assert_array_equal(rows, theirs[:unique])

    def test_param_purity(self, embeddings, digits):
        """The radius is the largest: purity holds there and fails a hair beyond."""
        X, clusters = embeddings[:150].astype(np.float64), digits.target[:150]
        for purity in (0.5, 0.8, 0.95, 0.99):
            delta = _purest_radius(Points(X), clusters, purity)
            assert purity_of(X, clusters, delta - 1e-5) >= purity
            assert purity_of(X, clusters, delta + 1e-5) < purity
        for wrong in (0.0, 1.0):
            with pytest.raises(ValueError, match=refused("purity", wrong)):
                self.rows(ActiveLearner(LogisticRegression()), X, purity=wrong)

    def test_param_n_clusters(self, learner, embeddings, monkeypatch):
        from modal_clip_dual.strategies import probcover

        seen = []
        k_means = probcover.k_means
        monkeypatch.setattr(
            probcover, "k_means", lambda X, n, rng: seen.append(n) or k_means(X, n, rng)
        )
        self.rows(learner, embeddings[:100], 2)
        self.rows(learner, embeddings[:100], 2, n_clusters=4)
        assert seen == [10, 4]
        unfitted = ActiveLearner(LogisticRegression())
        with pytest.raises(ValueError, match="n_clusters=None, but ActiveLearner does not know"):
            self.rows(unfitted, embeddings[:100])
        self.check(self.rows(unfitted, embeddings[:100], 5, n_clusters=1), 5, 100)
        with pytest.raises(ValueError, match=refused("n_clusters", 0)):
            self.rows(learner, embeddings[:100], n_clusters=0)

    def test_param_max_samples(self, learner, embeddings):
        """A random part of the pool stands for it, the same for the same seed."""
        pool = embeddings[:200]
        kwargs = {"max_samples": 50, "delta": 0.6}
        drawn = [self.rows(learner, pool, 10, random_state=seed, **kwargs) for seed in (0, 1)]
        for seed, rows in enumerate(drawn):
            part = np.sort(np.random.default_rng(seed).permutation(200)[:50])
            expected, _ = literal(pool[part], learner.X_training, 0.6, 10)
            np.testing.assert_array_equal(rows, part[expected])
        self.check(self.rows(learner, pool, 80, **kwargs), 80, 200)  # more than the part
        with pytest.raises(ValueError, match=refused("max_samples", 0)):
            self.rows(learner, pool, max_samples=0)

    def test_param_random_tie_break(self):
        learner = ActiveLearner(LogisticRegression())
        X = np.array([[0.0], [0.1], [5.0], [5.1], [9.0]])
        assert self.rows(learner, X, 1, delta=1).tolist() == [0]
        drawn = {int(self.rows(learner, X, 1, True, delta=1)[0]) for _ in range(60)}
        assert drawn == {0, 1, 2, 3}
