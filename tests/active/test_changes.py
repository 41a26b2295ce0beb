"""Skip, forget, relabel, drop, extend, add_class: in the loop, in the log, after a kill, beside a plain dict."""

import os
import pickle
import signal
import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from processes import run_script

from modal_clip_dual import (
    DualLinearClassifier,
    DualPromptClassifier,
    DualPromptLearner,
    get_strategy,
    random_sampling,
)
from modal_clip_dual.active import Protocol
from modal_clip_dual.heads.tip_adapter import TipAdapterClassifier

N = 120
SECONDS = ("query_seconds", "train_seconds")
DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


@pytest.fixture
def pool(embeddings, digits):
    return embeddings[:N], digits.target[:N]


@pytest.fixture
def make(pool, digits):
    def make(X=pool[0], names=digits.class_names, n_per_class=4, **params):
        clf = DualPromptClassifier(names, max_epochs=2, random_state=0, **DEMO)
        return DualPromptLearner(clf, X, n_per_class=n_per_class, **params)

    return make


@pytest.fixture
def taught(make, pool):
    """A learner with 8 labels."""

    def taught(**params):
        learner = make(**params)
        rows, _ = learner.query(n_instances=8)
        learner.teach(rows=rows, y=pool[1][rows])
        return learner

    return taught


def without_seconds(log):
    return [{k: v for k, v in record.items() if k not in SECONDS} for record in log]


def assert_same(a, b, X):
    assert without_seconds(a.log_) == without_seconds(b.log_)
    np.testing.assert_array_equal(a.rows_, b.rows_)
    np.testing.assert_array_equal(a.labels_, b.labels_)
    np.testing.assert_array_equal(a.unlabeled_, b.unlabeled_)
    np.testing.assert_array_equal(a.estimator.predict_proba(X), b.estimator.predict_proba(X))


# -------------------------------------------------------------------- what each one does


def test_relabel_trains_on_the_right_labels(taught, pool):
    X, y = pool
    learner = taught(pseudo_labels="own")
    rows, model = learner.rows_, taught(pseudo_labels="own").estimator
    wrong = (y[rows[:2]] + 1) % 10
    learner.relabel(rows[:2], wrong)
    assert learner.labels_[:2].tolist() == wrong.tolist() and learner.rows_.tolist() == rows.tolist()
    assert learner.log_[-1]["changes"] == [
        {"what": "relabel", "rows": rows[:2].tolist(), "labels": wrong.tolist(), "annotator": None}
    ]
    assert learner.log_[-1]["rows"] is None and learner.log_[-1]["n_labels"] == 8
    labels = np.concatenate([wrong, y[rows[2:]]])
    seed = int(np.random.SeedSequence([0, 2]).generate_state(1)[0] >> 1)
    left = np.setdiff1d(np.arange(N), rows)
    # mined, like in every round, by the model before it, of what has no label
    from modal_clip_dual import mine_confident

    found, pseudo = mine_confident(model, X[left], 4)
    expected = DualPromptClassifier(learner.estimator.class_names, max_epochs=2, random_state=seed, **DEMO)
    expected.fit(X[rows], labels, X_pseudo=X[left[found]], y_pseudo=pseudo)
    np.testing.assert_array_equal(learner.predict_proba(X), expected.predict_proba(X))


def test_forgotten_rows_may_be_asked_again(taught, pool):
    learner = taught()
    rows = learner.rows_
    learner.forget(rows[:3])
    assert learner.rows_.tolist() == rows[3:].tolist() and set(rows[:3]) <= set(learner.unlabeled_)
    assert learner.log_[-1]["changes"] == [{"what": "forget", "rows": rows[:3].tolist()}]
    learner.teach(rows=rows[:1], y=pool[1][rows[:1]])
    assert learner.rows_.tolist() == [*rows[3:], rows[0]] and learner.log_[-1]["rows"] == [rows[0]]


@pytest.mark.parametrize("n_per_class", [0, 4])
def test_all_labels_forgotten_is_round_0_again(make, taught, pool, n_per_class):
    learner = taught(n_per_class=n_per_class)
    learner.forget(learner.rows_)
    assert learner.log_[-1]["n_labels"] == 0 and not len(learner.rows_)
    assert hasattr(learner.estimator, "classes_") == bool(n_per_class)
    first = make(n_per_class=n_per_class).start()
    assert learner.log_[-1]["n_pseudo"] == first.log_[0]["n_pseudo"]
    np.testing.assert_array_equal(learner.pseudo_rows_, first.pseudo_rows_)
    assert len(learner.query(n_instances=3)[0]) == 3


