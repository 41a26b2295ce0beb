"""Pseudo-labels by mixtures of the pool, in round 0 and later, with frozen and prompted towers."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from modal_clip_dual import (
    DualLinearClassifier,
    DualPromptLearner,
    auto_sampling,
    mine_confident,
    negative_prompt_sampling,
)
from modal_clip_dual.active import Protocol
from modal_clip_dual.nn.criteria.dual import DualPromptLoss


@pytest.fixture
def pool(digits, embeddings):
    rows = np.random.default_rng(1).permutation(1797)[:300]
    return embeddings[rows], digits.target[rows]


def make(classifier, X, **params):
    params = {"n_per_class": 8, "pseudo_labels": "transductive"} | params
    return DualPromptLearner(classifier(max_epochs=2), X, **params)


def test_they_are_what_the_other_classifier_says(classifier, pool, digits):
    X, y = pool
    learner = make(classifier, X, y_pool=y).start()
    demo = {"model_name": "demo", "pretrained": "bundled", "device": "cpu"}
    labeler = DualLinearClassifier(digits.class_names, **demo).fit_unlabeled(X)
    rows, labels = mine_confident(labeler, X, 8, score="correct")
    np.testing.assert_array_equal(learner.pseudo_rows_, rows)
    np.testing.assert_array_equal(learner.pseudo_labels_, labels)
    learner.teach(rows=np.arange(20), y=y[:20])
    labeler.fit(X[:20], y[:20], X_pool=X)
    rows, labels = mine_confident(labeler, X, 8, exclude=np.arange(20), score="correct")
    np.testing.assert_array_equal(learner.pseudo_rows_, rows)
    np.testing.assert_array_equal(learner.pseudo_labels_, labels)


def test_who_labels_is_the_judge_too(classifier, pool, monkeypatch, tmp_path):
    """One fit serves both; after `resume` it is made again, with the same answers."""
    X, y = pool
    fits = []
    fit = DualLinearClassifier.fit
    monkeypatch.setattr(DualLinearClassifier, "fit", lambda *args, **kwargs: fits.append(1) or fit(*args, **kwargs))
    first = DualLinearClassifier.fit_unlabeled
    monkeypatch.setattr(DualLinearClassifier, "fit_unlabeled", lambda *args: fits.append(0) or first(*args))
    path = tmp_path / "state.npz"
    learner = make(classifier, X, path=path).start()
    assert fits == [0]
    fits.clear()
    learner.teach(rows=np.arange(20), y=y[:20])
    learner.teach(rows=np.arange(20, 30), y=y[20:30])
    assert len(fits) == 2
    correct = learner.predict_correct_proba(X)
    learner.close()
    resumed = DualPromptLearner.resume(path, X)
    np.testing.assert_array_equal(resumed.predict_correct_proba(X), correct)
    resumed.close()


def test_they_are_right_more_often(classifier, pool):
    X, y = pool
    own, other = (
        make(classifier, X, y_pool=y, pseudo_labels=kind, n_per_class=30).run(y, protocol=Protocol(2, per_class=1))
        for kind in ("own", "transductive")
    )
    for before, now in zip(own.log_, other.log_):
        assert now["pseudo_accuracy"] > before["pseudo_accuracy"]


def test_all_of_the_pool(classifier, pool):
    X, y = pool
    learner = make(classifier, X, n_per_class=None).start()
    assert sorted(learner.pseudo_rows_) == list(range(300))
    learner.teach(rows=[3, 1], y=y[[3, 1]])
    assert sorted(learner.pseudo_rows_) == sorted(set(range(300)) - {1, 3})
    rows, _ = mine_confident(learner.estimator, X, None)
    assert sorted(rows) == list(range(300))


def test_default_takes_all_of_a_pool_and_some_of_a_larger_one(classifier, pool, monkeypatch):
    X, y = pool
    learner = DualPromptLearner(classifier(max_epochs=2), X, y_pool=y).start()
    everything = make(classifier, X, y_pool=y, n_per_class=None).start()
    np.testing.assert_array_equal(learner.pseudo_rows_, everything.pseudo_rows_)
    np.testing.assert_array_equal(learner.predict_proba(X), everything.predict_proba(X))
    monkeypatch.setattr("modal_clip_dual.active.training.MOST_TRANSDUCED", 60)
    learner = DualPromptLearner(classifier(max_epochs=2), X, y_pool=y).start()
    learner.teach(rows=np.arange(20), y=y[:20])
    rows = np.sort(learner.pseudo_rows_)
    assert len(rows) == 60 and rows[0] >= 20
    assert np.diff(rows).max() < 10  # 280 rows are left, one of each stretch of 4.7
    demo = {"model_name": "demo", "pretrained": "bundled", "device": "cpu"}
    labeler = DualLinearClassifier(learner.estimator.class_names, **demo).fit(X[:20], y[:20], X_pool=X)
    np.testing.assert_array_equal(learner.pseudo_labels_, labeler.predict(X[learner.pseudo_rows_]))


def test_default_of_other_classifiers(classifier, pool, digits):
    """The paper's criterion has the paper's pseudo-labels; who learns from the pool, or cannot take any, has none."""
    X, y = pool
    paper = classifier(max_epochs=2, criterion="dual")
    learner = DualPromptLearner(paper, X).start()
    rows = paper.pseudo_rows_
    assert 16 < len(rows) <= 160
    np.testing.assert_array_equal(learner.pseudo_rows_, rows)
    by_class = DualPromptLearner(classifier(max_epochs=2, criterion=DualPromptLoss), X).start()  # as a class
    np.testing.assert_array_equal(by_class.pseudo_rows_, rows)
    own = DualPromptLearner(classifier(max_epochs=2), X, pseudo_labels="own").start()
    assert len(own.pseudo_rows_) == len(rows)
    linear = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
    learner = DualPromptLearner(linear, X).start()
    learner.teach(rows=np.arange(20), y=y[:20])
    assert [record["n_pseudo"] for record in learner.log_] == [0, 0]


def test_default_strategy(classifier, pool, digits, tmp_path):
    """It is the paper's with the paper's criterion, and the recommended one otherwise; a saved loop keeps its own."""
    X, y = pool
    linear = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", device="cpu")
    paper = classifier(max_epochs=2, criterion="dual")
    for estimator, strategy in ((linear, auto_sampling), (paper, negative_prompt_sampling)):
        given = {}, {"query_strategy": strategy}
        by_default, named = (DualPromptLearner(clone(estimator), X, **params) for params in given)
        np.testing.assert_array_equal(by_default.query(n_instances=10)[0], named.query(n_instances=10)[0])
    assert DualPromptLearner(classifier(), X).query_strategy is auto_sampling
    saved = DualPromptLearner(linear, X, query_strategy=negative_prompt_sampling, path=tmp_path / "state.npz").start()
    saved.close()
    resumed = DualPromptLearner.resume(tmp_path / "state.npz", X)
    assert resumed.query_strategy is negative_prompt_sampling
    resumed.close()


def test_resumed_with_the_default(classifier, pool, tmp_path):
    X, y = pool
    path = tmp_path / "state.npz"
    learner, saved = (DualPromptLearner(classifier(max_epochs=2), X, path=where) for where in (None, path))
    for one in (learner, saved):
        one.teach(rows=np.arange(20), y=y[:20])
    saved.close()
    resumed = DualPromptLearner.resume(path, X)
    assert (resumed.pseudo_labels, resumed.n_per_class) == ("auto", "auto")
    for one in (learner, resumed):
        one.teach(rows=np.arange(20, 30), y=y[20:30])
    np.testing.assert_array_equal(resumed.predict_proba(X), learner.predict_proba(X))
    resumed.close()


def test_frozen_embeddings_serve_prompted_towers(classifier, digits):
    X, y = digits.images[:60], digits.target[:60]
    clf = classifier(max_epochs=1, visual_prompts="vpt-shallow", n_visual_tokens=2, augment=None)
    learner = DualPromptLearner(clf, X, y_pool=y, n_per_class=2, pseudo_labels="transductive")
    learner.run(y, protocol=Protocol(1, per_class=1))
    assert learner.log_[0]["pseudo_accuracy"] >= 0.75
    assert learner.log_[1]["n_pseudo"] > 5


def test_resumed(classifier, pool, tmp_path):
    X, y = pool
    expected = make(classifier, X).run(y, protocol=Protocol(2, per_class=1))
    path = tmp_path / "state.npz"
    make(classifier, X, path=path).run(y, protocol=Protocol(1, per_class=1)).close()
    resumed = DualPromptLearner.resume(path, X)
    assert resumed.pseudo_labels == "transductive"
    resumed.run(y, protocol=Protocol(2, per_class=1))
    assert resumed.pseudo_rows_.tolist() == expected.pseudo_rows_.tolist()
    np.testing.assert_array_equal(resumed.predict_proba(X), expected.predict_proba(X))
    resumed.close()


def test_what_does_not_fit_is_refused(classifier, digits, pool):
    X, _ = pool
    with pytest.raises(ValueError, match="pseudo_labels='theirs'; expected one of"):
        make(classifier, X, pseudo_labels="theirs").start()
    with pytest.raises(ValueError, match="n_per_class='many'; expected an integer of at least 0, None or 'auto'"):
        make(classifier, X, n_per_class="many").start()
    for estimator in (LogisticRegression(), DualLinearClassifier(digits.class_names)):
        with pytest.raises(TypeError, match="pseudo_labels='transductive' with a .*takes pseudo-labels"):
            DualPromptLearner(estimator, X, pseudo_labels="transductive").start()
