"""Answers out of fold: each from a copy of the estimator that did not see the sample's label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from ..utils.pool import fit_with_pool
from ..utils.seeding import seed_parts


class Fold(NamedTuple):
    """A copy of the estimator, fitted on some rows, and the rows that it did not see."""

    estimator: Any
    train: np.ndarray
    test: np.ndarray


def folds_of(
    y: np.ndarray, cv: Any, rng: np.random.Generator, least: int = 2
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the training and test rows of each fold that trains on at least ``least`` classes.

    An integer deals the shuffled rows of each class in turn, so that folds are stratified as far as the counts
    allow, whatever they are; with at most 2 cv labels, each label is a fold of its own.  Where all classes have the
    same number of labels, 2 or more, there are at most so many folds: each fold then takes one of every class.
    With more folds, the training rows would lack a label of just the class that is asked for, so that a
    classifier that learns from labels alone would never predict it.  Other values of ``cv`` are splitters of
    scikit-learn.
    """
    rows = np.arange(len(y))
    if hasattr(cv, "split"):
        splits = list(cv.split(np.zeros((len(y), 1)), y))
    else:
        n_folds = len(y) if len(y) <= 2 * cv else cv
        counts = np.unique(y, return_counts=True)[1]
        if len(counts) > 1 and counts.min() == counts.max() > 1:
            n_folds = min(n_folds, counts[0])
        shuffled = rng.permutation(len(y))
        dealt = np.empty(len(y), dtype=np.intp)
        dealt[shuffled[np.argsort(y[shuffled], kind="stable")]] = rows % n_folds
        splits = [(rows[dealt != fold], rows[dealt == fold]) for fold in range(n_folds)]
    return [(train, test) for train, test in splits if len(np.unique(y[train])) >= least]


def seeded_copy(estimator: Any, seed: int) -> Any:
    """Return a copy that is not fitted, with a seed, outside and inside, where it has none of its own."""
    copied = clone(estimator)
    if copied.get_params(deep=False).get("random_state", 0) is None:
        copied.set_params(random_state=seed)
    seed_parts(copied, seed)
    return copied


def fit_copy(estimator: Any, X: Any, y: np.ndarray, pool: Any, seed: int) -> Any:
    """Fit a copy of the estimator, with the pool if its ``fit`` takes it, and a seed if it has none of its own.

    None stays None.
    """
    if estimator is None:
        return None
    copied = seeded_copy(estimator, seed)
    return fit_with_pool(copied, X, y, pool)


def fitted_folds(
    estimator: Any, X: Any, y: np.ndarray, cv: Any, rng: np.random.Generator, pool: Any, seed: int
) -> Iterator[Fold]:
    """Yield the folds, each with a copy of the estimator that is fitted on its training rows.

    `sklearn.model_selection.cross_val_predict` is not used: it renumbers the labels, which an estimator
    with class names reads, and would split a pool that is as long as X.
    """
    for train, test in folds_of(y, cv, rng):
        yield Fold(fit_copy(estimator, _safe_indexing(X, train), y[train], pool, seed), train, test)