STRATEGIES = ["negative-prompt", "random", "coreset", "badge", "typiclust", "probcover", "cec",
              "class-balanced-entropy", "alfa-mix", "dropquery", "core-gcn", "auto"]  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_left_out_rows_are_neither_asked_nor_mined_by_any_strategy(make, pool, strategy):
    X, y = pool
    learner = make(query_strategy=get_strategy(strategy), first_query="random")
    rows, _ = learner.query(n_instances=20)
    skipped, dropped = rows[:4], rows[4:8]
    learner.skip(skipped)
    learner.drop(dropped)
    learner.teach(rows=rows[8:], y=y[rows[8:]])
    asked, _ = learner.query(n_instances=len(learner.unlabeled_))
    assert set(asked) == set(range(N)) - set(rows)
    assert not set(learner.pseudo_rows_) & set(rows)
    assert learner.log_[-1]["n_pseudo"] > 10
    assert [change["what"] for record in learner.log_ for change in record["changes"]] == ["skip", "drop"]


def test_what_was_mined_and_then_skipped_is_trained_out(taught):
    learner = taught()
    mined = learner.pseudo_rows_[:2]
    n = len(learner.log_)
    learner.skip(mined)
    assert len(learner.log_) == n + 1 and not set(mined) & set(learner.pseudo_rows_)
    others = np.setdiff1d(learner.unlabeled_, learner.pseudo_rows_)[:2]
    learner.skip(others)  # nothing was trained on these
    assert len(learner.log_) == n + 1
    assert set(others) & set(learner.unlabeled_) == set()
    learner.forget(others)
    assert set(others) <= set(learner.unlabeled_) and len(learner.log_) == n + 1


def test_a_skipped_image_may_be_labeled_after_all(taught, pool):
    learner = taught()
    rows, images = learner.query(n_instances=4)
    learner.skip(rows[:1])
    learner.teach(images[1:], pool[1][rows[1:]])  # the rest of what was asked for
    learner.skip(learner.rows_[:1])  # a label that is taken back
    assert learner.rows_.tolist()[-3:] == rows[1:].tolist() and len(learner.rows_) == 10
    learner.teach(rows=rows[:1], y=pool[1][rows[:1]])
    assert rows[0] in learner.rows_


def test_the_end_of_the_pool_with_rows_left_out(make, pool):
    learner = make(pool[0][:15])
    learner.skip([0])
    learner.drop([1])
    learner.run(pool[1][:15], protocol=Protocol(9, per_class=1))
    assert sorted(learner.rows_) == list(range(2, 15))
    assert learner.stop_reason() == "the whole pool is labeled or left out"


def test_a_longer_pool_is_asked_and_mined(make, embeddings, digits):
    y = digits.target
    learner = make(embeddings[:50], y_pool=y[:50])
    rows, _ = learner.query(n_instances=5)
    learner.teach(rows=rows, y=y[rows])
    assert learner.extend(embeddings[50:60], y[50:60]).tolist() == list(range(50, 60))
    assert len(learner.unlabeled_) == 55
    np.testing.assert_array_equal(learner.X_pool, embeddings[:60])
    for wrong, message in (([10] * 5, r"y_new\[0\] is 10"), (["0"] * 5, r"y_new\[0\] is '0'")):
        with pytest.raises(ValueError, match=f"{message}, which is not a label of class_names"):
            learner.extend(embeddings[60:65], wrong)
    rows, instances = learner.query(n_instances=55)
    np.testing.assert_array_equal(instances, embeddings[rows])
    learner.teach(rows=[55], y=[y[55]])
    assert learner.log_[-1]["changes"] == [{"what": "extend", "rows": list(range(50, 60))}]
    assert learner.log_[-1]["kappa"] is not None  # over the 50 that both rounds knew
    expected = (learner.predict(embeddings[:60]) == y[:60])[learner.unlabeled_].mean()
    assert learner.log_[-1]["accuracy"] == pytest.approx(expected)


def test_what_is_looked_at_once_cannot_be_set_later(taught, embeddings):
    learner = taught()
    for name in ("X_pool", "y_pool", "path"):
        with pytest.raises(AttributeError, match=f"{name} cannot be replaced once the loop runs"):
            setattr(learner, name, None)
    with pytest.raises(AttributeError, match="extend"):
        learner.set_params(X_pool=embeddings[:20])
    with pytest.raises(ValueError, match=r"X_new holds embeddings of shape \(2, 64\), the pool embeddings of shape"):
        learner.extend(embeddings[:2, :64])
    with pytest.raises(ValueError, match="this one has none"):
        learner.extend(embeddings[:2], [0, 1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"X_new has values that are not finite in float32, in rows \[1, 2\]: X_new\[1, 3\] is nan"),
        (-np.inf, r"in rows \[1, 2\]: X_new\[1, 3\] is -inf; expected finite numbers"),
        (1e300, r"in rows \[1, 2\]: X_new\[1, 3\] is 1e\+300"),
        (1e19, r"X_new\[1\] has values up to 1e\+19, too far from 1"),
    ],
)
def test_values_that_no_model_takes_do_not_get_into_the_pool(linear, embeddings, tmp_path, value, message):
    learner = linear()
    saved, new = (tmp_path / "linear.npz").read_bytes(), embeddings[:4].astype(float)
    new[1:3, 3] = value
    with pytest.raises(ValueError, match=message):
        learner.extend(new)
    assert len(learner.X_pool) == N and (tmp_path / "linear.npz").read_bytes() == saved
    learner.query()


