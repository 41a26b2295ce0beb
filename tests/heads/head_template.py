"""What every head is tested for; a test of a head inherits it."""

import pickle

import numpy as np
import pytest
from modAL.models import ActiveLearner, Committee
from modAL.uncertainty import margin_sampling
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from modal_clip_dual import CLIPImageEncoder, DualPromptLearner, negative_prompt_sampling
from modal_clip_dual.active import Protocol

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}
ROWS = np.concatenate([np.flatnonzero(load_digits().target == k)[:6] for k in range(10)])


class HeadTests:
    """A subclass names the class, and parameters that make it quick."""

    Head = None
    params = {}
    grid = {}  # a parameter of its own and two values

    @pytest.fixture
    def make(self, digits):
        return lambda **params: self.Head(digits.class_names, **{**DEMO, **self.params, **params})

    @pytest.fixture
    def labeled(self, digits, embeddings):
        return embeddings[ROWS], digits.target[ROWS]

    def test_predicts_better_than_chance_and_alike_from_images(self, make, labeled, digits, embeddings):
        clf = make().fit(*labeled)
        assert clf.score(embeddings, digits.target) > 0.6
        from_images = make().fit(digits.images[ROWS], labeled[1])
        actual, expected = from_images.predict_proba(digits.images[:30]), clf.predict_proba(embeddings[:30])
        np.testing.assert_allclose(actual, expected, atol=1e-3)

    def test_answers_belong_together(self, make, labeled, embeddings):
        clf = make().fit(*labeled)
        X = embeddings[:200] * 3  # length does not matter
        proba = clf.predict_proba(X)
        assert proba.dtype == np.float32
        assert proba.shape == (200, 10)
        np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(clf.predict(X), clf.classes_[proba.argmax(axis=1)])
        positive, z = clf.predict_logits(X)
        np.testing.assert_array_equal(z, clf.clean_logits(X))
        np.testing.assert_array_equal(positive.argmax(axis=1), proba.argmax(axis=1))
        labels, correct = clf.predict_with_confidence(X)
        np.testing.assert_array_equal(labels, clf.predict(X))
        np.testing.assert_array_equal(correct, clf.predict_correct_proba(X))
        at_best = z[np.arange(200), proba.argmax(axis=1)].astype(np.float64)
        np.testing.assert_allclose(correct, 1 / (1 + np.exp(np.log(9) - at_best)), atol=1e-5)
        np.testing.assert_allclose(clf.predict_clean_proba(X), 1 / (1 + np.exp(-z.astype(np.float64))), atol=1e-6)

    def test_labels_by_name_and_classes_without_a_label(self, make, labeled, digits, embeddings):
        few = labeled[1] < 4
        clf = make().fit(labeled[0][few], np.array(digits.class_names)[labeled[1][few]])
        assert clf.classes_.tolist() == sorted(digits.class_names)
        assert clf.predict_proba(embeddings[:5]).shape == (5, 10)

    def test_same_result_again(self, make, labeled, embeddings):
        first, second = make().fit(*labeled), make().fit(*labeled)
        np.testing.assert_array_equal(first.predict_proba(embeddings), second.predict_proba(embeddings))

    def test_pickle_save_and_load(self, make, labeled, embeddings, tmp_path):
        clf = make().fit(*labeled)
        expected = clf.predict_logits(embeddings)
        clf.save(tmp_path / "head.npz")
        copies = [pickle.loads(pickle.dumps(clf)), type(clf).load(tmp_path / "head.npz")]
        for copy in copies:
            for actual, wanted in zip(copy.predict_logits(embeddings), expected):
                np.testing.assert_array_equal(actual, wanted)
        assert copies[1].get_params() == clf.get_params()

    def test_nothing_is_left_of_a_fit_that_fails(self, make, labeled, embeddings):
        clf = make().fit(*labeled)
        expected = clf.predict_proba(embeddings[:9])
        for X, y in ((embeddings[:3], ["none"] * 3), (embeddings[:3], [0, 1]), (embeddings[:3, :5], [0, 1, 2])):
            with pytest.raises(ValueError, match=r"y\[0\] is 'none'|3 rows but y has 2|has 5 features"):
                clf.fit(X, y)
        np.testing.assert_array_equal(clf.predict_proba(embeddings[:9]), expected)
        with pytest.raises(NotFittedError):
            clone(clf).predict(embeddings)

    def test_in_pipelines_searches_learners_and_committees(self, make, labeled, digits, embeddings):
        pipeline = make_pipeline(CLIPImageEncoder("demo", "bundled", device="cpu"), make())
        pipeline.fit(digits.images[ROWS], labeled[1])
        assert pipeline.predict(digits.images[:5]).shape == (5,)
        folds = StratifiedKFold(2, shuffle=True, random_state=0)
        search = GridSearchCV(make(), self.grid, cv=folds).fit(*labeled)
        assert set(search.best_params_) == set(self.grid)
        learners = []
        for strategy in (negative_prompt_sampling, margin_sampling):
            learner = ActiveLearner(make(), query_strategy=strategy, X_training=labeled[0], y_training=labeled[1])
            rows, samples = learner.query(embeddings[:100], n_instances=3)
            learner.teach(samples, digits.target[rows])
            learners.append(learner)
        assert Committee(learners).predict(embeddings[:5]).shape == (5,)

    def test_whole_loop_and_resume(self, make, digits, embeddings, tmp_path):
        X, y = embeddings[:150], digits.target[:150]
        whole = DualPromptLearner(make(), X, y_pool=y).run(y, protocol=Protocol(3, per_class=1))
        path = tmp_path / "loop.npz"
        DualPromptLearner(make(), X, path=path).run(y, protocol=Protocol(2, per_class=1))
        resumed = DualPromptLearner.resume(path, X)
        assert type(resumed.estimator) is self.Head
        resumed.run(y, protocol=Protocol(3, per_class=1))
        assert resumed.rows_.tolist() == whole.rows_.tolist()
        np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
        assert whole.log_[-1]["estimated_accuracy"] is not None

    def test_parameters_of_its_own_are_checked(self, make, labeled):
        for name in self.grid:
            with pytest.raises(ValueError, match=f"'{name}' parameter"):
                make(**{name: "wrong"}).fit(*labeled)
