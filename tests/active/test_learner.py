"""DualPromptLearner: the paper's loop, its log, its protocols, and its life after a kill."""

import json
import pickle
import signal
from functools import partial, wraps

import numpy as np
import pandas as pd
import pytest
import torch
from modAL.models import ActiveLearner
from modAL.uncertainty import entropy_sampling
from PIL import Image
from precision import of_probabilities
from processes import run_script
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler

from modal_clip_dual import (
    DualLinearClassifier,
    DualPromptLearner,
    mine_confident,
    negative_prompt_sampling,
    random_sampling,
)
from modal_clip_dual.active import PROTOCOLS, EstimatedAccuracy, Protocol, StablePredictions

N = 120
SECONDS = ("query_seconds", "train_seconds")


@pytest.fixture
def pool(embeddings, digits):
    return embeddings[:N], digits.target[:N]


@pytest.fixture
def make(classifier, pool):
    def make(X=pool[0], n_per_class=4, max_epochs=2, **params):
        params = {"query_strategy": negative_prompt_sampling} | params  # the paper's
        return DualPromptLearner(classifier(max_epochs=max_epochs), X, n_per_class=n_per_class, **params)

    return make


def without_seconds(log):
    return [{k: v for k, v in record.items() if k not in SECONDS} for record in log]


# -------------------------------------------------------------------- the loop


def test_loop_is_the_papers_step_by_step(make, classifier, pool, demo):
    """The same loop by hand with the estimator, the strategy and the miner alone."""
    X, y = pool
    learner = make(y_pool=y, calibration=None, pseudo_labels="own")

    def seeded(round_):
        seed = int(np.random.SeedSequence([0, round_]).generate_state(1)[0] >> 1)
        return classifier(max_epochs=2, random_state=seed)

    clf = seeded(0).fit_unlabeled(X, n_per_class=4)
    labelled = np.empty(0, dtype=int)
    for round_ in range(1, 4):
        left = np.setdiff1d(np.arange(N), labelled)
        result = negative_prompt_sampling(clf, X[left], n_instances=7)
        expected = left[result[0] if isinstance(result, tuple) else result]
        rows, instances = learner.query(n_instances=7)
        np.testing.assert_array_equal(rows, expected)
        sure = clf.predict_correct_proba(X[rows])
        np.testing.assert_array_equal(instances, X[rows])
        learner.teach(instances, y[rows])
        labelled = np.concatenate([labelled, expected])
        left = np.setdiff1d(np.arange(N), labelled)
        found, pseudo = mine_confident(clf, X[left], 4)
        clf = seeded(round_).fit(X[labelled], y[labelled], X_pseudo=X[left[found]], y_pseudo=pseudo)
        np.testing.assert_array_equal(learner.pseudo_rows_, left[found])
        np.testing.assert_array_equal(learner.predict_proba(X), clf.predict_proba(X))
        record = learner.log_[-1]
        assert record["round"] == round_
        assert record["n_labels"] == 7 * round_
        assert record["rows"] == expected.tolist()
        np.testing.assert_allclose(record["scores"], sure, atol=of_probabilities(demo.logit_scale), rtol=0)
        assert record["n_pseudo"] == len(found)
        assert record["pseudo_accuracy"] == pytest.approx((pseudo == y[left[found]]).mean())
        assert record["accuracy"] == pytest.approx(clf.score(X[left], y[left]))
        assert record["estimated_accuracy"] == pytest.approx(clf.predict_correct_proba(X[left]).mean())
        assert not set(learner.pseudo_rows_) & set(learner.rows_)
    assert learner.log_[0]["rows"] is None
    assert learner.log_[0]["n_pseudo"] > 10
    assert 0.5 < learner.log_[0]["pseudo_accuracy"] <= 1
    np.testing.assert_array_equal(learner.X_training, X[learner.rows_])
    np.testing.assert_array_equal(learner.y_training, y[learner.rows_])


def test_selection_only(make, classifier, pool):
    """Without pseudo-labels it is a plain ActiveLearner with the same seeds."""
    X, y = pool
    learner = make(n_per_class=0)
    rows, instances = learner.query(n_instances=10)
    plain = ActiveLearner(classifier(max_epochs=2), query_strategy=negative_prompt_sampling)
    np.testing.assert_array_equal(rows, plain.query(X, n_instances=10)[0])
    learner.teach(instances, y[rows])
    seed = int(np.random.SeedSequence([0, 1]).generate_state(1)[0] >> 1)
    expected = classifier(max_epochs=2, random_state=seed).fit(X[rows], y[rows])
    np.testing.assert_array_equal(learner.predict_proba(X), expected.predict_proba(X))
    assert learner.log_[0]["estimated_accuracy"] is None
    assert [record["n_pseudo"] for record in learner.log_] == [0, 0]