def test_a_model_that_takes_missing_values_gets_more_of_them(digits):
    from sklearn.ensemble import HistGradientBoostingClassifier

    X = np.array([[0.0], [1.0], [np.nan], [0.0]])
    learner = DualPromptLearner(HistGradientBoostingClassifier(max_iter=2), X, query_strategy=random_sampling)
    learner.teach(rows=[0, 1], y=[0, 1])
    assert learner.extend([[np.nan]]).tolist() == [4]


def test_pools_in_files_grow_in_their_file(make, embeddings, tmp_path):
    np.save(tmp_path / "pool.npy", embeddings[:60])
    learner = make(np.load(tmp_path / "pool.npy", mmap_mode="r"), path=tmp_path / "state.npz")
    learner.drop([3])
    learner.teach(rows=[0, 1], y=[0, 1])
    with pytest.raises(ValueError, match="X_pool lies in a file"):
        learner.extend(embeddings[60:70])
    del learner
    np.save(tmp_path / "pool.npy", embeddings[:70])
    longer = DualPromptLearner.resume(tmp_path / "state.npz", np.load(tmp_path / "pool.npy", mmap_mode="r"))
    assert len(longer.unlabeled_) == 67 and 3 not in longer.query(n_instances=67)[0]


# -------------------------------------------------------------------- classes


def test_a_class_is_added_behind_the_others(make, digits, pool):
    X, y = pool
    seen = np.flatnonzero(y < 9)
    learner = make(names=list(digits.class_names)[:9])
    learner.teach(rows=seen[:20], y=y[seen[:20]])
    with pytest.raises(ValueError, match=r"y\[0\] is 9"):
        learner.teach(rows=np.flatnonzero(y == 9)[:1], y=[9])
    learner.add_class("nine")
    assert learner.log_[-1]["changes"] == [{"what": "add_class", "name": "nine"}]
    assert learner.estimator.classes_.tolist() == list(range(10))
    np.testing.assert_array_equal(learner.labels_, y[seen[:20]])
    rows = np.flatnonzero(y == 9)[:3]
    learner.teach(rows=rows, y=y[rows])
    assert learner.predict_proba(X).shape == (N, 10) and learner.labels_.tolist()[-3:] == [9, 9, 9]
    for wrong in ("nine", "", 3):
        with pytest.raises(ValueError, match="name="):
            learner.add_class(wrong)


@pytest.mark.parametrize("kind", ["positions", "names", "mapping"])
def test_labels_keep_their_meaning(make, digits, pool, tmp_path, kind):
    """Names in another order, as a parameter, at resume: refused where a label would mean something else."""
    X, y = pool
    names = list(digits.class_names)
    given = dict(zip(range(10, 20), names)) if kind == "mapping" else names
    labels = {"positions": y, "names": np.array(names)[y], "mapping": y + 10}[kind]
    learner = make(names=given, n_per_class=0, path=tmp_path / "state.npz")
    learner.teach(rows=np.arange(30), y=labels[:30])
    predicted = learner.predict(X)
    turned = dict(zip(given, names[::-1])) if kind == "mapping" else names[::-1]
    clf = make(names=turned).estimator
    learner.set_params(estimator__class_names=turned)
    if kind == "names":  # which say themselves what they mean
        learner.query(n_instances=1)
        resumed = DualPromptLearner.resume(tmp_path / "state.npz", X, estimator=clf)
        np.testing.assert_array_equal(resumed.labels_, labels[:30])
        np.testing.assert_array_equal(resumed.predict(X), predicted)
        return
    label = next(iter(given)) if kind == "mapping" else 0
    changed = f"label {label} meant 'zero' when labels were given, and is called 'nine' now"
    for action in (learner.query, lambda: learner.relabel([0], labels[:1]), lambda: learner.add_class("ten")):
        with pytest.raises(ValueError, match=changed):
            action()
    with pytest.raises(ValueError, match=f"label {label} meant 'zero'"):
        DualPromptLearner.resume(tmp_path / "state.npz", X, estimator=clf)
    learner.set_params(estimator__class_names=given)
    learner.query(n_instances=1)
    fewer = {k: v for k, v in given.items() if k < 19} if kind == "mapping" else names[:9]
    with pytest.raises(ValueError, match="meant 'nine' .* and is none of them now"):
        DualPromptLearner.resume(tmp_path / "state.npz", X, estimator=make(names=fewer).estimator)


def test_a_list_that_is_changed_in_place_is_noticed(make, digits):
    names = list(digits.class_names)
    learner = make(names=names, n_per_class=0).start()
    names.reverse()
    with pytest.raises(ValueError, match="class_names were changed"):
        learner.query()
    names.reverse()
    names.append("ten")  # means no harm
    learner.query()
    assert learner._names == names


