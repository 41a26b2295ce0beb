"""Selection rules that query strategies share: from scores to rows of the pool."""

from __future__ import annotations

from typing import Any

import numpy as np

REMAINDERS = ("per-class", "global")


def generator_of(random_state: Any) -> np.random.Generator:
    """Return a random generator that is never NumPy's global one.

    An integer always gives the same draws; None gives fresh ones.
    """
    if isinstance(random_state, np.random.RandomState):  # advanced, so that the next call differs
        random_state = random_state.randint(2**31)
    return np.random.default_rng(random_state)


def subsample(n: int, max_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return all n rows, or max_samples of them at random, ascending."""
    if n <= max_samples:
        return np.arange(n)
    return np.sort(rng.permutation(n)[:max_samples])


def fill_up(rows: Any, n: int, n_pool: int, rng: np.random.Generator) -> np.ndarray:
    """Return the given rows, filled up to n with other random ones."""
    rows = np.asarray(rows, dtype=np.int64)[:n]
    if len(rows) < n:
        left = np.setdiff1d(np.arange(n_pool), rows)
        rows = np.concatenate([rows, rng.permutation(left)[: n - len(rows)]])
    filled: np.ndarray = rows
    return filled


def ascending_order(scores: np.ndarray, rng: Any = None) -> np.ndarray:
    """Return rows by ascending score; ties are in row order, or shuffled by `rng`."""
    if rng is None:
        return np.argsort(scores, kind="stable")
    shuffled: np.ndarray = rng.permutation(len(scores))
    return shuffled[np.argsort(scores[shuffled], kind="stable")]


def select_lowest(scores: np.ndarray, n: int, rng: Any = None) -> np.ndarray:
    """Return the n rows of lowest score, lowest first."""
    return ascending_order(scores, rng)[:n]


def select_highest_per_class(scores: Any, predicted: np.ndarray, n_per_class: int) -> np.ndarray:
    """Return the rows of highest score among those predicted as each class, class by class.

    At most ``n_per_class`` of a class, highest first, ties in row order; a class with fewer
    gives all it has.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    order = order[np.argsort(predicted[order], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(predicted[order])) + 1)
    return np.concatenate([group[:n_per_class] for group in groups])


def select_per_class(
    scores: np.ndarray,
    predicted: np.ndarray,
    n: int,
    n_classes: int,
    remainder: str = "per-class",
    rng: Any = None,
) -> np.ndarray:
    """Select n rows with equal shares of the predicted classes (arXiv 2602.04340, Eq. 7).

    Every class gives its ``n // n_classes`` rows of lowest score.  The rest,
    including the shortfall of classes with too few rows, is taken

    - ``"per-class"``: from each class's next row, the lowest of these rows first, at most
      one extra per class; another pass follows only if the pool leaves no choice;
    - ``"global"``: from all other rows, lowest score first.

    Parameters
    ----------
    scores : ndarray of shape (n_pool,)
        Scores; lower is more informative.
    predicted : ndarray of int, shape (n_pool,)
        Predicted class of each row, 0 to n_classes - 1.
    n : int
        Number of rows to select, at most n_pool.
    n_classes : int
    remainder : {"per-class", "global"}, default="per-class"
    rng : numpy Generator or RandomState, optional
        Generator that shuffles ties.

    Returns
    -------
    rows : ndarray of int, shape (n,)
        Distinct rows by ascending score.
    """
    order = ascending_order(scores, rng)
    # Position of each row in the ranking of its own class, 0 for the lowest.
    by_class = np.argsort(predicted[order], kind="stable")
    sizes = np.bincount(predicted, minlength=n_classes)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.empty(len(order), dtype=np.int64)
    rank[by_class] = np.arange(len(order)) - np.repeat(first, sizes)

    share = n // n_classes
    # With "per-class" the extra rows come pass by pass: every class's row number `share`, then the
    # next.  That is the order by rank, since all rows of lower rank are taken; `order` is by score, so a
    # stable sort leaves each pass sorted by score.
    turn = rank if remainder == "per-class" else rank >= share
    chosen = np.argsort(turn, kind="stable")[:n]
    return order[np.sort(chosen)]
