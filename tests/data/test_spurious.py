"""Digits on stripes: the digit is there, and the stripes go with it as often as asked."""

import numpy as np
import pytest

from modal_clip_dual.data import load_digits_images, load_spurious_digits


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95, 1.0])
def test_backgrounds_go_with_the_digit(correlation):
    data = load_spurious_digits(correlation, random_state=0)
    usual = (data.background == (data.target > 4)).mean()
    assert abs(usual - correlation) <= 4 * np.sqrt(correlation * (1 - correlation) / 1797)
    np.testing.assert_array_equal(data.group, 2 * (data.target > 4) + data.background)
    np.testing.assert_array_equal(data.target, load_digits_images().target)


def test_stripes_and_ink():
    data = load_spurious_digits(0.5, contrast=0.4, random_state=1)
    digits = load_digits_images().images
    for row in range(20):
        image = data.images[row].astype(int)
        stripes = image if data.background[row] == 0 else image.T
        assert (stripes[:4] == stripes[:4, :1]).all() and set(np.unique(stripes[:4])) == {0, 102}
        light = np.repeat(stripes[:, :1], 16, axis=1)[4:12, 4:12]
        ink = digits[row] if data.background[row] == 0 else digits[row].T
        np.testing.assert_array_equal(stripes[4:12, 4:12], np.minimum(light + ink, 255))
    black = load_spurious_digits(contrast=0, random_state=0).images
    np.testing.assert_array_equal(black[:, 4:12, 4:12], digits)
    assert black.sum() == digits.sum(dtype=int)


def test_same_seed_same_images():
    first, second, other = (load_spurious_digits(random_state=seed).images for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("name", ["correlation", "contrast"])
def test_bad_shares_are_refused(name):
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match=name):
            load_spurious_digits(**{name: wrong})
    with pytest.raises(TypeError, match=name):
        load_spurious_digits(**{name: "half"})