def test_a_class_that_came_before_resume_is_trained_on(taught, make, digits, pool, tmp_path):
    learner = taught(path=tmp_path / "state.npz")
    clf = make(names=[*digits.class_names, "ten"]).estimator
    resumed = DualPromptLearner.resume(tmp_path / "state.npz", pool[0], estimator=clf)
    assert resumed.log_[-1]["changes"] == [{"what": "add_class", "name": "ten"}]
    learner_again = taught()
    learner_again.add_class("ten")
    assert_same(resumed, learner_again, pool[0])
    assert len(learner.log_) == 2


@pytest.fixture
def linear(pool, digits, tmp_path):
    """A saved learner with 3 labels whose classifier trains in no time."""

    def linear(**params):
        clf = DualLinearClassifier(list(digits.class_names), **DEMO | params)
        learner = DualPromptLearner(clf, pool[0], path=tmp_path / "linear.npz", query_strategy=random_sampling)
        learner.teach(rows=[1, 2, 3], y=pool[1][[1, 2, 3]])
        return learner

    return linear


LONG = "an " * 100
UNREADABLE = [("ZERO", "'zero' and 'ZERO' give the same tokens"), ("zero_", "same tokens"), (LONG, "is too long")]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("name", "message"), UNREADABLE)
def test_a_class_that_cannot_be_trained_on_changes_nothing(linear, digits, tmp_path, name, message, train):
    learner = linear()
    saved, log = (tmp_path / "linear.npz").read_bytes(), list(learner.log_)
    with pytest.raises(ValueError, match=message):
        learner.add_class(name, train=train)
    assert learner.estimator.class_names == list(digits.class_names) and learner.log_ == log
    assert (tmp_path / "linear.npz").read_bytes() == saved
    learner.estimator.set_params(class_names=[*digits.class_names, name])  # from outside
    with pytest.raises(ValueError, match=message):
        learner.query()
    assert (tmp_path / "linear.npz").read_bytes() == saved
    learner.estimator.set_params(class_names=digits.class_names)
    learner.query()
    learner.add_class("ten")
    assert learner.estimator.classes_.tolist() == list(range(11))


def test_a_class_without_a_text_embedding_is_refused(linear, digits, demo):
    from modal_clip_dual.clip.templates import template_embeddings

    text = template_embeddings(demo, list(digits.class_names), ["a photo of a {}."]).cpu().numpy()
    learner = linear(text_embeddings=text)
    with pytest.raises(ValueError, match=r"text_embeddings has shape \(10, .* expected numbers of shape \(11, D\)"):
        learner.add_class("ten")
    learner.query()


def test_a_name_that_only_the_prompts_have_no_room_for(make, digits):
    learner = make(n_per_class=0)
    learner.estimator.set_params(n_context=16)
    name = "a " * 60  # which fits the template, not behind 16 words of context
    with pytest.raises(ValueError, match="with n_context=16 is too long"):
        learner.add_class(name)
    assert learner.estimator.class_names == list(digits.class_names)


@pytest.mark.parametrize("right", [[], ["ten"]])
def test_a_file_with_a_class_that_cannot_be_trained_on_is_mended(linear, digits, pool, tmp_path, monkeypatch, right):
    """As a version wrote it that checked nothing before: with the right names it goes on."""
    learner = linear()
    with monkeypatch.context() as unchecked:
        unchecked.setattr("modal_clip_dual.active.corrections.check_readable", lambda *args: None)
        with pytest.raises(ValueError, match="same tokens"):
            learner.add_class("ZERO")
    learner.close()
    names = [*digits.class_names, *right]
    with pytest.raises(ValueError, match="same tokens"):
        DualPromptLearner.resume(tmp_path / "linear.npz", pool[0])
    again = DualPromptLearner.resume(tmp_path / "linear.npz", pool[0], estimator=DualLinearClassifier(names, **DEMO))
    assert again.log_[-1]["changes"] == [{"what": "add_class", "name": name} for name in right]
    again.teach(rows=[4], y=pool[1][[4]])
    assert again.estimator.classes_.tolist() == list(range(len(names)))


def test_a_class_that_was_given_or_trained_on_stays(linear, digits, pool):
    learner = linear()
    learner.add_class("ten", train=False)
    learner.teach(rows=[4], y=[10], train=False)
    learner.drop([4], train=False)  # its label does not count, and may come back
    for more, now in (([], "is none of them now"), (["x"], "is called 'x' now")):
        learner.estimator.set_params(class_names=[*digits.class_names, *more])
        with pytest.raises(ValueError, match=f"label 10 meant 'ten' when labels were given, and {now}"):
            learner.query()
    learner.estimator.set_params(class_names=[*digits.class_names, "ten"])
    learner.forget([4])
    learner.train()
    learner.estimator.set_params(class_names=digits.class_names)
    with pytest.raises(ValueError, match="label 10 meant 'ten' at the last training"):
        learner.query()


# -------------------------------------------------------------------- annotators


