import numpy as np
import pandas as pd
import pytest
from modAL.uncertainty import margin_sampling
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from modal_clip_dual import DualLinearClassifier, negative_prompt_sampling, random_sampling
from modal_clip_dual.evaluation import (
    auroc_of_correctness,
    coverage_at_accuracy,
    prediction_rejection_ratio,
    run_active_learning,
)
from modal_clip_dual.evaluation.plots import plot_learning_curves


@pytest.fixture
def split(embeddings, digits):
    return embeddings[:200], digits.target[:200], embeddings[200:300], digits.target[200:300]


def test_run(classifier, split):
    queried = []

    def spying(learner, X, n_instances):
        queried.append(X)
        return negative_prompt_sampling(learner, X, n_instances)

    seen = []
    records = run_active_learning(
        classifier(max_epochs=2), spying, *split, n_instances=10, n_rounds=3, on_round=seen.append
    )
    assert seen == records
    assert [r["round"] for r in records] == [1, 2, 3]
    assert [r["n_labels"] for r in records] == [10, 20, 30]
    assert [len(X) for X in queried] == [190, 180]
    assert {"accuracy", "auroc_clean", "auroc_max_proba", "ece_correct"} <= set(records[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_pool": None}, "this call requires y_pool to be passed"),
        ({"y_test": [0.5] * 100}, r"y_test\[0\] is 0\.5, no whole number"),
        ({"y_test": ["one"] * 100}, r"y_pool holds numbers such as \d, y_test names such as 'one'; expected one"),
        ({"y_test": [10] * 100}, r"y_test\[0\] is 10, which is not a label of class_names"),
    ],
)
def test_labels_are_checked_before_the_first_round(classifier, split, change, message):
    arguments = dict(zip(("X_pool", "y_pool", "X_test", "y_test"), split)) | change
    with pytest.raises(ValueError, match=f"^{message}"):
        run_active_learning(classifier(), random_sampling, **arguments, n_instances=10, n_rounds=1)


def test_rows_that_come_twice_are_not_counted_as_labels(split):
    def again(learner, X, n_instances=1):
        return np.zeros(n_instances, int)

    records = []
    with pytest.raises(ValueError, match="the query strategy again returned row 0 10 times; expected 10 distinct"):
        run_active_learning(
            LogisticRegression(), again, *split, n_instances=10, n_rounds=3, on_round=records.append
        )
    assert [record["n_labels"] for record in records] == [10]  # of the first round, which nobody was asked for


def test_measurements(classifier, split):
    X, y, X_test, y_test = split
    record = run_active_learning(
        classifier(), random_sampling, *split, n_instances=20, n_rounds=1, first_query=np.arange(20)
    )[0]
    clf = classifier().fit(X[:20], y[:20])
    correct = clf.predict(X_test) == y_test
    assert record["accuracy"] == pytest.approx(clf.score(X_test, y_test))
    score = clf.clean_logits(X_test)[np.arange(100), clf.predict(X_test)]
    assert record["auroc_clean"] == pytest.approx(auroc_of_correctness(score, correct))
    proba = clf.predict_proba(X_test).max(1)
    assert record["auroc_max_proba"] == pytest.approx(auroc_of_correctness(proba, correct))
    assert record["prr_max_proba"] == pytest.approx(prediction_rejection_ratio(proba, correct))
    assert record["coverage_max_proba"] == pytest.approx(coverage_at_accuracy(proba, correct, 0.95))


@pytest.mark.parametrize("n_per_class", [0, 2])
@pytest.mark.parametrize("names", [False, True])
def test_record_before_any_label(classifier, split, digits, n_per_class, names):
    """Round 0 is that of zero-shot CLIP, or of pseudo-labels, and changes nothing that comes after."""
    X, y, X_test, y_test = split
    if names:  # labels that are texts, in another order than the list of names
        y, y_test = np.array(digits.class_names)[y], np.array(digits.class_names)[y_test]
    arguments = (classifier(max_epochs=1), random_sampling, X, y, X_test, y_test)
    params = dict(n_instances=10, n_rounds=2, n_per_class=n_per_class, pseudo_labels="own")
    zero, *records = run_active_learning(*arguments, **params, from_zero=True)
    plain = run_active_learning(*arguments, **params)
    assert [untimed(record) for record in records] == [untimed(record) for record in plain]
    assert list(zero) == list(records[0])  # the same columns, in the same order
    assert (zero["round"], zero["n_labels"], zero["budget"], zero["class_coverage"]) == (0, 0, 0, 0)
    if n_per_class:
        clf = classifier(max_epochs=1, random_state=int(np.random.SeedSequence([0, 0]).generate_state(1)[0] >> 1))
        proba = clf.fit_unlabeled(X, n_per_class=n_per_class).predict_proba(X_test)
        assert zero["mean_correct"] == pytest.approx(clf.predict_correct_proba(X_test).mean(), rel=1e-5)
        assert zero["n_pseudo"] > 0 and zero["train_seconds"] > 0
    else:
        proba = classifier().zero_shot_proba(X_test)
        assert zero["auroc_clean"] is zero["mean_correct"] is zero["pseudo_accuracy"] is None
        assert zero["n_pseudo"] == zero["train_seconds"] == 0
    assert zero["accuracy"] == (proba.argmax(axis=1) == split[3]).mean() > 0.4
    rows = proba[np.arange(len(y_test)), split[3]].astype(np.float64)
    assert zero["nll"] == pytest.approx(-np.log(rows).mean(), rel=1e-4)


