"""What a comparison is to run."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import DataConversionWarning
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from modal_clip_dual import CalibratedCorrectness, TipAdapterClassifier
from modal_clip_dual.active import Protocol
from modal_clip_dual.evaluation.plan import FORMAT, find_samples, make_plan

SAMPLES = find_samples(np.arange(60, dtype=np.float32).reshape(30, 2), np.arange(30) % 3)


class Plain(ClassifierMixin, BaseEstimator):
    """A classifier whose settings no release of another package changes."""

    __module__ = "tests"

    def __init__(self, depth=2):
        self.depth = depth

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        raise NotImplementedError("plans run nothing")


def test_stored_runs_are_found_again():
    """Files are named after a digest of all settings: with other names a user's runs would be repeated."""
    plan = make_plan(SAMPLES, GaussianNB(), ["random", "margin"], Protocol(2, per_class=1), seeds=[0, 7])
    assert FORMAT == 1
    assert [run.file_name for run in plan.runs] == [
        "data-GaussianNB-selection-random-0-e91a4cb87101411b.csv",
        "data-GaussianNB-selection-random-7-448940e5e5554962.csv",
        "data-GaussianNB-selection-margin-0-f1e4428e7070b93b.csv",
        "data-GaussianNB-selection-margin-7-c27fe49782bf01da.csv",
    ]


def test_a_protocol_says_what_it_did():
    """Runs that 0.1.0 stored are found again, in whatever words the protocol is written."""
    same = [Protocol(6, fraction=0.1), Protocol(6, fraction=0.1, first_query="strategy")]
    keys = [make_plan(SAMPLES, GaussianNB(), "random", protocol, seeds=[0]).runs[0].key for protocol in same]
    assert keys == ["6013b84c17dd9910"] * 2
    papers = ["paper", Protocol(6, fraction=0.01), Protocol(6, fraction=0.01, first_query="strategy")]
    keys = [make_plan(SAMPLES, GaussianNB(), "random", protocol, seeds=[0]).runs[0].key for protocol in papers]
    assert keys == ["eefee38c37de2ef2"] * 3


@pytest.mark.parametrize("around", [lambda clf: make_pipeline("passthrough", clf), CalibratedCorrectness])
def test_names_of_the_data_reach_what_is_inside(around):
    data = {"X_train": SAMPLES.X, "y_train": SAMPLES.y, "class_names": list("abc"), "template": "letter {}"}
    samples, protocol = find_samples(data=Bunch(name="mine", **data)), Protocol(2, per_class=1)
    head = TipAdapterClassifier(model_name="demo", pretrained="bundled")
    own = clone(head).set_params(class_names=list("xyz"), template="own {}")
    for given, expected in [(head, (list("abc"), "letter {}")), (own, (list("xyz"), "own {}"))]:
        outer = around(given)
        (run,) = make_plan(samples, outer, "random", protocol, seeds=1).runs
        inner = run.estimator[-1] if around is not CalibratedCorrectness else run.estimator.estimator
        assert (inner.class_names, inner.template) == expected
    assert head.class_names is None  # the user's own is left alone


@pytest.mark.parametrize(
    "seeds",
    [pd.Series([4, 1], index=[7, 8]), np.array([4, 1]), (4, 1), pd.Index([4, 1]), pd.Series([4, 1], dtype="Int64")],
)
def test_seeds_of_any_container(seeds):
    runs = make_plan(SAMPLES, Plain(), "random", Protocol(2, per_class=1), seeds=seeds).runs
    assert [run.names["seed"] for run in runs] == [4, 1]


def test_labels_may_be_a_column_or_come_in_other_containers():
    X, y = SAMPLES.X, SAMPLES.y
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        column = find_samples(X, y[:, None])
    assert column.y.shape == (30,)
    runs = [make_plan(samples, Plain(), "random", Protocol(2, per_class=1), seeds=1).runs for samples in
            (SAMPLES, column, find_samples(X, y.tolist()), find_samples(X, pd.Series(y, index=y)))]  # fmt: skip
    assert len({run.key for (run,) in runs}) == 1  # stored runs are found again


def test_labels_are_those_of_the_estimators_class_names():
    samples = find_samples(SAMPLES.X, SAMPLES.y + 1, SAMPLES.X[:3], [1, 2, 3])
    protocol = Protocol(2, per_class=1)
    known = TipAdapterClassifier({1: "a", 2: "b", 3: "c"}, model_name="demo", pretrained="bundled")
    assert len(make_plan(samples, known, "random", protocol, seeds=1).runs) == 1
    from_zero = clone(known).set_params(class_names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"^y\[2\] is 3, which is not a label of class_names; expected one of "):
        make_plan(samples, [Plain(), from_zero], "random", protocol, seeds=1)


def test_numbers_of_numpy_are_the_same_settings():
    plain = make_plan(SAMPLES, Plain(), "random", Protocol(2, per_class=1), seeds=1, test_size=0.5)
    numpy = Protocol(np.int64(2), per_class=np.int32(1))
    again = make_plan(SAMPLES, Plain(), "random", numpy, seeds=np.int64(1), test_size=np.float32(0.5))
    assert [run.key for run in again.runs] == [run.key for run in plain.runs]


def test_pool_and_test_set_of_a_seed():
    plan = make_plan(SAMPLES, Plain(), "random", Protocol(2, per_class=1), seeds=1, test_size=0.4)
    assert (plan.n_pool, plan.n_test, plan.n_rounds, plan.n_instances) == (18, 12, 2, 3)
    pool, test = plan.split(3)
    assert sorted([*pool, *test]) == list(range(30)) and len(test) == 12
    assert [rows.tolist() for rows in plan.split(3)] == [pool.tolist(), test.tolist()]
    assert plan.split(4)[1].tolist() != test.tolist()
    light = plan.without_data()
    assert light.X is None and light.runs == [] and light.n_pool == 18


def test_loops_are_added_to_the_names_where_there_are_both():
    with pytest.raises(TypeError, match="'Plain' is a Plain; loop='full' expects a classifier with fit_unlabeled"):
        make_plan(SAMPLES, Plain(), "random", loop=["selection", "full"])