def test_two_annotators_and_what_counts(make, pool):
    y = pool[1]
    last, most = make(n_per_class=0), make(n_per_class=0, disagreement="majority")
    for learner in (last, most):
        learner.teach(rows=[0, 1, 2], y=y[:3], annotator="ann")
        learner.teach(rows=[0, 1], y=[y[0], (y[1] + 1) % 10], annotator="bob")
        learner.teach(rows=[1], y=y[1:2], annotator="cleo")
        learner.relabel([1], [(y[1] + 1) % 10], annotator="bob")  # says so again, later
        with pytest.raises(ValueError, match=r"rows \[1\] have a label already"):
            learner.teach(rows=[1], y=[0], annotator="ann")
        with pytest.raises(ValueError, match=r"rows \[1\] have a label already"):
            learner.teach(rows=[1], y=[0])
        assert len(learner.annotations) == 6 and learner.disagreements.index.tolist() == [1]
        assert learner.annotator_agreement["n_both"].tolist() == [2, 1, 1]
    assert last.labels_.tolist() == [y[0], (y[1] + 1) % 10, y[2]]
    assert most.labels_.tolist() == y[:3].tolist()
    change = {"what": "relabel", "rows": [1], "labels": [(y[1] + 1) % 10], "annotator": "bob"}
    assert last.log_[-1]["changes"] == [change]
    most.relabel([1], [(y[1] + 2) % 10])  # nobody in particular: a decision
    assert most.labels_[1] == (y[1] + 2) % 10 and not len(most.disagreements)
    with pytest.raises(TypeError, match="annotator=''"):
        most.skip([3], annotator="")
    with pytest.raises(ValueError, match=r"rows \[2\] have no label by annotator='bob'"):
        last.forget([0, 1, 2], annotator="bob")
    last.forget([0, 1], annotator="bob")
    assert last.labels_.tolist() == y[:3].tolist() and not len(last.disagreements)
    assert last.log_[-1]["changes"] == [{"what": "forget", "rows": [0, 1], "annotator": "bob"}]
    last.forget([2], annotator="ann")  # the only one: the row is unlabeled again
    assert last.rows_.tolist() == [0, 1] and 2 in last.unlabeled_


@pytest.mark.parametrize("resumed", [False, True])
def test_another_way_to_decide_is_trained_on(linear, pool, tmp_path, resumed):
    X, y = pool
    learner = linear()
    for row, wrong, who in ((4, 0, "ann"), (4, 0, "bob"), (4, 1, "cleo"), (5, 2, "ann")):
        learner.teach(rows=[row], y=[(y[row] + wrong) % 10], annotator=who, train=False)
    learner.train()
    learner.disagreement = "last"  # as it was
    assert learner._due is None
    learner.set_params(disagreement="majority")
    assert learner.labels_[3] == y[4]
    if resumed:
        learner.close()
        learner = DualPromptLearner.resume(tmp_path / "linear.npz", X)
    learner.train()
    assert learner.y_training.tolist() == [*y[1:5], (y[5] + 2) % 10] == learner.labels_.tolist()
    assert learner.log_[-1]["changes"] == [{"what": "disagreement", "disagreement": "majority"}]
    n = len(learner.log_)
    learner.train()
    assert len(learner.log_) == n


# -------------------------------------------------------------------- refusals, budget, later training


def test_refused_changes_change_nothing(taught, pool, tmp_path):
    X, y = pool
    learner = taught(path=tmp_path / "state.npz")
    before, saved = dict(vars(learner)), (tmp_path / "state.npz").read_bytes()
    cases = [
        (lambda: learner.relabel([int(learner.unlabeled_[0])], [1]), "have no label to correct"),
        (lambda: learner.relabel(learner.rows_[:1], [77]), r"y\[0\] is 77"),
        (lambda: learner.relabel(learner.rows_[:2], [7]), "y has 1 labels for 2 samples"),
        (lambda: learner.relabel(learner.rows_[:1], ["seven"]), "labels so far are positions"),
        (lambda: learner.skip([N]), "distinct positions from 0 to 119"),
        (lambda: learner.forget([]), "expected positions in the pool"),
        (lambda: learner.drop(np.arange(N)), "all 120 samples of the pool would be dropped"),
        (lambda: learner.teach(rows=learner.unlabeled_[:2], y=[1, 77]), r"y\[1\] is 77"),
    ]
    for action, message in cases:
        with pytest.raises(ValueError, match=message):
            action()
    assert vars(learner).keys() == before.keys() and all(vars(learner)[name] is before[name] for name in before)
    assert (tmp_path / "state.npz").read_bytes() == saved
    learner.drop(learner.rows_[:1])
    dropped = next(iter(learner._annotations.dropped))
    with pytest.raises(ValueError, match="were dropped"):
        learner.teach(rows=[dropped], y=[1])


