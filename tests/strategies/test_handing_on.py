"""Strategies see the classifier that predicts, where another one judges its predictions."""

import numpy as np
import pytest
from modAL.models import ActiveLearner
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modal_clip_dual import CalibratedCorrectness, available_strategies, get_strategy

INNER = [LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression()), RandomForestClassifier(3)]
COEFFICIENTS = {"alfa-mix", "dropquery"}


@pytest.mark.parametrize("inner", INNER, ids=["bare", "pipeline", "forest"])
def test_what_is_listed_works_and_asks_the_classifier(embeddings, digits, inner):
    """The factors of a calibration are none of a linear classifier."""
    X, y = embeddings[:120].astype(np.float64), digits.target[:120]
    clf = CalibratedCorrectness(inner, cv=2, random_state=0)
    listed = set(available_strategies(clf))
    assert listed == set(available_strategies(inner)) | {"auto", "correctness"}
    assert "alfa-mix" in listed or isinstance(inner, RandomForestClassifier)
    learner = ActiveLearner(clf, X_training=X[:40], y_training=y[:40])
    plain = ActiveLearner(learner.estimator.estimator_)
    plain.X_training, plain.y_training = X[:40], y[:40]
    for name in sorted(COEFFICIENTS & listed):
        rows, expected = (
            get_strategy(name, random_state=0)(asked, X[40:], n_instances=5)[0] for asked in (learner, plain)
        )
        assert rows.tolist() == expected.tolist()


def test_scores_of_prompts_under_a_judge(classifier, embeddings, digits):
    X, y = embeddings[:120], digits.target[:120]
    clf = CalibratedCorrectness(classifier(max_epochs=1), cv=2, random_state=0).fit(X[:40], y[:40])
    strategy = get_strategy("negative-prompt")
    asked = [strategy(one, X[40:], n_instances=5)[0].tolist() for one in (clf, clf.estimator_)]
    assert asked[0] == asked[1]
