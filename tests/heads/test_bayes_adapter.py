"""BayesAdapter: the loss, training and prediction against torch.distributions and literal loops."""

import math

import numpy as np
import pytest
import torch
from head_template import HeadTests
from scipy.special import softmax
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from modal_clip_dual import BayesAdapterClassifier
from modal_clip_dual.heads.bayes_adapter import cross_entropy, fit_posterior, penalty

EPS = float(np.finfo(np.float32).eps)
RECIPE = {"prior_scale": 1.0, "kl_factor": 0.01, "n_train_samples": 3, "lr": 0.1, "max_epochs": 6, "batch_size": 5}


class TestBayesAdapter(HeadTests):
    Head = BayesAdapterClassifier
    params = {"random_state": 0, "max_epochs": 40}
    grid = {"prior_scale": [0.5, 2.0]}

    def test_is_better_than_zero_shot(self, make, labeled, digits, embeddings):
        clf = make().fit(*labeled)
        zero_shot = clf.zero_shot_proba(embeddings).argmax(axis=1) == digits.target
        assert clf.score(embeddings, digits.target) > zero_shot.mean() + 0.1

    def test_predicts_the_mean_over_draws(self, make, labeled, embeddings):
        clf = make(n_samples=4).fit(*labeled)
        head, X = clf._head, embeddings[:50].astype(np.float64)
        parts = []
        for draw in range(4):
            noise = np.random.default_rng([head.seed, draw]).standard_normal(head.mean.shape, dtype=np.float32)
            weights = head.mean + head.scale[:, None] * noise.astype(np.float64)
            weights /= np.linalg.norm(weights, axis=1, keepdims=True)
            parts.append(softmax(head.logit_scale * X @ weights.T, axis=1))
        # Logits are sums of 128 float32 products, below the scale of 22 in size.
        bound = 2 * 128 * EPS * head.logit_scale
        np.testing.assert_allclose(clf.sample_proba(embeddings[:50]), parts, atol=bound)
        np.testing.assert_allclose(clf.predict_proba(embeddings[:50]), np.mean(parts, axis=0), atol=bound)
        np.testing.assert_allclose(
            clf.predict_correct_proba(embeddings[:50]), np.mean(parts, axis=0).max(axis=1), atol=bound
        )
        assert np.std(parts, axis=0).max() > 0.01

    def test_draws_of_any_number(self, make, labeled, embeddings):
        clf = make(n_samples=3).fit(*labeled)
        more = clf.sample_proba(embeddings[:20], n_samples=8)
        assert more.shape == (8, 20, 10)
        assert more.dtype == np.float32
        np.testing.assert_array_equal(more[:3], clf.sample_proba(embeddings[:20]))
        np.testing.assert_allclose(more.sum(axis=2), 1, atol=1e-5)
        for wrong, error in ((0, ValueError), (2.5, TypeError)):
            with pytest.raises(error, match=f"n_samples={wrong}"):
                clf.sample_proba(embeddings[:20], n_samples=wrong)

    def test_without_draws_it_is_linear(self, make, labeled, embeddings):
        clf = make(n_samples=0).fit(*labeled)
        assert not clf.scale_.any()
        expected = softmax(clf.transform(embeddings[:50]) @ clf.coef_.T, axis=1)
        np.testing.assert_allclose(clf.predict_proba(embeddings[:50]), expected, atol=2 * 128 * EPS * 22)
        np.testing.assert_allclose(np.linalg.norm(clf.coef_, axis=1), clf._head.logit_scale, rtol=1e-5)
        assert clf.sample_proba(embeddings[:50]).shape == (1, 50, 10)
        for name in ("coef_", "scale_"):
            with pytest.raises(AttributeError, match=f"not fitted yet: it has no {name}"):
                getattr(make(), name)

    @pytest.mark.parametrize("n_samples", [0, 10])
    def test_a_narrow_prior_is_zero_shot(self, make, labeled, embeddings, n_samples):
        clf = make(n_samples=n_samples, prior_scale=1e-4, kl_weight=1.0).fit(*labeled)
        expected = clf.zero_shot_proba(embeddings)
        np.testing.assert_allclose(clf.predict_proba(embeddings), expected, atol=2e-3)  # draws are 1e-4 wide
        huge = make(n_samples=0, kl_weight=1e9).fit(*labeled)
        np.testing.assert_allclose(huge.predict_proba(embeddings), expected, atol=2e-4)

    def test_a_huge_weight_gives_the_prior_back(self, make, labeled):
        """Whose divergence from itself is the least."""
        clf = make(kl_weight=1e6, prior_scale=0.7).fit(*labeled)
        np.testing.assert_allclose(clf.scale_, 0.7, rtol=1e-3)

    def test_the_authors_weight(self, make, labeled, embeddings):
        n, weights = len(labeled[1]), 10 * 128
        theirs = make(kl_weight="authors", max_epochs=20).fit(*labeled).predict_proba(embeddings[:50])
        same = make(kl_weight=2 * n / (1000 * weights), max_epochs=20).fit(*labeled).predict_proba(embeddings[:50])
        np.testing.assert_allclose(theirs, same, atol=1e-4)
        other = make(kl_weight=1.0, max_epochs=20).fit(*labeled).predict_proba(embeddings[:50])
        assert abs(theirs - other).max() > 0.05
        with pytest.raises(ValueError, match="'kl_weight' parameter"):
            make(kl_weight="elbo").fit(*labeled)

    def test_seeds(self, make, labeled, embeddings):
        np.random.seed(0)
        torch.manual_seed(0)
        before = np.random.get_state()[1].copy(), torch.get_rng_state()
        first = make(random_state=1).fit(*labeled).predict_proba(embeddings[:50])
        for other in (2, None):
            assert (make(random_state=other).fit(*labeled).predict_proba(embeddings[:50]) != first).any()
        np.testing.assert_array_equal(np.random.get_state()[1], before[0])
        assert torch.equal(torch.get_rng_state(), before[1])


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, 12, 6))]
    return unit[0].astype(np.float32), np.arange(12) % 4, unit[1][:4].astype(np.float32), 30.0


