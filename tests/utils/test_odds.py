"""Log-odds against scipy."""

import numpy as np
import pytest
from scipy.special import expit, logsumexp

from modal_clip_dual.utils.odds import against_rest


def test_against_rest_equals_the_formula():
    logits = np.random.default_rng(0).normal(size=(50, 6)) * 5
    odds = against_rest(logits.astype(np.float32))
    for i in range(50):
        for k in range(6):
            expected = logits[i, k] - logsumexp(np.delete(logits[i], k))
            assert odds[i, k] == pytest.approx(expected, abs=1e-4)
    shares = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(expit(odds), shares, atol=1e-5)


def test_against_rest_of_logits_that_are_far_apart():
    odds = against_rest(np.array([[1000.0, 0, -1000], [0, 0, 0]]))
    assert np.isfinite(odds).all()
    assert odds[0, 1] == pytest.approx(-1000) and odds[0, 0] > 700
    np.testing.assert_allclose(odds[1], -np.log(2))


def test_odds_do_not_saturate():
    logits = np.array([[0.0, 1.0, 3.0], [400.0, 0.0, -5.0], [-700.0, 0.0, 0.0]])
    for row, odds in zip(logits, against_rest(logits)):
        expected = [row[k] - logsumexp(np.delete(row, k)) for k in range(3)]
        np.testing.assert_allclose(odds, expected, rtol=1e-6, atol=1e-6)
