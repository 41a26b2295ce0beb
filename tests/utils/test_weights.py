"""Weights of samples: what they are, and that weight 2 is a sample that comes twice, where it can be."""

import numpy as np
import pytest
import torch
from precision import EPS
from skorch.dataset import Dataset
from torch.nn import functional as F
from torch.utils.data import DataLoader

from modal_clip_dual import BayesAdapterClassifier, DualPromptClassifier, FineTunedClassifier, TipAdapterClassifier
from modal_clip_dual.nn.batches import Batches, PairedBatches
from modal_clip_dual.utils.weights import weighted_rows

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}
N = 30


@pytest.fixture
def samples(embeddings, digits):
    weight = np.random.default_rng(0).integers(0, 4, N)
    assert set(weight) == {0, 1, 2, 3}
    return embeddings[:N], digits.target[:N], weight


def makers(names):
    alike = {"max_epochs": 4, "batch_size": 1000, "random_state": 0, **DEMO}
    return {
        "prompts": DualPromptClassifier(names, complement="all", n_context=4, **alike),
        "tip": TipAdapterClassifier(names, **DEMO),
        "bayes": BayesAdapterClassifier(names, n_samples=0, **alike),
    }


@pytest.mark.parametrize("kind", ["prompts", "tip", "bayes"])
def test_weights_are_repetitions(samples, digits, kind):
    """One batch, no draws: the weighted loss is that of the repeated samples, and so is every step."""
    X, y, weight = samples
    clf = makers(digits.class_names)[kind]
    expected = clf.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight)).predict_proba(X)
    proba = clf.fit(X, y, weight).predict_proba(X)
    alike = clf.fit(X, y).predict_proba(X)
    # Sums of other orders; a training adds up what they differ by.
    np.testing.assert_allclose(proba, expected, atol=2000 * EPS)
    assert np.abs(proba - alike).max() > 0.003
    if kind != "tip":  # its votes have no prior and no mean that would take a common factor away
        without_prior = {"bayes": {"kl_weight": "authors"}, "prompts": {"criterion": "dual"}}[kind]
        doubled = clf.set_params(**without_prior).fit(X, y, 2 * weight)
        same = doubled.predict_proba(X)
        np.testing.assert_allclose(same, clf.fit(X, y, weight).predict_proba(X), atol=2000 * EPS)


@pytest.mark.parametrize("fitted", [False, True])
def test_weights_of_partial_fit_are_repetitions(samples, digits, fitted):
    X, y, weight = samples
    found = []
    for arguments in ((X, y, weight), (np.repeat(X, weight, axis=0), np.repeat(y, weight), None), (X, y, None)):
        clf = makers(digits.class_names)["prompts"]
        clf = clf.fit(X[:10], y[:10]) if fitted else clf
        found.append(clf.partial_fit(*arguments[:2], sample_weight=arguments[2]).predict_proba(X))
    np.testing.assert_allclose(found[0], found[1], atol=2000 * EPS)
    assert np.abs(found[0] - found[2]).max() > 0.001


def test_weights_of_partial_fit_with_draws(samples, digits):
    """0 leaves a sample out; where all weigh 2, the likelihood counts twice, as if the prior counted half."""
    X, y, weight = samples

    def learned(rows, sample_weight=None, kl_weight=1.0):
        clf = BayesAdapterClassifier(digits.class_names, max_epochs=4, batch_size=1000, random_state=0, **DEMO)
        clf.fit(X[:10], y[:10]).set_params(kl_weight=kl_weight)
        return clf.partial_fit(X[rows], y[rows], sample_weight=sample_weight).predict_logits(X)[0]

    every, some = np.arange(N), np.flatnonzero(weight)
    np.testing.assert_array_equal(learned(every, (weight > 0) * 1.0), learned(some, np.ones(len(some))))
    np.testing.assert_allclose(learned(every, np.full(N, 2.0)), learned(every, kl_weight=0.5), atol=0.01)
    assert np.abs(learned(every, np.full(N, 2.0)) - learned(every)).max() > 0.05


@pytest.mark.parametrize("kind", ["prompts", "tip", "bayes"])
def test_ones_are_no_weights(samples, digits, kind):
    X, y, _ = samples
    clf = makers(digits.class_names)[kind].set_params(**({"batch_size": 16} if kind != "tip" else {}))
    expected = clf.fit(X, y).predict_proba(X)
    np.testing.assert_allclose(clf.fit(X, y, np.ones(N)).predict_proba(X), expected, atol=2000 * EPS)


def test_weighted_votes_by_the_formula(samples, digits):
    X, y, weight = samples
    clf = TipAdapterClassifier(digits.class_names, alpha=1.0, beta=5.5, **DEMO).fit(X, y, weight)
    zero_shot = TipAdapterClassifier(digits.class_names, alpha=0, **DEMO).fit(X, y).predict_logits(X)[0]
    votes = np.zeros((N, 10))
    for row in range(N):
        for other in range(N):
            votes[row, y[other]] += weight[other] * np.exp(-5.5 * (1 - X[row] @ X[other]))
    np.testing.assert_allclose(clf.predict_logits(X)[0], zero_shot + votes, rtol=100 * EPS)


