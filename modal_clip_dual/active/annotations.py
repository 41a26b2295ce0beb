"""What people said of the samples of a pool: labels, who gave them and when; what was skipped or dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..utils.persistence import plain

DISAGREEMENTS = ("last", "majority")
UNKNOWN = float("nan")  # time of an answer in files of version 0.1.0


class Answer(NamedTuple):
    """One person's answer for one sample."""

    label: Any
    annotator: str | None
    time: float  # seconds since 1970, UTC


class Note(NamedTuple):
    """Who left a sample out, and when."""

    annotator: str | None
    time: float


@dataclass(frozen=True)
class Annotations:
    """Answers by row of the pool, and rows that are left out.  It never changes: every method returns another.

    ``answers[row]`` holds at most one answer of each annotator, the latest last.  Rows stand in the order in
    which they were first labeled.  ``skipped`` rows have no answer; ``dropped`` ones keep theirs, which do
    not count.

    Examples
    --------
    >>> from modal_clip_dual.active.annotations import Annotations
    >>> said = Annotations().answered([4, 2], ["cat", "dog"], "ann", 0.0).answered([2], ["cat"], "bob", 1.0)
    >>> said.labeled("last")
    (array([4, 2]), array(['cat', 'cat'], dtype='<U3'))
    >>> said.skip([4], None, 2.0).labeled("last")[0]
    array([2])
    """

    answers: Mapping[int, tuple[Answer, ...]] = field(default_factory=dict)
    skipped: Mapping[int, Note] = field(default_factory=dict)
    dropped: Mapping[int, Note] = field(default_factory=dict)

    # ---------------------------------------------------------------- what is said

    def answered(
        self, rows: Iterable[int], labels: Iterable[Any], annotator: str | None, time: float, overrule: bool = False
    ) -> Annotations:
        """Add one annotator's answers, in place of his or her own before; with ``overrule``, of everybody's."""
        answers, skipped = dict(self.answers), dict(self.skipped)
        for row, label in zip(rows, labels):
            others = () if overrule else answers.get(row, ())
            kept = tuple(answer for answer in others if answer.annotator != annotator)
            answers[row] = (*kept, Answer(label, annotator, time))
            skipped.pop(row, None)
        return replace(self, answers=answers, skipped=skipped)

    def forget(self, rows: Iterable[int], annotator: str | None = None) -> Annotations:
        """Take back all that was said of some rows, or only one annotator's labels."""
        gone = set(rows)
        if annotator is not None:
            kept = {row: tuple(a for a in several if row not in gone or a.annotator != annotator)
                    for row, several in self.answers.items()}  # fmt: skip
            return replace(self, answers={row: several for row, several in kept.items() if several})
        parts = (self.answers, self.skipped, self.dropped)
        answers, skipped, dropped = ({r: v for r, v in part.items() if r not in gone} for part in parts)
        return Annotations(answers, skipped, dropped)  # type: ignore[arg-type]  # the three keep their types

    def skip(self, rows: Sequence[int], annotator: str | None, time: float) -> Annotations:
        """Set rows aside that nobody can label; a label that one has is taken back."""
        without = self.forget([row for row in rows if row not in self.dropped])
        skipped = {**without.skipped, **dict.fromkeys(rows, Note(annotator, time))}
        return replace(without, skipped=skipped)

    def drop(self, rows: Sequence[int], annotator: str | None, time: float) -> Annotations:
        """Leave rows out whose image is gone or broken; their labels are kept, and do not count."""
        return replace(self, dropped={**self.dropped, **dict.fromkeys(rows, Note(annotator, time))})

    # ---------------------------------------------------------------- what counts

    def labeled(self, disagreement: str, without: Iterable[int] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Rows that have a label, and the label of each that counts; without those dropped and others."""
        left_out = {*self.dropped, *without}
        rows = [row for row in self.answers if row not in left_out]
        labels = [decided(self.answers[row], disagreement) for row in rows]
        return np.array(rows, dtype=np.intp), np.array(labels) if labels else np.empty(0)

    def all_labels(self) -> np.ndarray:
        """Every label that somebody gave and did not take back, whether it counts or not."""
        labels = [answer.label for answers in self.answers.values() for answer in answers]
        return np.array(labels) if labels else np.empty(0)

    def annotators(self, row: int) -> set[str | None]:
        """Who labeled a row."""
        return {answer.annotator for answer in self.answers.get(row, ())}

    # ---------------------------------------------------------------- as arrays

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays that need no pickle; the inverse of `from_arrays`."""
        flat = [(row, *answer) for row, several in self.answers.items() for answer in several]
        rows, labels, annotators, times = zip(*flat) if flat else ((), (), (), ())
        arrays = {"answers.row": np.array(rows, dtype=np.intp), "answers.label": plain(np.array(labels))}
        arrays |= _who_and_when("answers", annotators, times)
        for name, notes in (("skipped", self.skipped), ("dropped", self.dropped)):
            arrays[f"{name}.row"] = np.array(list(notes), dtype=np.intp)
            arrays |= _who_and_when(name, [n.annotator for n in notes.values()], [n.time for n in notes.values()])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Annotations:
        """The annotations of `to_arrays`.

        Raises
        ------
        KeyError, ValueError
            If an array is missing, or they are not of one length.
        """
        answers: dict[int, tuple[Answer, ...]] = {}
        labels = arrays["answers.label"].tolist()
        for (row, annotator, time), label in zip(_notes("answers", arrays), labels, strict=True):
            answers[row] = (*answers.get(row, ()), Answer(label, annotator, time))
        skipped, dropped = (
            {row: Note(who, time) for row, who, time in _notes(name, arrays)} for name in ("skipped", "dropped")
        )
        return cls(answers, skipped, dropped)


def decided(answers: Sequence[Answer], disagreement: str) -> Any:
    """The label that counts: the last, or that of most annotators, among equals the one given last."""
    if disagreement == "last":
        return answers[-1].label
    votes = Counter(answer.label for answer in answers)
    most = max(votes.values())
    return next(answer.label for answer in reversed(answers) if votes[answer.label] == most)


def _who_and_when(name: str, annotators: Sequence[str | None], times: Sequence[float]) -> dict[str, np.ndarray]:
    # A file without pickle has no None; a name has at least a letter.
    who = np.array([annotator or "" for annotator in annotators], dtype=str)
    return {f"{name}.annotator": who, f"{name}.time": np.array(times, dtype=np.float64)}


def _notes(name: str, arrays: Mapping[str, np.ndarray]) -> list[tuple[int, str | None, float]]:
    columns = [arrays[f"{name}.{what}"].tolist() for what in ("row", "annotator", "time")]
    return [(row, who or None, time) for row, who, time in zip(*columns, strict=True)]
