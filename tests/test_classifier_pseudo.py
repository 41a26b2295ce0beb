"""Pseudo-labels: batches of both kinds, round 0, and what is mined for the next round."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from modAL.models import ActiveLearner
from PIL import Image
from skorch.dataset import Dataset

from modal_clip_dual import DualPromptClassifier, mine_confident, negative_prompt_sampling
from modal_clip_dual.nn.batches import PairedBatches
from modal_clip_dual.nn.criteria.dual import DualPromptLoss


@pytest.fixture
def pool(embeddings, digits):
    rows = np.random.default_rng(3).permutation(1797)[:400]
    return embeddings[rows], digits.target[rows]


# -------------------------------------------------------------------- steps


def paired(n_labelled, n_pseudo, seed=0):
    n = n_labelled + n_pseudo
    data = Dataset(torch.arange(n, dtype=torch.float32)[:, None], torch.arange(n))
    generator = torch.Generator().manual_seed(seed)
    return PairedBatches(data, 16, n_labelled, 64, generator)


@pytest.mark.parametrize(
    ("n_labelled", "n_pseudo", "n_steps"),
    [(12, 160, 3), (100, 70, 7), (16, 64, 1), (17, 64, 2), (5, 0, 1), (0, 130, 3), (40, 192, 3)],
)
def test_steps_of_an_epoch(n_labelled, n_pseudo, n_steps):
    """One pass over the set with more batches, the other cycled; weights of two means."""
    iterator = paired(n_labelled, n_pseudo)
    batches = list(iterator)
    assert len(batches) == len(iterator) == n_steps
    seen = np.zeros(n_labelled + n_pseudo, dtype=int)
    for X, (y, weight) in batches:
        assert torch.equal(X[:, 0], y.float())
        labelled = y < n_labelled
        assert labelled.sum() <= 16
        assert (~labelled).sum() <= 64
        for kind, n in ((labelled, n_labelled), (~labelled, n_pseudo)):
            assert kind.any() == (n > 0)
            if n:
                torch.testing.assert_close(weight[kind], torch.full_like(weight[kind], 1 / kind.sum()))
        assert len(set(y.tolist())) == len(y)
        seen[y] += 1
    for part, size in ((seen[:n_labelled], 16), (seen[n_labelled:], 64)):
        if not len(part):
            continue
        if math.ceil(len(part) / size) == n_steps:
            assert set(part) == {1}  # one pass
        else:
            assert part.max() - part.min() <= 1  # cycled evenly


def test_order_follows_the_generator_alone():
    def orders(iterator):
        return [y.tolist() for _ in range(2) for _, (y, _) in iterator]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = orders(paired(40, 100))
    assert first == orders(paired(40, 100))
    assert first[:3] != first[3:]
    assert first != orders(paired(40, 100, seed=1))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("complement", ["all", "hard"])
def test_loss_is_the_sum_of_both_means(complement):
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(20, 5, generator=generator) * 3 for _ in range(2)]
    y = torch.randint(0, 5, (20,), generator=generator)
    loss = DualPromptLoss(0.7, complement)
    expected = sum(
        loss(tuple(out[part] for out in outputs), y[part]) for part in (slice(6), slice(6, 20))
    )
    weight = torch.cat([torch.full((6,), 1 / 6), torch.full((14,), 1 / 14)])
    torch.testing.assert_close(loss(tuple(outputs), (y, weight)), expected)


# -------------------------------------------------------------------- fit


def test_pseudo_labels_are_learned_from(classifier, pool):
    """Right pseudo-labels of all classes teach what ten labels of two classes cannot."""
    X, y = pool
    two = np.flatnonzero(y < 2)[:10]
    rest = np.setdiff1d(np.arange(200), two)
    alone = classifier(max_epochs=10).fit(X[two], y[two])
    both = classifier(max_epochs=10).fit(X[two], y[two], X_pseudo=X[rest], y_pseudo=y[rest])
    assert both.score(X[200:], y[200:]) > max(0.7, alone.score(X[200:], y[200:]) + 0.05)
    assert len(both.history_[0]["batches"]) == math.ceil(len(rest) / 64)


def test_wrong_pseudo_labels_do_harm(classifier, pool):
    X, y = pool
    mistaken = {"X_pseudo": X[50:200], "y_pseudo": (y[50:200] + 1) % 10}
    wrong = classifier(max_epochs=10).fit(X[:50], y[:50], **mistaken)
    right = classifier(max_epochs=10).fit(X[:50], y[:50], X_pseudo=X[50:200], y_pseudo=y[50:200])
    assert wrong.score(X[200:], y[200:]) < right.score(X[200:], y[200:]) - 0.2


def test_without_pseudo_labels_it_is_plain_fit(classifier, pool):
    X, y = pool
    expected = classifier().fit(X[:40], y[:40]).clean_logits(X)
    for empty in ({"X_pseudo": None, "y_pseudo": None}, {"X_pseudo": X[:0], "y_pseudo": y[:0]}):
        actual = classifier().fit(X[:40], y[:40], **empty).clean_logits(X)
        np.testing.assert_array_equal(actual, expected)


def test_labelled_set_may_be_empty(classifier, pool):
    X, y = pool
    clf = classifier().fit(X[:0], y[:0], X_pseudo=X[:150], y_pseudo=y[:150])
    usual = {"criterion__text_penalty": 0.01}  # which only labels of people may change
    plain = classifier(batch_size=64, net_params=usual).fit(X[:150], y[:150])  # 64 of one kind a step
    np.testing.assert_allclose(clf.clean_logits(X), plain.clean_logits(X), atol=0.02)
    assert len(clf.history_[0]["batches"]) == 3
    assert classifier().fit(None, None, X_pseudo=X[:9], y_pseudo=y[:9]).predict(X).shape == (400,)


def test_pseudo_batch_size_and_seed_matter(classifier, pool):
    X, y = pool
    pseudo = {"X_pseudo": X[40:200], "y_pseudo": y[40:200]}

    def logits(**params):
        return classifier(**params).fit(X[:40], y[:40], **pseudo).clean_logits(X)

    default = logits()
    np.testing.assert_array_equal(logits(), default)
    for params in ({"pseudo_batch_size": 20}, {"random_state": 1}, {"batch_size": 5}):
        assert np.abs(logits(**params) - default).max() > 1e-3


@pytest.mark.parametrize("form", ["images", "paths", "vpt"])
def test_forms_of_x(classifier, digits, tmp_path, form):
    images, y = digits.images[:60], digits.target[:60]
    X = images
    if form == "paths":
        X = np.array([str(tmp_path / f"{k}.png") for k in range(60)])
        for path, image in zip(X, images):
            Image.fromarray(image).save(path)
    params = {"visual_prompts": "vpt-deep"} if form == "vpt" else {}
    clf = classifier(max_epochs=2, **params)
    clf.fit(X[:10], y[:10], X_pseudo=X[10:], y_pseudo=y[10:])
    assert clf.predict_proba(images).shape == (60, 10)


def test_labels_of_other_types(digits, embeddings):
    names = np.array(digits.class_names)[digits.target]
    model = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "max_epochs": 1}
    pseudo = {"X_pseudo": embeddings[20:60], "y_pseudo": names[20:60]}
    clf = DualPromptClassifier(digits.class_names, **model).fit(embeddings[:20], names[:20], **pseudo)
    assert set(clf.predict(embeddings)) <= set(names)
    # without class names the classes are those of both sets
    clf = DualPromptClassifier(**model).fit(embeddings[:2], names[:2], **pseudo)
    np.testing.assert_array_equal(clf.classes_, np.unique(names[:60]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_pseudo": None}, "X_pseudo was passed without y_pseudo"),
        ({"X_pseudo": None}, "y_pseudo was passed without X_pseudo"),
        ({"y_pseudo": np.zeros(3, int)}, "X_pseudo has 5 rows but y_pseudo has 3 labels"),
        ({"y_pseudo": np.full(5, 11)}, r"y_pseudo\[0\] is 11, which is not a label"),
        ({"X_pseudo": np.ones((5, 9))}, "X_pseudo has 9 features, but DualPromptClassifier"),
        ({"X_pseudo": np.full((5, 128), np.nan)}, "X_pseudo contains NaN"),
        ({"X_pseudo": np.zeros((5, 8, 8), np.uint8)}, "X_pseudo holds images.*X embeddings"),
    ],
)
def test_refused(classifier, pool, change, message):
    X, y = pool
    clf = classifier().fit(X[:20], y[:20])
    before = clf.clean_logits(X)
    with pytest.raises(ValueError, match=message):
        clf.fit(X[:20], y[:20], **{"X_pseudo": X[:5], "y_pseudo": y[:5]} | change)
    np.testing.assert_array_equal(clf.clean_logits(X), before)


def test_own_batches_are_refused(classifier, pool):
    from torch.utils.data import DataLoader

    X, y = pool
    clf = classifier(net_params={"iterator_train": DataLoader})
    with pytest.raises(ValueError, match="iterator_train.*with pseudo-labels"):
        clf.fit(X[:20], y[:20], X_pseudo=X[20:40], y_pseudo=y[20:40])


def test_train_split(classifier, pool):
    from skorch.dataset import ValidSplit

    X, y = pool
    clf = classifier(net_params={"train_split": ValidSplit(4)})
    clf.fit(X[:40], y[:40], X_pseudo=X[40:100], y_pseudo=y[40:100])
    assert clf.history_[-1]["valid_loss"] > 0
    batches = clf.history_[-1]["batches"]
    assert max(batch.get("train_batch_size", 0) for batch in batches) <= 16 + 64


# -------------------------------------------------------------------- round 0


def test_fit_unlabeled_learns_from_zero_shot(classifier, embeddings, digits):
    """The chosen samples by brute force, and a fit on them alone."""
    clf = classifier(max_epochs=3)
    proba = clf.zero_shot_proba(embeddings)
    rows = []
    for k in range(10):
        mine = [row for row in range(1797) if proba[row].argmax() == k]
        rows += sorted(mine, key=lambda row: -proba[row, k])[:7]
    expected = classifier(max_epochs=3).fit(
        None, None, X_pseudo=embeddings[rows], y_pseudo=proba[rows].argmax(1)
    )
    actual = clf.fit_unlabeled(embeddings, n_per_class=7)
    np.testing.assert_allclose(
        actual.clean_logits(embeddings), expected.clean_logits(embeddings), atol=1e-3
    )
    assert actual.score(embeddings, digits.target) > 0.6


def test_fit_unlabeled_takes_images_and_starts_a_loop(classifier, digits):
    images, y = digits.images[:200], digits.target[:200]
    clf = classifier(visual_prompts="vpt-shallow", max_epochs=2).fit_unlabeled(images, n_per_class=3)
    learner = ActiveLearner(clf, query_strategy=negative_prompt_sampling)
    chosen, instances = learner.query(images, n_instances=10)
    rows, labels = mine_confident(learner, images, exclude=chosen)
    learner.teach(instances, y[chosen], X_pseudo=images[rows], y_pseudo=labels)
    assert learner.predict(images).shape == (200,)
    assert len(learner.X_training) == 10  # pseudo-labels are not kept


def test_fit_unlabeled_knows_the_columns(classifier, embeddings):
    frame = pd.DataFrame(embeddings[:60]).add_prefix("e")
    clf = classifier(max_epochs=1).fit_unlabeled(frame, n_per_class=2)
    assert clf.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.rename(columns={"e0": "other"}))


def test_columns_of_pseudo_labeled_samples_are_compared(classifier, embeddings):
    frame = pd.DataFrame(embeddings[:20]).add_prefix("e")
    clf, y = classifier(max_epochs=1), np.arange(20) % 10
    with pytest.raises(ValueError, match="columns of X_pseudo have other names .* column 0 is 'e127'"):
        clf.fit(frame, y, X_pseudo=frame[frame.columns[::-1]], y_pseudo=y)
    clf.fit(frame, y, X_pseudo=frame.to_numpy(), y_pseudo=y)


def test_fit_unlabeled_refuses(classifier, embeddings):
    with pytest.raises(ValueError, match="n_per_class=0; expected at least 1"):
        classifier().fit_unlabeled(embeddings, n_per_class=0)
    with pytest.raises(TypeError, match="n_per_class=1.5 is a float"):
        classifier().fit_unlabeled(embeddings, n_per_class=1.5)
    clf = DualPromptClassifier(model_name="demo", pretrained="bundled", device="cpu")
    with pytest.raises(ValueError, match="class_names is None"):
        clf.fit_unlabeled(embeddings)


# -------------------------------------------------------------------- mining


@pytest.mark.parametrize("score", ["clean", "normalized", "margin"])
@pytest.mark.parametrize("n_per_class", [0, 1, 16, 5000])
def test_mined_rows_by_brute_force(fitted, embeddings, score, n_per_class):
    z = fitted.clean_logits(embeddings).astype(np.float64)
    predicted = fitted.predict_proba(embeddings).argmax(1)
    exclude = np.arange(0, 1797, 3)

    def key(row):
        value = z[row, predicted[row]]
        others = np.delete(z[row], predicted[row])
        if score == "margin":
            return value - others.max()
        return value if score == "clean" else value - np.log(np.exp(others).sum())

    expected = []
    for k in range(10):
        group = [row for row in range(1797) if predicted[row] == k and row % 3]
        expected += sorted(group, key=lambda row: -key(row))[:n_per_class]
    rows, labels = mine_confident(fitted, embeddings, n_per_class, exclude, score=score)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(labels, fitted.classes_[predicted[expected]])
    assert rows.dtype.kind == "i"


def test_mining_by_the_probability_that_labels_are_right(fitted, embeddings):
    correct = fitted.predict_correct_proba(embeddings)
    predicted = fitted.predict_proba(embeddings).argmax(1)
    rows, labels = mine_confident(fitted, embeddings, 5, score="correct")
    expected = [
        row for k in range(10) for row in sorted(np.flatnonzero(predicted == k), key=lambda row: -correct[row])[:5]
    ]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(labels, fitted.classes_[predicted[expected]])


def test_mined_labels_are_right_more_often_than_the_rest(fitted, embeddings, digits):
    rows, labels = mine_confident(fitted, embeddings)
    mined = (labels == digits.target[rows]).mean()
    assert mined > fitted.score(embeddings, digits.target)


def test_mining_with_everything_excluded(fitted, embeddings):
    rows, labels = mine_confident(fitted, embeddings[:5], exclude=range(5))
    assert rows.shape == labels.shape == (0,)


def test_mining_refuses(fitted, classifier, embeddings):
    with pytest.raises(ValueError, match=r"exclude has rows from -1 to 3; expected 0 to 9"):
        mine_confident(fitted, embeddings[:10], exclude=[-1, 3])
    with pytest.raises(TypeError, match=r"exclude has shape \(2,\) and dtype float64"):
        mine_confident(fitted, embeddings[:10], exclude=[0.0, 1.0])
    with pytest.raises(ValueError, match="X_pool is empty"):
        mine_confident(fitted, embeddings[:0])
    with pytest.raises(ValueError, match="The 'score' parameter of mine_confident must be .*'clean'.* Got 'best'"):
        mine_confident(fitted, embeddings[:9], score="best")
    with pytest.raises(ValueError, match="never fitted.*fit_unlabeled"):
        mine_confident(classifier(), embeddings[:9])
