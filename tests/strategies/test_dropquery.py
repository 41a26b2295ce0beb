"""DropQuery: disagreement against a simulation, candidates and clusters by hand."""

import numpy as np
import pytest
import torch
from conftest import make_learner
from modAL.models import ActiveLearner, Committee
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from template import StrategyTemplate, refused

from modal_clip_dual.strategies import dropquery, dropquery_disagreement, dropquery_sampling


class TestDropQuerySampling(StrategyTemplate):
    strategy = staticmethod(dropquery_sampling)
    draws = True
    in_row_order = ()  # features are dropped anew for every sample
    lacking = (("images", r"method transform\(X\)"),)

    @pytest.mark.parametrize("dropout", [0.1, 0.75])
    @pytest.mark.parametrize("kind", ["linear", "neighbours", "dual prompts"])
    def test_param_dropout(self, fitted, digits, embeddings, dropout, kind):
        """Shares of 400 dropouts within 5 standard errors of NumPy's."""
        X, y = embeddings[:60], digits.target[:60]
        clf = {
            "linear": LogisticRegression(C=100, max_iter=1000),
            "neighbours": KNeighborsClassifier(3),
            "dual prompts": fitted,
        }[kind]
        clf = clf if kind == "dual prompts" else clf.fit(X, y)
        pool, rng, n = embeddings[100:120], np.random.default_rng(0), 400
        kept = rng.random((n, *pool.shape)) >= dropout
        predictions = [clf.predict(pool * mask / (1 - dropout)) for mask in kept.astype(np.float32)]
        expected = np.mean(np.array(predictions) != clf.predict(pool), axis=0)
        ours = dropquery_disagreement(clf, pool, n_dropouts=n, dropout=dropout, random_state=0)
        error = np.sqrt(2 * np.maximum(expected * (1 - expected), 0.02) / n)
        assert (abs(ours - expected) < 5 * error).all()
        assert dropout < 0.5 or ours.max() > 0.2
        for wrong in (0.0, 1.0):
            with pytest.raises(ValueError, match=refused("dropout", wrong)):
                self.rows(clf, pool, dropout=wrong)

    def test_param_n_dropouts(self, learner, embeddings):
        for n in (1, 3, 7):
            steps = dropquery_disagreement(learner, embeddings, n_dropouts=n, random_state=0) * n
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
            assert steps.max() <= n
        with pytest.raises(ValueError, match=refused("n_dropouts", 0)):
            self.rows(learner, embeddings, n_dropouts=0)

    def test_candidates_are_clustered(self, learner, embeddings, monkeypatch):
        """Of the samples whose prediction changes mostly, the nearest to each k-means centre."""
        disagreement = np.zeros(100)
        candidates = np.arange(20, 60)
        disagreement[candidates], disagreement[70] = 2 / 3, 1 / 3
        monkeypatch.setattr(dropquery, "_disagreement", lambda *args: (disagreement, embeddings[:100]))
        rows = self.rows(learner, embeddings[:100], 6, random_state=4)
        seed = int(np.random.default_rng(4).integers(2**31))
        distances = KMeans(6, n_init="auto", random_state=seed).fit_transform(embeddings[candidates])
        assert set(rows.tolist()) == set(candidates[distances.argmin(axis=0)].tolist())
        # With 45 wanted the next highest disagreement joins, then samples in the pool's order.
        rows = self.rows(learner, embeddings[:100], 45)
        assert rows[:40].tolist() == candidates.tolist()
        assert rows[40:].tolist() == [70, 0, 1, 2, 3]

    def test_param_subsample(self, learner, embeddings, monkeypatch):
        """Centers of a random part of the candidates; the nearest of all candidates is chosen."""
        candidates = np.arange(20, 260)
        disagreement = np.zeros(300)
        disagreement[candidates] = 2 / 3
        monkeypatch.setattr(dropquery, "_disagreement", lambda *args: (disagreement, embeddings[:300]))
        rng = np.random.default_rng(4)
        part = np.sort(rng.permutation(240)[:90])
        model = KMeans(6, n_init="auto", random_state=int(rng.integers(2**31))).fit(embeddings[candidates[part]])
        distances = np.linalg.norm(embeddings[candidates][:, None] - model.cluster_centers_, axis=2)
        expected = set(candidates[distances.argmin(axis=0)].tolist())
        assert not expected <= set(candidates[part].tolist())
        kwargs = {"n_instances": 6, "random_state": 4}
        assert set(self.rows(learner, embeddings[:300], subsample=90, **kwargs).tolist()) == expected
        whole = self.rows(learner, embeddings[:300], subsample=None, **kwargs)
        for enough in ({}, {"subsample": 240}):  # few candidates are taken whole
            np.testing.assert_array_equal(self.rows(learner, embeddings[:300], **enough, **kwargs), whole)
        with pytest.raises(ValueError, match=refused("subsample", 0)):
            self.rows(learner, embeddings, subsample=0)

    def test_parts_of_blocks(self, fitted, embeddings, monkeypatch):
        """Features are dropped by the formula, in whatever parts: a mask per block and dropout, in that order."""
        monkeypatch.setattr(dropquery, "ROWS", 64)
        monkeypatch.setattr(dropquery, "CACHED", 9)
        pool = embeddings[:150]
        generator = torch.Generator().manual_seed(int(np.random.default_rng(0).integers(2**31)))
        expected = []
        for start in range(0, 150, 64):
            block = pool[start : start + 64]
            kept = [torch.rand(block.shape, generator=generator).numpy() >= 0.6 for _ in range(5)]
            dropped = [fitted.predict(block * mask / np.float32(0.4)) for mask in kept]
            expected.append(np.mean(np.array(dropped) != fitted.predict(block), axis=0))
        actual = dropquery_disagreement(fitted, pool, n_dropouts=5, dropout=0.6, random_state=0)
        assert np.ptp(actual) > 0
        np.testing.assert_allclose(actual, np.concatenate(expected), atol=1e-9)

    def test_agrees_with_scikit_activeml(self):
        """Where nothing is left to chance: all features dropped, and blobs as many as samples."""
        pool = pytest.importorskip("skactiveml.pool")
        from skactiveml.classifier import SklearnClassifier

        rng = np.random.default_rng(0)
        centres = np.array([[30.0, 5], [-30, 5], [0, 40], [60, 60]])
        X = np.concatenate([centre + rng.normal(size=(12, 2)) for centre in centres])
        y = np.repeat([0, 1, 1, 1], 12)
        clf = SklearnClassifier(LogisticRegression(), classes=[0, 1]).fit(X, y)
        theirs = pool.DropQuery(dropout_rate=1 - 1e-9, random_state=0).query(
            X, np.full(48, np.nan), clf, fit_clf=False, batch_size=2
        )
        constant = clf.predict(np.zeros((1, 2)))
        changed = clf.predict(X) != constant
        assert 0 < changed.sum() < 48
        rows = self.rows(clf.estimator_, X, 2, dropout=1 - 1e-7, random_state=0)
        assert changed[rows].all() and changed[theirs].all()
        if changed.sum() == 12 * 2:
            assert set(rows.tolist()) == set(theirs.tolist())

    def test_pipeline_around_any_classifier(self, digits, embeddings):
        """Features are dropped where they reach the classifier, not before the pipeline."""
        X, y, pool = embeddings[:60], digits.target[:60], embeddings[60:160]
        third = FunctionTransformer(lambda X: X / 3)
        pipeline = make_pipeline(third, KNeighborsClassifier(3)).fit(3 * X, y)
        plain = KNeighborsClassifier(3).fit(X, y)
        kwargs = {"random_state": 0}
        expected = dropquery_disagreement(plain, pool, **kwargs)
        actual = dropquery_disagreement(make_learner(pipeline, 3 * X, y), 3 * pool, **kwargs)
        assert np.mean(actual == expected) > 0.97  # X / 3 rounds

    def test_committee_of_pipelines(self, digits, embeddings):
        """Features are dropped behind the steps of its members, which have to be the same."""
        X, y, pool = embeddings[:60], digits.target[:60], embeddings[60:160]
        double = FunctionTransformer(lambda X: 2 * X)
        members = [make_pipeline(double, KNeighborsClassifier(k)).fit(X, y) for k in (3, 5)]
        actual = dropquery_disagreement(
            Committee([make_learner(clf, X, y) for clf in members]), pool, random_state=0
        )
        generator = torch.Generator().manual_seed(int(np.random.default_rng(0).integers(2**31)))

        def predict(x):
            return np.mean([clf[-1].predict_proba(x) for clf in members], axis=0).argmax(axis=1)

        kept = [torch.rand(pool.shape, generator=generator).numpy() >= 0.75 for _ in range(3)]
        dropped = [predict(2 * pool * mask / np.float32(0.25)) for mask in kept]
        np.testing.assert_allclose(actual, np.mean(np.array(dropped) != predict(2 * pool), axis=0))
        other = make_pipeline(FunctionTransformer(lambda X: 3 * X), KNeighborsClassifier(3)).fit(X, y)
        mixed = Committee([make_learner(clf, X, y) for clf in (members[0], other)])
        with pytest.raises(TypeError, match="members of the Committee embed differently"):
            dropquery_disagreement(mixed, pool)

    def test_never_fitted(self, classifier, embeddings):
        for clf in (classifier(), LogisticRegression(), KNeighborsClassifier()):
            with pytest.raises(NotFittedError, match="not fitted"):
                self.rows(ActiveLearner(clf), embeddings[:30], 3)

    def test_param_random_tie_break(self, learner, embeddings, monkeypatch):
        flat = np.zeros(50), embeddings[:50]
        monkeypatch.setattr(dropquery, "_disagreement", lambda *args: flat)
        assert self.rows(learner, embeddings[:50], 5).tolist() == [0, 1, 2, 3, 4]
        drawn = {tuple(self.rows(learner, embeddings[:50], 5, True)) for _ in range(20)}
        assert len(drawn) > 15
