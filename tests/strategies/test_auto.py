"""Auto sampling: TypiClust below the threshold, clusters of the smallest margins above it."""

import numpy as np
import pytest
from modAL.uncertainty import classifier_margin
from template import StrategyTemplate, refused

from modal_clip_dual import DualLinearClassifier, auto_sampling, typiclust_sampling
from modal_clip_dual._compat import query_returns_metrics
from modal_clip_dual.strategies import auto


class Knows:
    """A classifier of points on a line that knows P(correct) of each."""

    classes_ = np.array([0, 1])

    def __init__(self, right):
        self.right = right

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def predict_correct_proba(self, X):
        return self.right[X[:, 0].astype(int)]

    def predict_proba(self, X):
        right = self.predict_correct_proba(X)
        return np.column_stack([right, 1 - right])


class TestAutoSampling(StrategyTemplate):
    strategy = staticmethod(auto_sampling)
    any_classifier = False
    draws = True
    in_row_order = (20,)  # where there are more than distinct samples, the others are drawn
    lacking = (
        ("embeddings", r"method predict_correct_proba\(X\)"),
        ("svc", r"method predict_correct_proba\(X\)"),
    )

    def typical(self, *args, **kwargs):
        result = typiclust_sampling(*args, **kwargs)
        return result[0] if query_returns_metrics() else result

    def test_param_threshold(self, learner, embeddings):
        pool = embeddings[:120]
        estimate = learner.estimator.predict_correct_proba(pool).mean()
        for threshold in (estimate + 0.01, 1.0):
            rows = self.rows(learner, pool, 9, threshold=threshold, random_state=3)
            assert rows.tolist() == self.typical(learner, pool, 9, random_state=3).tolist()
        for threshold in (estimate - 0.01, 0.0):
            rows = self.rows(learner, pool, 9, threshold=threshold, random_state=3)
            assert rows.tolist() != self.typical(learner, pool, 9, random_state=3).tolist()
        with pytest.raises(ValueError, match=refused("threshold", 1.5)):
            self.rows(learner, pool, threshold=1.5)

    def test_param_oversampling(self, learner, embeddings):
        """The candidates are modAL's choice of so many; with none to spare all of them are chosen."""
        pool = embeddings[:120]
        margins = classifier_margin(learner.estimator, pool)
        for oversampling in (1, 2, 3):
            candidates = np.argsort(margins, kind="stable")[: 9 * oversampling]
            rows = self.rows(learner, pool, 9, threshold=0.0, oversampling=oversampling, random_state=3)
            assert set(rows) <= set(candidates)
            assert (set(rows) == set(candidates)) == (oversampling == 1)
        default = self.rows(learner, pool, 9, threshold=0.0, random_state=3)
        assert default.tolist() == rows.tolist()
        with pytest.raises(ValueError, match=refused("oversampling", 0)):
            self.rows(learner, pool, oversampling=0)

    def test_clusters_of_candidates_give_their_middle(self):
        """Three far clusters, of which two are doubted: with two samples wanted, one comes from each of these."""
        places = np.concatenate([np.arange(0, 3), np.arange(1000, 1020), np.arange(2000, 2003)])
        right = np.full(3000, 1.0)
        right[0:3] = right[2000:2003] = 0.6
        rows = self.rows(Knows(right), places[:, None].astype(np.float32), 2, threshold=0.0, random_state=0)
        assert sorted(places[rows]) == [1, 2001]

    def test_distances_are_half_whitened(self):
        """Of three candidates one is nearest to their mean as they are, another one in units of the pool's spread."""
        spread = np.array([(100 + 10 * x, 0.1 * y) for x in (-1, 1) for y in (-1, 1)] * 50)
        candidates = np.array([(101, 0.0), (100, 0.9), (99, -0.9)])
        pool = np.concatenate([spread, candidates]).astype(np.float32)
        right = np.full(200, 0.99)
        right[99:102] = 0.5
        center = candidates.mean(axis=0)
        assert np.square(candidates - center).sum(axis=1).argmin() == 1
        axes, scales = np.linalg.eigh(np.cov(pool.T))[::-1]
        whitened = (candidates - center) @ axes / scales**0.25
        assert np.square(whitened).sum(axis=1).argmin() == 0
        assert self.rows(Knows(right), pool, 1, threshold=0.0, random_state=0).tolist() == [len(spread)]

    def test_first_of_the_copies_of_which_rounding_chose_the_last(self, monkeypatch):
        places = np.arange(12, dtype=np.float32)[:, None]
        places[[4, 9]] = places[2]
        monkeypatch.setattr(auto, "nearest_to_centers", lambda candidates, n, rng: np.arange(len(candidates))[-n:])
        rows = self.rows(Knows(np.full(12, 0.6)), places, 4, oversampling=3, threshold=0.0)
        assert sorted(rows.tolist()) == [2, 8, 10, 11]

    def test_metrics_are_doubts(self, learner, embeddings):
        pool = embeddings[:80]
        rows = self.rows(learner, pool, 12, threshold=0.0, random_state=1)
        doubts = self.metrics(learner, pool, 12, threshold=0.0, random_state=1)
        np.testing.assert_allclose(doubts, 1 - classifier_margin(learner.estimator, pool)[rows], atol=1e-6)
        assert (np.diff(doubts) <= 0).all()

    def test_param_random_tie_break(self):
        places = np.arange(40, dtype=np.float32)[:, None]
        clf = Knows(np.full(40, 0.3))
        orders = {tuple(self.rows(clf, places, 40, True, threshold=0.0, random_state=k)) for k in range(5)}
        assert len(orders) > 1
        assert self.rows(clf, places, 40, threshold=0.0, random_state=0).tolist() == list(range(40))

    def test_with_a_head_that_never_saw_a_label(self, digits, embeddings):
        clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
        clf.fit_unlabeled(embeddings[:400])
        rows = self.rows(clf, embeddings[:400], 20, random_state=0)
        assert len(set(rows.tolist())) == 20
        assert len(set(digits.target[rows].tolist())) > 5
