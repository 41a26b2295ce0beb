"""ClassCodeClassifier: codes by their definition, the loss by NumPy, the score by hand."""

import numpy as np
import pytest
import torch
from judge_template import DEMO, JudgeTemplate
from precision import EPS
from scipy.linalg import hadamard
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from modal_clip_dual import BayesAdapterClassifier, ClassCodeClassifier
from modal_clip_dual.correctness._code_net import code_loss, draw_codes, fit_codes


@pytest.mark.parametrize("n_classes", [2, 3, 7, 8, 10, 16, 40])
def test_hadamard_codes(n_classes):
    """Rows of a Hadamard matrix but the constant one, up to the order of rows and columns, each layer its own."""
    codes = draw_codes(n_classes, "hadamard", 2, np.random.default_rng(0))
    n_bits = codes.shape[1] // 2
    assert n_bits // 2 < n_classes + 1 <= n_bits
    for layer in (codes[:, :n_bits].astype(int), codes[:, n_bits:].astype(int)):
        np.testing.assert_array_equal(layer @ layer.T, n_bits * np.eye(n_classes))
        assert (layer.sum(axis=1) == 0).all()  # orthogonal to the constant row
        apart = (layer[:, None] != layer).sum(axis=2)
        assert apart[~np.eye(n_classes, dtype=bool)].min() == n_bits // 2
    assert (codes[:, :n_bits] != codes[:, n_bits:]).any()
    matrix = hadamard(n_bits)
    assert {tuple(sorted(row)) for row in codes[:, :n_bits]} == {tuple(sorted(matrix[1]))}


def test_random_codes_differ():
    codes = draw_codes(8, 3, 2, np.random.default_rng(0))
    assert codes.shape == (8, 6) and set(codes.ravel().tolist()) == {-1, 1}
    for layer in (codes[:, :3], codes[:, 3:]):
        assert len({tuple(code) for code in layer}) == 8


def test_loss_against_numpy():
    rng = np.random.default_rng(0)
    a, y = rng.normal(size=(6, 8)).astype(np.float32), rng.integers(0, 4, 6)
    codes, noisy = (rng.choice([-1.0, 1.0], (4, 8)).astype(np.float32) for _ in range(2))
    expected = 0.0
    for row, label in zip(a.astype(np.float64), y):
        distances = [np.abs(row - code).sum() / 8 for code in noisy]
        expected -= log_softmax(-12.0 * np.array(distances))[label] / 6
        expected += 10 * np.abs(row - codes[label]).sum() / 8 / 6
    arguments = (torch.from_numpy(values) for values in (a, y, codes, noisy))
    assert code_loss(*arguments, 12.0, 10.0).item() == pytest.approx(expected, rel=30 * EPS)