def untimed(record):
    return {k: v for k, v in record.items() if not k.endswith("_seconds") and k != "peak_memory_mib"}


def test_head_that_learns_from_the_pool_alone(split, digits):
    X, y, X_test, y_test = split
    clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
    zero = run_active_learning(
        clf, random_sampling, *split, n_instances=10, n_rounds=1, n_per_class=1, from_zero=True
    )[0]
    assert zero["accuracy"] == clf.fit_unlabeled(X).score(X_test, y_test)
    assert zero["n_labels"] == 0 and zero["estimated_accuracy"] is not None


def test_no_record_before_labels_of_others(classifier, split):
    params = dict(n_instances=10, n_rounds=1, from_zero=True)
    with pytest.raises(TypeError, match="estimator is a LogisticRegression; from_zero=True expects.*zero_shot_proba"):
        run_active_learning(LogisticRegression(), random_sampling, *split, **params)
    with pytest.raises(ValueError, match="class_names=None; from_zero=True expects names"):
        run_active_learning(classifier().set_params(class_names=None), random_sampling, *split, **params)


def test_first_round_follows_the_seed_and_is_shared(classifier, split):
    first = [
        run_active_learning(
            classifier(max_epochs=1), strategy, *split, n_instances=10, n_rounds=1, random_state=seed
        )[0]["accuracy"]
        for strategy, seed in [(random_sampling, 0), (negative_prompt_sampling, 0)]
    ]
    assert first[0] == first[1]


def test_other_classifiers(split):
    clf = LogisticRegression(max_iter=500)
    records = run_active_learning(clf, random_sampling, *split, n_instances=40, n_rounds=2)
    assert records[1]["accuracy"] > 0.5
    assert "auroc_clean" not in records[0]


def test_labels_of_a_shuffled_table(classifier, split):
    X, y, X_test, y_test = split
    index = np.random.default_rng(0).permutation(len(y))
    params = dict(n_instances=10, n_rounds=1)
    tables = [
        run_active_learning(classifier(max_epochs=1), random_sampling, X, labels, X_test, y_test, **params)
        for labels in (y, pd.Series(y, index=index))
    ]
    assert tables[0][0]["class_coverage"] == tables[1][0]["class_coverage"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X_pool": np.zeros((3, 128))}, ValueError, "X_pool has 3 samples, y_pool 200 labels"),
        ({"X_test": np.zeros((3, 128))}, ValueError, "X_test has 3 samples, y_test 100 labels"),
        ({"X_pool": {}}, ValueError, r"X_pool has shape \(\)"),
        ({"n_instances": 2.5}, TypeError, "n_instances=2.5 is a float; expected an integer"),
        ({"n_instances": 0}, ValueError, "n_instances=0; expected at least 1"),
        ({"n_rounds": 0}, ValueError, "n_rounds=0; expected at least 1"),
        ({"random_state": None}, TypeError, "random_state=None is a NoneType; expected an integer"),
        ({"random_state": -1}, ValueError, "random_state=-1; expected at least 0"),
        ({"query_strategy": "margn"}, ValueError, "query_strategy='margn'; expected one of"),
        ({"query_strategy": 3}, TypeError, "query_strategy=3; expected a query strategy"),
        ({"n_per_class": -1}, ValueError, "n_per_class=-1; expected at least 0"),
        ({"estimator": LogisticRegression}, TypeError, "estimator is the class LogisticRegression"),
        ({"estimator": LinearSVC()}, TypeError, "estimator is a LinearSVC without predict_proba; expected"),
    ],
)
def test_arguments_are_checked_before_the_first_round(split, change, error, message, monkeypatch):
    monkeypatch.setattr("modal_clip_dual.evaluation.run._rounds", None)
    arguments = dict(zip(("X_pool", "y_pool", "X_test", "y_test"), split))
    arguments |= {"estimator": LogisticRegression(), "query_strategy": random_sampling}
    arguments |= {"n_instances": 10, "n_rounds": 1}
    with pytest.raises(error, match=f"^{message}"):
        run_active_learning(**arguments | change)


