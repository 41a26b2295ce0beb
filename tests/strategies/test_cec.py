"""CEC against its formulas, sample by sample."""

import numpy as np
import pytest
from template import StrategyTemplate, refused

from modal_clip_dual.strategies import cec, cec_sampling, cec_uncertainty


def literal(proba, embeddings, n_prior, k):
    """method.md, "Baselines, as formulas", CEC, in its own words."""
    proba, embeddings = np.float64(proba), np.float64(embeddings)
    n, C = proba.shape
    prior = [np.mean(sorted(proba[:, c], reverse=True)[:n_prior]) for c in range(C)]
    entropy = []
    for p in proba:
        q = [p[c] / prior[c] for c in range(C)]
        q = [value / sum(q) for value in q]
        entropy.append(-sum(value * np.log(value) for value in q if value > 0))
    uncertainty = []
    for i in range(n):
        distance = {j: np.linalg.norm(embeddings[i] - embeddings[j]) for j in range(n) if j != i}
        near = sorted(distance, key=distance.get)[:k]
        weights = [np.exp(-distance[j]) for j in near]
        mean = sum(w * entropy[j] for w, j in zip(weights, near)) / sum(weights)
        uncertainty.append(entropy[i] + mean)
    return np.array(uncertainty)


class TestCECSampling(StrategyTemplate):
    strategy = staticmethod(cec_sampling)
    draws = True
    in_row_order = (20,)  # where there are more than distinct samples, the others are drawn
    lacking = (("svc", r"method predict_proba\(X\)"), ("images", r"method transform\(X\)"))

    def test_param_n_neighbors(self, learner, embeddings):
        pool = embeddings[:60]
        proba = learner.predict_proba(pool)
        for n_neighbors in (1, 5, 59, 200):
            expected = literal(proba, pool, 6, min(n_neighbors, 59))
            uncertainty = cec_uncertainty(learner, pool, n_neighbors=n_neighbors)
            np.testing.assert_allclose(uncertainty, expected, atol=1e-4)
        with pytest.raises(ValueError, match=refused("n_neighbors", 0)):
            self.rows(learner, pool, n_neighbors=0)

    def test_param_n_prior(self, learner, embeddings):
        pool = embeddings[:60]
        proba = learner.predict_proba(pool)
        for n_prior in (1, 3, 60, 100):
            expected = literal(proba, pool, n_prior, 10)
            np.testing.assert_allclose(
                cec_uncertainty(learner, pool, n_prior=n_prior), expected, atol=1e-4
            )
        with pytest.raises(TypeError, match=refused("n_prior", 2.5)):
            self.rows(learner, pool, n_prior=2.5)

    def test_param_max_samples(self, learner, embeddings):
        """Neighbours among a random half: a mean of other samples, but of as many."""
        pool = embeddings[:100]
        proba = learner.predict_proba(pool)
        seen = []

        def spy(*args):
            seen.append((args[3], *neighbors(*args)))
            return seen[-1][1:]

        neighbors, cec._neighbors = cec._neighbors, spy
        try:
            uncertainty = cec_uncertainty(learner, pool, max_samples=50, random_state=0)
        finally:
            cec._neighbors = neighbors
        ((reference, distances, found),) = seen
        rows = reference[found]
        assert rows.shape == (100, 10)
        assert len(np.unique(rows)) <= 50
        assert not (rows == np.arange(100)[:, None]).any()
        entropy = literal(proba, pool, 10, 10) * 0  # self entropy alone, from the formula below
        prior = np.sort(proba, axis=0)[-10:].mean(axis=0)
        q = proba / prior
        q /= q.sum(axis=1, keepdims=True)
        entropy = -(q * np.log(np.maximum(q, 1e-30))).sum(axis=1)
        weights = np.exp(-np.linalg.norm(pool[:, None] - pool[rows], axis=2))
        expected = entropy + (weights * entropy[rows]).sum(1) / weights.sum(1)
        np.testing.assert_allclose(uncertainty, expected, atol=1e-4)
        with pytest.raises(ValueError, match=refused("max_samples", 1)):
            self.rows(learner, pool, max_samples=1)

    def test_param_subsample(self, learner, embeddings):
        """Centers of a random part of the pool, weighted by its uncertainty; the nearest of all is chosen."""
        from sklearn.cluster import KMeans

        pool = embeddings[:200]
        rng = np.random.default_rng(2)
        part = np.sort(rng.permutation(200)[:80])
        uncertainty = literal(learner.predict_proba(pool), pool, 20, 10)
        model = KMeans(6, n_init="auto", random_state=int(rng.integers(2**31)))
        model.fit(pool[part], sample_weight=np.float32(uncertainty[part] + 1e-6))
        nearest = np.linalg.norm(pool[:, None] - model.cluster_centers_, axis=2).argmin(axis=0)
        expected = nearest[np.argsort(-uncertainty[nearest])]
        assert not set(expected) <= set(part)
        kwargs = {"n_instances": 6, "random_state": 2}
        assert self.rows(learner, pool, subsample=80, **kwargs).tolist() == expected.tolist()
        metrics = self.metrics(learner, pool, subsample=80, **kwargs)
        np.testing.assert_allclose(metrics, uncertainty[expected], atol=1e-4)
        whole = self.rows(learner, pool, subsample=None, **kwargs)
        for enough in ({}, {"subsample": 200}):  # small pools are taken whole
            np.testing.assert_array_equal(self.rows(learner, pool, **enough, **kwargs), whole)
        with pytest.raises(ValueError, match=refused("subsample", 0)):
            self.rows(learner, pool, subsample=0)

    def test_queries_the_sample_nearest_to_each_weighted_centre(self):
        """Three far blobs: one sample of each, nearest to the mean weighted by uncertainty."""
        rng = np.random.default_rng(0)
        X = np.concatenate([rng.normal(size=(15, 2)) + centre for centre in ([0, 0], [99, 0], [0, 99])])

        class Given:
            classes_ = np.arange(3)
            proba = rng.dirichlet(np.ones(3), size=45)

            def predict_proba(self, X):
                return self.proba

        uncertainty = cec_uncertainty(Given(), X)
        expected = set()
        for blob in range(3):
            members = np.arange(15 * blob, 15 * blob + 15)
            centre = np.average(X[members], axis=0, weights=uncertainty[members])
            expected.add(members[np.linalg.norm(X[members] - centre, axis=1).argmin()])
        rows = self.rows(Given(), X, 3)
        assert set(rows.tolist()) == expected
        assert np.all(np.diff(uncertainty[rows]) <= 0)
        np.testing.assert_allclose(self.metrics(Given(), X, 3, random_state=0)[0], uncertainty[rows[0]])

    def test_param_random_tie_break(self, learner, embeddings):
        pool = np.repeat(embeddings[:1], 8, axis=0)
        kwargs = {"random_tie_break": True}
        drawn = {tuple(self.rows(learner, pool, 8, random_state=s, **kwargs)) for s in range(20)}
        assert len(drawn) > 10
        assert self.rows(learner, pool, 8, random_state=1).tolist() == list(range(8))
