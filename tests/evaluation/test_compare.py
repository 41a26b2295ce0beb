"""compare_strategies: the same splits and first rounds, stored runs, bad input."""

import csv
import multiprocessing
import os
import signal
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils import Bunch

from modal_clip_dual import DualLinearClassifier, DualPromptLearner, negative_prompt_sampling, random_sampling
from modal_clip_dual.active import Protocol
from modal_clip_dual.evaluation import (
    area_under_learning_curve,
    compare_strategies,
    paper_table,
    read_results,
    run_active_learning,
    summarize,
)
from modal_clip_dual.evaluation.compare import run_plan
from modal_clip_dual.evaluation.plan import find_samples, make_plan
from modal_clip_dual.evaluation.results import RoundFile, write_table

PROTOCOL = Protocol(n_rounds=2, per_class=1)
SECONDS = ["train_seconds", "score_seconds", "select_seconds", "peak_memory_mib"]


def untimed(frame):
    return frame.drop(columns=SECONDS)


@pytest.fixture
def data(embeddings, digits):
    return {"X": embeddings[:240], "y": digits.target[:240]}


@pytest.fixture
def clf(classifier):
    return classifier(max_epochs=1)


def planned(estimators, strategies, protocol=PROTOCOL, seeds=1, first_query="random", test_size=1 / 3, **data):
    settings = {"protocol": protocol, "seeds": seeds, "first_query": first_query, "test_size": test_size}
    return make_plan(find_samples(**data), estimators, strategies, **settings).runs


def compare(*args, **kwargs):
    return compare_strategies(*args, **{"protocol": PROTOCOL, "verbose": 0, "seeds": 2} | kwargs)


def test_a_row_per_run_and_round(clf, data):
    frame = compare({"dual": clf}, ["negative-prompt", "random", "badge"], **data, loop=["selection", "full"])
    keys = ["estimator", "strategy", "seed", "round"]
    assert len(frame) == 2 * 3 * 2 * 2
    assert not frame.duplicated(keys).any()
    assert set(frame["estimator"]) == {"dual (selection)", "dual (full)"}
    assert set(frame["loop"]) == {"selection", "full"}
    assert frame["n_labels"].tolist() == [10, 20] * 12
    np.testing.assert_allclose(frame["budget"], frame["n_labels"] / 160)
    measured = ["accuracy", "balanced_accuracy", "macro_f1", "nll", "ece_proba", "ece_correct",
                "auroc_clean", "auroc_normalized", "auroc_correct", "auroc_max_proba", "auroc_margin",
                "auroc_entropy", "class_coverage", *SECONDS]  # fmt: skip
    assert frame[measured].notna().all().all()
    assert frame["pseudo_accuracy"].notna().equals(frame["loop"] == "full")
    assert (frame["n_pseudo"] > 0).equals(frame["loop"] == "full")
    assert (frame[SECONDS] >= 0).all().all() and (frame["peak_memory_mib"] > 50).all()
    # Whoever chooses, the first round of a seed is the same, and so is what comes of it.
    first = frame[frame["round"] == 1].groupby(["estimator", "seed"])["accuracy"]
    assert (first.nunique() == 1).all()
    assert first.first().nunique() > 1
    assert len(summarize(frame)) == 12 and len(area_under_learning_curve(frame)) == 12


def test_curves_from_zero_labels(clf, data, tmp_path):
    """Stored runs with round 0 are found again, and are others than those without."""
    settings = {"loop": ["selection", "full"], "path": tmp_path, "seeds": 1}
    frame = compare({"dual": clf}, ["random"], **data, **settings, from_zero=True)
    assert frame["round"].tolist() == [0, 1, 2] * 2 and frame["n_labels"].tolist() == [0, 10, 20] * 2
    stored = sorted(tmp_path.glob("runs/*"))
    pd.testing.assert_frame_equal(compare({"dual": clf}, ["random"], **data, **settings, from_zero=True), frame)
    assert sorted(tmp_path.glob("runs/*")) == stored
    plain = compare({"dual": clf}, ["random"], **data, **settings)
    assert len(list(tmp_path.glob("runs/*"))) == 2 * len(stored)
    later = untimed(frame[frame["round"] > 0].reset_index(drop=True))
    pd.testing.assert_frame_equal(later, untimed(plain))
    assert area_under_learning_curve(frame)["first_labels"].tolist() == [0, 0]
    assert summarize(frame)["n_labels"].tolist() == [0, 10, 20] * 2
    with pytest.raises(TypeError, match="estimators: 'GaussianNB' is a GaussianNB; from_zero=True expects"):
        compare(GaussianNB(), ["random"], **data, from_zero=True)