@pytest.mark.parametrize(
    "strategy", [entropy_sampling, random_sampling, partial(negative_prompt_sampling, score="margin")]
)
def test_strategies(make, pool, strategy):
    X, y = pool
    twice = Protocol(2, per_class=1)
    learners = [make(query_strategy=strategy).run(y, protocol=twice) for _ in range(2)]
    assert learners[0].rows_.tolist() == learners[1].rows_.tolist()
    assert len(set(learners[0].rows_.tolist())) == 20
    records = []
    other = make(query_strategy=strategy, random_state=1).run(y, protocol=twice, on_round=records.append)
    assert records == other.log_[1:]
    assert other.rows_.tolist() != learners[0].rows_.tolist()


def test_an_answer_that_is_refused_changes_nothing(make, pool):
    def greedy(learner, X, n_instances=1):
        return np.arange(len(X))[::-1]

    learner = make(n_per_class=0, budget=5)
    first, _ = learner.query(n_instances=2)
    learner.query_strategy = greedy
    with pytest.raises(ValueError, match="the query strategy greedy returned 120 rows; expected 2 distinct"):
        learner.query(n_instances=2)
    assert len(learner.log_) == 1
    learner.teach(pool[0][first], pool[1][first])  # the query before is still the last one
    assert learner.rows_.tolist() == first.tolist()
    with pytest.raises(ValueError, match="returned 118 rows; expected 1 whole number from 0 to 117, rows of X_pool"):
        learner.query()  # the pool is what is left of it
    with pytest.warns(UserWarning, match="3 labels are left"), pytest.raises(ValueError, match="expected 3 distinct"):
        learner.query(n_instances=9)


def test_score_of_the_strategy_is_that_of_mining(make, pool, tmp_path, monkeypatch):
    from modal_clip_dual.active import training as loop

    scores = []
    original = loop.mine_confident
    monkeypatch.setattr(
        loop,
        "mine_confident",
        lambda *a, score, **kw: scores.append(score) or original(*a, score=score, **kw),
    )
    for strategy in (negative_prompt_sampling, partial(negative_prompt_sampling, score="normalized")):
        make(query_strategy=strategy, pseudo_labels="own").run(pool[1], protocol=Protocol(1, per_class=1))
    assert scores == ["clean", "normalized"]

    def of_mine(learner, X, n_instances, score="entropy"):
        return np.arange(n_instances)

    for strategy, asked in (
        (negative_prompt_sampling, {"score": "margin"}), (of_mine, {}), (of_mine, {"score": np.ones(3)})
    ):  # fmt: skip
        learner = make(query_strategy=strategy, path=tmp_path / f"{len(scores)}.npz", pseudo_labels="own")
        rows, _ = learner.query(n_instances=5, **asked)
        learner.teach(rows=rows, y=pool[1][rows])
    assert scores[2:] == ["margin", "clean", "clean"]
    assert "score" not in learner.log_[1]


@pytest.mark.parametrize("names_are", ["taught", "known"])
def test_labels_and_truth_may_be_of_either_kind(make, digits, pool, names_are):
    """Positions in the list of class names, or names: the log is the same."""
    X, y = pool
    names = np.array(digits.class_names)[y]
    truth, labels = (y, names) if names_are == "taught" else (names, y)
    # A transducer deals its folds class by class, in an order that differs here.
    plain, mixed = (make(y_pool=true, pseudo_labels="own") for true in (y, truth))
    for learner, taught in ((plain, y), (mixed, labels)):
        learner.run(taught, protocol=Protocol(2, per_class=1))
    assert mixed.predict(X).dtype.kind == labels.dtype.kind
    for name in ("rows", "n_pseudo", "accuracy", "pseudo_accuracy", "kappa"):
        values = [[record[name] for record in learner.log_] for learner in (plain, mixed)]
        # Names are sorted, so the classes' order, and with it the last digits, differ.
        assert values[0][:2] == values[1][:2], name
    assert mixed.log_[2]["accuracy"] > 0.5 and mixed.log_[2]["pseudo_accuracy"] > 0.5


@pytest.mark.parametrize("own", ["random", "strategy"])
@pytest.mark.parametrize("said", ["random", "strategy", None])
def test_a_protocol_may_say_who_chooses_the_first_samples(pool, own, said):
    X, y = pool
    sizes = []

    def spying(learner, X, n_instances):
        sizes.append(len(X))
        return np.arange(n_instances)

    learner = DualPromptLearner(GaussianNB(), X, query_strategy=spying, first_query=own)
    learner.run(y, protocol=Protocol(2, fraction=10 / len(X), first_query=said))
    assert (sizes[0] == len(X)) == ((said or own) == "strategy")


