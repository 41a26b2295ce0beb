"""Uncertainties of Dirichlet distributions against torch.distributions and Monte Carlo."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch.distributions import Dirichlet

from modal_clip_dual.utils.dirichlet import KINDS, uncertainty_of


@pytest.fixture
def alpha():
    return np.random.default_rng(0).lognormal(sigma=1.5, size=(12, 5))


def test_differential_entropy(alpha):
    expected = Dirichlet(torch.from_numpy(alpha)).entropy().numpy()
    np.testing.assert_allclose(uncertainty_of(alpha, "differential-entropy"), expected, rtol=1e-9)


def test_entropies_by_monte_carlo(alpha):
    """The mean entropy of drawn probabilities, and what it leaves of the entropy of the mean."""
    draws = np.stack([np.random.default_rng(1).dirichlet(row, 40_000) for row in alpha])
    each = entropy(draws, axis=2)
    error = 5 * each.std(axis=1) / np.sqrt(each.shape[1])
    whole = entropy(alpha, axis=1)
    assert (abs(uncertainty_of(alpha, "data") - each.mean(axis=1)) < error).all()
    assert (abs(uncertainty_of(alpha, "mutual-information") - (whole - each.mean(axis=1))) < error).all()
    np.testing.assert_allclose(uncertainty_of(alpha, "entropy"), whole, rtol=1e-12)


def test_kinds_of_the_uniform_one_and_of_much_evidence():
    uniform, sure = np.ones((1, 4)), np.array([[1e6, 1.0, 1.0, 1.0]])
    assert uncertainty_of(uniform, "precision") == 1
    assert uncertainty_of(uniform, "max-probability") == 0.75
    for kind in KINDS:
        assert uncertainty_of(uniform, kind) > uncertainty_of(sure, kind)
    # As much evidence for all classes: the data are uncertain, the model is not.
    torn = np.full((1, 4), 1e6)
    assert uncertainty_of(torn, "mutual-information") < 1e-5
    np.testing.assert_allclose(uncertainty_of(torn, "data"), np.log(4), atol=1e-5)
