"""Weights of a stack against SciPy's SLSQP; folds."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from modal_clip_dual.heads._stacking import stack_weights, stacking_loss


def example(seed, n=25, n_heads=4, n_classes=3):
    rng = np.random.default_rng(seed)
    target = rng.integers(n_classes, size=n)
    quality = np.linspace(-1, 2, n_heads)
    logits = [rng.normal(size=(n, n_classes)) + good * np.eye(n_classes)[target] for good in quality]
    return logits, target, np.full(n_heads, 0.2)


def plain_loss(weights, logits, target, prior, deviation):
    total = ((weights - prior) ** 2).sum() / (2 * deviation**2)
    for i, k in enumerate(target):
        blended = sum(weight * head[i] for weight, head in zip(weights, logits))
        total += np.log(np.exp(blended).sum()) - blended[k]
    return total


@pytest.mark.parametrize("seed", range(3))
def test_weights_equal_those_of_slsqp(seed):
    logits, target, prior = example(seed)
    found = stack_weights(logits, target, prior, 0.3)
    args = (logits, target, prior, 0.3)
    reference = minimize(plain_loss, prior, args, method="SLSQP", bounds=[(0, None)] * 4, options={"ftol": 1e-12})
    np.testing.assert_allclose(found, reference.x, atol=2e-3)
    assert plain_loss(found, *args) <= reference.fun + 1e-6
    assert found[0] == 0  # the misleading head is at the bound


def test_loss_and_gradient():
    logits, target, prior = example(0)
    weights = np.array([0.1, 0.5, 0.3, 0.7])
    value, gradient = stacking_loss(weights, np.stack(logits, axis=1), target, prior, 0.3)
    args = (logits, target, prior, 0.3)
    assert value == pytest.approx(plain_loss(weights, *args))
    np.testing.assert_allclose(gradient, approx_fprime(weights, plain_loss, 1e-7, *args), atol=1e-4)


def test_little_evidence_stays_with_the_prior():
    logits, target, prior = example(0, n=1)
    assert np.abs(stack_weights(logits, target, prior, 0.01) - prior).max() < 0.005
