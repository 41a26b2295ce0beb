"""What is measured of a model: its own labels, and how sure it is of them."""

from functools import wraps

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from modal_clip_dual import CalibratedCorrectness, DualLinearClassifier
from modal_clip_dual.evaluation import area_under_risk_coverage
from modal_clip_dual.evaluation.measurement import measure


@pytest.fixture
def parts(embeddings, digits):
    """Two classes, as `FixedThresholdClassifier` wants them."""
    X, y = embeddings.astype(np.float64), digits.target % 2
    return X[:60], y[:60], X[60:300], y[60:300]


def strict(estimator=None):
    estimator = LogisticRegression() if estimator is None else estimator
    return FixedThresholdClassifier(estimator, threshold=0.8, response_method="predict_proba")


class Coin(GaussianNB):
    """A classifier whose `predict` has nothing to do with its probabilities, and which may abstain."""

    def predict(self, X):
        return np.where(np.arange(len(X)) % 3 == 0, -1, np.arange(len(X)) % 2)


@pytest.mark.parametrize(
    "make",
    [
        strict,
        lambda: make_pipeline(StandardScaler(), strict()),
        lambda: GridSearchCV(strict(), {"estimator__C": [1.0]}),
        lambda: CalibratedCorrectness(strict(), random_state=0),
        lambda: strict(make_pipeline(StandardScaler(), LogisticRegression())),
    ],
)
def test_labels_are_those_of_predict(parts, make):
    X, y, X_test, y_test = parts
    clf = make().fit(X, y)
    measured = measure(clf, X_test, y_test)
    predicted, proba = clf.predict(X_test), clf.predict_proba(X_test)
    correct = predicted == y_test
    assert (predicted != clf.classes_[proba.argmax(axis=1)]).sum() > 5  # it is another prediction
    assert measured["accuracy"] == pytest.approx(clf.score(X_test, y_test))
    assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y_test, predicted))
    assert measured["macro_f1"] == pytest.approx(f1_score(y_test, predicted, average="macro"))
    assert measured["nll"] == pytest.approx(log_loss(y_test, proba))
    confidence = proba[np.arange(len(proba)), predicted]
    assert measured["auroc_max_proba"] == pytest.approx(roc_auc_score(correct, confidence))
    assert measured["auroc_margin"] == pytest.approx(roc_auc_score(correct, confidence))  # of two classes
    wrong = 1 - correct.mean()
    area, best = (area_under_risk_coverage(score, correct) for score in (confidence, correct))
    prr = (wrong - area) / (wrong - best)
    assert measured["prr_max_proba"] == pytest.approx(prr)


@pytest.mark.filterwarnings("ignore:The `probability` parameter was deprecated:FutureWarning")
def test_labels_of_a_support_vector_machine(embeddings, digits):
    X, y = embeddings[:300].astype(np.float64), digits.target[:300]
    clf = SVC(probability=True, random_state=0).fit(X[:40], y[:40])
    assert measure(clf, X[40:], y[40:])["accuracy"] == clf.score(X[40:], y[40:])


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
def test_a_label_without_a_probability_is_wrong_and_has_no_confidence(parts):
    X, y, X_test, y_test = parts
    clf = Coin().fit(X, y)
    measured = measure(clf, X_test, y_test)
    predicted = clf.predict(X_test)
    correct = predicted == y_test
    assert measured["accuracy"] == correct.mean() < 0.5
    confidence = np.where(predicted < 0, 0, clf.predict_proba(X_test)[np.arange(len(X_test)), predicted])
    assert measured["auroc_max_proba"] == pytest.approx(roc_auc_score(correct, confidence))


def test_own_classifiers_are_asked_once(classifier, embeddings, digits, monkeypatch):
    """Their `predict` is the likeliest class; for images a second call would be a second pass."""
    X, y = embeddings[:100], digits.target[:100]
    prompts = classifier(max_epochs=1).fit(X[:40], y[:40])
    head = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
    head.fit(X[:40], y[:40], X_pool=X)
    judged = CalibratedCorrectness(head, cv=2, random_state=0).fit(X[:40], y[:40], X_pool=X)
    for clf, times in ((prompts, 0), (head, 0), (make_pipeline("passthrough", prompts), 0), (judged, 1)):
        expected, calls = clf.score(X[40:], y[40:]), []
        predict = type(head).predict

        @wraps(predict)
        def counted(*args, predict=predict, calls=calls):
            calls.append(args)
            return predict(*args)

        with monkeypatch.context() as patched:
            for kind in (type(head), type(prompts)):
                patched.setattr(kind, "predict", counted)
            assert measure(clf, X[40:], y[40:])["accuracy"] == pytest.approx(expected)
        assert len(calls) == times  # P(correct) is that of the label which it asks for


@pytest.mark.parametrize(("fitted", "judge"), [(False, True), (True, False)])
def test_a_template_is_not_what_is_measured(classifier, embeddings, digits, fitted, judge):
    """The estimator that a meta-estimator copies is not fitted, or to other samples."""
    X, y = embeddings[:160], digits.target[:160]
    template = classifier(max_epochs=1)
    if fitted:
        template.fit(X[:30], (y[:30] + 1) % 10)  # to wrong labels
    clip = {"model_name": "demo", "pretrained": "bundled", "device": "cpu"}
    judge = DualLinearClassifier(digits.class_names, **clip) if judge else None
    clf = CalibratedCorrectness(template, judge=judge, cv=2, random_state=0).fit(X[:60], y[:60], X_pool=X)
    measured = measure(clf, X[60:], y[60:])
    assert measured["accuracy"] == clf.score(X[60:], y[60:]) > 0.5
    loss = log_loss(y[60:], clf.predict_proba(X[60:]), labels=np.arange(10))
    assert measured["nll"] == pytest.approx(loss, rel=1e-4)
    assert measured["mean_correct"] == pytest.approx(clf.predict_correct_proba(X[60:]).mean())
    predicted = clf.predict(X[60:])
    z = clf.estimator_.clean_logits(X[60:])[np.arange(100), predicted]
    assert measured["auroc_clean"] == pytest.approx(roc_auc_score(predicted == y[60:], z))


def test_an_ensemble_is_measured_and_not_its_template(classifier, embeddings, digits):
    X, y = embeddings[:160], digits.target[:160]
    bag = BaggingClassifier(classifier(max_epochs=1), n_estimators=2, random_state=0).fit(X[:60], y[:60])
    measured = measure(bag, X[60:], y[60:])
    assert measured["accuracy"] == bag.score(X[60:], y[60:]) > 0.5
    assert "mean_correct" not in measured and "auroc_clean" not in measured
    with pytest.raises(TypeError, match="predict_proba"):
        measure(clone(bag).set_params(estimator=SVC()).fit(X[:60], y[:60]).estimators_[0], X[60:], y[60:])
