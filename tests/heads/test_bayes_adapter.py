"""BayesAdapter: the loss, training and prediction against torch.distributions and literal loops."""

import math

import numpy as np
import pytest
import torch
from head_template import HeadTests
from scipy.integrate import trapezoid
from scipy.special import expit, softmax
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from modal_clip_dual import BayesAdapterClassifier
from modal_clip_dual.heads.bayes_adapter import Posterior, cross_entropy, fit_posterior, penalty

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

    def test_partial_fit_goes_on_from_the_posterior(self, make, labeled, embeddings):
        X, y = labeled
        half = len(y) // 2
        clf = make(n_train_samples=5).partial_fit(X[:half], y[:half])
        first = make(n_train_samples=5).fit(X[:half], y[:half])
        np.testing.assert_array_equal(clf.predict_proba(embeddings), first.predict_proba(embeddings))
        last, before = clf._head, clf.score(X[half:], y[half:])
        clf.partial_fit(X[half:], y[half:], classes=np.arange(10))
        expected = fit_posterior(
            X[half:], y[half:], first._text(first._backbone, first._names), first._backbone.logit_scale,
            np.random.default_rng(0), prior_scale=2.0, kl_factor=0.05 * 0.5 / (len(y) - half), n_train_samples=5,
            lr=0.1, max_epochs=40, batch_size=256, last=last,
        )  # fmt: skip
        np.testing.assert_allclose(clf._head.mean, expected.mean, atol=1e-5)
        np.testing.assert_allclose(clf._head.scale, expected.scale, rtol=1e-5)
        assert clf.score(X[half:], y[half:]) > before
        # A weight of the prior beyond all labels leaves the posterior as it was.
        clf.set_params(kl_weight=1e7).partial_fit(X[:3], y[:3])
        np.testing.assert_allclose(clf._head.mean, expected.mean, atol=1e-3)

    def test_partial_fit_refuses(self, make, labeled):
        X, y = labeled
        with pytest.raises(ValueError, match=r"n_samples=0: partial_fit takes the last posterior"):
            make(n_samples=0).partial_fit(X, y)
        point = make(n_samples=0).fit(X, y).set_params(n_samples=3)
        with pytest.raises(ValueError, match="a fit without draws has none"):
            point.partial_fit(X, y)
        with pytest.raises(ValueError, match="differs from the classes known so far"):
            make().fit(X, y).partial_fit(X, y, classes=[0, 1])


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, 12, 6))]
    return unit[0].astype(np.float32), np.arange(12) % 4, unit[1][:4].astype(np.float32), 30.0


def posterior_and_prior(mean, log_ratio, text, prior_scale):
    scale = (prior_scale * log_ratio.exp())[:, None].expand_as(mean)
    width = torch.as_tensor(prior_scale, dtype=text.dtype).reshape(-1, 1).expand_as(text)
    return Normal(mean, scale), Normal(text, width)


def test_penalty_is_twice_the_divergence():
    generator = torch.Generator().manual_seed(0)
    mean, text = torch.randn((2, 4, 6), generator=generator, dtype=torch.float64)
    log_ratio = torch.randn(4, generator=generator, dtype=torch.float64)
    divergence = kl_divergence(*posterior_and_prior(mean, log_ratio, text, 0.3)).sum()
    expected = 2 * divergence + mean.numel()
    assert penalty(mean, log_ratio, text, 0.3).item() == pytest.approx(expected.item(), rel=1e-12)
    widths = torch.tensor([0.1, 0.3, 1.0, 2.0], dtype=torch.float64)
    divergence = kl_divergence(*posterior_and_prior(mean, log_ratio, text, widths)).sum()
    actual = penalty(mean, log_ratio, text, widths)
    assert actual.item() == pytest.approx((2 * divergence + mean.numel()).item(), rel=1e-12)


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


@pytest.mark.parametrize("continued", [False, True])
def test_training_step_by_step(problem, continued):
    """In float64, with torch's optimizer, distributions and reparametrized draws of the same noise."""
    x, y, text, scale = problem
    rng = np.random.default_rng(1)
    prior = torch.from_numpy(text).double() * scale / 10  # logits are 10 per unit of length
    width, last = torch.full((4,), 0.1, dtype=torch.float64), None
    if continued:  # with another posterior as the prior
        prior, width = torch.from_numpy(rng.normal(size=(4, 6))), torch.tensor([0.05, 0.1, 0.15, 0.2]).double()
        last = Posterior(prior.numpy().astype(np.float32), width.numpy().astype(np.float32), scale, 0)
    actual = fit_posterior(x, y, text, scale, np.random.default_rng(5), **RECIPE, last=last)
    rng = np.random.default_rng(5)
    mean, log_ratio = prior.clone().requires_grad_(), torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [mean]}, {"params": [log_ratio]}], lr=1.0, momentum=0.9)
    for epoch in range(6):
        rate = 1e-5 if epoch == 0 else 0.1 * (1 + math.cos(math.pi * epoch / 6)) / 2
        factor = 0.01 * epoch / 6
        # Steps are divided by 1 + rate * second derivative of the penalty where posterior and prior are one.
        steps = rate / (1 + rate * factor * 2 / width**2)  # of the means, by class
        optimizer.param_groups[0]["lr"] = 1.0
        optimizer.param_groups[1]["lr"] = rate / (1 + rate * factor * 4 * 6)
        order = rng.permutation(12)
        for rows in (order[:5], order[5:10], order[10:]):
            posterior, start = posterior_and_prior(mean, log_ratio, prior, width)
            noise = torch.from_numpy(rng.standard_normal((3, 4, 6), dtype=np.float32)).double()
            losses = []
            for draw in posterior.loc + posterior.scale * noise:
                unit = draw / draw.norm(dim=1, keepdim=True)
                logits = scale * torch.from_numpy(x[rows]).double() @ unit.T
                losses.append(-Categorical(logits=logits).log_prob(torch.from_numpy(y[rows])).mean())
            divergence = kl_divergence(Independent(posterior, 2), Independent(start, 2))
            optimizer.zero_grad()
            (torch.stack(losses).mean() + 2 * factor * divergence).backward()
            before = mean.detach().clone()
            optimizer.step()
            with torch.no_grad():
                mean.copy_(before + steps[:, None] * (mean - before))
    # 18 steps in float32, of weights of size 3 and gradients of size 10.
    np.testing.assert_allclose(actual.mean, mean.detach(), atol=1e-4)
    np.testing.assert_allclose(actual.scale, width * log_ratio.detach().exp(), rtol=1e-4)
    assert abs(actual.mean - prior.numpy()).max() > 0.1
    assert abs(actual.scale - width.numpy()).max() > 1e-3