@pytest.mark.parametrize("projection", [1, 3])
@pytest.mark.parametrize("width", [5, 8])
def test_activations_by_hand(projection, width):
    """Maps with ReLU between, and means of contiguous slices; also where the width is no multiple of the bits."""
    rng = np.random.default_rng(0)
    layers, y = [rng.normal(size=(9, width)).astype(np.float32) for _ in range(2)], np.arange(9) % 3
    codes = draw_codes(3, "hadamard", 2, rng)
    kwargs = dict(code_noise=0.1, l1_weight=10.0, lr=0.1, max_epochs=3, batch_size=4)
    net = fit_codes(layers, y, codes, rng, projection=projection, **kwargs)
    actual, expected = net.activations(layers), []
    for layer, maps in zip(layers, net.maps):
        assert len(maps) == projection and maps[-1][0].shape[0] == -(-width // 4) * 4
        x = layer.astype(np.float64) / np.sqrt((layer.astype(np.float64) ** 2).mean())
        for k, (weight, bias) in enumerate(maps):
            x = np.maximum(x, 0) if k else x
            x = x @ weight.T + bias
        size = x.shape[1] // 4
        expected += [x[:, k * size : (k + 1) * size].mean(axis=1) for k in range(4)]
    np.testing.assert_allclose(actual, np.stack(expected, axis=1), atol=1e-5)
    distance = np.abs(actual[:, None] - codes).mean(axis=2)
    shares = np.exp(-net.sharpness * distance)
    np.testing.assert_allclose(net.proba(actual), shares / shares.sum(axis=1, keepdims=True), atol=1e-5)
    np.testing.assert_allclose(net.agreement(actual), actual @ codes.T / 8, atol=1e-6)


def test_training_brings_samples_to_their_codes(digits, embeddings):
    rng = np.random.default_rng(0)
    X, y = embeddings[:60], digits.target[:60]
    codes = draw_codes(10, "hadamard", 1, rng)
    net = fit_codes(
        [X], y, codes, rng, projection=3, code_noise=0.1, l1_weight=10.0, lr=0.1, max_epochs=300, batch_size=256
    )
    assert np.abs(net.activations([X]) - codes[y]).mean() < 0.2
    assert (net.agreement(net.activations([X])).argmax(axis=1) == y).all()


class TestClassCodes(JudgeTemplate):
    Judge = ClassCodeClassifier
    fast = {"max_epochs": 60}

    def test_the_score_is_the_agreement_with_the_code(self, judge, embeddings):
        a, labels = judge.activations(embeddings[:50]), judge.predict(embeddings[:50])
        assert a.shape == (50, 16) and judge.codes_.shape == (10, 16)
        expected = [np.mean(row * judge.codes_[label]) for row, label in zip(a, labels)]
        margin = judge.code_margin(embeddings[:50])
        np.testing.assert_allclose(margin, expected, atol=1e-5)
        order = np.argsort(judge.predict_correct_proba(embeddings[:50]), kind="stable")
        assert (np.diff(margin[order]) >= -1e-6).all()  # P(correct) keeps the order
        others = judge.code_margin(embeddings[:50], np.full(50, 3))
        np.testing.assert_allclose(others, (a * judge.codes_[3]).mean(axis=1), atol=1e-5)
        with pytest.raises(ValueError, match=r"labels\[0\] is 10"):
            judge.code_margin(embeddings[:1], [10])

    def test_order_of_classes_with_their_codes(self, data, embeddings, digits):
        """Classes in another order get other positions; with their codes moved along, all stays the same."""
        moved = np.random.default_rng(1).permutation(10)
        rng, X, y = np.random.default_rng, data[0], data[1]
        codes = draw_codes(10, "hadamard", 1, rng(0))
        kwargs = dict(projection=1, code_noise=0.0, l1_weight=10.0, lr=0.1, max_epochs=30, batch_size=256)
        first = fit_codes([X], y, codes, rng(0), **kwargs)
        second = fit_codes([X], moved[y], codes[np.argsort(moved)], rng(0), **kwargs)
        pool = embeddings[:300]
        a, b = (net.proba(net.activations([pool])) for net in (first, second))
        np.testing.assert_allclose(b[:, moved], a, atol=1e-4)

    def test_without_an_estimator(self, data, embeddings, digits):
        clf = ClassCodeClassifier(max_epochs=200, cv=2, random_state=0).fit(*data)
        assert clf.score(embeddings, digits.target) > 0.75
        proba = clf.predict_proba(embeddings)
        np.testing.assert_array_equal(clf.predict(embeddings), proba.argmax(axis=1))
        right = clf.predict(embeddings) == digits.target
        assert abs(clf.predict_correct_proba(embeddings).mean() - right.mean()) < 0.15
        with pytest.raises(ValueError, match="n_bits=3 gives 8 codes, but there are 10 classes"):
            ClassCodeClassifier(n_bits=3).fit(*data)
        with pytest.raises(ValueError, match="needs an estimator with block_features"):
            ClassCodeClassifier(layers="blocks").fit(*data)

    @pytest.mark.parametrize("layers, n_bits", [("blocks", 64), ([0, -1], 32)])
    def test_blocks(self, base, digits, data, layers, n_bits):
        images = digits.images
        clf = self.make(base, layers=layers).fit(digits.images[:60], digits.target[:60])
        assert clf.activations(images[:5]).shape == (5, n_bits)
        labels, correct = clf.predict_with_confidence(images[60:300])
        right = labels == digits.target[60:300]
        assert correct[right].mean() > correct[~right].mean()
        with pytest.raises(ValueError, match="so it holds embeddings"):
            self.make(base, layers=layers).fit(*data)
        with pytest.raises(ValueError, match="layers has the block 4; expected numbers from 0 to 3"):
            self.make(base, layers=[4]).fit(images[:60], digits.target[:60])
        with pytest.raises(TypeError, match=r"LogisticRegression, which has no block_features"):
            self.make(LogisticRegression(), layers=layers).fit(*data)

    def test_one_label_per_class(self, digits, embeddings):
        """Each label is a fold of its own, whose class the model of the fold has not seen."""
        rows = np.array([np.flatnonzero(digits.target == k)[0] for k in range(10)])
        base = BayesAdapterClassifier(digits.class_names, max_epochs=30, n_samples=0, random_state=0, **DEMO)
        clf = ClassCodeClassifier(base, random_state=0, max_epochs=60).fit(embeddings[rows], digits.target[rows])
        margin, correct = clf.code_margin(embeddings), clf.predict_correct_proba(embeddings)
        assert 0.1 < correct.mean() < 0.95
        assert (np.diff(correct[np.argsort(margin)]) >= -1e-6).all() and np.ptp(correct) > 0.05
        with pytest.warns(UserWarning, match="there is no fold"):
            bare = ClassCodeClassifier(LogisticRegression(), random_state=0, max_epochs=5)
            bare.fit(embeddings[rows], digits.target[rows])
        np.testing.assert_allclose(bare.predict_correct_proba(embeddings[:5]), 0.5)