def test_run_goes_on_after_ctrl_c(make, pool, monkeypatch):
    """Neither a label nor a round more than without it."""
    X, y = pool
    protocol = Protocol(3, per_class=1)
    expected = make(budget=20).run(y, protocol=protocol)
    learner = make(budget=20)
    with monkeypatch.context() as patch:
        fit = type(learner.estimator).fit

        @wraps(fit)
        def interrupted(self, X, *args, **kwargs):
            if X is not None and len(X) == 20:
                raise KeyboardInterrupt
            return fit(self, X, *args, **kwargs)

        patch.setattr(type(learner.estimator), "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learner.run(y, protocol=protocol)
    learner.run(y, protocol=protocol)
    assert without_seconds(learner.log_) == without_seconds(expected.log_)
    assert [record["n_labels"] for record in learner.log_] == [0, 10, 20]


def test_classes_may_be_those_of_the_labels(classifier, pool):
    X, y = pool
    names = np.array(["no", "yes"])[y % 2]

    def make():
        clf = classifier(max_epochs=1).set_params(class_names=None)
        return DualPromptLearner(clf, X, n_per_class=0, first_query="random")

    learner = make().run(names, protocol=Protocol(2, fraction=0.1))
    assert [record["n_labels"] for record in learner.log_] == [0, 12, 24]
    assert learner.estimator.classes_.tolist() == ["no", "yes"]
    with pytest.raises(ValueError, match="class_names is None, so Protocol"):
        make().run(names, protocol=Protocol(2, per_class=1))
    learner = make().start()
    with pytest.raises(ValueError, match="y contains one class only"):
        learner.teach(rows=[0, 1], y=["no", "no"])
    assert learner.rows_.tolist() == [] and learner._due is None
    learner.teach(rows=[0, 1], y=names[:2])


@pytest.mark.parametrize("form", ["images", "paths", "list of paths"])
def test_forms_of_the_pool(make, digits, tmp_path, form):
    images, y = digits.images[:40], digits.target[:40]
    X = images
    if "paths" in form:
        X = [str(tmp_path / f"{k}.png") for k in range(40)]
        for path, image in zip(X, images):
            Image.fromarray(image).save(path)
        X = X if "list" in form else pd.DataFrame({"file": X})
    learner = make(X)
    rows, instances = learner.query(n_instances=5)
    learner.teach(instances, y[rows])
    learner.teach(rows=learner.unlabeled_[:3], y=y[learner.unlabeled_[:3]])
    assert len(learner.rows_) == 8
    assert learner.log_[1]["scores"] is not None
    assert learner.log_[2]["rows"] == learner.rows_[5:].tolist()
    assert learner.log_[2]["scores"] is None  # nobody asked for these
    assert learner.predict(images).shape == (40,)


def test_labels_may_be_names(make, digits, pool):
    names = np.array(digits.class_names)[pool[1]]
    learner = make(y_pool=names)
    learner.run(names, protocol=Protocol(2, per_class=1))
    assert set(learner.predict(pool[0])) <= set(names)
    assert learner.log_[0]["pseudo_accuracy"] > 0.5
    assert learner.log_[1]["kappa"] > 0.5  # round 0 knew positions only, and is comparable


def test_another_pool_is_modals_own_query(make, embeddings, pool):
    learner = make().run(pool[1], protocol=Protocol(1, per_class=1))
    rows, instances = learner.query(embeddings[N : N + 30], n_instances=4)[:2]
    np.testing.assert_array_equal(instances, embeddings[N : N + 30][rows])


def test_whole_pool(make, pool):
    learner = make(pool[0][:15])
    learner.run(pool[1][:15], protocol=Protocol(9, per_class=1))
    assert sorted(learner.rows_) == list(range(15))
    assert learner.stop_reason() == "the whole pool is labeled"
    assert learner.log_[-1]["n_pseudo"] == 0
    with pytest.raises(ValueError, match="X_pool is empty"):
        learner.query()


# -------------------------------------------------------------------- wrong input


def test_teach_refuses_and_changes_nothing(make, pool):
    X, y = pool
    learner = make()
    with pytest.raises(ValueError, match="X are not the samples that were queried last"):
        learner.teach(X[:3], y[:3])
    rows, instances = learner.query(n_instances=5)
    before = without_seconds(learner.log_)
    cases = [
        (dict(X=instances[::-1], y=y[rows]), "X are not the samples"),
        (dict(y=y[rows]), "teach needs X"),
        (dict(X=instances, y=y[rows][:3]), "y has 3 labels for 5 samples"),
        (dict(X=instances, y=np.full(5, 77)), r"y\[0\] is 77, which is not a label"),
        (dict(rows=[0, 0], y=[1, 1]), "distinct positions from 0 to 119"),
        (dict(rows=[500], y=[1]), "distinct positions"),
        (dict(rows=[0.5], y=[1]), "expected positions in the pool"),
        (dict(X=instances, y=y[rows], only_new=True), "every round trains on all labels"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            learner.teach(**arguments)
    assert without_seconds(learner.log_) == before
    learner.teach(instances, y[rows])
    with pytest.raises(ValueError, match="have a label already"):
        learner.teach(rows=rows[:1], y=y[rows[:1]])
    with pytest.raises(ValueError, match=r"labels so far are positions such as \d, y holds names such as 'seven'"):
        learner.teach(rows=learner.unlabeled_[:1], y=["seven"])
    assert len(learner.rows_) == 5 and learner._due is None
    for oracle in (y[:50], np.tile(y, 2)):
        with pytest.raises(ValueError, match=f"oracle has {len(oracle)} labels, X_pool 120 rows"):
            learner.run(oracle)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_per_class": -1}, ValueError, "n_per_class=-1; expected at least 0"),
        ({"random_state": None}, TypeError, "random_state=None is a NoneType; expected an integer"),
        ({"random_state": -1}, ValueError, "random_state=-1; expected at least 0"),
        ({"budget": 1.5}, TypeError, "budget=1.5 is a float; expected an integer"),
        ({"budget": 0}, ValueError, "budget=0"),
        ({"y_pool": [1, 2]}, ValueError, "y_pool has 2 labels, X_pool 120 rows"),
        ({"query_strategy": "entropy"}, TypeError, r"query_strategy='entropy' cannot.*get_strategy\('entropy'"),
        ({"query_strategy": Protocol}, TypeError, "query_strategy=<class .*Protocol'> cannot be called"),
        ({"path": 3}, TypeError, "path=3 is a int; expected the path of a file"),
        ({"path": ""}, ValueError, "path='' is empty"),
        ({"path": "no/such/folder/state.npz"}, ValueError, "no such folder"),
    ],
)
def test_wrong_arguments(make, params, error, message):
    with pytest.raises(error, match=message):
        make(**params).query()


@pytest.mark.parametrize(
    ("kind", "truth", "message"),
    [
        ("list", lambda y, names: y + 1, r"is 10, which is not a label of class_names.*If these begin at 1"),
        ("list", lambda y, names: y.astype(str), r"y_pool\[0\] is '\d', which is not a label of class_names"),
        ("mapping", lambda y, names: names[y], r"y_pool\[0\] is '\w+', which is not a label.* expected one of \[100"),
        ("mapping", lambda y, names: y, r"y_pool\[0\] is \d, which is not a label"),
        ("list", lambda y, names: np.where(y == 3, np.nan, y), r"y_pool\[\d+\] is missing"),
    ],
)
def test_a_truth_that_holds_other_labels_than_the_classes(digits, pool, kind, truth, message):
    X, y = pool
    names = digits.class_names if kind == "list" else {100 + k: name for k, name in enumerate(digits.class_names)}
    clf = DualLinearClassifier(names, model_name="demo", pretrained="bundled", verbose=0)
    learner = DualPromptLearner(clf, X, y_pool=truth(y, np.array(digits.class_names)))
    with pytest.raises(ValueError, match=message):
        learner.query()
    assert not hasattr(clf, "classes_") and not hasattr(learner, "log_")


def test_other_estimators_by_what_they_can_do(pool, tmp_path):
    X, y = pool
    learner = DualPromptLearner(LogisticRegression(), X, query_strategy=entropy_sampling, first_query="random")
    learner.run(y, protocol=Protocol(2, fraction=0.1))
    assert [record["n_labels"] for record in learner.log_] == [0, 12, 24]
    assert {record["estimated_accuracy"] for record in learner.log_} == {None}  # it says nothing of that
    with pytest.raises(TypeError, match="LogisticRegression without fitted_state, so path=.* cannot hold it"):
        DualPromptLearner(LogisticRegression(), X, path=tmp_path / "state").start()
    with pytest.raises(TypeError, match=r"estimator is the class LogisticRegression; expected an instance"):
        DualPromptLearner(LogisticRegression, X).start()
    with pytest.raises(TypeError, match="estimator is a StandardScaler without predict; expected a classifier"):
        DualPromptLearner(StandardScaler(), X).start()


# -------------------------------------------------------------------- protocols and stopping


def test_presets(make, classifier, digits, embeddings):
    assert PROTOCOLS["paper"].n_instances(1198, 10) == 12
    assert PROTOCOLS["pcb"].n_instances(1198, 10) == 10
    X, y = embeddings[:300], digits.target[:300]
    paper = make(X).run(y)
    assert [record["n_labels"] for record in paper.log_] == [0, 3, 6, 9, 12, 15, 18]
    pcb = make(X, n_per_class=0).run(y, protocol="pcb")
    assert [record["n_labels"] for record in pcb.log_] == list(range(0, 81, 10))
    first = np.random.default_rng([0, 1]).permutation(300)[:10]
    assert pcb.log_[1]["rows"] == first.tolist()
    with pytest.raises(ValueError, match="has neither fraction nor per_class; expected one of them"):
        Protocol(2).n_instances(300, 10)
    with pytest.raises(ValueError, match="protocol='active'; expected one of"):
        paper.run(y, protocol="active")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"n_rounds": 0}, ValueError, "n_rounds=0; expected at least 1"),
        ({"n_rounds": 2.0}, TypeError, "n_rounds=2.0 is a float; expected an integer"),
        ({"per_class": 0}, ValueError, "per_class=0; expected at least 1"),
        ({"per_class": 2.5}, TypeError, "per_class=2.5 is a float; expected an integer"),
        ({"per_class": None, "fraction": 5}, ValueError, r"fraction=5; expected a number in \(0, 1\]"),
        ({"per_class": None, "fraction": 0}, ValueError, r"fraction=0; expected a number in \(0, 1\]"),
        ({"per_class": None, "fraction": float("nan")}, ValueError, "fraction=nan; expected a number in"),
        ({"per_class": None, "fraction": "1%"}, TypeError, "fraction='1%' is a str; expected a number"),
        ({"per_class": None}, ValueError, "has neither fraction nor per_class; expected one of them"),
        ({"fraction": 0.1}, ValueError, "has both fraction and per_class; expected one of them"),
        ({"first_query": "rand"}, ValueError, "first_query='rand'; expected one of"),
    ],
    ids=repr,
)
def test_protocols_that_cannot_be_followed_are_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        Protocol(**{"n_rounds": 2, "per_class": 1} | wrong)


