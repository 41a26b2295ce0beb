"""DirichletMetaClassifier: the loss against torch.distributions, its optimum against scipy, scores by hand."""

import numpy as np
import pytest
import torch
from judge_template import JudgeTemplate
from scipy.optimize import minimize
from scipy.stats import entropy
from torch.distributions import Dirichlet, kl_divergence

from modal_clip_dual import DirichletMetaClassifier
from modal_clip_dual.correctness._evidence_net import evidence_loss, fit_evidence


def reference_loss(alpha, y, weight):
    """Mean expected cross-entropy, by digamma, and divergence, by torch.distributions, float64."""
    alpha = torch.as_tensor(alpha, dtype=torch.float64)
    own = torch.digamma(alpha.sum(1)) - torch.digamma(alpha[torch.arange(len(alpha)), torch.as_tensor(y)])
    return (own + weight * kl_divergence(Dirichlet(alpha), Dirichlet(torch.ones_like(alpha)))).mean()


@pytest.mark.parametrize("weight", [0.0, 0.01, 1.0])
def test_loss(weight):
    rng = np.random.default_rng(0)
    alpha, y = rng.lognormal(size=(20, 6)), rng.integers(0, 6, 20)
    actual = evidence_loss(torch.from_numpy(alpha), torch.from_numpy(y), weight).item()
    assert actual == pytest.approx(reference_loss(alpha, y, weight).item(), rel=1e-9)


def test_expected_cross_entropy_is_that_of_drawn_probabilities():
    alpha, y = np.array([[0.7, 2.0, 4.0]]), np.array([1])
    draws = -np.log(np.random.default_rng(0).dirichlet(alpha[0], 200_000)[:, 1])
    actual = evidence_loss(torch.from_numpy(alpha), torch.from_numpy(y), 0.0).item()
    assert abs(actual - draws.mean()) < 5 * draws.std() / np.sqrt(len(draws))


@pytest.mark.parametrize("n_layers", [1, 2])
def test_the_optimum_for_a_constant_input(n_layers):
    """The network can then only choose one alpha for all, which scipy finds as well."""
    y, weight = np.array([0] * 6 + [1] * 3 + [2]), 0.1

    def loss(log_alpha):
        return reference_loss(np.tile(np.exp(log_alpha), (10, 1)), y, weight).item()

    expected = np.exp(minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x)
    layers = [np.ones((10, 4), dtype=np.float32)] * n_layers
    kwargs = dict(hidden=(8,), kl_weight=weight, lr=0.02, max_epochs=600, batch_size=256)
    alpha = fit_evidence(layers, y, 3, np.random.default_rng(1), **kwargs).alpha(layers)
    np.testing.assert_allclose(alpha, np.tile(expected, (10, 1)), rtol=0.02)


class TestDirichletMeta(JudgeTemplate):
    Judge = DirichletMetaClassifier
    fast = {"max_epochs": 60, "lr": 0.003}

    def test_uncertainties_of_alpha(self, judge, embeddings):
        alpha = judge.predict_alpha(embeddings[:40])
        assert alpha.shape == (40, 10) and (alpha > 0).all()
        np.testing.assert_allclose(judge.uncertainty(embeddings[:40], "entropy"), entropy(alpha, axis=1), rtol=1e-5)
        with pytest.raises(ValueError, match="kind='doubt'; expected one of"):
            judge.uncertainty(embeddings[:40], "doubt")

    @pytest.mark.parametrize("score", ["label", "max_proba", "entropy"])
    def test_scores(self, base, data, embeddings, score):
        clf = self.make(base, confidence=score).fit(*data)
        alpha = clf.predict_alpha(embeddings[:200]).astype(np.float64)
        p = alpha / alpha.sum(axis=1, keepdims=True)
        by_hand = {"label": p[np.arange(200), clf.predict(embeddings[:200])], "max_proba": p.max(axis=1)}
        by_hand["entropy"] = -entropy(p, axis=1)
        correct = clf.predict_correct_proba(embeddings[:200])
        order = np.argsort(by_hand[score])
        assert (np.diff(correct[order]) >= -1e-9).all() and np.ptp(correct) > 0.1

    def test_calibration_mends_what_the_network_says(self, judge, embeddings, digits):
        """The means alone are far too low; see the method's notes."""
        alpha = judge.predict_alpha(embeddings)
        raw = (alpha / alpha.sum(axis=1, keepdims=True)).max(axis=1).mean()
        labels, correct = judge.predict_with_confidence(embeddings)
        accuracy = (labels == digits.target).mean()
        assert abs(correct.mean() - accuracy) < abs(raw - accuracy) - 0.02

    def test_blocks(self, base, digits):
        clf = self.make(base, layers="blocks").fit(digits.images[:60], digits.target[:60])
        assert clf.predict_alpha(digits.images[:7]).shape == (7, 10)

    def test_wrong_parameters_of_its_own(self, base, data):
        with pytest.raises(ValueError, match="confidence='clean'; expected one of"):
            self.make(base, confidence="clean").fit(*data)
        with pytest.raises(ValueError, match="hidden=0; expected at least 1"):
            self.make(base, hidden=(0,)).fit(*data)

    def test_judges_labels_only_by_their_own_probability(self, base, data, embeddings):
        """With confidence="max_proba" the label does not matter, as in the paper's misclassification task."""
        clf = self.make(base, confidence="max_proba").fit(*data)
        layers = clf._layers(clf.estimator_, embeddings[:9])
        first, second = (clf._score(clf._model, layers, np.full(9, k)) for k in (0, 1))
        np.testing.assert_array_equal(first, second)
