"""Logistic regression with a prior: scikit-learn, weights as repeated samples, the curvature by differences."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from modal_clip_dual.utils.logistic import fit_logistic


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3))
    return features, rng.random(60) < expit(features @ [1.0, -0.5, 0.2])


def test_around_zero_it_is_scikit_learns(data):
    features, right = data
    found, _ = fit_logistic(features, right, np.zeros(3), np.full(3, 0.5))
    reference = LogisticRegression(C=0.25, fit_intercept=False, tol=1e-10).fit(features, right)
    np.testing.assert_allclose(found, reference.coef_[0], atol=1e-4)
    # With a narrow prior nothing moves.
    np.testing.assert_allclose(fit_logistic(features, right, np.ones(3), np.full(3, 1e-3))[0], 1, atol=1e-3)


def test_weights_repeat_samples(data):
    features, right = data
    counts = np.random.default_rng(1).integers(0, 4, 60)
    prior = np.array([1.0, 0.0, -1.0]), np.array([0.3, 1.0, 2.0])
    weighted = fit_logistic(features, right, *prior, counts.astype(float))
    repeated = fit_logistic(np.repeat(features, counts, axis=0), np.repeat(right, counts), *prior)
    for one, other in zip(weighted, repeated):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_covariance_is_the_inverse_of_the_second_derivative(data):
    features, right = data
    mean, deviation = np.array([1.0, 0.0, -1.0]), np.array([0.3, 1.0, 2.0])
    found, covariance = fit_logistic(features, right, mean, deviation)

    def loss(b):
        proba = expit(features @ b)
        return -np.log(np.where(right, proba, 1 - proba)).sum() + 0.5 * (((b - mean) / deviation) ** 2).sum()

    step, eye = 1e-3, np.eye(3)
    second = [[(loss(found + step * (a + b)) - loss(found + step * (a - b)) - loss(found - step * (a - b))
                + loss(found - step * (a + b))) / (4 * step**2) for a in eye] for b in eye]  # fmt: skip
    np.testing.assert_allclose(covariance @ second, eye, atol=1e-4)


def test_without_samples_it_is_the_prior():
    mean, deviation = np.array([1.0, 0.0]), np.array([0.5, 2.0])
    found, covariance = fit_logistic(np.empty((0, 2)), np.empty(0, dtype=bool), mean, deviation)
    np.testing.assert_array_equal(found, mean)
    np.testing.assert_allclose(covariance, np.diag(deviation**2))