def test_ends_of_a_protocols_ranges_are_allowed():
    assert Protocol(1, fraction=1).n_instances(300, 10) == 300
    assert Protocol(1, fraction=1e-9).n_instances(300, 10) == 1
    assert Protocol(np.int64(1), per_class=np.int64(2)).n_instances(300, 10) == 20


def test_budget(make, pool):
    learner = make(budget=25).run(pool[1], protocol=Protocol(9, per_class=1))
    assert [record["n_labels"] for record in learner.log_] == [0, 10, 20, 25]
    assert learner.stop_reason() == "the budget of 25 labels is spent"


def test_criteria():
    def log(*kappas, estimated=None):
        return [{"kappa": kappa, "estimated_accuracy": estimated} for kappa in kappas]

    stable = StablePredictions(kappa=0.9, n_rounds=2)
    assert stable(log(None, 0.95)) is None
    assert stable(log(0.5, 0.88)) is None
    assert "mean kappa 0.910" in stable(log(None, 0.5, 0.86, 0.96))
    assert EstimatedAccuracy(0.8)(log(1.0, estimated=0.79)) is None
    assert EstimatedAccuracy(0.8)(log(1.0)) is None
    assert EstimatedAccuracy(0.8)([]) is None
    assert "81.0% has reached 80.0%" in EstimatedAccuracy(0.8)(log(1.0, estimated=0.81))


