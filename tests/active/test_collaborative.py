"""Labels that one model gives and another one judges: the filter sample by sample, the members, the loop."""

import math

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from modal_clip_dual import (
    CollaborativePromptClassifier,
    DualLinearClassifier,
    DualPromptLearner,
    FineTunedClassifier,
    collaborative_pseudo_labels,
    mine_confident,
)
from modal_clip_dual.active import Protocol


@pytest.fixture(scope="module")
def pool(digits, embeddings):
    rows = np.random.default_rng(1).permutation(1797)[:300]
    return embeddings[rows], digits.target[rows]


@pytest.fixture(scope="module")
def pair(classifier, pool):
    X, y = pool
    return [classifier(max_epochs=10, random_state=seed).fit(X[:40], y[:40]) for seed in (0, 1)]


# ---------------------------------------------------------------- the filter


@pytest.mark.parametrize("threshold", ["clean", "correct", 1.5, -0.5])
def test_filter_sample_by_sample(pair, pool, threshold):
    one, two = pair
    X, _ = pool
    least = {"clean": 0.0, "correct": math.log(9)}.get(threshold, threshold)
    exclude = [3, 7, 250]
    rows, labels = collaborative_pseudo_labels(one, two, X, threshold=threshold, exclude=exclude)
    expected = {}
    for i in range(len(X)):
        label = one.predict(X[i : i + 1])[0]
        z = two.clean_logits(X[i : i + 1])[0, list(two.classes_).index(label)]
        assert abs(z - least) > 1e-4  # no sample is decided by rounding
        if z > least and i not in exclude:
            expected[i] = label
    assert dict(zip(rows.tolist(), labels.tolist())) == expected
    assert len(set(rows.tolist())) == len(rows)
    # Class by class, the likeliest first.
    highest = one.predict_proba(X).max(axis=1)
    for label in set(labels.tolist()):
        own = highest[rows[labels == label]]
        assert (own[:-1] >= own[1:]).all()
    assert (np.diff(labels) >= 0).all()


def test_thresholds_differ(pair, pool):
    sizes = [len(collaborative_pseudo_labels(*pair, pool[0], threshold=t)[0]) for t in ("clean", "correct")]
    assert 0 < sizes[1] < sizes[0] < 300


def test_swapped_members_swap_directions(pair, pool):
    X, _ = pool
    directions = [collaborative_pseudo_labels(*members, X) for members in (pair, pair[::-1])]
    for (rows, labels), generator in zip(directions, pair):
        np.testing.assert_array_equal(labels, generator.predict(X[rows]))
    assert set(directions[0][0].tolist()) != set(directions[1][0].tolist())


def test_a_model_that_judges_itself(pair, pool):
    one, X = pair[0], pool[0]
    rows, labels = collaborative_pseudo_labels(one, one, X)
    z = np.take_along_axis(one.clean_logits(X), one.predict_logits(X)[0].argmax(1)[:, None], 1)[:, 0]
    assert sorted(rows.tolist()) == np.flatnonzero(z > 0).tolist()
    np.testing.assert_array_equal(labels, one.predict(X[rows]))


class Given:
    """A classifier of two classes whose answers are set."""

    classes_ = np.array([0, 1])

    def __init__(self, proba, z):
        self.proba, self.z = np.array(proba), np.array(z)

    def predict_proba(self, X):
        return self.proba

    def clean_logits(self, X):
        return self.z


def test_it_is_the_sample_that_decides_and_not_its_rank():
    """Two samples of one label and the same largest probability, one kept and one not."""
    generator = Given([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], np.zeros((3, 2)))
    judge = Given(np.full((3, 2), 0.5), [[1.0, -5.0], [-1.0, 9.0], [9.0, 0.1]])
    rows, labels = collaborative_pseudo_labels(generator, judge, np.arange(3.0)[:, None])
    assert rows.tolist() == [0, 2] and labels.tolist() == [0, 1]


def test_what_is_kept_is_right_more_often(classifier, digits, embeddings):
    order = np.random.default_rng(0).permutation(1797)
    labeled, left = order[:60], order[60:]
    X, y = embeddings, digits.target
    pair = [classifier(max_epochs=20, random_state=seed).fit(X[labeled], y[labeled]) for seed in (0, 1)]
    for members in (pair, pair[::-1]):
        rows, labels = collaborative_pseudo_labels(*members, X[left])
        rejected = np.delete(left, rows)
        assert len(rejected) > 50
        assert (labels == y[left[rows]]).mean() > (members[0].predict(X[rejected]) == y[rejected]).mean() + 0.1


def test_mining_with_a_judge_takes_the_best_of_what_it_accepts(pair, pool):
    one, two = pair
    X, _ = pool
    rows, labels = mine_confident(one, X, 5, judge=two, threshold="correct")
    kept, _ = collaborative_pseudo_labels(one, two, X, threshold="correct")
    z = one.clean_logits(X)
    predicted = one.predict(X)
    for label in np.unique(predicted[kept]):
        own = kept[predicted[kept] == label]
        best = own[np.argsort(-z[own, label], kind="stable")][:5]
        assert rows[labels == label].tolist() == best.tolist()
    everything, _ = mine_confident(one, X, None, judge=two, threshold="correct")
    assert sorted(everything.tolist()) == sorted(kept.tolist())