def test_one_class_is_not_enough_after_forgetting(pool):
    X, y = pool
    names = np.array(["no", "yes"])[y % 2]
    clf = DualPromptClassifier(None, max_epochs=1, **DEMO)
    learner = DualPromptLearner(clf, X, n_per_class=0, first_query="random")
    learner.teach(rows=[0, 1, 3], y=names[[0, 1, 3]])
    for forget in (learner.forget, learner.skip, learner.drop):
        with pytest.raises(ValueError, match="y contains one class only"):
            forget([0])
    assert learner.rows_.tolist() == [0, 1, 3]
    with pytest.raises(ValueError, match="class_names is None"):
        learner.add_class("maybe")


def test_a_save_that_fails_changes_nothing(taught, pool, tmp_path, monkeypatch):
    from modal_clip_dual.active import saving

    learner = taught(path=tmp_path / "state.npz")
    before, saved = dict(vars(learner)), (tmp_path / "state.npz").read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(saving, "write_state", full)
        for action in (
            lambda: learner.skip(learner.unlabeled_[:1]), lambda: learner.relabel(learner.rows_[:1], [3]),
            lambda: learner.add_class("ten"), lambda: learner.extend(pool[0][:2]),
        ):  # fmt: skip
            with pytest.raises(OSError, match="No space"):
                action()
    assert all(vars(learner)[name] is before[name] for name in before)
    assert (tmp_path / "state.npz").read_bytes() == saved and len(learner.estimator.class_names) == 10


def test_the_budget_is_not_passed_unseen(make, pool):
    learner = make(n_per_class=0, budget=5)
    with pytest.warns(UserWarning, match="n_instances=50, but 5 labels are left of the budget of 5"):
        rows, _ = learner.query(n_instances=50)
    assert len(rows) == 5
    learner.teach(rows=rows[:3], y=pool[1][rows[:3]])
    with pytest.warns(UserWarning, match="2 labels are left"):
        assert len(learner.query(n_instances=3)[0]) == 2
    with pytest.warns(UserWarning, match="7 labels are more than the budget of 5"):
        learner.teach(rows=learner.unlabeled_[:4], y=pool[1][learner.unlabeled_[:4]])
    with pytest.raises(ValueError, match="the budget of 5 labels is spent; a larger learner.budget goes on"):
        learner.query()
    learner.budget = 9
    assert len(learner.query(n_instances=2)[0]) == 2


def test_training_may_come_later(make, pool, tmp_path):
    """Every answer is saved at once, and one training takes all of them in."""
    X, y = pool
    learner = make(path=tmp_path / "state.npz")
    rows, _ = learner.query(n_instances=6)
    for row in rows[:5]:
        learner.teach(rows=[row], y=[y[row]], train=False)
    learner.teach(rows=rows[:1], y=[(y[rows[0]] + 1) % 10], train=False)  # not trained on yet: may be said again
    learner.relabel(rows[:1], y[rows[:1]], train=False)
    learner.forget(rows[1:2], train=False)
    assert len(learner.log_) == 1 and learner.rows_.tolist() == [rows[0], *rows[2:5]]
    del learner
    learner = DualPromptLearner.resume(tmp_path / "state.npz", X)
    assert len(learner.log_) == 1 and learner.rows_.tolist() == [rows[0], *rows[2:5]]
    learner.teach(rows=rows[5:], y=y[rows[5:]])
    assert [record["n_labels"] for record in learner.log_] == [0, 5]
    assert learner.log_[-1]["rows"] == learner.rows_.tolist() and learner.log_[-1]["scores"] is not None
    expected = make()
    expected.query(n_instances=6)
    kept = learner.rows_
    expected.teach(rows=kept, y=y[kept])
    np.testing.assert_array_equal(learner.predict_proba(X), expected.predict_proba(X))
    learner.train()  # nothing to do
    assert len(learner.log_) == 2


def test_people_may_go_on_while_it_trains(make, pool, tmp_path, monkeypatch):
    """What is said during a training is saved, and is neither lost nor taken for trained."""
    X, y = pool
    learner = make(path=tmp_path / "state.npz")
    learner.start()
    fit = DualPromptClassifier.fit
    meanwhile = []

    def fitting(self, *args, **kwargs):
        if not meanwhile:
            meanwhile.append(50)
            learner.teach(rows=[50], y=y[50:51], train=False)
            learner.skip([51], train=False)
            with np.load(tmp_path / "state.npz") as saved:
                meanwhile.append(saved["rows"].tolist())
        return fit(self, *args, **kwargs)

    fitting.__signature__ = __import__("inspect").signature(fit)
    with monkeypatch.context() as patch:
        patch.setattr(DualPromptClassifier, "fit", fitting)
        learner.teach(rows=[0, 1], y=y[:2])
    assert meanwhile[1] == [0, 1, 50] and learner.rows_.tolist() == [0, 1, 50]
    assert learner.log_[-1]["rows"] == [0, 1] and learner.y_training.tolist() == y[:2].tolist()
    learner.train()
    assert learner.log_[-1]["rows"] == [50] and learner.y_training.tolist() == [*y[:2], y[50]]
    assert learner.log_[-1]["changes"] == [{"what": "skip", "rows": [51], "annotator": None}]