def test_pseudo_labels_of_another_model(clf, data, tmp_path):
    """The full loop with the labels that a `DualLinearClassifier` gives to the whole pool, driven by hand."""
    settings = {"loop": "full", "path": tmp_path, "seeds": [3], "from_zero": True}
    own = compare(clf, ["random"], **data, **settings, pseudo_labels="own")
    frame = compare(clf, ["random"], **data, **settings, pseudo_labels="transductive", n_per_class=None)
    assert frame["n_pseudo"].tolist() == [160, 150, 140]
    assert own["n_pseudo"].max() < 160
    order = np.random.default_rng(3).permutation(240)
    test, pool = order[:80], order[80:]
    X, y = data["X"], data["y"]
    learner = DualPromptLearner(
        clone(clf).set_params(random_state=3), X[pool], query_strategy=random_sampling, pseudo_labels="transductive",
        n_per_class=None, random_state=3,
    ).start()  # fmt: skip
    rows = np.random.default_rng(3).permutation(160)[:10]
    accuracies = [learner.estimator.score(X[test], y[test])]
    learner.teach(rows=rows, y=y[pool][rows])
    accuracies.append(learner.estimator.score(X[test], y[test]))
    assert frame["accuracy"].tolist()[:2] == pytest.approx(accuracies)
    few = compare(clf, ["random"], **data, **settings, pseudo_labels="transductive", n_per_class=16)
    assert few["pseudo_accuracy"].tolist() != own["pseudo_accuracy"].tolist()
    files = sorted(tmp_path.glob("runs/*"))
    assert len(files) == 3  # none is taken for another, and all are found again
    again = compare(clf, ["random"], **data, **settings, pseudo_labels="transductive", n_per_class=None)
    pd.testing.assert_frame_equal(again, frame)
    assert sorted(tmp_path.glob("runs/*")) == files


def test_runs_equal_single_ones(clf, data):
    """The split, the first rows and the seeds, written out."""
    frame = compare(clf, {"a": negative_prompt_sampling}, **data, seeds=[3])
    order = np.random.default_rng(3).permutation(240)
    test, pool = order[:80], order[80:]
    X, y = data["X"], data["y"]
    records = run_active_learning(
        clf, negative_prompt_sampling, X[pool], y[pool], X[test], y[test], n_instances=10, n_rounds=2,
        first_query=np.random.default_rng(3).permutation(160)[:10], random_state=3,
    )  # fmt: skip
    for name in ("accuracy", "nll", "ece_correct", "auroc_clean", "class_coverage"):
        assert frame[name].tolist() == [record[name] for record in records]


def test_given_test_set_and_strategies_that_choose_first(clf, data):
    X, y = data["X"], data["y"]
    seen = []

    def spying(learner, X, n_instances):
        seen.append(len(X))
        return negative_prompt_sampling(learner, X, n_instances)

    frame = compare(clf, {"spy": spying}, X[:200], y[:200], X[200:], y[200:], first_query="strategy", seeds=1)
    assert seen == [200, 190]
    assert frame["n_labels"].tolist() == [10, 20]
    losses = compare(clf, ["random"], X[:200], y[:200], X[200:], y[200:])["nll"]
    assert losses.nunique() > 2  # seeds differ in the first rows, too


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({}, [150]),
        ({"protocol": Protocol(2, per_class=1, first_query="random")}, [150]),
        ({"protocol": Protocol(2, per_class=1, first_query="strategy")}, [160, 150]),
        ({"protocol": Protocol(2, per_class=1, first_query="strategy"), "first_query": "strategy"}, [160, 150]),
        ({"first_query": "strategy"}, [160, 150]),
        ({"protocol": "pcb", "first_query": "strategy"}, [*range(160, 80, -10)]),
        ({"protocol": "paper"}, [*range(158, 148, -2)]),
    ],
)
def test_who_chooses_the_first_samples(data, arguments, asked):
    """The protocol says it, or the argument; by default they are drawn."""
    sizes = []

    def spying(learner, X, n_instances):
        sizes.append(len(X))
        return np.arange(n_instances)

    compare(GaussianNB(), {"spy": spying}, **data, seeds=1, **arguments)
    assert sizes == asked