def test_batches_give_the_weighted_mean():
    X, y, weight = torch.arange(10.0)[:, None], torch.arange(10) % 3, torch.arange(10.0)
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    for rows, target in Batches(Dataset(X, y), batch_size=4, sample_weight=weight):
        index = rows[:, 0].long()
        loss = sum(w * F.cross_entropy(logits[k][None], y[k][None]) for k, w in zip(index, weight[index]))
        labels, factors = target
        mine = (F.cross_entropy(logits[index], labels, reduction="none") * factors).sum()
        torch.testing.assert_close(mine, loss / len(index))


def test_pseudo_labels_keep_their_share(samples):
    """Weights of labeled samples do not change what pseudo-labeled ones weigh."""
    weight = torch.tensor([0.5, 1.5, 1.0, 1.0, 1.0])
    X = torch.arange(5.0)[:, None]
    paired = PairedBatches(
        Dataset(X, torch.arange(5)),
        2,
        n_labeled=2,
        pseudo_batch_size=3,
        generator=torch.Generator(),
        sample_weight=weight,
    )
    (((rows, (_, factors)),)) = list(paired)
    found = dict(zip(rows[:, 0].int().tolist(), factors.tolist()))
    assert found == pytest.approx({0: 0.25, 1: 0.75, 2: 1 / 3, 3: 1 / 3, 4: 1 / 3})


def test_weights_beside_pseudo_labels(samples, embeddings, digits):
    X, y, weight = samples
    clf = makers(digits.class_names)["prompts"].set_params(net_params={"iterator_train__pseudo_batch_size": 1000})
    pseudo = {"X_pseudo": embeddings[N : 2 * N], "y_pseudo": digits.target[N : 2 * N]}
    expected = clf.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight), **pseudo).predict_proba(X)
    np.testing.assert_allclose(clf.fit(X, y, weight, **pseudo).predict_proba(X), expected, atol=2000 * EPS)


def test_weights_with_visual_prompts(digits):
    X, y = digits.images[:6], digits.target[:6]
    clf = makers(digits.class_names)["prompts"].set_params(visual_prompts="vpt-shallow", augment=None, max_epochs=2)
    weight = np.array([1, 2, 0, 1, 1, 2])
    expected = clf.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight)).predict_proba(X)
    np.testing.assert_allclose(clf.fit(X, y, weight).predict_proba(X), expected, atol=2000 * EPS)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_weights_of_fine_tuning(digits, layers):
    """One batch: repeated samples have the same loss; in batches of 4 a weight of 0 is a sample that is not there."""
    X, y = digits.images[:8], digits.target[:8]
    weight = np.array([1, 2, 0, 1, 3, 2, 0, 1])
    alike = {"lr": 1e-4, "n_steps": 3, "layers": layers, "random_state": 0, **DEMO}
    clf = FineTunedClassifier(digits.class_names, batch_size=1000, **alike)
    expected = clf.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight)).predict_proba(X)
    proba = clf.fit(X, y, weight).predict_proba(X)
    np.testing.assert_allclose(proba, expected, atol=2000 * EPS)
    np.testing.assert_allclose(clf.fit(X, y, 0.1 * weight).predict_proba(X), expected, atol=2000 * EPS)
    assert np.abs(proba - clf.fit(X, y).predict_proba(X)).max() > 0.01
    clf.set_params(batch_size=4)
    ones = clf.fit(X, y, weight > 0).predict_proba(X)
    np.testing.assert_allclose(ones, clf.fit(X[weight > 0], y[weight > 0]).predict_proba(X), atol=2000 * EPS)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match=r"sample_weight\[1\]=-1"):
        clf.fit(X, y, [1, -1, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(clf.predict_proba(X), before)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0] * 4, r"sample_weight.shape == \(4,\), expected \(5,\)"),
        (np.ones((5, 1)), r"sample_weight.shape == \(5, 1\), expected \(5,\)"),
        ([1, 1, -2, 1, 1], r"sample_weight\[2\]=-2; expected weights of at least 0"),
        ([0.0] * 5, "all weights are zero"),
        ([1, 1, np.nan, 1, 1], "sample_weight contains NaN"),
        (["a"] * 5, "could not convert|dtype='numeric'|Unable to convert"),
    ],
)
def test_weights_that_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        weighted_rows(weight, 5)


def test_refused_weights_keep_the_fit(samples, digits):
    X, y, weight = samples
    clf = makers(digits.class_names)["prompts"].fit(X, y)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="sample_weight.shape"):
        clf.fit(X, y, weight[:-1])
    with pytest.raises(ValueError, match="sample_weight was passed without X"):
        clf.fit(None, None, weight, X_pseudo=X, y_pseudo=y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    with pytest.raises(ValueError, match="sample_weight with net_params.'iterator_train'."):
        clf.set_params(net_params={"iterator_train": DataLoader}).fit(X, y, weight)


def test_single_numbers_and_none():
    rows, weight = weighted_rows(3, 4)
    assert rows.tolist() == [0, 1, 2, 3] and weight.tolist() == [3.0] * 4
    assert weighted_rows(None, 4) == (slice(None), None)
