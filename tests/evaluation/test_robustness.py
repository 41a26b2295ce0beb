"""Certified and worst-group accuracy by counting, and the curve that shows the first."""

import numpy as np
import pytest

from modal_clip_dual.evaluation import certified_accuracy, plot_certified_accuracy, worst_group_accuracy

NAN = float("nan")


def case(n=50, seed=0):
    rng = np.random.default_rng(seed)
    labels, y = rng.integers(3, size=(2, n))
    return labels, np.where(rng.random(n) < 0.2, NAN, rng.random(n)), y


@pytest.mark.parametrize("radius", [0, 0.25, 0.9, 2.0])
def test_certified_accuracy_counts(radius):
    labels, radii, y = case()
    count = sum(1 for a, r, b in zip(labels, radii, y) if a == b and not np.isnan(r) and r >= radius)
    assert certified_accuracy(labels, radii, y, radius) == count / 50
    assert certified_accuracy(labels.astype(str), radii, y.astype(str), radius) == count / 50


def test_worst_group_counts():
    labels, _, y = case()
    group = np.random.default_rng(1).choice(["land", "water", "sky"], size=50)
    shares = [np.mean([a == b for a, b, g in zip(labels, y, group) if g == one]) for one in set(group)]
    assert worst_group_accuracy(y, labels, group) == min(shares) < max(shares)
    assert worst_group_accuracy(y, labels, np.zeros(50)) == np.mean(y == labels)


def test_the_curve_is_the_accuracy_at_each_radius():
    labels, radii, y = case()
    ax = plot_certified_accuracy({"one": (labels, radii), "_two": (labels, np.full(50, NAN))}, y)
    first, second = ax.get_lines()
    for x, height in zip(*first.get_data()):
        assert height == certified_accuracy(labels, radii, y, x)
    assert (np.diff(first.get_ydata()) <= 0).all() and first.get_ydata()[-1] == 0
    assert (second.get_ydata() == 0).all()
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [f"one (abstains on {np.isnan(radii).mean():.0%})", " _two (abstains on 100%)"]
    assert plot_certified_accuracy({"one": (labels, radii)}, y, ax=ax) is ax


def test_bad_input_is_refused():
    labels, radii, y = case()
    with pytest.raises(ValueError, match="inconsistent"):
        certified_accuracy(labels[:3], radii, y)
    with pytest.raises(ValueError, match="radius=-1"):
        certified_accuracy(labels, radii, y, -1)
    with pytest.raises(TypeError, match="radius='0'"):
        certified_accuracy(labels, radii, y, "0")
    with pytest.raises(ValueError, match="no samples"):
        certified_accuracy([], [], [])
    with pytest.raises(ValueError, match="no samples"):
        worst_group_accuracy([], [], [])
    with pytest.raises(ValueError, match="inconsistent"):
        worst_group_accuracy(y, labels, y[:3])
    with pytest.raises(ValueError, match=r"y has shape \(50, 1\); expected \(n,\), one per sample"):
        certified_accuracy(labels, radii, y[:, None])
    with pytest.raises(ValueError, match=r"group has shape \(50, 1\); expected"):
        worst_group_accuracy(y, labels, y[:, None])
    with pytest.raises(ValueError, match="empty dict"):
        plot_certified_accuracy({}, y)