def test_interrupted_corrections_are_finished(taught, pool, tmp_path, monkeypatch):
    from modal_clip_dual.nn.criteria.dual import DualPromptLoss

    def interrupt(*args):
        raise KeyboardInterrupt

    X, _ = pool
    learner, expected = taught(path=tmp_path / "state.npz"), taught()
    row = learner.rows_[:1]
    with monkeypatch.context() as patch:
        patch.setattr(DualPromptLoss, "forward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            learner.relabel(row, [3])
    assert len(learner.log_) == 2 and learner.labels_[0] == 3
    expected.relabel(row, [3])
    resumed = DualPromptLearner.resume(tmp_path / "state.npz", X)
    assert_same(resumed, expected, X)


# -------------------------------------------------------------------- any sequence, with and without resume


class Plain:
    """The same as dicts: row -> label, and two sets."""

    def __init__(self, n):
        self.n, self.labels, self.skipped, self.dropped = n, {}, set(), {}

    def unlabeled(self):
        return [r for r in range(self.n) if r not in self.labels and r not in self.skipped and r not in self.dropped]

    def teach(self, rows, y):
        for row, label in zip(rows, y):
            self.labels[row] = label
            self.skipped.discard(row)

    def relabel(self, rows, y):
        self.labels.update(zip(rows, y))

    def forget(self, rows):
        for row in rows:
            self.labels.pop(row, None)
            self.skipped.discard(row)
            self.dropped.pop(row, None)

    def skip(self, rows):
        self.forget([row for row in rows if row not in self.dropped])
        for row in rows:
            self.skipped.add(row)
            if row in self.dropped:
                self.dropped[row] = None

    def drop(self, rows):
        for row in rows:
            self.dropped[row] = self.labels.pop(row, self.dropped.get(row))


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["teach", "relabel", "forget", "skip", "drop", "extend"]), st.integers(0, 10**6)),
    min_size=1, max_size=8,
)  # fmt: skip


def act(learner, plain, what, number, embeddings, y):
    """One action on both, if there is anything to act on."""
    generator = np.random.default_rng(number)
    rows = {
        "teach": plain.unlabeled(), "relabel": list(plain.labels), "forget": list(range(plain.n)),
        "skip": [r for r in range(plain.n) if r not in plain.dropped],
        "drop": [r for r in range(plain.n) if r not in plain.dropped],
    }.get(what)  # fmt: skip
    if what == "extend":
        learner.extend(embeddings[plain.n : plain.n + 2])
        plain.n += 2
        return
    chosen = generator.permutation(rows)[:2].tolist() if rows else []
    if not chosen or (what == "drop" and len(plain.dropped) + len(chosen) == plain.n):
        return
    if what in ("teach", "relabel"):
        right = [int(y[row]) for row in chosen]
        labels = right if what == "teach" else generator.integers(0, 10, len(chosen)).tolist()
        getattr(learner, what)(rows=chosen, y=labels)
        getattr(plain, what)(chosen, labels)
    else:
        getattr(learner, what)(chosen)
        getattr(plain, what)(chosen)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_any_sequence_with_resume_is_that_of_plain_dicts(embeddings, digits, tmp_path_factory, actions):
    path = tmp_path_factory.mktemp("states") / "state.npz"
    y, start = digits.target, 12

    def make(**params):
        clf = TipAdapterClassifier(digits.class_names, **DEMO)
        return DualPromptLearner(clf, embeddings[:start], query_strategy=random_sampling, **params).start()

    straight, stopped = make(), make(path=path)
    plains = Plain(start), Plain(start)
    for what, number in actions:
        act(straight, plains[0], what, number, embeddings, y)
        stopped = DualPromptLearner.resume(path, embeddings[: plains[1].n])
        act(stopped, plains[1], what, number, embeddings, y)
        assert dict(zip(stopped.rows_.tolist(), stopped.labels_.tolist())) == plains[1].labels
        assert stopped.unlabeled_.tolist() == plains[1].unlabeled()
        if len(stopped.unlabeled_):
            asked = [learner.query(n_instances=len(learner.unlabeled_))[0] for learner in (straight, stopped)]
            assert sorted(asked[1]) == plains[1].unlabeled()
            np.testing.assert_array_equal(*asked)
    if plains[0].labels:
        assert_same(stopped, straight, embeddings[:60])
        rows = list(straight.rows_)
        fresh = TipAdapterClassifier(digits.class_names, **DEMO).fit(embeddings[rows], straight.labels_)
        found = straight.predict_proba(embeddings[:60])
        np.testing.assert_allclose(found, fresh.predict_proba(embeddings[:60]), atol=1e-6)