def posterior_and_prior(mean, log_ratio, text, prior_scale):
    scale = (prior_scale * log_ratio.exp())[:, None].expand_as(mean)
    return Normal(mean, scale), Normal(text, torch.full_like(text, prior_scale))


def test_penalty_is_twice_the_divergence():
    generator = torch.Generator().manual_seed(0)
    mean, text = torch.randn((2, 4, 6), generator=generator, dtype=torch.float64)
    log_ratio = torch.randn(4, generator=generator, dtype=torch.float64)
    divergence = kl_divergence(*posterior_and_prior(mean, log_ratio, text, 0.3)).sum()
    expected = 2 * divergence + mean.numel()
    assert penalty(mean, log_ratio, text, 0.3).item() == pytest.approx(expected.item(), rel=1e-12)


def test_cross_entropy_sample_by_sample(problem):
    x, y, _, scale = problem
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 4, 6)))
    total = 0.0
    for draw in weights.numpy():
        for image, label in zip(x.astype(np.float64), y):
            logits = [scale * image @ w / np.linalg.norm(w) for w in draw]
            total -= logits[label] - math.log(sum(math.exp(logit) for logit in logits))
    actual = cross_entropy(torch.from_numpy(x).double(), torch.from_numpy(y), weights, scale)
    assert actual.item() == pytest.approx(total / (3 * len(x)), rel=1e-9)


def test_training_step_by_step(problem):
    """In float64, with torch's optimizer, distributions and reparametrized draws of the same noise."""
    x, y, text, scale = problem
    actual = fit_posterior(x, y, text, scale, np.random.default_rng(5), **RECIPE)
    rng = np.random.default_rng(5)
    prior = torch.from_numpy(text).double() * scale / 10  # logits are 10 per unit of length
    mean, log_ratio = prior.clone().requires_grad_(), torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [mean]}, {"params": [log_ratio]}], lr=1.0, momentum=0.9)
    for epoch in range(6):
        rate = 1e-5 if epoch == 0 else 0.1 * (1 + math.cos(math.pi * epoch / 6)) / 2
        factor = 0.01 * epoch / 6
        # Steps are divided by 1 + rate * second derivative of the penalty where posterior and prior are one.
        optimizer.param_groups[0]["lr"] = rate / (1 + rate * factor * 2 / 0.1**2)
        optimizer.param_groups[1]["lr"] = rate / (1 + rate * factor * 4 * 6)
        order = rng.permutation(12)
        for rows in (order[:5], order[5:10], order[10:]):
            posterior, start = posterior_and_prior(mean, log_ratio, prior, 0.1)
            noise = torch.from_numpy(rng.standard_normal((3, 4, 6), dtype=np.float32)).double()
            losses = []
            for draw in posterior.loc + posterior.scale * noise:
                unit = draw / draw.norm(dim=1, keepdim=True)
                logits = scale * torch.from_numpy(x[rows]).double() @ unit.T
                losses.append(-Categorical(logits=logits).log_prob(torch.from_numpy(y[rows])).mean())
            divergence = kl_divergence(Independent(posterior, 2), Independent(start, 2))
            optimizer.zero_grad()
            (torch.stack(losses).mean() + 2 * factor * divergence).backward()
            optimizer.step()
    # 18 steps in float32, of weights of size 3 and gradients of size 10.
    np.testing.assert_allclose(actual.mean, mean.detach(), atol=1e-4)
    np.testing.assert_allclose(actual.scale, 0.1 * log_ratio.detach().exp(), rtol=1e-4)
    assert abs(actual.mean - prior.numpy()).max() > 0.1
    assert abs(actual.scale - 0.1).max() > 1e-3


def test_length_of_the_text_does_not_matter(problem):
    x, y, text, scale = problem
    fits = [fit_posterior(x, y, text * by, scale, np.random.default_rng(0), **RECIPE) for by in (1, 8, 1 / 64)]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.mean, fits[0].mean)
        np.testing.assert_array_equal(other.scale, fits[0].scale)


def test_faint_probabilities_train_like_others(problem):
    """Where a class has a probability of e^-200, its gradient is none, and nothing is not finite."""
    x, y, text, _ = problem
    weights = torch.from_numpy(text)[None].requires_grad_()
    loss = cross_entropy(torch.from_numpy(x), torch.from_numpy(y), weights, 1e3)
    (gradient,) = torch.autograd.grad(loss, weights)
    assert torch.isfinite(gradient).all()
    assert loss.item() > 10