def test_images_are_embedded_once_and_give_the_same(clf, digits, data, monkeypatch):
    from modal_clip_dual.clip.backbone import Backbone

    expected = compare(clf, ["negative-prompt"], **data)
    sizes, original = [], Backbone.encode_images
    clf._load_backbone("demo", "bundled").embedding_cache.clear()
    monkeypatch.setattr(
        Backbone, "encode_images", lambda self, x: sizes.append(len(x)) or original(self, x)
    )
    frame = compare({"DualPromptClassifier": clf, "other": clf}, ["negative-prompt"], digits.images[:240], data["y"])
    assert sum(sizes) == 240
    frame = frame[frame["estimator"] == "DualPromptClassifier"]
    np.testing.assert_allclose(frame["accuracy"], expected["accuracy"])


def test_other_classifiers_and_classes_without_a_label(data):
    y = data["y"].copy()
    y[data["y"] > 7] = 99  # a class that a first round of 3 labels seldom has
    estimators = [LogisticRegression(max_iter=300), GaussianNB()]
    frame = compare(estimators, ["margin", "random"], data["X"], y, protocol=Protocol(2, fraction=0.02))
    assert set(frame["estimator"]) == {"LogisticRegression", "GaussianNB"}
    assert frame["n_labels"].tolist() == [3, 6] * 8
    assert np.isfinite(frame["nll"]).all()
    assert frame["class_coverage"].between(0.1, 0.9).all()
    assert "auroc_clean" not in frame


def test_named_data_set():
    from modal_clip_dual import DualPromptClassifier
    from modal_clip_dual.data import load_benchmark

    clf = DualPromptClassifier(model_name="demo", pretrained="bundled", max_epochs=1, device="cpu")
    frame = compare(clf, ["random"], data="digits", seeds=1, protocol=Protocol(1, fraction=0.05))
    assert (frame["data"] == "digits").all()
    assert clf.class_names is None  # the user's own is left alone
    bunch = load_benchmark("digits")
    n = len(bunch.X_train)
    assert frame["n_labels"].tolist() == [round(0.05 * n)]
    again = compare(clf, ["random"], data=bunch, seeds=1, protocol=Protocol(1, fraction=0.05))
    pd.testing.assert_frame_equal(untimed(again), untimed(frame))
    assert "digits" in paper_table(frame, rounds=(5,))


# -------------------------------------------------------------------- stored runs