SCRIPT = """
import os, signal, sys
import numpy as np
from modal_clip_dual import DualPromptLearner
from modal_clip_dual.active import training
from modal_clip_dual.nn.criteria.dual import DualPromptLoss
from modal_clip_dual.utils import persistence
what, phase, path, pool = sys.argv[1:]
data = np.load(pool)
learner = DualPromptLearner.resume(path, data["X"])
rows, y = learner.rows_, data["y"]
def killing(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
if phase == "writing":
    persistence.os.replace = killing
if phase == "training":
    DualPromptLoss.forward = killing
if phase == "recording":
    training.asked_for = killing
actions = {
    "relabel": lambda: learner.relabel(rows[:2], [3, 3], annotator="ann"),
    "forget": lambda: learner.forget(rows[:2]),
    "skip": lambda: learner.skip(rows[:2]),
    "drop": lambda: learner.drop(rows[:2]),
    "add_class": lambda: learner.add_class("ten"),
}
actions[what]()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize(
    ("what", "phase"),
    [("relabel", "writing"), ("forget", "recording"), ("skip", "training"), ("add_class", "training")],
)  # fmt: skip
def test_killed_in_the_middle_of_a_change(taught, pool, tmp_path, what, phase):
    X, y = pool
    path = tmp_path / "state.npz"
    learner, expected = taught(path=path), taught()
    learner.close()
    np.savez(tmp_path / "pool.npz", X=X, y=y)
    log = tmp_path / "log"
    code = run_script(SCRIPT, [what, phase, str(path), str(tmp_path / "pool.npz")], log)
    assert code == -signal.SIGKILL, log.read_text()
    rows = expected.rows_
    resumed = DualPromptLearner.resume(path, X)
    if phase == "writing":  # the file before it is whole
        assert_same(resumed, expected, X)
        return
    {
        "relabel": partial(expected.relabel, rows[:2], [3, 3], annotator="ann"),
        "forget": partial(expected.forget, rows[:2]), "skip": partial(expected.skip, rows[:2]),
        "drop": partial(expected.drop, rows[:2]), "add_class": partial(expected.add_class, "ten"),
    }[what]()  # fmt: skip
    assert_same(resumed, expected, X)
    assert os.path.exists(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed.query(n_instances=1)


def test_labels_and_rows_cannot_be_written_to(taught):
    """What was written to these copies was lost without a word."""
    learner = taught()
    with pytest.raises(ValueError, match="read-only"):
        learner.rows_[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        learner.labels_[:2].sort()
    assert learner.rows_.base is None  # a copy: what one holds does not change with the learner
    learner.relabel(learner.rows_[:1], learner.labels_[:1])


def test_what_is_assigned_to_labels_is_a_correction(digits, embeddings, tmp_path):
    """It was lost without a word, and names were cut to the length of those before."""
    clf = TipAdapterClassifier(["cat", "a striped cat", "dog"], **DEMO)
    learner = DualPromptLearner(clf, embeddings[:20], query_strategy=random_sampling, path=tmp_path / "state.npz")
    learner.teach(rows=[3, 7, 5], y=["cat", "cat", "dog"])
    before, n_rounds = learner.labels_, len(learner.log_)
    learner.labels_[0] = "a striped cat"
    assert learner.labels_.tolist() == ["a striped cat", "cat", "dog"]
    assert before.tolist() == ["cat", "cat", "dog"] and len(learner.log_) == n_rounds
    learner.labels_[1:] = ["dog", "cat"]
    learner.labels_[learner.labels_ == "cat"] = "dog"
    with pytest.raises(ValueError, match=r"y\[0\] is 'cow', which is not a label"):
        learner.labels_[0] = "cow"
    with pytest.raises(ValueError, match="y has 3 labels for 2 samples"):
        learner.labels_[:2] = ["cat", "cat", "dog"]
    copy = learner.labels_.copy()
    copy[0] = "cat"  # of nobody
    assert type(pickle.loads(pickle.dumps(learner.labels_))) is np.ndarray
    expected = ["a striped cat", "dog", "dog"]
    assert learner.labels_.tolist() == expected
    learner.close()
    again = DualPromptLearner.resume(tmp_path / "state.npz", embeddings[:20])
    assert again.labels_.tolist() == expected
    again.train()
    assert again.y_training.tolist() == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("budget", "5", "budget='5' is a str"),
        ("budget", 0, "budget=0; expected at least 1"),
        ("n_per_class", -1, "n_per_class=-1"),
        ("disagreement", "first", "disagreement='first'; expected one of"),
        ("first_query", "mine", "first_query='mine'"),
        ("random_state", 1.5, "random_state=1.5"),
        ("query_strategy", "random", "query_strategy='random' cannot be called"),
        ("estimator", object(), "without fit, predict"),
    ],
)
def test_what_is_set_while_the_loop_runs_is_checked(taught, name, value, message):
    learner = taught()
    rows, before = learner.rows_, getattr(learner, name)
    setattr(learner, name, value)
    with pytest.raises((TypeError, ValueError), match=message):
        learner.query(n_instances=2)
    with pytest.raises((TypeError, ValueError), match=message):
        learner.teach(rows=[100], y=[1])
    setattr(learner, name, before)
    assert learner.rows_.tolist() == rows.tolist()
    learner.query(n_instances=2)
