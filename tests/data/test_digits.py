import numpy as np
from sklearn.datasets import load_digits


def test_digits_are_the_scans_of_scikit_learn(digits):
    scans = load_digits()
    assert digits.images.dtype == np.uint8
    np.testing.assert_allclose(digits.images / 255 * 16, scans.images, atol=0.04)
    np.testing.assert_array_equal(digits.target, scans.target)
    assert digits.class_names[7] == "seven"
