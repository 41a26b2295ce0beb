"""Confidence intervals of means of few seeds."""

import itertools

import numpy as np
import pytest
from scipy import stats

from modal_clip_dual.evaluation._intervals import METHODS, mean_interval


def test_intervals_follow_their_seed_and_no_other_row():
    values = np.random.default_rng(0).random((4, 6))
    together = mean_interval(values, random_state=5)
    alone = [mean_interval(row[None], random_state=5) for row in values]
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1))
    assert not np.allclose(together, mean_interval(values, random_state=6), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_interval_of_equal_seeds_is_their_value(method, n):
    low, high = mean_interval(np.full((1, n), 0.1), method=method)
    assert low[0] == high[0] == pytest.approx(0.1)


@pytest.mark.parametrize("method", METHODS)
def test_intervals_move_with_the_metric(method):
    values = np.random.default_rng(0).random((3, 6))
    low, high = mean_interval(values, method=method)
    assert (low < values.mean(axis=1)).all()
    assert (values.mean(axis=1) < high).all()
    moved = mean_interval(100 * values + 7, method=method)
    np.testing.assert_allclose(moved, [100 * low + 7, 100 * high + 7])
    narrow = mean_interval(values, 0.5, method=method)
    assert (narrow[1] - narrow[0] < high - low).all()


@pytest.mark.parametrize(("method", "name"), [("percentile", "percentile"), ("bca", "BCa")])
def test_percentiles_are_scipys_but_for_chance(method, name):
    values = np.random.default_rng(0).beta(2, 5, size=12) ** 2
    expected = stats.bootstrap(
        (values,), np.mean, method=name, n_resamples=40_000, rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = mean_interval(values[None], 0.95, 40_000, 0, method)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=0.003)
    other = stats.bootstrap(
        (values,), np.mean, method="BCa" if method == "percentile" else "percentile",
        n_resamples=40_000, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert abs(other.high - expected.high) > 0.01  # so that the two could not be mixed up


def test_students_t_is_scipys():
    values = np.random.default_rng(0).random(4)
    expected = stats.t.interval(0.9, 3, values.mean(), stats.sem(values))
    low, high = mean_interval(values[None], 0.9, method="t")
    assert (low[0], high[0]) == pytest.approx(expected)


def test_studentized_interval_against_every_resample():
    values = np.array([0.1, 0.2, 0.5, 0.6])
    t = []
    for draw in itertools.product(values, repeat=4):
        error = np.std(draw, ddof=1) / 2
        if error > 1e-12:
            t.append((np.mean(draw) - values.mean()) / error)
    error = np.std(values, ddof=1) / 2
    farthest = 2 * stats.t.ppf(0.9, 3)
    upper, lower = np.clip(np.quantile(t, [0.9, 0.1]), -farthest, farthest)
    low, high = mean_interval(values[None], 0.8, 100_000)
    expected = (values.mean() - upper * error, values.mean() - lower * error)
    assert (low[0], high[0]) == pytest.approx(expected, abs=0.01)


def test_studentized_interval_has_limits():
    # Resamples of two seeds that nearly agree have next to no error.
    values = np.array([[0.8, 0.80001, 0.7, 0.6]])
    low, _ = mean_interval(values)
    t_low, _ = mean_interval(values, method="t")
    assert values.mean() - low[0] == pytest.approx(2 * (values.mean() - t_low[0]))
    few = values[:, :3]
    np.testing.assert_array_equal(mean_interval(few), mean_interval(few, method="t"))


@pytest.mark.parametrize(
    ("n", "skewed", "least", "most"),
    [(3, False, 0.93, 0.97), (5, False, 0.92, 0.97), (10, False, 0.93, 0.97),
     (20, False, 0.93, 0.97), (5, True, 0.90, 0.94), (20, True, 0.92, 0.965)],
)  # fmt: skip
def test_coverage_of_the_default_interval(n, skewed, least, most):
    # 2,000 experiments: a standard error of 0.005.
    rng = np.random.default_rng(n)
    values = 1 - rng.exponential(size=(2000, n)) if skewed else rng.standard_normal((2000, n))
    low, high = mean_interval(values, n_resamples=999)
    assert least < ((low <= 0) & (0 <= high)).mean() < most


def test_coverage_tells_percentiles_from_the_default():
    values = np.random.default_rng(0).standard_normal((2000, 5))
    low, high = mean_interval(values, n_resamples=999, method="percentile")
    assert ((low <= 0) & (0 <= high)).mean() == pytest.approx(0.84, abs=0.025)