def test_filter_refuses(pair, pool, classifier):
    X, y = pool
    with pytest.raises(ValueError, match="'threshold' parameter"):
        collaborative_pseudo_labels(*pair, X, threshold="sure")
    with pytest.raises(TypeError, match=r"needs a classifier with the method clean_logits.*LogisticRegression"):
        collaborative_pseudo_labels(pair[0], LogisticRegression().fit(X, y), X)
    with pytest.raises(ValueError, match="X_pool is empty"):
        collaborative_pseudo_labels(*pair, X[:0])
    with pytest.raises(ValueError, match="exclude has rows from 300"):
        collaborative_pseudo_labels(*pair, X, exclude=[300])
    few = classifier(max_epochs=1).set_params(class_names=pair[0].class_names[:3])
    few.fit(X[:60][y[:60] < 3], y[:60][y[:60] < 3])
    with pytest.raises(ValueError, match="labels of the generator.* is not a label"):
        collaborative_pseudo_labels(pair[0], few, X)


# ---------------------------------------------------------------- the two members


@pytest.mark.parametrize("final", ["probe", "prompts"])
def test_members_by_hand(classifier, pool, final):
    X, y = pool
    base = classifier(max_epochs=3, random_state=5)
    clf = CollaborativePromptClassifier(base, n_per_class=4, final=final, random_state=0)
    clf.fit(X[:10], y[:10], X_pool=X)
    assert base.random_state == 5 and not hasattr(base, "classes_")
    zero = clone(base).fit_unlabeled(X, n_per_class=4)
    seeds = np.random.default_rng(0).integers(2**31, size=4 if final == "prompts" else 2).tolist()
    members = [
        classifier(max_epochs=3, random_state=seed).fit(
            X[:10], y[:10], X_pseudo=X[zero.pseudo_rows_], y_pseudo=zero.pseudo_labels_
        )
        for seed in seeds[:2]
    ]
    proba = []
    for k, member in enumerate(members):
        np.testing.assert_array_equal(member.predict_proba(X), clf.members_[k].predict_proba(X))
        rows, labels = collaborative_pseudo_labels(member, members[1 - k], X)
        np.testing.assert_array_equal(clf.kept_[k][0], rows)
        np.testing.assert_array_equal(clf.kept_[k][1], labels)
        if final == "probe":
            probe = LogisticRegression(C=10.0, max_iter=2000)
            probe.fit(np.concatenate([X[:10], X[rows]]), np.concatenate([y[:10], labels]))
            part = np.zeros((300, 10))
            part[:, probe.classes_] = probe.predict_proba(X)
            proba.append(part)
        else:
            last = classifier(max_epochs=3, random_state=seeds[2 + k])
            proba.append(last.fit(X[:10], y[:10], X_pseudo=X[rows], y_pseudo=labels).predict_proba(X))
    np.testing.assert_allclose(clf.predict_proba(X), np.mean(proba, axis=0), atol=1e-4)  # float32 embeddings
    assert abs(proba[0] - proba[1]).max() > 0.01
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[clf.predict_proba(X).argmax(axis=1)])
    np.testing.assert_array_equal(clf.predict_correct_proba(X), clf.predict_proba(X).max(axis=1))


@pytest.mark.parametrize("names", [False, True])
def test_image_tower_is_trained_on_what_is_kept(classifier, digits, names):
    """As [1] has it, for each member; labels may be names, and a class that nobody has gets a column."""
    X, y = digits.images[:40], digits.target[:40]
    y = np.array(digits.class_names)[y] if names else y
    demo = {"model_name": "demo", "pretrained": "bundled", "device": "cpu"}
    tower = FineTunedClassifier(**demo, layers=1, n_steps=3, lr=1e-3)
    base = classifier(max_epochs=2)
    clf = CollaborativePromptClassifier(base, n_per_class=2, final=tower, random_state=0)
    clf.fit(X[:6], y[:6], X_pool=X)
    assert tower.class_names is None and not hasattr(tower, "classes_")
    seeds = np.random.default_rng(0).integers(2**31, size=4).tolist()
    proba = []
    for (rows, labels), seed in zip(clf.kept_, seeds[2:]):
        last = clone(tower).set_params(class_names=digits.class_names, random_state=seed)
        last.fit(np.concatenate([X[:6], X[rows]]), np.concatenate([y[:6], labels]))
        proba.append(last.predict_proba(X))
    np.testing.assert_allclose(clf.predict_proba(X), np.mean(proba, axis=0), atol=1e-5)
    seeded = clone(clf).set_params(final__random_state=3).fit(X[:6], y[:6], X_pool=X)
    assert [final.classifier.random_state for final in seeded.finals_] == [3, 3]
    frozen = classifier().zero_shot_proba(X)
    assert abs(clf.predict_proba(X) - frozen).max() > 0.01
    with_gap = clone(clf).set_params(final=GaussianNB()).fit(
        classifier().transform(X[:6]), y[:6], X_pool=classifier().transform(X)
    )  # it knows the labels that it sees
    assert with_gap.predict_proba(classifier().transform(X)).shape == (40, 10)


