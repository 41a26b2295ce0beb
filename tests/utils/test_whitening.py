"""A pool's axes against plain NumPy."""

import numpy as np
import pytest

from modal_clip_dual.utils.whitening import FLOOR, fit_whitening


def rows(n, width, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, width)) * np.linspace(1, 3, width) + rng.normal(size=width)).astype(dtype)


@pytest.mark.parametrize("n, width, rank", [(300, 12, 5), (300, 12, 40), (6, 12, 12)])
def test_equals_the_formula(n, width, rank):
    X = rows(n, width)
    whitening = fit_whitening(X, rank)
    centered = X.astype(float) - X.astype(float).mean(0)
    values, axes = np.linalg.eigh(centered.T @ centered / n)
    kept = min(rank, width)
    values, axes = np.maximum(values[::-1][:kept], 0), axes[:, ::-1][:, :kept]
    floor = FLOOR * np.trace(centered.T @ centered / n) / width
    for power, scale in whitening.scales.items():
        z = whitening.coordinates(X) * scale
        expected = centered @ axes * (values + floor) ** (-power / 2)
        expected /= np.sqrt(np.mean((expected**2).sum(1)))
        # An axis may point either way: compare what does not depend on it.
        np.testing.assert_allclose(z @ z.T, expected @ expected.T, atol=2e-5 * np.abs(expected @ expected.T).max())
        assert np.mean((z.astype(float) ** 2).sum(1)) == pytest.approx(1, rel=1e-5)


def test_full_power_gives_all_strong_axes_the_same_variance():
    whitening = fit_whitening(rows(4000, 6) * np.float32(100), 6)
    z = whitening.coordinates(rows(4000, 6) * np.float32(100)) * whitening.scales[1.0]
    variances = z.var(0)
    assert variances.max() / variances.min() < 1.6  # the raw ones differ by 9
    raw = rows(4000, 6).var(0)
    assert raw.max() / raw.min() > 7


def test_linear_maps_weights_back_to_embeddings():
    X = rows(50, 12)
    whitening = fit_whitening(X, 7)
    weights = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    for power, scale in whitening.scales.items():
        matrix, offset = whitening.linear(weights, power)
        expected = (whitening.coordinates(X) * scale) @ weights
        np.testing.assert_allclose(X @ matrix + offset, expected, atol=1e-5 * (1 + np.abs(X @ matrix).max()))


def test_order_of_rows_changes_rounding_only():
    X = rows(500, 12)
    a, b = fit_whitening(X, 12), fit_whitening(X[np.random.default_rng(1).permutation(500)], 12)
    np.testing.assert_allclose(a.axes, b.axes, atol=1e-5)
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-6)


def test_identical_rows_have_finite_spaces():
    whitening = fit_whitening(np.full((5, 4), 0.5, np.float32), 4)
    assert all(np.isfinite(scale).all() for scale in whitening.scales.values())