@pytest.mark.parametrize(
    ("make_criterion", "error", "message"),
    [
        (lambda: EstimatedAccuracy(90), ValueError, r"target=90; expected a number in \[0, 1\]"),
        (lambda: EstimatedAccuracy(float("nan")), ValueError, "target=nan; expected a number in"),
        (lambda: EstimatedAccuracy("0.7"), TypeError, "target='0.7' is a str; expected a number"),
        (lambda: EstimatedAccuracy(True), TypeError, "target=True is a bool; expected a number"),
        (lambda: StablePredictions(0.9, n_rounds=0), ValueError, "n_rounds=0; expected at least 1"),
        (lambda: StablePredictions(0.9, n_rounds=-1), ValueError, "n_rounds=-1; expected at least 1"),
        (lambda: StablePredictions(0.9, n_rounds=2.0), TypeError, "n_rounds=2.0 is a float; expected an integer"),
        (lambda: StablePredictions(99), ValueError, r"kappa=99; expected a number in \[-1, 1\]"),
        (lambda: StablePredictions(None), TypeError, "kappa=None is a NoneType; expected a number"),
    ],
)
def test_criteria_that_could_never_or_always_be_met_are_refused(make_criterion, error, message):
    with pytest.raises(error, match=message):
        make_criterion()


def test_ends_of_the_ranges_are_allowed():
    assert EstimatedAccuracy(1)([{"estimated_accuracy": 1.0}]) is not None
    assert EstimatedAccuracy(np.float32(0))([{"estimated_accuracy": 0.0}]) is not None
    assert StablePredictions(1, n_rounds=np.int64(1))([{"kappa": 1.0}]) is not None
    assert StablePredictions(-1)([{"kappa": -1.0}] * 3) is not None


@pytest.mark.parametrize(
    ("stopping", "message"),
    [
        (EstimatedAccuracy(0.7), r"stopping=EstimatedAccuracy\(.*expected a list of criteria: put it in brackets"),
        (None, "stopping=None is a NoneType; expected a list of criteria$"),
        ("accuracy", "stopping='accuracy' is a str; expected a list"),
        ({"a": len}, "stopping=.* is a dict; expected a list"),
        (iter([len]), "stopping=.* is a list_iterator; expected a list"),
        ([EstimatedAccuracy], r"stopping\[0\] is the class EstimatedAccuracy; expected a criterion made by it"),
        ((StablePredictions(), 0.9), r"stopping\[1\]=0.9 cannot be called; expected a criterion"),
    ],
)
def test_stopping_is_checked_before_anything_is_trained(make, pool, stopping, message):
    learner = make(stopping=stopping)
    for call in (learner.start, lambda: learner.run(pool[1])):
        with pytest.raises(TypeError, match=message):
            call()
    assert not hasattr(learner, "log_")
    learner.stopping = ()
    learner.start()
    learner.stopping = stopping
    for call in (learner.query, learner.stop_reason):
        with pytest.raises(TypeError, match=message):
            call()


