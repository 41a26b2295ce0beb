"""Selection rules against literal, slow versions of their text."""

import numpy as np
import pytest
from references import literal

from modal_clip_dual.utils.selection import (
    REMAINDERS,
    ascending_order,
    fill_up,
    generator_of,
    select_highest_per_class,
    select_lowest,
    select_per_class,
    subsample,
)
from modal_clip_dual.utils.validation import check_n_instances, check_number, check_option


def test_names_of_the_rules():
    assert REMAINDERS == ("per-class", "global")


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
    assert check_n_instances(1, 10) == check_n_instances(1, 1) == 1
    with pytest.raises(ValueError, match="X_pool is empty; expected at least one unlabeled sample$"):
        check_n_instances(1, 0)


def test_generator_is_never_the_global_one():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    for state in (None, 0, np.random.default_rng(0), np.random.RandomState(0)):
        generator_of(state).permutation(5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_generator_of_a_seed():
    assert generator_of(3).permutation(50).tolist() == generator_of(3).permutation(50).tolist()
    assert generator_of(None).permutation(50).tolist() != generator_of(None).permutation(50).tolist()
    state = np.random.RandomState(0)
    first, second = generator_of(state), generator_of(state)  # advances: the next call differs
    assert first.permutation(50).tolist() != second.permutation(50).tolist()
    for k in range(9):
        expected = np.random.default_rng(np.random.RandomState(k).randint(2**31)).integers(2**40)
        assert generator_of(np.random.RandomState(k)).integers(2**40) == expected
    generator = np.random.default_rng(0)
    assert generator_of(generator) is generator


def test_option():
    check_option("score", "a", ("a", "b"))
    with pytest.raises(ValueError, match=r"score='c'; expected one of \('a', 'b'\)"):
        check_option("score", "c", ("a", "b"))


@pytest.mark.parametrize(
    ("value", "ends", "interval"),
    [(0, "", r"\(0, 1\)"), (1, "", r"\(0, 1\)"), (1, "low", r"\[0, 1\)"), (0, "high", r"\(0, 1\]"),
     (-0.1, "low high", r"\[0, 1\]"), (1.1, "low high", r"\[0, 1\]"), (float("nan"), "low high", r"\[0, 1\]")],
)  # fmt: skip
def test_number_outside(value, ends, interval):
    with pytest.raises(ValueError, match=f"share={value}; expected a number in {interval}$"):
        check_number("share", value, 0, 1, ends=ends)


def test_number():
    for value, ends in ((0.5, ""), (np.float32(0.5), ""), (0, "low"), (1, "high"), (0, "low high"), (1, "low high")):
        check_number("share", value, 0, 1, ends=ends)
    for value in ("1", None, True, 1j):
        with pytest.raises(TypeError, match=r"share=.* is a .*; expected a number"):
            check_number("share", value, 0, 1)


def test_subsample():
    rng = np.random.default_rng(0)
    assert subsample(5, 5, rng).tolist() == subsample(5, 9, rng).tolist() == [0, 1, 2, 3, 4]
    before = rng.bit_generator.state
    subsample(5, 5, rng)
    assert rng.bit_generator.state == before  # nothing is drawn where nothing is left out
    rows = subsample(50, 49, rng)
    assert len(rows) == len(set(rows.tolist())) == 49
    assert rows.tolist() == sorted(rows.tolist())
    assert {tuple(subsample(3, 1, rng)) for _ in range(50)} == {(0,), (1,), (2,)}


def test_fill_up():
    rng = np.random.default_rng(0)
    assert fill_up([4, 2], 2, 6, rng).tolist() == [4, 2]
    assert fill_up([4, 2, 0], 2, 6, rng).tolist() == [4, 2]
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state  # nothing was drawn
    rows = fill_up([4, 2], 6, 6, rng)
    assert rows[:2].tolist() == [4, 2]
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4, 5]
    assert rows.dtype == np.int64
    assert {fill_up([1], 2, 3, rng)[1] for _ in range(50)} == {0, 2}
    assert len(fill_up([], 3, 6, rng)) == 3
    assert len(fill_up([1], 2, 6, rng)) == 2


def test_ties_in_row_order_or_shuffled():
    scores = np.array([1.0, 0.0] * 50)
    expected = [*range(1, 100, 2), *range(0, 100, 2)]
    assert ascending_order(scores).tolist() == expected
    shuffled = ascending_order(scores, np.random.default_rng(0)).tolist()
    assert shuffled != expected
    assert sorted(shuffled[:50]) == expected[:50]
    assert sorted(shuffled) == sorted(expected)


def test_highest_per_class_against_the_literal_rule():
    rng = np.random.default_rng(0)
    for _ in range(50):
        predicted = rng.choice([0, 2, 3, 7], size=40)
        scores = rng.integers(0, 5, 40).astype(float)  # with ties
        n = int(rng.integers(1, 15))
        expected = []
        for label in sorted(set(predicted)):
            rows = [row for row in range(40) if predicted[row] == label]
            expected += sorted(rows, key=lambda row: (-scores[row], row))[:n]
        assert select_highest_per_class(scores, predicted, n).tolist() == expected
    one = select_highest_per_class([0.1, 0.3, 0.2], np.zeros(3, dtype=int), 2)
    assert one.tolist() == [1, 2]


def test_random_ties_of_equal_shares():
    """Shuffling changes which of the tied rows are taken, never how many of a class."""
    scores, predicted = np.zeros(30), np.arange(30) % 3
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        rows = select_per_class(scores, predicted, 7, 3, rng=rng)
        assert sorted(np.bincount(predicted[rows]).tolist()) == [2, 2, 3]
        seen.add(tuple(rows))
    assert len(seen) > 15
    rows = select_per_class(scores, predicted, 7, 3)
    assert rows.tolist() == list(range(7))
