"""What people said: against plain dicts, scikit-learn's kappa, and through arrays."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.metrics import cohen_kappa_score

from modal_clip_dual.active.annotations import Annotations
from modal_clip_dual.active.annotators import (
    table_of_agreement,
    table_of_answers,
    table_of_disagreements,
)

ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)
WHO = st.sampled_from([None, "ann", "bob", "cleo"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["answered", "overrule", "forget", "retract", "skip", "drop"]), ROWS, WHO,
        st.sampled_from("abc"),
    ),
    max_size=12,
)  # fmt: skip


def by_hand(steps):
    """The same with dicts that change: answers as (who, label) in order, skipped and dropped rows."""
    answers, skipped, dropped = {}, set(), set()
    for what, rows, who, label in steps:
        for row in rows:
            if what in ("answered", "overrule"):
                said = [] if what == "overrule" else [pair for pair in answers.get(row, []) if pair[0] != who]
                answers[row] = [*said, (who, label)]
                skipped.discard(row)
            elif what == "drop":
                dropped.add(row)
            elif what == "retract":
                left = [pair for pair in answers.get(row, []) if who is not None and pair[0] != who]
                if left:
                    answers[row] = left
                else:
                    answers.pop(row, None)
                if who is None:
                    skipped.discard(row)
                    dropped.discard(row)
            else:
                if what == "forget" or row not in dropped:
                    answers.pop(row, None)
                    dropped.discard(row)
                skipped.discard(row)
                if what == "skip":
                    skipped.add(row)
    return answers, skipped, dropped


def in_class(steps):
    said = Annotations()
    for number, (what, rows, who, label) in enumerate(steps):
        if what == "forget":
            said = said.forget(rows)
        elif what == "retract":
            said = said.forget(rows, who)
        elif what in ("skip", "drop"):
            said = getattr(said, what)(rows, who, float(number))
        else:
            said = said.answered(rows, [label] * len(rows), who, float(number), overrule=what == "overrule")
    return said


def majority(pairs):
    labels = [label for _, label in pairs]
    most = max(map(labels.count, labels))
    return [label for label in labels if labels.count(label) == most][-1]


@given(STEPS)
def test_any_sequence_is_that_of_plain_dicts(steps):
    said, (answers, skipped, dropped) = in_class(steps), by_hand(steps)
    assert {row: [(a.annotator, a.label) for a in several] for row, several in said.answers.items()} == answers
    assert set(said.skipped) == skipped and set(said.dropped) == dropped
    counting = {row: pairs for row, pairs in answers.items() if row not in dropped}
    for how, decide in (("last", lambda pairs: pairs[-1][1]), ("majority", majority)):
        rows, labels = said.labeled(how)
        assert rows.tolist() == list(counting) and labels.tolist() == [decide(pairs) for pairs in counting.values()]
    arrays = said.to_arrays()
    assert all(array.dtype != object for array in arrays.values())
    again = Annotations.from_arrays(arrays)
    assert again == said and list(again.answers) == list(said.answers)


@given(STEPS)
def test_nothing_that_was_said_before_changes(steps):
    before = in_class(steps)
    copy = Annotations(dict(before.answers), dict(before.skipped), dict(before.dropped))
    before.answered([0], ["c"], "ann", 9.0)
    before.forget([0, 1])
    before.skip([2], None, 9.0)
    before.drop([3], None, 9.0)
    assert before == copy


def test_agreement_is_scikit_learns_kappa():
    generator = np.random.default_rng(0)
    a = generator.integers(0, 3, 40)
    b = np.where(generator.random(40) < 0.3, generator.integers(0, 3, 40), a)
    said = Annotations().answered(range(40), a.tolist(), "ann", 0.0)
    said = said.answered(range(10, 40), b[10:].tolist(), "bob", 1.0).answered([0], [1], None, 2.0)
    table = table_of_agreement(said).set_index(["annotator_1", "annotator_2"])
    line = table.loc[("ann", "bob")]
    assert line["kappa"] == pytest.approx(cohen_kappa_score(a[10:], b[10:]))
    assert line["n_both"] == 30 and line["n_agree"] == (a[10:] == b[10:]).sum()
    assert table.loc[("(not named)", "bob"), "n_both"] == 0
    assert np.isnan(table.loc[("(not named)", "bob"), "kappa"])
    different = table_of_disagreements(said, "last")
    expected = [0] * int(a[0] != 1) + [row for row in range(10, 40) if a[row] != b[row]]
    assert different.index.tolist() == expected
    assert (different.loc[10:, "counts"] == different.loc[10:, "bob"]).all()


def test_kappa_of_one_and_the_same_label_is_not_defined():
    said = Annotations().answered([0, 1], ["a", "a"], "ann", 0.0).answered([0, 1], ["a", "a"], "bob", 1.0)
    line = table_of_agreement(said).iloc[0]
    assert line["n_agree"] == 2 and np.isnan(line["kappa"])
    assert len(table_of_disagreements(said, "last")) == len(table_of_agreement(Annotations())) == 0


def test_table_of_answers():
    said = Annotations().answered([3, 1], ["a", "b"], "ann", 0.0).answered([3], ["b"], "bob", 86400.0)
    table = table_of_answers(said.skip([7], "ann", 5.0).drop([1], None, 6.0), "last")
    table = table.astype(object).where(table.notna(), None)
    assert table[["row", "what", "label", "annotator", "counts"]].values.tolist() == [
        [3, "label", "a", "ann", False], [3, "label", "b", "bob", True], [1, "label", "b", "ann", False],
        [7, "skip", None, "ann", True], [1, "drop", None, None, True],
    ]  # fmt: skip
    assert str(table["time"][1]) == "1970-01-02 00:00:00+00:00"


@pytest.mark.parametrize("kind", [int, str])
def test_labels_keep_their_kind_through_arrays(kind):
    said = Annotations().answered([0, 1], [kind(7), kind(123456)], None, 0.0)
    labels = Annotations.from_arrays(said.to_arrays()).labeled("last")[1]
    assert labels.tolist() == [kind(7), kind(123456)]
    assert Annotations.from_arrays(Annotations().to_arrays()) == Annotations()
