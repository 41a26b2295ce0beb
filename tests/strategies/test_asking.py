"""What a strategy asks of a classifier is compared before anything is computed."""

from functools import partial

import numpy as np
import pytest
from modAL.models import ActiveLearner
from modAL.uncertainty import entropy_sampling
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from modal_clip_dual import (
    DualPromptClassifier,
    DualPromptLearner,
    FineTunedClassifier,
    TipAdapterClassifier,
    alfa_mix_sampling,
    negative_prompt_sampling,
)
from modal_clip_dual.active import Protocol
from modal_clip_dual.evaluation import compare_strategies, run_active_learning
from modal_clip_dual.strategies import available_strategies, get_strategy
from modal_clip_dual.strategies.asking import lacking

X, Y = load_iris(return_X_y=True)


class OfAStranger(ClassifierMixin, BaseEstimator):
    pass


@pytest.mark.parametrize(
    "estimator",
    [LinearSVC(), LogisticRegression(), KNeighborsClassifier()],
    ids=["LinearSVC", "LogisticRegression", "KNeighborsClassifier"],
)
@pytest.mark.parametrize("name", available_strategies())
def test_what_is_listed_can_be_asked_and_nothing_else(estimator, name):
    learner = ActiveLearner(estimator, X_training=X[::7], y_training=Y[::7])
    listed = name in available_strategies(estimator)
    assert listed == (lacking(estimator, get_strategy(name)) is None)
    if listed:
        rows = get_strategy(name)(learner, X, n_instances=3)
        rows = rows[0] if isinstance(rows, tuple) else rows
        assert len(np.unique(np.asarray(rows))) == 3
    else:
        with pytest.raises((TypeError, AttributeError), match=lacking(estimator, get_strategy(name))):
            get_strategy(name)(learner, X, n_instances=3)


@pytest.mark.parametrize(
    ("estimator", "strategy", "method"),
    [
        (make_pipeline(StandardScaler(), LinearSVC()), entropy_sampling, "predict_proba"),
        (make_pipeline(StandardScaler(), LogisticRegression()), entropy_sampling, None),
        (GridSearchCV(LinearSVC(), {"C": [1]}), entropy_sampling, "predict_proba"),
        (VotingClassifier([("a", LogisticRegression())]), entropy_sampling, "predict_proba"),
        (VotingClassifier([("a", LogisticRegression())], voting="soft"), entropy_sampling, None),
        (SVC(), partial(entropy_sampling, random_tie_break=True), "predict_proba"),
        (make_pipeline(StandardScaler(), DualPromptClassifier()), negative_prompt_sampling, None),
        (LogisticRegression(), partial(negative_prompt_sampling, score="correct"), "predict_correct_proba"),
        (LogisticRegression(), lambda classifier, X, n_instances=1: [0], None),  # nothing is known of it
        (RandomForestClassifier(), alfa_mix_sampling, "coef_"),
        (TipAdapterClassifier(), partial(alfa_mix_sampling, eps=0.5), "coef_"),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()), alfa_mix_sampling, "coef_"),
        (SVC(), alfa_mix_sampling, "coef_"),
        (SVC(kernel="linear"), alfa_mix_sampling, None),
        (CalibratedClassifierCV(LogisticRegression()), alfa_mix_sampling, "coef_"),  # several of them
        (make_pipeline(StandardScaler(), LinearSVC()), alfa_mix_sampling, None),
        (GridSearchCV(LogisticRegression(), {"C": [1]}), alfa_mix_sampling, None),
        (GridSearchCV(RandomForestClassifier(), {"max_depth": [1]}), alfa_mix_sampling, "coef_"),
        (DualPromptClassifier(), alfa_mix_sampling, None),
        (FineTunedClassifier(), alfa_mix_sampling, None),
        (OfAStranger(), alfa_mix_sampling, None),
    ],
)
def test_what_is_inside_counts(estimator, strategy, method):
    assert lacking(estimator, strategy) == method


@pytest.fixture
def never_fitted(monkeypatch):
    def fit(self, *args, **kwargs):
        raise AssertionError("work was done before the refusal")

    monkeypatch.setattr(LogisticRegression, "fit", fit)
    monkeypatch.setattr(LinearSVC, "fit", fit)


def test_a_comparison_is_refused_before_it_begins(never_fitted):
    named = {"svm": LinearSVC(), "logistic": LogisticRegression()}
    with pytest.raises(TypeError, match="estimators: 'svm' is a LinearSVC without predict_proba; expected a class"):
        compare_strategies(named, ["random", "margin"], X, Y, protocol=Protocol(n_rounds=2, per_class=2), verbose=0)
    with pytest.raises(TypeError, match=r"strategies: 'alfa-mix' asks the classifier for coef_, which 'Tip"):
        compare_strategies(TipAdapterClassifier(), ["alfa-mix"], X, Y, protocol=Protocol(2, per_class=2))
    with pytest.raises(TypeError, match="strategies: 'mine' asks the classifier for clean_logits.*'LogisticRegressi"):
        compare_strategies(
            LogisticRegression(), {"mine": negative_prompt_sampling}, X, Y, protocol=Protocol(2, per_class=2)
        )


def test_a_run_and_a_loop_are_refused_before_they_begin(never_fitted):
    with pytest.raises(TypeError, match="estimator is a LinearSVC without predict_proba; expected a classifier that"):
        run_active_learning(LinearSVC(), entropy_sampling, X, Y, X, Y, n_instances=5, n_rounds=2)
    learner = DualPromptLearner(LogisticRegression(), X, query_strategy=negative_prompt_sampling, n_per_class=0)
    with pytest.raises(TypeError, match=r"query_strategy asks the classifier for clean_logits.*a LogisticRegression"):
        learner.query(n_instances=5)
    with pytest.raises(TypeError, match=r"query_strategy asks the classifier for predict_correct_proba"):
        learner.query(n_instances=5, score="correct")
    with pytest.raises(TypeError, match="query_strategy asks the classifier for clean_logits"):
        learner.run(Y)
    assert not hasattr(learner, "log_")
