"""CorrectnessRegressor: against scikit-learn's cross_val_predict and Ridge by hand; no label leaks."""

import warnings

import numpy as np
import pytest
from judge_template import DEMO, JudgeTemplate
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from modal_clip_dual import BayesAdapterClassifier, CorrectnessRegressor
from modal_clip_dual.correctness._neighbors import Judged
from modal_clip_dual.evaluation import auroc_of_correctness


class TestRegressor(JudgeTemplate):
    Judge = CorrectnessRegressor
    judges_labels = False  # sees the probabilities, and the label only through "clean" and neighbors

    def test_cross_val_predict_and_ridge_by_hand(self, digits, embeddings):
        X, y = embeddings[:120], digits.target[:120]
        base = LogisticRegression(max_iter=300)
        folds = StratifiedKFold(4, shuffle=True, random_state=0)
        proba = cross_val_predict(base, X, y, cv=folds, method="predict_proba")
        right = (proba.argmax(axis=1) == y).astype(float)
        logarithms = lambda proba: np.log(np.maximum(np.sort(proba, axis=1)[:, ::-1], 1e-4))  # noqa: E731
        table = np.hstack([logarithms(proba), X])
        ridge = Ridge(alpha=3.0).fit(table, right)
        fitted = base.fit(X, y)
        new = np.hstack([logarithms(fitted.predict_proba(embeddings)), embeddings])
        expected = np.clip(ridge.predict(new), 0, 1)
        clf = CorrectnessRegressor(
            base, features=["proba", "embedding"], regressor=Ridge(alpha=3.0), cv=folds, calibrate=None
        )
        np.testing.assert_allclose(clf.fit(X, y).predict_correct_proba(embeddings), expected, atol=1e-6)

    def test_no_label_leaks(self):
        """Where labels are random, nothing tells which will be right, though the classifier learns them by heart."""
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(400, 4)), rng.integers(0, 2, 400)
        clf = CorrectnessRegressor(KNN1(), features=["proba", "embedding"], neighbors=3, random_state=0).fit(X, y)
        new, truth = rng.normal(size=(2000, 4)), rng.integers(0, 2, 2000)
        labels, correct = clf.predict_with_confidence(new)
        assert abs(auroc_of_correctness(correct, labels == truth) - 0.5) < 0.05
        assert abs(correct.mean() - 0.5) < 0.06
        # Its own training answers are all right, which says nothing; out of fold it is right half of the time.
        assert (clf.predict(X) == y).all() and abs(clf.predict_correct_proba(X).mean() - 0.5) < 0.1

    @pytest.mark.filterwarnings("ignore:CorrectnessRegressor")
    @pytest.mark.parametrize("always", [True, False])
    def test_all_right_or_none(self, always):
        X, y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2
        with pytest.warns(UserWarning, match=f"{'all' if always else 'none'} of the 30 answers out of fold"):
            clf = CorrectnessRegressor(Oracle(always), random_state=0).fit(np.column_stack([X, y]), y)
        mean = 31 / 32 if always else 1 / 32
        np.testing.assert_allclose(clf.predict_correct_proba(np.column_stack([X, y])), mean)

    def test_features(self, base, digits):
        images, y = digits.images[:60], digits.target[:60]
        every = ["proba", "clean", "attention", "embedding"]
        clf = self.make(base, features=every).fit(images, y)
        names = clf.feature_names_out_
        assert len(names) == 10 + 2 + 48 + 128 and len(set(names)) == len(names)
        new = digits.images[60:70]
        predicted = clf.predict(new)
        from modal_clip_dual.correctness._features import features_of

        table, _ = features_of(clf.estimator_, new, predicted, clf.classes_, every)
        proba, z = clf.predict_proba(new), clf.estimator_.clean_logits(new)
        attention = clf.estimator_.block_features(new, "attention")
        for row in range(10):
            logarithms = [np.log(max(p, 1e-4)) for p in sorted(proba[row].tolist(), reverse=True)]
            np.testing.assert_allclose(table[row, :10], logarithms, atol=1e-5)
            own, others = z[row, predicted[row]], np.delete(z[row], predicted[row])
            np.testing.assert_allclose(table[row, 10:12], [own, own - others.max()], rtol=1e-6)
            heads = attention[row].reshape(16, -1)
            figures = [[one[0], -sum(p * np.log(p) for p in one.tolist()), one[1:].max()] for one in heads]
            np.testing.assert_allclose(table[row, 12:60], np.ravel(figures), atol=1e-5)

    def test_neighbors_by_loops(self):
        rng = np.random.default_rng(0)
        E = rng.normal(size=(6, 3))
        E /= np.linalg.norm(E, axis=1, keepdims=True)
        target, proba, confidence = rng.integers(0, 3, 6), rng.random(6), rng.random(6)
        judged = Judged(E, target, proba, confidence)
        new = rng.normal(size=(4, 3))
        predicted, own = rng.integers(0, 3, 4), rng.random(4)
        actual = judged.features(new, predicted, own, 2).reshape(4, 2, 5)
        for i in range(4):
            for rank, j in enumerate(np.argsort(-(E @ new[i]))[:2]):
                expected = [
                    E[j] @ new[i], proba[j], confidence[j], confidence[j] * own[i], target[j] == predicted[i],
                ]  # fmt: skip
                np.testing.assert_allclose(actual[i, rank], expected, rtol=1e-12)
        own_rows = judged.features(E, target, proba, 9, itself=True).reshape(6, 9, 5)
        assert (own_rows[:, 5:] == 0).all()  # there are five others
        assert (own_rows[:, 0, 0] < 1 - 1e-9).all()  # none is its own neighbor

    def test_second_stage(self, base, data, embeddings, digits):
        clf = self.make(base, neighbors=4).fit(*data)
        assert clf.feature_names_out_[-1] == "neighbor3_agrees" and len(clf.feature_names_out_) == 10 + 20
        labels, correct = clf.predict_with_confidence(embeddings)
        assert auroc_of_correctness(correct, labels == digits.target) > 0.6

    def test_wrong_parameters_of_its_own(self, base, data):
        with pytest.raises(ValueError, match=r"features=\['depth'\]; expected one or more of"):
            self.make(base, features=["depth"]).fit(*data)
        with pytest.raises(TypeError, match="need an estimator with clean_logits, which LogisticRegression lacks"):
            self.make(LogisticRegression(), features=["clean"]).fit(*data)
        with pytest.raises(ValueError, match="so it holds embeddings"):
            self.make(base, features=["attention"]).fit(*data)

    def test_regressor_is_a_copy(self, base, data):
        regressor = RidgeCV()
        self.make(base, regressor=regressor).fit(*data)
        assert not hasattr(regressor, "coef_")


class KNN1(ClassifierMixin, BaseEstimator):
    """The label of the nearest training sample, which it knows by heart."""

    def fit(self, X, y):
        self.X_, self.y_, self.classes_ = X, y, np.unique(y)
        return self

    def predict_proba(self, X):
        nearest = ((X[:, None] - self.X_) ** 2).sum(axis=2).argmin(axis=1)
        return np.where(self.y_[nearest, None] == self.classes_, 0.9, 0.1)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Oracle(ClassifierMixin, BaseEstimator):
    """Always right, or never: the last column of X is the label."""

    def __init__(self, always):
        self.always = always

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return X[:, -1].astype(int) if self.always else 1 - X[:, -1].astype(int)

    def predict_proba(self, X):
        return np.eye(2)[self.predict(X)]


def test_few_labels_are_no_error(digits, embeddings):
    """Also where some classes have one label, or none."""
    base = BayesAdapterClassifier(digits.class_names, max_epochs=10, n_samples=0, random_state=0, **DEMO)
    for n in (2, 3, 7, 12):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            clf = CorrectnessRegressor(base, random_state=0).fit(embeddings[:n], digits.target[:n])
        correct = clf.predict_correct_proba(embeddings)
        assert ((correct >= 0) & (correct <= 1)).all()