@pytest.mark.parametrize("container", [pd.DataFrame, lambda X: X.tolist(), csr_matrix])
def test_samples_of_any_container_and_a_strategy_by_its_name(split, container):
    X, y, X_test, y_test = split
    expected = run_active_learning(LogisticRegression(), margin_sampling, *split, n_instances=20, n_rounds=2)
    params = dict(n_instances=np.int64(20), n_rounds=2)
    records = run_active_learning(
        LogisticRegression(), "margin", container(X), y.tolist(), container(X_test), list(y_test), **params
    )
    assert [r["accuracy"] for r in records] == pytest.approx([r["accuracy"] for r in expected], abs=0.02)


def test_budget_beyond_the_pool(classifier, split):
    with pytest.raises(ValueError, match="n_rounds=21 of n_instances=10.*pool has 200"):
        run_active_learning(classifier(), random_sampling, *split, n_instances=10, n_rounds=21)


def test_learning_curves():
    frame = pd.DataFrame(
        {
            "strategy": ["a"] * 4 + ["b"] * 2,
            "seed": [0, 0, 1, 1, 0, 0],
            "n_labels": [10, 20] * 3,
            "accuracy": [0.4, 0.6, 0.6, 0.8, 0.1, 0.2],
        }
    )
    ax = plot_learning_curves(frame)
    lines = {line.get_label(): line.get_ydata().tolist() for line in ax.get_lines()}
    assert lines["a"] == pytest.approx([0.5, 0.7])
    assert lines["b"] == pytest.approx([0.1, 0.2])
    assert plot_learning_curves(frame, ax=ax) is ax


@pytest.mark.parametrize(
    ["first_query", "message"],
    [
        ("best", "first_query='best'; expected rows of the pool or one of"),
        ([0, 1], "n_instances=3 distinct rows"),
        ([0, 1, 1], "n_instances=3 distinct rows"),
        ([0.0, 1.0, 2.0], "n_instances=3 distinct rows"),
        ([[0, 1, 2]], "n_instances=3 distinct rows"),
        ([0, 1, 200], "rows from 0 to 199"),
        ([-1, 0, 1], "rows from 0 to 199"),
    ],
)
def test_wrong_first_rows(classifier, split, first_query, message):
    with pytest.raises(ValueError, match=message):
        run_active_learning(
            classifier(), random_sampling, *split, n_instances=3, n_rounds=1, first_query=first_query
        )


def test_one_class_is_always_sure():
    """Before the second class is labelled, a classifier's table of probabilities has one column."""
    from sklearn.dummy import DummyClassifier

    from modal_clip_dual.evaluation.measurement import measure

    clf = DummyClassifier().fit(np.zeros((3, 2)), [1, 1, 1])
    measured = measure(clf, np.zeros((4, 2)), np.array([1, 1, 1, 0]))
    assert measured["accuracy"] == 0.75
    assert measured["auroc_margin"] == 0.5


def test_selection_only_passes_the_pool(split, digits):
    """A head that learns from the pool is measured as a user would fit it, before the first label, too."""
    X, y, X_test, y_test = split
    clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
    zero, one, two = run_active_learning(
        clf, random_sampling, *split, n_instances=10, n_rounds=2, first_query=np.arange(10), from_zero=True
    )
    assert zero["accuracy"] == pytest.approx(clone(clf).fit_unlabeled(X).score(X_test, y_test))
    assert one["accuracy"] == pytest.approx(clone(clf).fit(X[:10], y[:10], X_pool=X).score(X_test, y_test))
    with pytest.warns(UserWarning, match="has no pool"):
        alone = clone(clf).fit(X[:10], y[:10])
    assert one["accuracy"] != pytest.approx(alone.score(X_test, y_test))
    assert two["n_labels"] == 20 and two["n_pseudo"] == 0


class PoolProbe(LogisticRegression):
    """A classifier that keeps what `fit` was given as the pool."""

    pools = []

    def fit(self, X, y, X_pool=None):
        self.pools.append(X_pool)
        return super().fit(X, y)


def test_selection_only_passes_the_pool_in_every_round(split, monkeypatch):
    monkeypatch.setattr(PoolProbe, "pools", [])
    run_active_learning(PoolProbe(), random_sampling, *split, n_instances=20, n_rounds=3)
    assert len(PoolProbe.pools) == 3
    assert all(pool is split[0] for pool in PoolProbe.pools)
