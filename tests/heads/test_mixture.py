"""EM with a text prior against loops over rows and classes."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from modal_clip_dual.heads._mixture import Mixture, expect, fit_mixture, maximize

WEIGHT = 5.0


def example(seed=0, n=40, n_labeled=6, width=3, n_classes=4):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_classes, width)) * 2
    classes = rng.integers(n_classes, size=n)
    z = centers[classes] + rng.normal(size=(n, width))
    target = rng.integers(n_classes, size=n_labeled)
    z_labeled = centers[target] + rng.normal(size=(n_labeled, width))
    text = rng.normal(size=(n, n_classes)) + 1.5 * (np.arange(n_classes) == classes[:, None])
    return z, text, z_labeled, target, n_classes


def log_joint(z, text, beta, mixture):
    """beta * text_k + log N(z; m_k, v I), row by row, class by class."""
    covariance = mixture.variance * np.eye(z.shape[1])
    densities = [[multivariate_normal.logpdf(row, mean, covariance) for mean in mixture.means] for row in z]
    return beta * text + np.array(densities)


def objective(z, text, beta, z_labeled, target, mixture):
    labeled = log_joint(z_labeled, np.zeros((len(target), len(mixture.means))), 0, mixture)
    unlabeled = logsumexp(log_joint(z, text, beta, mixture), axis=1).sum()
    return unlabeled + WEIGHT * labeled[np.arange(len(target)), target].sum()


@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_a_round_equals_the_formulas(beta):
    z, text, z_labeled, target, n_classes = example()
    mixture = fit_mixture(z, text, beta, z_labeled, target, n_classes, label_weight=WEIGHT, rounds=1)
    q = np.exp(beta * text)
    q /= q.sum(1, keepdims=True)
    for k in range(n_classes):
        total, mass = np.zeros(z.shape[1]), 0.0
        for i in range(len(z)):
            total, mass = total + q[i, k] * z[i], mass + q[i, k]
        for j in np.flatnonzero(target == k):
            total, mass = total + WEIGHT * z_labeled[j], mass + WEIGHT
        np.testing.assert_allclose(mixture.means[k], total / mass, rtol=1e-10)
    residual = sum(q[i, k] * ((z[i] - mixture.means[k]) ** 2).sum() for i in range(len(z)) for k in range(n_classes))
    residual += WEIGHT * sum(((z_labeled[j] - mixture.means[target[j]]) ** 2).sum() for j in range(len(target)))
    assert mixture.variance == pytest.approx(residual / (len(z) + WEIGHT * len(target)) / z.shape[1], rel=1e-10)

    found = np.zeros((len(z), n_classes))
    change = expect(z, text, beta, mixture, found)
    joint = log_joint(z, text, beta, mixture)
    np.testing.assert_allclose(found, np.exp(joint - logsumexp(joint, axis=1, keepdims=True)), atol=1e-10)
    assert change == pytest.approx(found.max())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_no_round_lowers_the_objective(seed, beta):
    z, text, z_labeled, target, n_classes = example(seed)
    values = []
    for rounds in range(1, 13):
        mixture = fit_mixture(
            z, text, beta, z_labeled, target, n_classes, label_weight=WEIGHT, rounds=rounds, tolerance=0
        )
        assert mixture.rounds == rounds
        values.append(objective(z, text, beta, z_labeled, target, mixture))
    assert np.diff(values).min() > -1e-8 * np.abs(values).max()
    assert values[-1] > values[0] + 0.1


def test_linear_gives_the_posterior_of_a_row():
    z, text, z_labeled, target, n_classes = example()
    mixture = fit_mixture(z, text, 1.0, z_labeled, target, n_classes)
    weights, offset = mixture.linear()
    joint = log_joint(z, text, 1.0, mixture)
    logits = text + z @ weights + offset
    np.testing.assert_allclose(
        logits - logsumexp(logits, axis=1, keepdims=True), joint - logsumexp(joint, axis=1, keepdims=True), atol=1e-9
    )


def test_without_text_classes_start_from_their_labels_and_others_stay_empty():
    rng = np.random.default_rng(0)
    centers = np.array([[5.0, 0], [0, 5], [-5, 0]])
    z = np.concatenate([center + rng.normal(size=(50, 2)) for center in centers])
    mixture = fit_mixture(z, None, 0.0, centers + 1, np.array([2, 0, 1]), 4)
    assert mixture.known.tolist() == [True, True, True, False]
    np.testing.assert_allclose(mixture.means[:3], centers[[1, 2, 0]], atol=0.6)
    assert not mixture.means[3].any()
    q = np.zeros((len(z), 4))
    expect(z, None, 0.0, mixture, q)
    assert not q[:, 3].any() and q.argmax(1).tolist() == [2] * 50 + [0] * 50 + [1] * 50


def test_float32_is_near_float64_and_large_blocks_near_small(monkeypatch):
    z, text, z_labeled, target, n_classes = example(n=200)
    exact = fit_mixture(z, text, 1.0, z_labeled, target, n_classes)
    small = [array.astype(np.float32) for array in (z, text, z_labeled)]
    monkeypatch.setattr("modal_clip_dual.heads._mixture.BLOCK", 28)  # seven rows at a time
    rough = fit_mixture(small[0], small[1], 1.0, small[2], target, n_classes)
    assert rough.means.dtype == np.float32
    np.testing.assert_allclose(rough.means, exact.means, atol=1e-3)
    assert rough.variance == pytest.approx(exact.variance, rel=1e-3)


def test_a_class_without_weight_keeps_its_mean():
    z = np.array([[1.0, 2], [3, 4]])
    q = np.array([[1.0, 0], [1, 0]])
    before = Mixture(np.array([[9.0, 9], [7, 8]]), 1.0, np.ones(2, bool))
    after = maximize(z, q, np.zeros(2), np.zeros((2, 2)), float((z**2).sum()), before)
    assert after.means.tolist() == [[2, 3], [7, 8]] and after.variance == pytest.approx(1.0)


def test_rows_that_are_all_the_same_leave_a_positive_variance():
    z = np.ones((10, 3), np.float32)
    mixture = fit_mixture(z, np.zeros((10, 2), np.float32), 1.0, z[:2], np.array([0, 1]), 2)
    assert mixture.variance > 0 and np.isfinite(mixture.linear()[0]).all()


def test_no_unlabeled_rows():
    _, _, z_labeled, target, n_classes = example()
    mixture = fit_mixture(z_labeled[:0], None, 0.0, z_labeled, target, n_classes)
    for k in np.unique(target):
        np.testing.assert_allclose(mixture.means[k], z_labeled[target == k].mean(0))