def test_stored_runs_are_read_and_not_repeated(clf, data, tmp_path, monkeypatch):
    from modal_clip_dual.evaluation import compare as module

    first = compare(clf, ["negative-prompt", "random"], **data, path=tmp_path, loop=["selection", "full"])
    expected = compare(clf, ["negative-prompt", "random"], **data, loop=["selection", "full"])
    pd.testing.assert_frame_equal(untimed(first), untimed(expected))
    executed, original = [], module._execute
    monkeypatch.setattr(
        module, "_execute", lambda run, *args: executed.append(run.names) or original(run, *args)
    )
    both = {"loop": ["selection", "full"], "path": tmp_path}
    again = compare(clf, ["negative-prompt", "random"], **data, **both)
    pd.testing.assert_frame_equal(again, first)
    assert executed == []
    more = compare(clf, ["random", "entropy"], **data, **both)
    assert [names["strategy"] for names in executed] == ["entropy"] * 4
    assert len(more) == 16
    pd.testing.assert_frame_equal(
        more[more["strategy"] == "random"].reset_index(drop=True),
        first[first["strategy"] == "random"].reset_index(drop=True),
    )
    assert len(read_results(tmp_path)) == 24
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "change",
    [
        {"estimators": "max_epochs"},
        {"X": "other"},
        {"y": "other"},
        {"protocol": Protocol(2, per_class=2)},
        {"test_size": 0.5},
        {"first_query": "strategy"},
        {"strategies": {"a": partial(negative_prompt_sampling, score="margin")}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_are_other_runs(classifier, data, change):
    arguments = {"estimators": classifier(max_epochs=1), "strategies": {"a": negative_prompt_sampling}}
    arguments |= data | {"seeds": 1, "protocol": PROTOCOL}
    before = [run.key for run in planned(**arguments)]
    assert before == [run.key for run in planned(**arguments)]
    changed = dict(change)
    if "estimators" in change:
        changed["estimators"] = classifier(max_epochs=2)
    if "X" in change:
        changed["X"] = data["X"] + np.float32(1e-3)
    if "y" in change:
        changed["y"] = np.roll(data["y"], 1)
    assert before != [run.key for run in planned(**arguments | changed)]


def test_a_changed_function_is_another_run(data, tmp_path, monkeypatch):
    import importlib
    import sys

    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for body in ("range(n_instances)", "range(1, n_instances + 1)", "range(1, n_instances + 1)"):
        (tmp_path / "mine.py").write_text(f"def mine(learner, X, n_instances):\n    return list({body})\n")
        sys.modules.pop("mine", None)
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        strategy = importlib.import_module("mine").mine
        import linecache

        linecache.checkcache()
        keys.append(planned(GaussianNB(), {"mine": strategy}, **data)[0].key)
    assert keys[0] != keys[1] == keys[2]


def test_one_strategy_without_a_list(data):
    for strategy in ("random", random_sampling, partial(random_sampling, random_state=0)):
        frame = compare(GaussianNB(), strategy, **data, seeds=1)
        assert frame["strategy"].unique().tolist() == ["random" if strategy == "random" else "random_sampling"]


@pytest.mark.parametrize(("protocol", "n_labels"), [("paper", [2, 4, 6, 8, 10, 12]), ("pcb", [*range(10, 90, 10)])])
def test_protocols_by_name(data, protocol, n_labels):
    """1% of the pool of 160, six times; as many labels as classes, eight times."""
    frame = compare(GaussianNB(), "random", **data, protocol=protocol, seeds=1)
    assert frame["n_labels"].tolist() == n_labels


class Chosen:
    """A strategy that is an object, with a setting."""

    def __init__(self, k):
        self.k = k

    def __call__(self, learner, X, n_instances=1):
        return np.random.default_rng(self.k).permutation(len(X))[:n_instances]


def made(k):
    def strategy(learner, X, n_instances=1):
        return np.random.default_rng(k).permutation(len(X))[:n_instances]

    return strategy


def weighted(learner, X, n_instances=1, weights=None):
    return np.argsort(weights[: len(X)])[:n_instances]


@pytest.mark.parametrize(
    "make", [Chosen, made, lambda k: partial(weighted, weights=np.random.default_rng(k).random(2000))]
)
def test_a_strategy_with_another_setting_is_another_run(data, make):
    keys = [
        planned(GaussianNB(), {"mine": make(k)}, **data)[0].key
        for k in (1, 2, 1)
    ]
    assert keys[0] == keys[2] != keys[1]


def test_names_are_texts(data, tmp_path):
    for path in (None, tmp_path):
        frame = compare({1: GaussianNB()}, {2: random_sampling}, **data, seeds=1, path=path)
        assert frame[["estimator", "strategy"]].drop_duplicates().to_numpy().tolist() == [["1", "2"]]


def test_a_cut_result_is_refused_by_name(data, tmp_path):
    compare(GaussianNB(), "random", **data, seeds=1, path=tmp_path)
    (file,) = (tmp_path / "runs").iterdir()
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(ValueError, match=r"csv' has 1 of 2 rounds, so it is damaged"):
        compare(GaussianNB(), "random", **data, seeds=1, path=tmp_path)


def test_two_processes_at_one_run(tmp_path):
    """Neither takes the other's rows away; whoever is first gives the result."""
    ours, theirs = (RoundFile(tmp_path / "run.csv") for _ in range(2))
    dead = tmp_path / f"{ours.stem}99999999-1.partial"
    elsewhere = tmp_path / "run.csv.another_machine-99999999-1.partial"
    dead.touch()
    elsewhere.touch()
    for k in (1, 2, 3):
        ours.write({"strategy": "a", "round": k})
        if k < 3:
            theirs.write({"strategy": "a", "round": k})
    ours.finish()
    theirs.write({"strategy": "a", "round": 3})
    theirs.finish()
    assert pd.read_csv(tmp_path / "run.csv")["round"].tolist() == [1, 2, 3]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.csv", elsewhere.name]
    vanished = RoundFile(tmp_path / "other.csv")
    vanished.write({"strategy": "a", "round": 1})
    vanished.partial.unlink()
    with pytest.raises(OSError, match=r"other.csv"):
        vanished.write({"strategy": "a", "round": 2})


def test_a_function_without_source(data):
    scope = {}
    exec("def typed_in(learner, X, n_instances):\n    return list(range(n_instances))", scope)
    frame = compare(GaussianNB(), scope["typed_in"], **data, seeds=1)
    assert frame["strategy"].unique().tolist() == ["typed_in"]


def _slow(learner, X, n_instances):
    time.sleep(0.4)
    return random_sampling(learner, X, n_instances, random_state=0)


def _benchmark(X, y, path):
    compare_strategies(
        LogisticRegression(max_iter=200), {"slow": _slow}, X, y, protocol=Protocol(4, per_class=1),
        seeds=4, path=path, verbose=0,
    )  # fmt: skip


def test_killed_and_started_again(data, tmp_path):
    """kill -9 in the middle of a run; the final table is that of one that was left alone."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    X, y = data["X"].astype(np.float64), data["y"]
    _benchmark(X, y, whole)
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    process = context.Process(target=_benchmark, args=(X, y, killed))
    process.start()
    deadline = time.monotonic() + 60
    while not list(killed.glob("runs/*.csv")) or not list(killed.glob("runs/*.partial")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    n_done = len(list(killed.glob("runs/*.csv")))
    assert 1 <= n_done < 4
    assert len(read_results(killed)) == 4 * n_done  # runs that are not whole are not read
    _benchmark(X, y, killed)
    pd.testing.assert_frame_equal(untimed(read_results(killed)), untimed(read_results(whole)))
    assert not list(killed.glob("runs/*.partial"))


@pytest.mark.parametrize("with_test_set", [False, True])
def test_processes(data, tmp_path, with_test_set):
    X, y = data["X"], data["y"]
    parts = (X[:160], y[:160], X[160:], y[160:]) if with_test_set else (X, y)
    protocol = Protocol(2, fraction=0.1)  # of the pool, whose size workers have to know
    arguments = [LogisticRegression(max_iter=200), ["random", "margin"], *parts]
    serial = compare(*arguments, protocol=protocol)
    parallel = compare(*arguments, protocol=protocol, n_jobs=2, path=tmp_path)
    pd.testing.assert_frame_equal(untimed(parallel), untimed(serial), rtol=1e-6)


def _leak_limit(k):
    from joblib.externals.loky import process_executor

    time.sleep(0.2)
    return os.getpid(), process_executor._MAX_MEMORY_LEAK_SIZE


def test_models_in_workers_are_no_leak(data):
    """Workers that read images before are small; loading a model must not end them."""
    before = dict(Parallel(2)(delayed(_leak_limit)(k) for k in range(4)))
    compare(GaussianNB(), ["random", "margin"], **data, n_jobs=2)
    after = dict(Parallel(2)(delayed(_leak_limit)(k) for k in range(4)))
    assert set(before) & set(after)  # loky keeps its workers
    assert all(limit == float("inf") for limit in after.values())


def test_names_of_any_kind(data, tmp_path):
    names = dict.fromkeys(["NA", 'a,"b"/../c\n', "", "=2", "'=2", "''-2", "'2", "@SUM(1)"], random_sampling)
    frame = compare({"=1+1": GaussianNB()}, names, **data, seeds=1, path=tmp_path)
    assert frame["strategy"].tolist() == [name for name in names for _ in range(2)]
    assert (frame["estimator"] == "=1+1").all()
    again = read_results(tmp_path)
    assert set(again["strategy"]) == set(names) and set(again["estimator"]) == {"=1+1"}
    write_table(again, tmp_path)
    for file in tmp_path.rglob("*.csv"):
        with open(file, newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                assert row["estimator"] == "'=1+1" and row["strategy"][:1] not in ("=", "@")
    (tmp_path / "results.csv").unlink()
    assert all(file.parent == tmp_path / "runs" for file in tmp_path.rglob("*.csv"))


# -------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ["change", "error", "message"],
    [
        ({"X": None}, ValueError, "expected X and y, or data"),
        ({"data": "digits"}, ValueError, "X, y and data were passed"),
        ({"y": [0, 1]}, ValueError, "X has 240 samples, y 2 labels"),
        ({"X_test": np.zeros((3, 128))}, ValueError, "X_test and y_test: one was passed"),
        ({"estimators": []}, ValueError, "estimators is empty"),
        ({"estimators": "clf"}, TypeError, "'str' is a str; expected a classifier"),
        ({"estimators": [GaussianNB(), GaussianNB()]}, ValueError, "several of one class"),
        ({"estimators": GaussianNB(), "loop": "full"}, TypeError, "expects a classifier with fit_unlabeled"),
        (
            {"estimators": {"svm": make_pipeline(LinearSVC())}, "strategies": "random"}, TypeError,
            "estimators: 'svm' is a Pipeline without predict_proba; expected a classifier that gives",
        ),
        (
            {"estimators": {"head": DualLinearClassifier(model_name="demo", pretrained="bundled")}}, ValueError,
            "estimators: 'head' is trained before there is a label, but its class_names is None",
        ),
        ({"strategies": ["best"]}, ValueError, "strategies='best'; expected one of"),
        ({"strategies": []}, ValueError, "strategies=.*at least one"),
        ({"strategies": {}}, ValueError, "strategies is empty"),
        ({"X": None, "y": None, "data": Bunch(X_train=[1])}, ValueError, "data has no name, y_train"),
        ({"X": None, "y": None, "data": "digits", "X_test": [1]}, ValueError, "X_test and data were passed"),
        ({"test_size": 0.001}, ValueError, "test_size=0.001 of 240 samples leaves none"),
        ({"strategies": ["random", "random"]}, ValueError, "of different names"),
        ({"protocol": "2pct"}, ValueError, "protocol='2pct'; expected one of"),
        ({"strategies": [7]}, TypeError, "strategies"),
        ({"protocol": Protocol(20, per_class=1)}, ValueError, "20 rounds of 10 labels are more than the pool of 160"),
        ({"loop": "all"}, ValueError, "loop="),
        ({"n_per_class": 0}, ValueError, "n_per_class=0"),
        ({"pseudo_labels": "mine", "loop": "full"}, ValueError, "pseudo_labels='mine'; expected one of"),
        (
            {"pseudo_labels": "collaborative", "loop": "full", "estimators": DualLinearClassifier()}, TypeError,
            "pseudo_labels='collaborative' with a DualLinearClassifier",
        ),
        ({"seeds": 0}, ValueError, "seeds=0"),
        ({"seeds": [1, 1]}, ValueError, "seeds=.*different"),
        ({"seeds": []}, ValueError, r"seeds=\[\]; expected a number of repetitions"),
        ({"seeds": [0.5]}, ValueError, r"seeds=\[0.5\]; expected a number of repetitions"),
        ({"seeds": [-1]}, ValueError, r"seeds=\[-1\]; expected a number of repetitions"),
        ({"first_query": "best"}, ValueError, "first_query='best'"),
        (
            {"first_query": "random", "protocol": Protocol(2, per_class=1, first_query="strategy")}, ValueError,
            r"first_query='random', but protocol=Protocol\(.*first_query='strategy'\) says first_query='strategy'",
        ),
        ({"test_size": 1}, ValueError, "test_size=1;"),
    ],
)  # fmt: skip
def test_bad_input_before_any_run(clf, data, change, error, message, monkeypatch):
    from modal_clip_dual.evaluation import compare as module

    monkeypatch.setattr(module, "_execute", None)
    arguments = {"estimators": clf, "strategies": ["random"], **data} | change
    with pytest.raises(error, match=message):
        compare(**arguments)


@pytest.mark.parametrize("given_as", ["arrays", "data"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": lambda y: [*y[:-1], np.nan]}, r"y\[239\] is missing \(nan\)"),
        ({"y": lambda y: [*y[:5], None, *y[6:]]}, r"y\[5\] is missing \(None\)"),
        ({"y": lambda y: y + 0.5}, r"y\[0\] is 0\.5, no whole number"),
        ({"y": lambda y: np.stack([y, y], axis=1)}, "y is no array of labels: .*1d array"),
        ({"y_test": lambda y: [None, *y[1:]]}, r"y_test\[0\] is missing \(None\)"),
        ({"y_test": lambda y: y.astype(str)}, "y holds numbers such as 0, y_test names such as '0'; expected one"),
        ({"y": lambda y: y.astype(str)}, "y holds names such as '0', y_test numbers such as 0; expected one kind"),
        ({"y": lambda y: y + 1}, r"y\[\d+\] is 10, which is not a label of class_names.* begin at 1, pass y - 1"),
        ({"y_test": lambda y: y + 1}, r"y_test\[\d+\] is 10, which is not a label of class_names"),
        (dict.fromkeys(["y", "y_test"], lambda y: y.astype(str)), r"y\[0\] is '0', which is not a label of"),
    ],
)  # fmt: skip
def test_labels_are_checked_before_any_run(clf, data, digits, given_as, change, message, monkeypatch):
    from modal_clip_dual.evaluation import compare as module

    monkeypatch.setattr(module, "_execute", None)
    labels = {"y": data["y"], "y_test": data["y"]}
    labels |= {name: make(labels[name]) for name, make in change.items()}
    parts, estimator = {"X": data["X"], "X_test": data["X"], **labels}, clf
    if given_as == "data":  # the data set has the names, and the estimator any
        parts = {"X_train": parts["X"], "X_test": parts["X"], "y_train": labels["y"], "y_test": labels["y_test"]}
        parts, estimator = {"data": Bunch(name="mine", class_names=digits.class_names, **parts)}, GaussianNB()
    with pytest.raises(ValueError, match=f"^{message}"):
        compare(estimator, ["random"], **parts)


def test_no_results(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match="no folder with finished runs"):
            read_results(path)


def test_parquet_beside_the_csv(tmp_path, monkeypatch):
    """Where pandas has an engine for it; here one that only notes what it is given."""
    frame = pd.DataFrame({"strategy": ["=1"], "seed": [0], "accuracy": [0.5]})
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda self, file, index: self.to_json(file))
    assert [file.name for file in write_table(frame, tmp_path)] == ["results.csv", "results.parquet"]
    assert pd.read_json(tmp_path / "results.parquet")["strategy"].tolist() == ["=1"]
    assert pd.read_csv(tmp_path / "results.csv")["strategy"].tolist() == ["'=1"]

    def no_engine(self, file, index):
        raise ImportError("pyarrow")

    (tmp_path / "results.parquet").unlink()
    monkeypatch.setattr(pd.DataFrame, "to_parquet", no_engine)
    assert [file.name for file in write_table(frame, tmp_path)] == ["results.csv"]
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_a_data_set_of_ones_own(data):
    """A Bunch without a test set, its class names an array."""
    own = Bunch(name="mine", X_train=data["X"], y_train=data["y"], class_names=np.array(list("abcdefghij")))
    expected = compare(GaussianNB(), "random", **data, seeds=1)
    frame = compare(GaussianNB(), "random", data=own, seeds=1)
    assert set(frame["data"]) == {"mine"}
    assert frame["accuracy"].tolist() == expected["accuracy"].tolist()


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_rows_are_told_as_they_come(data, n_jobs):
    plan = make_plan(find_samples(**data), GaussianNB(), ["random", "margin"], PROTOCOL, seeds=2)
    told = []
    frame = run_plan(plan, n_jobs=n_jobs, verbose=0, on_round=told.append)
    keys = ["strategy", "seed", "round"]
    assert len(told) == len(frame) == 8
    told = pd.DataFrame(told).sort_values(keys)[[*keys, "accuracy"]]
    assert told.to_numpy().tolist() == frame.sort_values(keys)[[*keys, "accuracy"]].to_numpy().tolist()


def test_images_that_are_not_embedded_before(clf, digits):
    plan = make_plan(find_samples(digits.images[:240], digits.target[:240]), clf, "entropy", PROTOCOL, seeds=1)
    frames = [run_plan(plan, verbose=0, embed=embed) for embed in (True, False)]
    np.testing.assert_allclose(*(frame["nll"] for frame in frames), rtol=1e-3)