@pytest.mark.parametrize("said", [True, False, 0.9])
def test_a_criterion_that_gives_no_reason_is_an_error(make, said):
    learner = make(stopping=[lambda log: None, lambda log: said], n_per_class=0).start()
    message = rf"stopping\[1\] returned {said}, a {type(said).__name__}; expected a reason to stop as text, or None"
    with pytest.raises(TypeError, match=message):
        learner.stop_reason()


def test_criterion_ends_a_run(make, pool):
    learner = make(stopping=[EstimatedAccuracy(0.01)]).run(pool[1])
    assert len(learner.log_) == 1  # satisfied after round 0: no label was asked for
    assert "estimated accuracy" in learner.stop_reason()
    learner = make(stopping=[lambda log: "enough" if len(log) > 2 else None]).run(pool[1])
    assert len(learner.log_) == 3
    assert learner.stop_reason() == "enough"


# -------------------------------------------------------------------- shown, cloned, saved


def test_repr_and_notebook(make, pool):
    learner = make()
    assert repr(learner) == "DualPromptLearner(not started, DualPromptClassifier)"
    learner.run(pool[1], protocol=Protocol(1, per_class=1))
    assert repr(learner).startswith("DualPromptLearner(round 1, 10 of 120 labeled, ")
    html = learner._repr_mimebundle_()["text/html"]
    assert "estimated_accuracy" in html
    assert list(learner.log["n_labels"]) == [0, 10]


def test_before_the_start_nothing_was_said(make, pool):
    learner = make()
    for table in (learner.annotations, learner.disagreements, learner.annotator_agreement, learner.log):
        assert not len(table)
    assert learner.rows_.tolist() == learner.labels_.tolist() == [] and learner.rows_.dtype.kind == "i"
    assert learner.annotations.columns.tolist() == make().start().annotations.columns.tolist()
    assert len(learner.unlabeled_) == len(pool[0]) and learner.stop_reason() is None
    assert not hasattr(learner, "log_") and not hasattr(learner.estimator, "classes_")  # none of it started the loop


def test_clone(make, pool):
    learner = make(budget=30).run(pool[1], protocol=Protocol(1, per_class=1))
    copy = clone(learner)
    assert not hasattr(copy, "log_")
    assert copy.budget == 30
    assert not hasattr(copy.estimator, "classes_")
    copy.run(pool[1], protocol=Protocol(1, per_class=1))
    assert without_seconds(copy.log_) == without_seconds(learner.log_)


def finish(learner, y):
    """Three rounds in total, from wherever the learner stands."""
    learner.start()
    while len(learner.log_) <= 3:
        rows, instances = learner.query(n_instances=8)
        learner.teach(instances, y[rows])
    return learner


def assert_equal(a, b, X):
    assert without_seconds(a.log_) == without_seconds(b.log_)
    np.testing.assert_array_equal(a.rows_, b.rows_)
    np.testing.assert_array_equal(a.labels_, b.labels_)
    np.testing.assert_array_equal(a.estimator.clean_logits(X), b.estimator.clean_logits(X))


@pytest.mark.parametrize("strategy", [negative_prompt_sampling, random_sampling, entropy_sampling])
def test_resume_goes_on_to_the_same_end(make, pool, tmp_path, strategy):
    X, y = pool
    expected = finish(make(query_strategy=strategy), y)
    learner = make(query_strategy=strategy, path=tmp_path / "state.npz")
    learner.start()
    for _ in range(3):  # every half round by a new learner
        rows, instances = DualPromptLearner.resume(tmp_path / "state.npz", X).query(n_instances=8)
        learner = DualPromptLearner.resume(tmp_path / "state.npz", X)
        learner.teach(instances, y[rows])
    assert_equal(learner, expected, X)
    assert learner.X_training.shape == (24, 128)


@pytest.mark.parametrize("then", ["query", "teach the same", "teach others"])
def test_interrupted_training_loses_no_label(make, pool, monkeypatch, then):
    from modal_clip_dual.nn.criteria.dual import DualPromptLoss

    X, y = pool
    learner = make()
    rows, instances = learner.query(n_instances=6)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DualPromptLoss, "forward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            learner.teach(instances, y[rows])
    assert learner.rows_.tolist() == rows.tolist() and len(learner.log_) == 1  # said, and not trained on
    if then == "query":
        learner.query(n_instances=2)
    elif then == "teach the same":
        learner.teach(instances, y[rows])
    else:
        others = np.setdiff1d(np.arange(N), rows)[:3]
        learner.teach(rows=others, y=y[others])
        assert learner.rows_.tolist() == [*rows, *others]
        with pytest.raises(ValueError, match="have a label already"):
            learner.teach(rows=rows[:1], y=[0])
    assert learner.rows_[:6].tolist() == rows.tolist()
    expected = make()
    expected.query(n_instances=6)
    expected.teach(instances, y[rows])
    assert without_seconds(learner.log_)[1] == without_seconds(expected.log_)[1]


