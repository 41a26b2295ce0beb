"""TypiClust against a literal version, scikit-activeml's, and cases worked by hand."""

import numpy as np
import pytest
from modAL.models import ActiveLearner
from sklearn.linear_model import LogisticRegression
from template import StrategyTemplate, refused

from modal_clip_dual.strategies import typiclust, typiclust_sampling


def literal(pool, known, clusters, n, k, min_size):
    """Hacohen et al., Algorithm 1, in its own words; clusters of pool and labelled samples."""
    n_clusters = max(clusters) + 1
    size = [sum(c == cluster for c in clusters) for cluster in range(n_clusters)]
    labels = [sum(c == cluster for c in clusters[len(pool) :]) for cluster in range(n_clusters)]
    order = sorted(range(n_clusters), key=lambda c: (labels[c], -size[c], c))
    left = {c: [i for i in range(len(pool)) if clusters[i] == c] for c in range(n_clusters)}
    chosen = []
    for group in ([c for c in order if size[c] > min_size], [c for c in order if size[c] <= min_size]):
        while any(left[c] for c in group) and len(chosen) < n:
            for c in group:
                if not left[c] or len(chosen) == n:
                    continue
                typicality = []
                for i in left[c]:
                    near = sorted(np.linalg.norm(pool[i] - pool[j]) for j in left[c] if j != i)
                    near = near[: max(1, min(k, len(left[c]) // 2))]
                    typicality.append(1 / (np.mean(near) + 1e-5) if near else np.inf)
                best = left[c][int(np.argmax(typicality))]
                chosen.append(best)
                left[c].remove(best)
    return chosen


@pytest.fixture
def given_clusters(monkeypatch):
    """Function that fixes what k-means finds, and returns the list of how it is called."""

    def give(clusters):
        calls = []

        def k_means(embeddings, n_clusters, rng, sample_weight=None, fitted_to=None):
            calls.append((len(embeddings), n_clusters))
            return np.asarray(clusters), None

        monkeypatch.setattr(typiclust, "k_means", k_means)
        return calls

    return give


class TestTypiClustSampling(StrategyTemplate):
    strategy = staticmethod(typiclust_sampling)
    draws = True
    lacking = (("images", r"method transform\(X\)"),)

    def learner_of(self, known):
        learner = ActiveLearner(LogisticRegression())
        if len(known):
            learner.X_training, learner.y_training = known, np.zeros(len(known))
        return learner

    def test_copies_that_rounding_parts_are_of_one_cluster(self, given_clusters):
        pool = np.random.default_rng(0).normal(size=(6, 3))
        pool[[3, 5]] = pool[1]
        given_clusters([0, 0, 2, 1, 2, 1])  # the copies 1, 3 and 5 of one sample in two clusters
        rows = self.rows(self.learner_of(pool[:0]), pool, 3, min_cluster_size=0)
        copies = [row for row in rows.tolist() if row in (1, 3, 5)]
        assert copies == [1, 3, 5][: len(copies)] and copies

    @pytest.mark.parametrize("min_cluster_size", [0, 5, 12])
    @pytest.mark.parametrize("n_neighbors", [1, 4, 20])
    def test_equals_the_literal_rule(self, given_clusters, min_cluster_size, n_neighbors):
        rng = np.random.default_rng(0)
        for n_known in (0, 6):
            pool, known = rng.normal(size=(60, 3)), rng.normal(size=(n_known, 3))
            clusters = rng.choice(7, size=60 + n_known, p=[0.3, 0.25, 0.2, 0.1, 0.05, 0.05, 0.05])
            clusters[:7] = np.arange(7)
            given_clusters(clusters)
            for n in (1, 4, 20, 60):
                if n + n_known < 7:
                    continue
                rows = self.rows(
                    self.learner_of(known), pool, n,
                    n_neighbors=n_neighbors, min_cluster_size=min_cluster_size,
                )  # fmt: skip
                expected = literal(pool, known, clusters, n, n_neighbors, min_cluster_size)
                assert rows.tolist() == expected

    def test_as_many_clusters_as_there_will_be_labels(self, given_clusters):
        X = np.random.default_rng(0).normal(size=(30, 2))
        calls = given_clusters(np.arange(35) % 9)
        self.rows(self.learner_of(X[:5]), X, 4)
        assert calls == [(35, 9)]

    def test_param_max_clusters(self, learner, embeddings, given_clusters):
        calls = given_clusters(np.arange(260) % 3)
        self.check(self.rows(learner, embeddings[:200], 20, max_clusters=3), 20, 200)
        assert calls == [(260, 3)]
        with pytest.raises(ValueError, match=refused("max_clusters", 0)):
            self.rows(learner, embeddings, max_clusters=0)

    def test_agrees_with_scikit_activeml(self, embeddings):
        """The first query, of the same clusters; there a sample counts among its own neighbours."""
        pool = pytest.importorskip("skactiveml.pool")
        from sklearn.cluster import KMeans

        X = embeddings[:400]

        class OurSeed(KMeans):
            def __init__(self, n_clusters):
                seed = int(np.random.default_rng(3).integers(2**31))
                super().__init__(n_clusters, n_init="auto", random_state=seed)

        theirs = pool.TypiClust(cluster_algo=OurSeed, k=5, random_state=0)
        expected = theirs.query(X, np.full(400, np.nan), batch_size=8)
        rows = self.rows(self.learner_of([]), X, 8, n_neighbors=5, random_state=3)
        assert set(rows.tolist()) == set(expected.tolist())  # it shuffles clusters of equal size

    def test_param_n_neighbors(self):
        """Three on a line and a pair: by one neighbour the pair is denser, by two the line is."""
        X = np.array([[0.0], [1.0], [2.0], [50.0], [50.5]])
        typicality = typiclust._typicality(X, 1, 10, np.random.default_rng(0))
        np.testing.assert_allclose(1 / typicality, [1, 1, 1, 0.5, 0.5], atol=1e-4)
        typicality = typiclust._typicality(X, 2, 10, np.random.default_rng(0))
        np.testing.assert_allclose(1 / typicality, [1.5, 1, 1.5, 24.25, 24.5], atol=1e-4)
        with pytest.raises(TypeError, match=refused("n_neighbors", "5")):
            self.rows(self.learner_of([]), X, n_neighbors="5")

    def test_param_min_cluster_size(self, given_clusters):
        X = np.arange(10.0)[:, None]
        given_clusters([0] * 3 + [1] * 7)
        learner = self.learner_of([])
        expected = {0: [0, 1], 2: [0, 1], 3: [1], 5: [1]}
        for size, found in expected.items():
            rows = self.rows(learner, X, 2, min_cluster_size=size)
            assert sorted({int(row >= 3) for row in rows}) == found
        rows = self.rows(learner, X, 9, min_cluster_size=5)
        assert (rows[:7] >= 3).all()
        assert (rows[7:] < 3).all()
        with pytest.raises(ValueError, match=refused("min_cluster_size", -1)):
            self.rows(learner, X, min_cluster_size=-1)

    def test_param_max_samples(self):
        """Distances to a random half, whether the sample belongs to it or not."""
        X = np.random.default_rng(0).normal(size=(40, 2))
        typicality = typiclust._typicality(X, 3, 20, np.random.default_rng(1))
        reference = np.sort(np.random.default_rng(1).permutation(40)[:20])
        for row in range(40):
            distances = np.sort(np.linalg.norm(X[reference[reference != row]] - X[row], axis=1))
            np.testing.assert_allclose(1 / typicality[row], distances[:3].mean(), atol=1e-4)
        with pytest.raises(ValueError, match=refused("max_samples", 1)):
            self.rows(self.learner_of([]), X, max_samples=1)

    def test_param_subsample(self, learner, embeddings):
        """Clusters of a random part; every sample belongs to the one whose center is nearest, and may be chosen."""
        from sklearn.cluster import KMeans

        pool, known = embeddings[60:260], np.float32(learner.X_training)
        everything = np.concatenate([pool, known])
        rng = np.random.default_rng(0)
        part = np.sort(rng.permutation(260)[:120])
        model = KMeans(70, n_init="auto", random_state=int(rng.integers(2**31))).fit(everything[part])
        distances = np.linalg.norm(everything[:, None] - model.cluster_centers_, axis=2)
        expected = literal(pool, known, distances.argmin(axis=1), 10, 20, 5)
        assert not set(expected) <= set(part.tolist())
        rows = self.rows(learner, pool, 10, subsample=120, random_state=0)
        assert rows.tolist() == expected
        whole = self.rows(learner, pool, 10, subsample=None, random_state=0)
        for enough in ({}, {"subsample": 260}):  # small pools are taken whole
            np.testing.assert_array_equal(self.rows(learner, pool, 10, random_state=0, **enough), whole)
        with pytest.raises(ValueError, match=refused("subsample", 0)):
            self.rows(learner, pool, subsample=0)

    def test_param_random_tie_break(self, given_clusters):
        X = np.array([[0.0], [1.0], [0.0], [1.0]])
        given_clusters([0, 0, 0, 0])
        learner = self.learner_of([])
        assert self.rows(learner, X).tolist() == [0]
        assert {int(self.rows(learner, X, 1, True)[0]) for _ in range(60)} == {0, 1, 2, 3}
