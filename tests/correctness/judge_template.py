"""What every model of correctness has to do; each one's test class inherits it."""

import pickle

import joblib
import numpy as np
import pytest
from conftest import LABELLED
from modAL.models import ActiveLearner
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modal_clip_dual import (
    BayesAdapterClassifier,
    CLIPImageEncoder,
    DualLinearClassifier,
    DualPromptClassifier,
    DualPromptLearner,
)
from modal_clip_dual.evaluation import auroc_of_correctness
from modal_clip_dual.strategies import correctness_sampling

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


class JudgeTemplate:
    """Set `Judge`, and `fast`, arguments that save time."""

    Judge = None
    fast: dict = {}

    @classmethod
    def make(cls, base, **params):
        return cls.Judge(base, **{"cv": 2, "random_state": 0, **cls.fast, **params})

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls, digits):
        return BayesAdapterClassifier(digits.class_names, max_epochs=30, n_samples=0, random_state=0, **DEMO)

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls, digits, embeddings):
        return embeddings[LABELLED], digits.target[LABELLED]

    @pytest.fixture(scope="class")
    @classmethod
    def judge(cls, base, data):
        """Fitted on 60 digits: not to be changed."""
        return cls.make(base).fit(*data)

    def test_the_predictions_are_those_of_the_classifier(self, judge, base, data, embeddings):
        alone = clone(base).fit(*data)
        for method in ("predict", "predict_proba", "transform"):
            np.testing.assert_array_equal(getattr(judge, method)(embeddings), getattr(alone, method)(embeddings))
        np.testing.assert_array_equal(judge.classes_, alone.classes_)
        assert not hasattr(base, "classes_")  # a copy was fitted

    def test_the_score_and_its_errors_belong_to_the_same_predictions(self, judge, digits, embeddings):
        """Whatever else the model would predict by itself, P(correct) is about the label that `predict` returns."""
        labels, correct = judge.predict_with_confidence(embeddings)
        np.testing.assert_array_equal(labels, judge.predict(embeddings))
        np.testing.assert_array_equal(correct, judge.predict_correct_proba(embeddings))
        assert correct.shape == (1797,) and ((correct >= 0) & (correct <= 1)).all()
        # Another label's doubt would not rank these errors.
        assert auroc_of_correctness(correct, labels == digits.target) > 0.7
        judge_of_others = pickle.loads(pickle.dumps(judge))
        judge_of_others.estimator_ = Rolled(judge.estimator_)
        rolled, doubtful = judge_of_others.predict_with_confidence(embeddings)
        np.testing.assert_array_equal(rolled, (labels + 1) % 10)
        if self.judges_labels:  # nearly all of these labels are wrong, and are said to be
            assert doubtful.mean() < correct.mean() - 0.2

    judges_labels = True  # whether another label for the same probabilities is another score

    @pytest.mark.parametrize("dump", ["pickle", "joblib"])
    def test_saving(self, judge, embeddings, tmp_path, dump):
        if dump == "pickle":
            again = pickle.loads(pickle.dumps(judge))
        else:
            joblib.dump(judge, tmp_path / "judge.joblib")
            again = joblib.load(tmp_path / "judge.joblib")
        expected = judge.predict_correct_proba(embeddings[:50])
        np.testing.assert_array_equal(again.predict_correct_proba(embeddings[:50]), expected)

    def test_same_seed_same_answer(self, judge, base, data, embeddings):
        again = self.make(clone(base).set_params(random_state=None)).fit(*data)
        twice = self.make(clone(base).set_params(random_state=None)).fit(*data)
        expected = again.predict_correct_proba(embeddings[:50])
        np.testing.assert_array_equal(twice.predict_correct_proba(embeddings[:50]), expected)
        params = judge.get_params()
        assert clone(judge).get_params().keys() == params.keys()
        assert params["estimator__max_epochs"] == 30

    def test_unfitted(self, base, embeddings):
        for method in ("predict", "predict_proba", "predict_correct_proba", "predict_with_confidence"):
            with pytest.raises(NotFittedError):
                getattr(self.make(base), method)(embeddings[:3])

    def test_a_failed_fit_changes_nothing(self, judge, data, embeddings):
        again = pickle.loads(pickle.dumps(judge))
        before = again.predict_correct_proba(embeddings[:50])
        with pytest.raises(ValueError, match="which is not a label"):
            again.fit(data[0], np.where(data[1] == 3, 77, data[1]))
        np.testing.assert_array_equal(again.predict_correct_proba(embeddings[:50]), before)

    def test_labels_that_are_names_and_any_classifier(self, digits, embeddings, data):
        names = np.array(digits.class_names)
        clf = self.make(LogisticRegression(max_iter=300)).fit(data[0], names[data[1]])
        labels, correct = clf.predict_with_confidence(embeddings)
        assert set(labels) <= set(names) and clf.n_features_in_ == 128
        right = labels == names[digits.target]
        assert auroc_of_correctness(correct, right) > 0.65

    def test_pipeline_of_images(self, digits, data):
        """Around a Pipeline that begins with the encoder, and as its last step."""
        images, y = digits.images[LABELLED], data[1]
        inner = make_pipeline(CLIPImageEncoder(**DEMO), LogisticRegression(max_iter=300))
        outer = make_pipeline(CLIPImageEncoder(**DEMO), self.make(LogisticRegression(max_iter=300)))
        expected = outer.fit(images, y)[-1].predict_correct_proba(outer[:-1].transform(digits.images[:99]))
        actual = self.make(inner).fit(images, y).predict_correct_proba(digits.images[:99])
        np.testing.assert_allclose(actual, expected, atol=1e-4)

    def test_the_pool_reaches_the_classifier(self, digits, data, embeddings):
        seen = []

        class Spy(DualLinearClassifier):
            def fit(self, X, y, X_pool=None):
                seen.append(X_pool)
                return super().fit(X, y, X_pool=X_pool)

        base = Spy(digits.class_names, **DEMO)
        pool = embeddings[:100]
        learner = DualPromptLearner(self.make(base), pool, query_strategy=correctness_sampling)
        learner.teach(rows=np.arange(30), y=digits.target[:30])
        assert len(seen) == 3 and all(len(X_pool) == 100 for X_pool in seen)  # two folds and the whole
        rows, _ = learner.query(n_instances=10)
        assert set(rows) <= set(range(30, 100))

    def test_in_an_active_learner(self, base, data, embeddings, digits):
        learner = ActiveLearner(self.make(base), correctness_sampling, X_training=data[0], y_training=data[1])
        rows, X = learner.query(embeddings, n_instances=10)
        correct = learner.estimator.predict_correct_proba(embeddings)
        assert correct[rows].mean() < correct.mean()
        learner.teach(X, digits.target[rows])
        assert len(learner.X_training) == 70

    def test_around_prompts(self, digits, data, embeddings):
        base = DualPromptClassifier(digits.class_names, max_epochs=2, random_state=0, **DEMO)
        clf = self.make(base).fit(*data)
        assert clf.predict_correct_proba(embeddings[:20]).shape == (20,)

    def test_wrong_parameters(self, base, data):
        with pytest.raises(ValueError, match="'cv' parameter"):
            self.make(base, cv=1).fit(*data)
        with pytest.raises(ValueError, match="'calibrate' parameter"):
            self.make(base, calibrate="none").fit(*data)
        with pytest.raises(ValueError, match="'estimator' parameter"):
            self.make("zero").fit(*data)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            self.make(base).fit(data[0], data[1][:-1])

    def test_isotonic(self, base, data, embeddings):
        correct = self.make(base, calibrate="isotonic").fit(*data).predict_correct_proba(embeddings)
        assert ((correct >= 0) & (correct <= 1)).all() and 1 < len(np.unique(correct))


class Rolled:
    """A classifier that predicts the class after the one that another predicts."""

    def __init__(self, inner):
        self.inner = inner

    def predict(self, X):
        return (self.inner.predict(X) + 1) % 10

    def __getattr__(self, name):
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)
