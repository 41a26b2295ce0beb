"""The digits as a data set, and the seeded split."""

import numpy as np
from dataset_template import DataSetTemplate

from modal_clip_dual.data import load_benchmark
from modal_clip_dual.data.datasets._layouts import seeded_split


class TestDigits(DataSetTemplate):
    name = "digits"
    template = "a photo of a {}."


def test_digits(digits):
    data = load_benchmark("digits")
    assert data.X_train.shape == (1198, 8, 8) and data.X_test.shape == (599, 8, 8)
    assert data.X_train.dtype == np.uint8
    assert (data.X_val, data.y_val) == (None, None)
    assert data.class_names == digits.class_names
    assert data.split == "seeded"
    together = np.concatenate([data.X_train, data.X_test]).reshape(1797, 64)
    assert sorted(map(tuple, together)) == sorted(map(tuple, digits.images.reshape(1797, 64)))
    share = np.bincount(data.y_test) / np.bincount(digits.target)
    assert np.all(abs(share - 1 / 3) < 0.005)
    assert load_benchmark("digits", "/does/not/exist").y_test.tolist() == data.y_test.tolist()


def test_seeded_split_is_the_same_everywhere():
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 2])
    train, test = seeded_split(labels, 4)
    assert (train.tolist(), test.tolist()) == ([0, 1, 2, 3, 6, 7], [4, 5])
