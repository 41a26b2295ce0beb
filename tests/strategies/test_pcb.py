"""PCB: class counts by hand-worked cases, and every kind of base strategy."""

import numpy as np
import pytest
from conftest import make_learner
from modAL.models import ActiveLearner, Committee
from modAL.uncertainty import entropy_sampling
from sklearn.linear_model import LogisticRegression
from template import StrategyTemplate, refused

from modal_clip_dual.strategies import coreset_sampling, get_strategy, pcb_sampling, random_sampling
from modal_clip_dual.strategies.pcb import _labels_per_class, balance
from modal_clip_dual.strategies.view import View


def classes_chosen(predicted, counts, n, seed=0, ties=None):
    rows = balance(np.array(predicted), np.array(counts), n, np.random.default_rng(seed), ties)
    assert len(set(rows.tolist())) == n
    return [predicted[row] for row in rows]


class TestPCBSampling(StrategyTemplate):
    strategy = staticmethod(pcb_sampling)
    draws = True
    in_row_order = ()
    lacking = (("svc", r"method predict_proba\(X\)"),)

    def test_balance_by_hand(self):
        predicted = [0] * 5 + [1] * 5 + [2] * 5
        # Labels so far 3, 1, 0: class 2 first, then 1 and 2 are level at 1, ...
        assert classes_chosen(predicted, [3, 1, 0], 7) == [2, 1, 2, 1, 2, 0, 1]
        assert classes_chosen(predicted, [0, 0, 0], 4) == [0, 1, 2, 0]
        # Class 2 runs out after one sample; from there on it stays the one with the fewest, and
        # any proposed sample is taken.
        rng = np.random.default_rng(0)
        predicted = np.array([0, 0, 1, 1, 2])
        for _ in range(50):
            rows = balance(predicted, np.array([4, 4, 0]), 5, rng)
            assert rows[0] == 4
            assert sorted(rows) == [0, 1, 2, 3, 4]
        first = {int(balance(predicted, np.array([4, 4, 0]), 2, rng)[1]) for _ in range(60)}
        assert first == {0, 1, 2, 3}
        # A class that nothing is predicted as: any sample at once.
        alike, counts = np.zeros(3, int), np.array([1, 0])
        assert {int(balance(alike, counts, 1, rng)[0]) for _ in range(40)} == {0, 1, 2}

    def test_any_sample_of_the_class_may_come(self):
        rng = np.random.default_rng(0)
        drawn = {int(balance(np.array([0, 1, 1, 1]), np.array([1, 0]), 1, rng)[0]) for _ in range(60)}
        assert drawn == {1, 2, 3}

    def test_labels_so_far(self, digits, embeddings, fitted):
        y = np.array([3, 3, 5])
        expected = np.bincount(y, minlength=10)
        learner = make_learner(fitted, embeddings[:3], y)
        pool = embeddings[3:9]
        np.testing.assert_array_equal(_labels_per_class(View(learner, pool)), expected)
        np.testing.assert_array_equal(_labels_per_class(View(fitted, pool)), np.zeros(10))
        other = make_learner(fitted, embeddings[:1], y[:1])
        mean = (expected + np.bincount(y[:1], minlength=10)) / 2
        np.testing.assert_array_equal(_labels_per_class(View(Committee([learner, other]), pool)), mean)
        names = LogisticRegression().fit(embeddings[:4], ["b", "a", "b", "c"])
        learner = make_learner(names, embeddings[:4], np.array(["b", "a", "b", "c"]))
        np.testing.assert_array_equal(_labels_per_class(View(learner, pool)), [1, 2, 1])

    def test_classes_with_few_labels_come_first(self, learner, embeddings):
        predicted = learner.predict(embeddings)
        counts = np.bincount(learner.y_training, minlength=10)
        rows = self.rows(learner, embeddings, 3, base="random", fraction=1.0)
        assert predicted[rows[0]] == counts.argmin()

    def test_param_base(self, learner, embeddings):
        """Only what the base proposes; by function, name, or modAL's own."""
        for base, kwargs in ((entropy_sampling, {}), ("entropy", {}), (coreset_sampling, {})):
            rows = self.rows(learner, embeddings, 5, base=base, **kwargs)
            function = {"entropy": entropy_sampling}.get(base, base)
            proposed = function(learner, embeddings, 180)
            proposed = proposed[0] if isinstance(proposed, tuple) else proposed
            assert set(rows) <= set(proposed)
        for wrong, error in (("best", ValueError), (3, TypeError)):
            with pytest.raises(error, match=f"base={wrong!r}; expected"):
                self.rows(learner, embeddings, base=wrong)

    @pytest.mark.parametrize("base", ["badge", "coreset", "entropy", "typiclust"])
    @pytest.mark.parametrize("max_samples", [100, 1000])
    def test_the_base_sees_the_transformed_pool(self, classifier, digits, embeddings, base, max_samples):
        pipeline, lengths = self.counted(classifier, digits, embeddings)
        learner = make_learner(pipeline, embeddings[:60], digits.target[:60])
        lengths.clear()
        self.rows(learner, embeddings[60:300], 10, base=base, max_samples=max_samples)
        assert [n for n in lengths if n != 60] == [min(240, max_samples)]

    def test_random_state_reaches_the_base(self, learner, embeddings):
        kwargs = {"base": random_sampling, "random_state": 0}
        first = self.rows(learner, embeddings, 5, **kwargs)
        np.testing.assert_array_equal(self.rows(learner, embeddings, 5, **kwargs), first)

    def test_param_fraction(self, learner, embeddings):
        asked = []

        def base(classifier, X_pool, n_instances=1):
            asked.append(n_instances)
            return np.arange(n_instances)

        pool = embeddings[:200]
        for fraction, n in ((0.1, 5), (0.1, 30), (1.0, 5), (0.001, 1)):
            self.rows(learner, pool, n, base=base, fraction=fraction)
        assert asked == [20, 30, 200, 1]
        for wrong in (0, 1.5):
            with pytest.raises(ValueError, match=refused("fraction", wrong)):
                self.rows(learner, pool, fraction=wrong)

    @pytest.mark.parametrize("as_list", [False, True])
    def test_param_max_samples(self, learner, embeddings, as_list):
        """The base sees a random part of the pool; rows are those of the whole."""
        seen = []

        def base(classifier, X_pool, n_instances=1):
            seen.append(np.asarray(X_pool))
            return np.arange(n_instances)

        pool = list(embeddings[:200]) if as_list else embeddings[:200]
        kwargs = {"base": base, "max_samples": 50, "random_state": 0}
        rows = self.rows(learner, pool, 5, **kwargs)
        part = np.sort(np.random.default_rng(0).permutation(200)[:50])
        np.testing.assert_array_equal(seen[0], embeddings[part])
        assert set(rows.tolist()) == set(part[:5].tolist())  # 10% of the part
        self.check(self.rows(learner, pool, 80, **kwargs), 80, 200)  # more than the part
        self.rows(learner, pool, 5, base=base, max_samples=None)
        assert len(seen[-1]) == 200
        with pytest.raises(ValueError, match=refused("max_samples", 0)):
            self.rows(learner, pool, max_samples=0)

    def test_entropy_ranks_the_whole_pool(self, learner, embeddings):
        """Of 20,100 samples, 100 are unsure: all that a query of 100 may take, if the base has seen all."""
        proba = learner.predict_proba(embeddings)
        sure = embeddings[proba.max(axis=1).argmax()]
        unsure = np.argsort(proba.max(axis=1))[:100]
        pool = np.concatenate([np.tile(sure, (20_000, 1)), embeddings[unsure]])
        rows = get_strategy("pcb-entropy", fraction=100 / len(pool))(learner, pool, 100)
        rows = rows[0] if isinstance(rows, tuple) else rows
        assert set(rows.tolist()) == set(range(20_000, 20_100))

    def test_scores_of_the_base(self, learner, embeddings):
        def base(classifier, X_pool, n_instances=1):
            return np.arange(n_instances), np.arange(n_instances) / 10

        rows = self.rows(learner, embeddings, 4, base=base, random_state=1)
        np.testing.assert_allclose(
            self.metrics(learner, embeddings, 4, base=base, random_state=1), rows / 10
        )

    def test_param_random_tie_break(self):
        predicted, counts = [0, 1, 2, 3], [0, 0, 0, 0]
        assert classes_chosen(predicted, counts, 4) == [0, 1, 2, 3]
        drawn = {
            tuple(classes_chosen(predicted, counts, 4, ties=np.random.default_rng(seed)))
            for seed in range(20)
        }
        assert len(drawn) > 10

    def test_unfitted_learner(self, classifier, embeddings):
        learner = ActiveLearner(classifier(), query_strategy=pcb_sampling)
        kwargs = {"base": "random", "fraction": 1.0}
        rows, _ = learner.query(embeddings[:300], n_instances=10, **kwargs)
        predicted = classifier().zero_shot_proba(embeddings[:300]).argmax(axis=1)
        assert predicted[rows].tolist() == list(range(10))