def test_positional_arguments_of_modals_query(make, pool, embeddings):
    learner = make()
    assert len(learner.query(None, 5)[0]) == 5
    assert len(learner.query(embeddings[N : N + 30], 4)[0]) == 4
    rows, instances, scores = learner.query(n_instances=3, return_metrics=True)
    assert scores is None or scores.shape == (3,)


@pytest.mark.parametrize("as_type", [tuple, np.array, lambda names: dict(enumerate(names)),
                                     lambda names: dict(zip(np.arange(5, 15), names))])  # fmt: skip
def test_settings_that_json_has_no_form_for(digits, pool, tmp_path, as_type):
    from modal_clip_dual import DualPromptClassifier

    X, y = pool
    names = as_type(digits.class_names)
    labels = y + 5 if isinstance(names, dict) and 5 in names and 0 not in names else y
    clf = DualPromptClassifier(
        names, model_name="demo", pretrained="bundled", device="cpu", max_epochs=1,
        template=("a photo of a {}.",), cache=tmp_path / "cache",
    )  # fmt: skip
    learner = DualPromptLearner(clf, X, path=tmp_path / "state.npz", y_pool=labels)
    learner.run(labels, protocol=Protocol(1, per_class=1))
    resumed = DualPromptLearner.resume(tmp_path / "state.npz", X)
    np.testing.assert_array_equal(resumed.predict(X), learner.predict(X))
    resumed.teach(rows=resumed.unlabeled_[:2], y=labels[resumed.unlabeled_[:2]])
    assert learner.log_[0]["accuracy"] > 0.4


SCRIPT = """
import os, signal, sys
import numpy as np
from modal_clip_dual import DualPromptClassifier, DualPromptLearner
from modal_clip_dual.active import learner as loop, training
from modal_clip_dual.utils import persistence
phase, path, pool, visual = sys.argv[1:]
data = np.load(pool)
clf = DualPromptClassifier(
    data["names"].tolist(), model_name="demo", pretrained="bundled", device="cpu", max_epochs=2,
    random_state=0, visual_prompts=visual or None, net_params={"module__n_visual_tokens": 2}, augment=None,
)
learner = DualPromptLearner(clf, data["X"], n_per_class=4, path=path)
def killer(function, when=lambda: len(getattr(learner, "log_", [])) == 2):
    def killing(*args, **kwargs):
        if when():
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return killing
if phase == "query":
    loop.check_n_instances = killer(loop.check_n_instances)
if phase == "mining":
    training.mine_confident = killer(training.mine_confident)
if phase == "training":
    from modal_clip_dual.nn.criteria.dual import DualPromptLoss
    DualPromptLoss.forward = killer(DualPromptLoss.forward)
if phase == "recording":
    loop.DualPromptLearner._record = killer(loop.DualPromptLearner._record)
if phase == "writing":
    waiting = lambda: len(learner.log_) == 2 and learner._due == "now"
    persistence.os.replace = killer(os.replace, waiting)
if phase == "written":
    from modal_clip_dual.active import saving
    original = saving.write_state
    def write(*args):
        original(*args)
        if len(learner.log_) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    saving.write_state = write
y = data["y"]
while True:
    rows, instances = learner.query(n_instances=8)
    learner.teach(instances, y[rows])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("phase", ["query", "mining", "training", "recording", "writing", "written"])
def test_killed_in_the_middle_of_a_round(classifier, digits, pool, tmp_path, phase):
    X, y = pool
    X = digits.images[:N] if phase == "training" else X  # with visual prompts, here
    visual = "vpt-shallow" if phase == "training" else ""
    np.savez(tmp_path / "pool.npz", X=X, y=y, names=np.array(digits.class_names))
    path = tmp_path / "state.npz"
    log = tmp_path / "log"
    code = run_script(SCRIPT, [phase, str(path), str(tmp_path / "pool.npz"), visual], log)
    assert code == -signal.SIGKILL, log.read_text()
    resumed = DualPromptLearner.resume(path, X)
    n_labels = 16 if phase in ("mining", "training", "recording", "written") else 8
    assert len(resumed.rows_) == n_labels  # labels that had come are there
    params = {"visual_prompts": visual or None, "n_visual_tokens": 2, "augment": None}
    estimator = classifier(max_epochs=2, **params)
    expected = finish(DualPromptLearner(estimator, X, n_per_class=4), y)
    assert_equal(finish(resumed, y), expected, X)


def test_state_needs_no_pickle_and_holds_no_weights(make, pool, tmp_path):
    make(path=tmp_path / "state.npz").run(pool[1], protocol=Protocol(1, per_class=1))
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        settings = json.loads(str(file["settings"]))
        assert settings["schema"] == 2
        assert settings["estimator"]["params"]["model_name"] == "demo"
        assert len(file["rows"]) == len(file["labels"]) == 10
    assert (tmp_path / "state.npz").stat().st_size < 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_pool_of_paths_is_in_the_state(make, digits, tmp_path, monkeypatch):
    for k in range(40):
        Image.fromarray(digits.images[k]).save(tmp_path / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    make([f"{k}.png" for k in range(40)], path="state.npz").run(
        digits.target[:40], protocol=Protocol(1, per_class=1)
    )
    monkeypatch.chdir("/")
    resumed = DualPromptLearner.resume(tmp_path / "state.npz")
    assert len(resumed.unlabeled_) == 30
    Image.fromarray(digits.images[50]).save(tmp_path / "7.png", optimize=True)
    with pytest.raises(ValueError, match=r"X_pool differs .* 1 of 40 rows, the first of them \[7\]"):
        DualPromptLearner.resume(tmp_path / "state.npz")


def test_resume_refuses(make, pool, tmp_path, classifier):
    X, y = pool
    path = tmp_path / "state.npz"
    with pytest.raises(FileNotFoundError):
        DualPromptLearner.resume(path)
    make(path=path).run(y, protocol=Protocol(1, per_class=1))
    changed = X.copy()
    changed[[3, 9], 0] += 1
    with pytest.raises(ValueError, match=r"differs .* 2 of 120 rows, the first of them \[3, 9\]"):
        DualPromptLearner.resume(path, changed)
    with pytest.raises(ValueError, match="X_pool has 100 rows, the saved learner's had 120"):
        DualPromptLearner.resume(path, X[:100])
    with pytest.raises(ValueError, match="X_pool is not in the saved state"):
        DualPromptLearner.resume(path)
    with pytest.raises(ValueError, match="exists; DualPromptLearner.resume"):
        make(path=path).start()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="is not a saved state"):
        DualPromptLearner.resume(path, X)
    own = classifier(net_params={"optimizer": torch.optim.Adam}, max_epochs=1)
    DualPromptLearner(own, X, query_strategy=lambda *a, **k: 0, path=tmp_path / "b").start()
    with pytest.raises(ValueError, match="cannot hold its net_params; pass an estimator"):
        DualPromptLearner.resume(tmp_path / "b", X)
    with pytest.raises(ValueError, match="query_strategy: the saved one was no function"):
        DualPromptLearner.resume(tmp_path / "b", X, estimator=classifier())


class MyLinear(DualLinearClassifier):
    """A class of one's own."""


