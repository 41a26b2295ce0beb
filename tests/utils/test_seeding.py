"""The same seed gives the same table, whatever is inside of an estimator."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modal_clip_dual import CalibratedCorrectness, SmoothedClassifier, random_sampling
from modal_clip_dual.evaluation import run_active_learning
from modal_clip_dual.utils.seeding import seed_parts


def forest():
    return RandomForestClassifier(n_estimators=2, max_depth=3)


def records(estimator, X, y, seed=0):
    rows = run_active_learning(
        estimator, random_sampling, X[:150], y[:150], X[150:300], y[150:300], n_instances=30, n_rounds=1,
        random_state=seed,
    )  # fmt: skip
    return [(row["accuracy"], row["nll"]) for row in rows]


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), forest()),
        GridSearchCV(forest(), {"max_depth": [3]}, cv=2),
        StackingClassifier([("forest", forest())], LogisticRegression(), cv=2),
        make_pipeline(StandardScaler(), CalibratedCorrectness(forest(), cv=2)),
        CalibratedCorrectness(make_pipeline(StandardScaler(), forest()), cv=2),
        SmoothedClassifier(forest(), sigma=0.01, n_select=3),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
def test_a_run_follows_its_seed(embeddings, digits, estimator):
    X, y = embeddings.astype(np.float64), digits.target % 3
    first = records(estimator, X, y)
    assert records(estimator, X, y) == first
    assert records(estimator, X, y, seed=1) != first
    assert all(value is None for name, value in estimator.get_params().items() if name.endswith("random_state"))


def test_what_is_set_stays_and_parts_differ():
    pipeline = make_pipeline(SGDClassifier(random_state=5), forest(), GridSearchCV(forest(), {}))
    seed_parts(pipeline, 3)
    params = pipeline.get_params()
    assert params["sgdclassifier__random_state"] == 5
    seeds = [params["randomforestclassifier__random_state"], params["gridsearchcv__estimator__random_state"]]
    assert all(isinstance(seed, int) for seed in seeds) and seeds[0] != seeds[1]
    again = clone(make_pipeline(forest()))
    seed_parts(again, 3)
    assert again[0].random_state == seeds[0]  # by its name, not by what stands beside it


def test_parts_are_left_to_what_seeds_its_copies():
    clf = make_pipeline(StandardScaler(), CalibratedCorrectness(forest(), judge=LogisticRegression()))
    seed_parts(clf, 0)
    assert clf[-1].random_state is not None
    assert clf[-1].estimator.random_state is clf[-1].judge.random_state is None
    bare = forest()
    seed_parts(bare, 0)
    assert bare.random_state is None
