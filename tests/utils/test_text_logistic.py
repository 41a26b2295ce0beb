"""Text-prior logistic regression against a plain formula and scikit-learn."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from modal_clip_dual.utils.text_logistic import TEXT_DEVIATION, TEXT_MEAN, fit_logistic, objective


def example(n=30, width=8, n_classes=4, seed=0, helpful=1.0):
    rng = np.random.default_rng(seed)
    target = rng.integers(n_classes, size=n)
    features = rng.normal(size=(n, width)) + 0.5 * np.eye(n_classes, width)[target]
    text = rng.normal(size=(n, n_classes)) + helpful * np.eye(n_classes)[target]
    return features, text, target, n_classes


def loss(parameters, features, text, target, penalty, n_classes):
    """The objective in its docstring's words, without any shortcut."""
    rows = parameters[: (features.shape[1] + 1) * n_classes].reshape(-1, n_classes)
    factor = parameters[-1] if text is not None else 0
    total = penalty / 2 * (rows[:-1] ** 2).sum() + (rows[-1] ** 2).sum() / 2
    if text is not None:
        total += (factor - TEXT_MEAN) ** 2 / (2 * TEXT_DEVIATION**2)
    for i, k in enumerate(target):
        logits = features[i] @ rows[:-1] + rows[-1] + (factor * text[i] if text is not None else 0)
        total += np.log(np.exp(logits).sum()) - logits[k]
    return total


def parameters_of(fitted, with_text):
    parts = [fitted.weights.ravel(), fitted.offset]
    return np.concatenate([*parts, [fitted.text_factor]] if with_text else parts)


@pytest.mark.parametrize("with_text", [True, False])
def test_objective_and_its_gradient(with_text):
    features, text, target, n_classes = example()
    text = text if with_text else None
    parameters = np.random.default_rng(1).normal(size=(features.shape[1] + 1) * n_classes + with_text)
    value, gradient = objective(parameters, features, text, target, np.full(features.shape[1], 0.3))
    args = (features, text, target, 0.3, n_classes)
    assert value == pytest.approx(loss(parameters, *args), rel=1e-10)
    np.testing.assert_allclose(gradient, approx_fprime(parameters, loss, 1e-7, *args), atol=2e-4)


@pytest.mark.parametrize("n, width", [(30, 8), (6, 20), (20, 20)])
@pytest.mark.parametrize("with_text", [True, False])
def test_nothing_is_left_to_gain(n, width, with_text):
    features, text, target, n_classes = example(n, width)
    text = text if with_text else None
    fitted = fit_logistic(features, text, target, n_classes, 0.3, tolerance=1e-8, iterations=2000)
    _, gradient = objective(parameters_of(fitted, with_text), features, text, target, np.full(width, 0.3))
    assert np.abs(gradient).max() < 1e-5 * n
    if with_text:
        assert fitted.text_factor > 0


@pytest.mark.parametrize("penalty", [0.03, 1.0])
@pytest.mark.parametrize("n, width", [(40, 8), (6, 20)])
def test_equals_scikit_learn_without_text(penalty, n, width):
    features, _, target, n_classes = example(n, width)
    target[:n_classes] = np.arange(n_classes)  # scikit-learn knows the classes that it sees
    fitted = fit_logistic(features, None, target, n_classes, penalty, tolerance=1e-8, iterations=2000)
    # A constant feature of sqrt(penalty) makes the offset's penalty 1.
    constant = np.full((n, 1), np.sqrt(penalty))
    reference = LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-10, max_iter=5000)
    coefficients = reference.fit(np.hstack([features, constant]), target).coef_
    np.testing.assert_allclose(fitted.weights.T, coefficients[:, :-1], atol=1e-4)
    np.testing.assert_allclose(fitted.offset, coefficients[:, -1] * np.sqrt(penalty), atol=1e-4)


@pytest.mark.parametrize("n, width", [(40, 8), (6, 20)])
def test_fixed_text_has_neither_factor_nor_offsets(n, width):
    features, text, target, n_classes = example(n, width)
    fitted = fit_logistic(
        features, text, target, n_classes, 0.3, tolerance=1e-8, iterations=2000, fixed=True
    )
    assert fitted.text_factor == 1 and not fitted.offset.any()
    _, gradient = objective(parameters_of(fitted, True), features, text, target, np.full(width, 0.3))
    assert np.abs(gradient[: width * n_classes]).max() < 1e-5 * n


def test_text_that_misleads_is_left_out_and_the_rest_equals_no_text():
    features, text, target, n_classes = example(helpful=-6.0)
    arguments = (target, n_classes, 0.3)
    fitted = fit_logistic(features, text, *arguments, tolerance=1e-8, iterations=2000)
    plain = fit_logistic(features, None, *arguments, tolerance=1e-8, iterations=2000)
    assert fitted.text_factor == 0
    np.testing.assert_allclose(fitted.weights, plain.weights, atol=1e-4)
    _, gradient = objective(parameters_of(fitted, True), features, text, target, np.full(features.shape[1], 0.3))
    assert gradient[-1] > 0  # at the bound, less than 0 would be better


def test_float32_and_the_default_tolerance_are_near_the_minimum():
    features, text, target, n_classes = example(200, 16)
    exact = fit_logistic(features, text, target, n_classes, 0.3, tolerance=1e-9, iterations=5000)
    quick = fit_logistic(features.astype(np.float32), text.astype(np.float32), target, n_classes, 0.3)
    assert quick.weights.dtype == np.float32
    args = (features, text, target, 0.3, n_classes)
    best = loss(parameters_of(exact, True), *args)
    assert best <= loss(parameters_of(quick, True), *args) <= best * (1 + 1e-5)


def test_a_class_without_samples_and_identical_rows():
    features = np.ones((5, 3))
    fitted = fit_logistic(features, None, np.array([0, 0, 1, 1, 1]), 3, 1.0)
    logits = features @ fitted.weights + fitted.offset
    assert np.isfinite(logits).all() and (logits.argmax(1) == 1).all() and (logits.argmin(1) == 2).all()