@pytest.mark.parametrize(("given", "fits"), [("DualPromptClassifier", False), ("MyLinear", True)])
def test_resume_with_an_estimator_of_another_class(classifier, digits, pool, tmp_path, given, fits):
    X, y = pool
    names = {"model_name": "demo", "pretrained": "bundled", "verbose": 0}
    learner = DualPromptLearner(DualLinearClassifier(digits.class_names, **names), X, path=tmp_path / "state.npz")
    learner.teach(rows=[1, 2, 3], y=y[[1, 2, 3]])
    learner.close()
    saved = (tmp_path / "state.npz").read_bytes()
    other = MyLinear(digits.class_names, **names) if fits else classifier()
    if fits:
        again = DualPromptLearner.resume(tmp_path / "state.npz", X, estimator=other)
        np.testing.assert_array_equal(again.predict(X), learner.predict(X))
        return
    with pytest.raises(ValueError, match=f"estimator is a {given}, and the saved .* with a DualLinearClassifier"):
        DualPromptLearner.resume(tmp_path / "state.npz", X, estimator=other)
    assert (tmp_path / "state.npz").read_bytes() == saved
    DualPromptLearner.resume(tmp_path / "state.npz", X)


def test_malicious_state_runs_nothing(make, pool, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "state.npz"
    make(path=path).start()
    with np.load(path) as file:
        arrays = dict(file)
    bad = np.array([Evil()], dtype=object)
    np.savez(path, **(arrays | {"labels": bad}))
    with pytest.raises(ValueError, match="is not a saved state"):
        DualPromptLearner.resume(path, pool[0])
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="is not a saved state"):
        DualPromptLearner.resume(path, pool[0])
    settings = json.loads(str(arrays["settings"]))
    for name in ("os:system", "modal_clip_dual.active:importlib", "modal_clip_dual.active:os.system"):
        text = json.dumps(settings | {"query_strategy": name})
        np.savez(path, **(arrays | {"settings": np.array(text)}))
        with pytest.raises(ValueError, match="query_strategy: the saved"):
            DualPromptLearner.resume(path, pool[0])
    assert not (tmp_path / "ran").exists()
    text = json.dumps(settings | {"schema": 99})
    np.savez(path, **(arrays | {"settings": np.array(text)}))
    with pytest.raises(ValueError, match="has schema 99; this version of modal-clip-dual reads 2"):
        DualPromptLearner.resume(path, pool[0])
