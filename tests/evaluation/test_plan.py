"""What a comparison is to run."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

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
    plan = make_plan(SAMPLES, Plain(), ["random", "margin"], Protocol(2, per_class=1), seeds=[0, 7])
    assert FORMAT == 1
    assert [run.file_name for run in plan.runs] == [
        "data-Plain-selection-random-0-28bf43159ffa4ab0.csv",
        "data-Plain-selection-random-7-85d2326ddbb8cc51.csv",
        "data-Plain-selection-margin-0-ce88ca895af92571.csv",
        "data-Plain-selection-margin-7-43826acbe4d56601.csv",
    ]


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