def test_bayes_rule_is_what_is_optimized(problem):
    """With the exact weight the evidence bound, by 2,000 draws, is better than around the solution."""
    x, y, text, scale = problem
    exact = RECIPE | {"kl_factor": 0.5 / len(x), "max_epochs": 400, "batch_size": 12, "n_train_samples": 20}
    found = fit_posterior(x, y, text, scale, np.random.default_rng(0), **exact)
    prior = torch.from_numpy(text).double() * scale / 10
    noise = torch.randn((2000, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images, labels = torch.from_numpy(x).double(), torch.from_numpy(y)

    def loss(mean, log_ratio):
        posterior, start = posterior_and_prior(mean, log_ratio, prior, 0.1)
        draws = posterior.loc + posterior.scale * noise
        logits = scale * images @ (draws / draws.norm(dim=2, keepdim=True)).transpose(1, 2)
        likelihood = Categorical(logits=logits).log_prob(labels.expand(2000, -1)).mean()
        return (kl_divergence(posterior, start).sum() / len(x) - likelihood).item()

    mean, log_ratio = torch.from_numpy(found.mean).double(), torch.from_numpy(found.scale).double().div(0.1).log()
    best = loss(mean, log_ratio)
    assert best < loss(prior, torch.zeros(4, dtype=torch.float64)) - 0.1
    for by in (0.8, 1.25):  # further from the prior, nearer to it, narrower and wider
        assert best < loss(prior + by * (mean - prior), log_ratio)
        assert best < loss(mean, log_ratio + math.log(by))


def test_length_of_the_text_does_not_matter(problem):
    x, y, text, scale = problem
    fits = [fit_posterior(x, y, text * by, scale, np.random.default_rng(0), **RECIPE) for by in (1, 8, 1 / 64)]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.mean, fits[0].mean)
        np.testing.assert_array_equal(other.scale, fits[0].scale)


def test_probabilities_below_float32_do_no_harm(problem):
    x, y, text, _ = problem
    weights = torch.from_numpy(text)[None].requires_grad_()
    loss = cross_entropy(torch.from_numpy(x), torch.from_numpy(y), weights, 1e3)
    (gradient,) = torch.autograd.grad(loss, weights)
    assert torch.isfinite(gradient).all()
    assert loss.item() > 10


def exact_predictive(x, y, text, scale, prior_scale, at):
    """Probability of class 1 in the plane, by quadrature over the angles of both weights.

    Weights count by their angles alone, so that their lengths are integrated out of the prior.
    """
    angles = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    radius = np.linspace(0, scale / 10 + 8 * prior_scale, 4000)
    log_prior = []
    for t in text * scale / 10:
        squares = ((radius[:, None, None] * unit - t) ** 2).sum(axis=2)
        log_prior.append(np.log(trapezoid(radius[:, None] * np.exp(-squares / (2 * prior_scale**2)), radius, axis=0)))
    log_posterior = log_prior[0][:, None] + log_prior[1][None, :]
    own = [scale * point @ unit.T for point in x.astype(np.float64)]
    for logits, label in zip(own, y):
        difference = logits[None, :] - logits[:, None]  # of class 1 less class 0
        log_posterior += -np.logaddexp(0, -difference if label else difference)
    posterior = softmax(log_posterior, axis=None)
    return [
        (posterior * expit((scale * point @ unit.T)[None, :] - (scale * point @ unit.T)[:, None])).sum()
        for point in at.astype(np.float64)
    ]


def test_two_classes_in_the_plane_by_quadrature():
    """The exact posterior predictive; the Gaussian of one width per class is near it, a point estimate is not."""
    rng = np.random.default_rng(0)

    def points(angles):
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    text, scale, width = points(np.array([0.0, 1.0])), 6.0, 0.3
    y = np.arange(8) % 2
    x, at = points(np.where(y, 1.8, 0.6) + rng.normal(0, 0.5, 8)), points(np.linspace(-np.pi, np.pi, 25))
    expected = exact_predictive(x, y, text, scale, width, at)
    recipe = {"prior_scale": 10 * width, "kl_factor": 0.5 / 8, "lr": 0.05, "max_epochs": 1000, "batch_size": 8}
    found = fit_posterior(x, y, text, scale, rng, n_train_samples=30, **recipe)
    mean = np.mean([part.exp().numpy() for part in found.log_proba(at, 2000)], axis=0)[:, 1]
    point = fit_posterior(x, y, text, scale, rng, n_train_samples=0, **recipe)
    (alone,) = (part.exp().numpy()[:, 1] for part in point.log_proba(at, 0))
    # The largest distance was 0.055 here, and 0.244 that of the point estimate.
    assert abs(mean - expected).max() < 0.08
    assert abs(alone - expected).max() > 2 * abs(mean - expected).max()
