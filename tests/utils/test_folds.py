"""Folds of labeled samples."""

import numpy as np

from modal_clip_dual.utils.folds import deal_folds


def test_folds_are_balanced_and_do_not_depend_on_order():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1, 2], [11, 4, 8])
    X = rng.normal(size=(23, 12)).astype(np.float32)
    folds = deal_folds(X, target, 5)
    for k in range(3):
        counts = np.bincount(folds[target == k], minlength=5)
        assert counts.max() - counts.min() <= 1
    order = rng.permutation(23)
    assert np.array_equal(deal_folds(X[order], target[order], 5), folds[order])
    narrow = X[:, :2]
    assert np.array_equal(deal_folds(narrow[order], target[order], 5), deal_folds(narrow, target, 5)[order])
    same = np.column_stack([np.zeros((23, 9), np.float32), X])  # as pixels with a black border
    assert np.array_equal(deal_folds(same[order], target[order], 5), deal_folds(same, target, 5)[order])