def test_later_rounds_start_from_each_members_own_choice(classifier, pool):
    X, _ = pool
    clf = CollaborativePromptClassifier(classifier(max_epochs=2), n_per_class=3, n_rounds=2, random_state=0)
    clf.fit_unlabeled(X)
    once = CollaborativePromptClassifier(classifier(max_epochs=2), n_per_class=3, random_state=0).fit_unlabeled(X)
    seeds = np.random.default_rng(0).integers(2**31, size=4).tolist()
    for k, first in enumerate(once.members_):
        proba = first.predict_proba(X)
        rows = [i for c in range(10) for i in sorted(
            np.flatnonzero(proba.argmax(1) == c).tolist(), key=lambda i: -proba[i].max())[:3]]  # fmt: skip
        again = classifier(max_epochs=2, random_state=seeds[2 + k])
        again.fit(None, np.empty(0), X_pseudo=X[rows], y_pseudo=first.predict(X[rows]))
        np.testing.assert_array_equal(clf.members_[k].predict_proba(X), again.predict_proba(X))


def test_names_as_labels_and_no_pool(classifier, pool, digits):
    X, y = pool
    names = np.array(digits.class_names)[y]
    clf = CollaborativePromptClassifier(classifier(max_epochs=2), n_per_class=2, random_state=0)
    assert set(clf.fit(X[:20], names[:20], X_pool=X[20:80]).predict(X[80:90])) <= set(digits.class_names)
    alone = clone(clf).fit(X[:20], y[:20])
    assert [len(rows) for rows, _ in alone.kept_] == [0, 0]
    assert alone.score(X[:20], y[:20]) > 0.7
    assert alone.transform(X[:3]).shape == (3, 128)


def test_classifier_refuses(classifier, pool):
    X, y = pool
    for params, message in (
        ({"final": "tower"}, "'final' parameter"), ({"n_rounds": 0}, "'n_rounds' parameter"),
        ({"threshold": "no"}, "'threshold' parameter"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            CollaborativePromptClassifier(classifier(), **params).fit(X, y)
    with pytest.raises(ValueError, match="'estimator' parameter"):
        CollaborativePromptClassifier(LogisticRegression()).fit(X, y)


# ---------------------------------------------------------------- the loop


def make(classifier, X, **params):
    params = {"n_per_class": 8, "pseudo_labels": "collaborative"} | params
    return DualPromptLearner(classifier(max_epochs=2), X, **params)


def test_rounds_of_the_loop(classifier, pool):
    X, y = pool
    learner = make(classifier, X).start()
    zero = clone(learner.estimator).fit_unlabeled(X, n_per_class=8)
    np.testing.assert_array_equal(learner.pseudo_rows_, zero.pseudo_rows_)
    pairs = []
    for rows in (np.arange(10), np.arange(10, 20)):
        first = learner.estimator
        before = (learner.X_training, learner.y_training, learner.pseudo_rows_, learner.pseudo_labels_)
        seed = int(np.random.SeedSequence([0, len(learner.log_) - 1, 1]).generate_state(1)[0] >> 1)
        judge = clone(first).set_params(random_state=seed)
        labels = np.empty(0) if before[1] is None else before[1]
        judge.fit(before[0], labels, X_pseudo=X[before[2]], y_pseudo=before[3])
        assert (judge.predict_proba(X) != first.predict_proba(X)).any()
        expected = mine_confident(first, X, 8, exclude=np.arange(rows[-1] + 1), judge=judge)
        learner.teach(rows=rows, y=y[rows])
        np.testing.assert_array_equal(learner.pseudo_rows_, expected[0])
        np.testing.assert_array_equal(learner.pseudo_labels_, expected[1])
        pairs.append((expected[0], mine_confident(first, X, 8)[0]))
    assert all(len(kept) for kept, _ in pairs)


def test_resumed(classifier, pool, tmp_path):
    X, y = pool
    expected = make(classifier, X).run(y, protocol=Protocol(2, per_class=1))
    path = tmp_path / "state.npz"
    make(classifier, X, path=path).run(y, protocol=Protocol(1, per_class=1)).close()
    resumed = DualPromptLearner.resume(path, X)
    assert resumed.pseudo_labels == "collaborative"
    resumed.run(y, protocol=Protocol(2, per_class=1))
    assert resumed.pseudo_rows_.tolist() == expected.pseudo_rows_.tolist()
    np.testing.assert_array_equal(resumed.predict_proba(X), expected.predict_proba(X))
    resumed.close()


def test_the_loop_refuses(digits, pool):
    X, _ = pool
    for estimator in (LogisticRegression(), DualLinearClassifier(digits.class_names)):
        with pytest.raises(TypeError, match="pseudo_labels='collaborative' with a .*expected a classifier with"):
            DualPromptLearner(estimator, X, pseudo_labels="collaborative").start()
