"""What every query strategy has to do; each strategy's test class inherits it."""

import re
from inspect import signature
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import make_learner
from modAL.models import ActiveLearner, Committee
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from modal_clip_dual import _compat, scores
from modal_clip_dual._compat import query_returns_metrics
from modal_clip_dual.nn import inference
from modal_clip_dual.strategies import _equal, _points, _ranking

IGNORED = {"classifier", "X_pool"}


def refused(name, value):
    """Pattern of the error for an argument out of its range: it names what, what came and what was expected."""
    return rf"The {name!r} parameter of \w+ must be .*\. Got {re.escape(repr(value))} instead"


def small_blocks(monkeypatch):
    """Make what goes block by block take many of them, none a multiple of a vector's width."""
    monkeypatch.setattr(_points, "BLOCK", 7 * 128)
    monkeypatch.setattr(_equal, "ROWS", 11)
    monkeypatch.setattr(scores, "ROWS", 9)
    monkeypatch.setattr(_ranking, "POOL_ROWS", 37)
    monkeypatch.setattr(inference, "PREDICTION_BATCH", 13)


class StrategyTemplate:
    """Set `strategy`; have a method ``test_param_NAME`` for every parameter of it.

    `fast` are arguments that save time where the choice itself does not matter.  `lacking` is a
    classifier that misses what the strategy needs, and the name of that in the error.
    """

    strategy = None
    fast: dict = {}
    committee = True  # whether a Committee is taken
    any_classifier = True  # whether LogisticRegression is
    draws = False  # whether random_state decides the choice where nothing ties
    in_row_order = (20, 120)  # queries so large take equal samples in the order of the pool
    lacking: tuple = ()

    def rows(self, *args, **kwargs):
        result = type(self).strategy(*args, **kwargs)
        return result[0] if query_returns_metrics() else result

    def metrics(self, *args, **kwargs):
        """What is returned beside the rows, also where the installed modAL does not want it."""
        with mock.patch.object(_compat, "query_returns_metrics", lambda: True):
            return type(self).strategy(*args, **kwargs)[1]

    def test_every_parameter_has_a_test(self):
        for name in signature(type(self).strategy).parameters:
            assert name in IGNORED or hasattr(self, f"test_param_{name}"), f"no test for {name}"

    def test_docstring_names_every_parameter(self):
        for name in signature(type(self).strategy).parameters:
            assert f"{name}" in type(self).strategy.__doc__.split("Returns\n")[0], name

    def test_returns_what_the_installed_modal_expects(self, learner, embeddings):
        result = type(self).strategy(learner, embeddings[:30], 3)
        assert isinstance(result, tuple) == query_returns_metrics()
        if query_returns_metrics():
            assert result[0].shape == result[1].shape == (3,)

    @pytest.mark.parametrize("n_pool", [1, 2, 9, 30])
    def test_param_n_instances(self, learner, embeddings, n_pool):
        pool = embeddings[:n_pool]
        for n in range(1, n_pool + 1):
            self.check(self.rows(learner, pool, n_instances=n, **self.fast), n, n_pool)
        for wrong in (0, -1, n_pool + 1):
            with pytest.raises(ValueError, match=f"n_instances={wrong}"):
                self.rows(learner, pool, n_instances=wrong)

    def check(self, rows, n, n_pool):
        assert rows.shape == (n,)
        assert rows.dtype.kind == "i"
        assert len(set(rows.tolist())) == n
        assert set(rows.tolist()) <= set(range(n_pool))

    def test_equal_samples(self, learner, embeddings):
        pool = np.repeat(embeddings[:2], 10, axis=0)
        for n in (1, 3, 20):
            self.check(self.rows(learner, pool, n, **self.fast), n, 20)

    def test_equal_samples_are_taken_in_row_order(self, learner, embeddings, monkeypatch):
        """Wherever they stand in a block: a product rounds the last rows of one otherwise."""
        small_blocks(monkeypatch)
        sample = np.random.default_rng(0).permutation(np.repeat(np.arange(41), 5))
        pool = embeddings[60:101][sample]
        for n in self.in_row_order:
            rows = self.rows(learner, pool, n, random_state=0, **self.fast)
            self.check(rows, n, len(pool))
            for one in np.unique(sample[rows]):
                taken = rows[sample[rows] == one]
                np.testing.assert_array_equal(taken, np.flatnonzero(sample == one)[: len(taken)])

    def test_empty_pool(self, learner, embeddings):
        for pool in (embeddings[:0], []):
            with pytest.raises(ValueError, match="X_pool is empty"):
                self.rows(learner, pool)

    def test_global_random_state_is_left_alone(self, learner, embeddings):
        np.random.seed(0)
        torch.manual_seed(0)
        before = np.random.get_state()[1].copy(), torch.get_rng_state()
        self.rows(learner, embeddings[:30], 3, random_tie_break=True, **self.fast)
        np.testing.assert_array_equal(np.random.get_state()[1], before[0])
        assert torch.equal(torch.get_rng_state(), before[1])

    def test_param_random_state(self, learner, embeddings):
        kwargs = {"random_state": 3, **self.fast}
        first = self.rows(learner, embeddings, 10, **kwargs)
        np.testing.assert_array_equal(self.rows(learner, embeddings, 10, **kwargs), first)
        for make in (np.random.default_rng, np.random.RandomState):
            again = [
                self.rows(learner, embeddings, 10, **kwargs | {"random_state": make(5)}).tolist()
                for _ in range(2)
            ]
            assert again[0] == again[1]
        if self.draws:
            generator = np.random.default_rng(0)
            kwargs["random_state"] = generator
            drawn = {tuple(self.rows(learner, embeddings, 10, **kwargs)) for _ in range(3)}
            assert len(drawn) == 3

    def test_param_device(self, learner, embeddings):
        if "device" not in signature(type(self).strategy).parameters:
            return
        kwargs = {"random_state": 0, **self.fast}
        there = self.rows(learner, embeddings, 10, **kwargs)
        np.testing.assert_array_equal(
            self.rows(learner, embeddings, 10, device="cpu", **kwargs), there
        )
        for wrong in ("mars", "cuda:99"):
            with pytest.raises(ValueError, match=f"device='{wrong}' cannot be used here"):
                self.rows(learner, embeddings, 10, device=wrong, **kwargs)

    @pytest.mark.gpu
    def test_gpu(self, learner, embeddings):
        if "device" not in signature(type(self).strategy).parameters:
            return
        rows = self.rows(learner, embeddings, 10, device="cuda", random_state=0, **self.fast)
        self.check(rows, 10, len(embeddings))

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

    def test_images_and_paths_are_embedded(self, fitted, digits, embeddings, tmp_path):
        """The choice from images equals that from their embeddings."""
        from PIL import Image

        paths = np.array([str(tmp_path / f"{k}.png") for k in range(40)])
        for path, image in zip(paths, digits.images):
            Image.fromarray(image).save(path)
        y = digits.target[:20]
        expected, *rows = (
            self.rows(make_learner(fitted, X[:20], y), X[20:40], 5, random_state=0, **self.fast)
            for X in (embeddings, digits.images, list(digits.images), paths)
        )
        for other in rows:
            np.testing.assert_array_equal(other, expected)

    def test_learner_without_labels(self, classifier, embeddings):
        """The first round: zero-shot probabilities, or no labelled samples."""
        learner = ActiveLearner(classifier())
        if type(self).strategy.__name__ == "dropquery_sampling":
            with pytest.raises(NotFittedError):
                self.rows(learner, embeddings[:200], 20)
            return
        self.check(self.rows(learner, embeddings[:200], 20, **self.fast), 20, 200)

    # ---------------------------------------------------------------- other classifiers

    @pytest.fixture
    def logistic(self, digits, embeddings):
        clf = LogisticRegression(max_iter=300).fit(embeddings[:60], digits.target[:60])
        return make_learner(clf, embeddings[:60], digits.target[:60])

    def test_pipeline_and_search(self, logistic, digits, embeddings):
        if not self.any_classifier:
            return  # the error is tested below
        kwargs = {"random_state": 0, **self.fast}
        pool = embeddings[60:300]
        expected = self.rows(logistic, pool, 10, **kwargs)
        self.check(expected, 10, 240)
        X, y = 3 * embeddings[:60], digits.target[:60]
        third = FunctionTransformer(lambda X: X / 3)
        pipeline = make_pipeline(third, LogisticRegression(max_iter=300)).fit(X, y)
        search = GridSearchCV(pipeline, {"logisticregression__C": [1.0]}, cv=2).fit(X, y)
        for wrapped in (pipeline, search):
            # Transformed, the same numbers: up to what X / 3 rounds.
            rows = self.rows(make_learner(wrapped, X, y), 3 * pool, 10, **kwargs)
            assert len(set(rows) & set(expected)) >= 9

    def counted(self, classifier, digits, embeddings):
        """A Pipeline that is fitted on 60 samples, and a list of the lengths that it transforms."""
        lengths = []
        count = FunctionTransformer(lambda X: lengths.append(len(X)) or X)
        last = LogisticRegression(max_iter=300) if self.any_classifier else classifier(max_epochs=1)
        return make_pipeline(count, last).fit(embeddings[:60], digits.target[:60]), lengths

    def test_a_pipeline_transforms_the_pool_once(self, classifier, digits, embeddings):
        X, y, pool = embeddings[:60], digits.target[:60], embeddings[60:300]
        pipeline, lengths = self.counted(classifier, digits, embeddings)
        once = 0 if type(self).strategy.__name__ == "random_sampling" else 1
        search = GridSearchCV(pipeline, {f"{pipeline.steps[1][0]}__verbose": [0]}, cv=2).fit(X, y)
        for wrapped in (pipeline, search):
            lengths.clear()
            self.rows(make_learner(wrapped, X, y), pool, 10, **self.fast)
            assert lengths.count(240) == once
        if self.committee:
            lengths.clear()
            twins = [make_learner(pipeline, X, y) for _ in range(2)]
            self.rows(Committee(twins), pool, 10, **self.fast)
            assert lengths.count(240) == 2 * once  # a pass per member

    def test_committee(self, learner, fitted, digits, embeddings):
        twins = [make_learner(fitted, learner.X_training, learner.y_training) for _ in range(2)]
        committee = Committee(twins)
        kwargs = {"random_state": 0, **self.fast}
        if not self.committee:
            with pytest.raises(TypeError, match="Committee"):
                self.rows(committee, embeddings[:200], 10, **kwargs)
            return
        rows = self.rows(committee, embeddings[:200], 10, **kwargs)
        np.testing.assert_array_equal(rows, self.rows(learner, embeddings[:200], 10, **kwargs))

    def test_what_is_missing_is_named(self, digits, embeddings):
        """Each entry of `lacking`: "svc", a classifier without probabilities, or "images"."""
        X, y = embeddings[:60], digits.target[:60]
        for kind, name in self.lacking:
            clf = (LinearSVC() if kind == "svc" else LogisticRegression(max_iter=300)).fit(X, y)
            pool = digits.images if kind == "images" else embeddings
            with pytest.raises(TypeError, match=name):
                self.rows(make_learner(clf, pool[:60], y), pool[60:], 5, **self.fast)
