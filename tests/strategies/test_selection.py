"""Selection rules against literal, slow versions of their text."""

import numpy as np
import pytest

from modal_clip_dual.strategies._selection import (
    check_n_instances,
    generator_of,
    select_lowest,
    select_per_class,
)


def literal(scores, predicted, n, n_classes, remainder):
    """method.md, "The active-learning loop", step 3, in its own words."""
    groups = {k: [] for k in range(n_classes)}
    for row in sorted(range(len(scores)), key=lambda row: (scores[row], row)):
        groups[predicted[row]].append(row)
    chosen = []
    for group in groups.values():
        for _ in range(min(n // n_classes, len(group))):
            chosen.append(group.pop(0))
    while len(chosen) < n:
        if remainder == "per-class":
            candidates = [group[0] for group in groups.values() if group]
        else:
            candidates = [row for group in groups.values() for row in group]
        candidates.sort(key=lambda row: (scores[row], row))
        for row in candidates[: n - len(chosen)]:
            chosen.append(row)
            groups[predicted[row]].remove(row)
    return sorted(chosen, key=lambda row: (scores[row], row))


@pytest.mark.parametrize("remainder", ["per-class", "global"])
def test_equals_the_literal_rule(remainder):
    rng = np.random.default_rng(0)
    for trial in range(400):
        n_classes = int(rng.integers(2, 9))
        n_pool = int(rng.integers(1, 60))
        present = rng.permutation(n_classes)[: rng.integers(1, n_classes + 1)]
        predicted = rng.choice(present, size=n_pool)
        # Few distinct scores in half of the trials, so that ties are met.
        scores = rng.normal(size=n_pool) if trial % 2 else rng.integers(0, 4, n_pool).astype(float)
        sizes = {1, n_pool, min(n_classes, n_pool), min(2 * n_classes, n_pool)}
        sizes |= {max(1, min(n_classes - 1, n_pool)), int(rng.integers(1, n_pool + 1))}
        for n in sizes:
            actual = select_per_class(scores, predicted, n, n_classes, remainder)
            assert actual.tolist() == literal(scores, predicted, n, n_classes, remainder)


def test_budget_below_the_number_of_classes():
    """B < C: the remainder rule is the selection rule, one sample of the B lowest classes."""
    scores = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 0.0])
    predicted = np.array([0, 1, 2, 1, 3, 1])
    assert select_per_class(scores, predicted, 3, 5).tolist() == [5, 4, 2]
    assert select_per_class(scores, predicted, 3, 5, "global").tolist() == [5, 1, 3]


def test_shortfall_joins_the_remainder():
    scores = np.arange(8.0)
    predicted = np.array([0, 0, 0, 0, 0, 0, 0, 1])
    assert select_per_class(scores, predicted, 6, 2).tolist() == [0, 1, 2, 3, 4, 7]


def test_random_tie_break_reaches_every_tied_row_and_only_those():
    scores = np.array([0.0, 1.0, 1.0, 1.0, 2.0])
    predicted = np.zeros(5, dtype=int)
    rng = np.random.default_rng(0)
    seen = {tuple(select_per_class(scores, predicted, 2, 1, rng=rng)) for _ in range(100)}
    assert seen == {(0, 1), (0, 2), (0, 3)}
    assert {tuple(select_lowest(scores, 2, rng)) for _ in range(100)} == seen
    assert select_lowest(scores, 2).tolist() == [0, 1]


@pytest.mark.parametrize("n", [0, -1, 11, np.int64(11)])
def test_n_instances_outside_the_pool(n):
    with pytest.raises(ValueError, match=f"n_instances={n}; expected 1 to 10"):
        check_n_instances(n, 10)


@pytest.mark.parametrize("n", [1.0, "1", None, True])
def test_n_instances_of_another_type(n):
    with pytest.raises(TypeError, match="n_instances=.*expected an integer"):
        check_n_instances(n, 10)


def test_n_instances():
    assert check_n_instances(np.int32(10), 10) == 10
    with pytest.raises(ValueError, match="X_pool is empty"):
        check_n_instances(1, 0)


def test_generator_is_never_the_global_one():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    for state in (None, 0, np.random.default_rng(0), np.random.RandomState(0)):
        generator_of(state).permutation(5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
