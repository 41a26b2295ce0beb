"""What people want of each image, and how a `DualPromptLearner` is brought there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..active.annotators import name_of_annotator
from ..active.class_names import label_of_new
from ..data.files import looking_once

LABEL, SKIP, DROP, FORGET = "label", "skip", "drop", "forget"


class Said(NamedTuple):
    """An answer for one image: a class, or that nobody can tell, or that the file is broken; and who gave it."""

    what: str
    name: str | None
    time: float
    annotator: str | None = None


State = tuple[Said, ...]  # of a row: a skip, or labels of one or several people, the latest last; and then a drop


class Names:
    """Class names of an estimator, and the labels that stand for them."""

    def __init__(self, learner: Any):
        self.learner = learner

    def all(self) -> list[str]:
        """Return all class names, in the order of the estimator's."""
        names = self.learner.estimator.class_names
        return [str(name) for name in (names.values() if isinstance(names, Mapping) else names)]

    def label(self, name: str) -> Any:
        """Return the label of a class: of a list its position, unless labels so far are names."""
        names = self.learner.estimator.class_names
        if isinstance(names, Mapping):
            return next(label for label, called in names.items() if called == name)
        texts = len(self.learner.rows_) and self.learner.labels_.dtype.kind not in "iu"
        return name if texts else list(names).index(name)

    def name(self, label: Any) -> str:
        """Return the class that a label stands for."""
        names = self.learner.estimator.class_names
        if isinstance(names, Mapping):
            return str(names[label])
        return str(label) if isinstance(label, str) else str(list(names)[label])

    def add(self, name: str) -> None:
        """Add a class behind the others; nothing is trained."""
        label = label_of_new(self.learner.estimator.class_names, name)
        self.learner.add_class(name, label=label, train=False)


def read_said(values: Sequence[Any]) -> Said:
    """Return an answer that a journal holds; a name of blanks alone, which older ones may have, is nobody's."""
    what, name, seconds, *who = values
    annotator = who[0] if who and isinstance(who[0], str) and who[0].strip() else None
    return Said(what, name, seconds, annotator)


def states_of(learner: Any, names: Names) -> dict[int, State]:
    """Return all answers that a learner holds, by row; the row that was answered last comes last."""
    table = learner.annotations
    states: dict[int, State] = {}
    if len(table):
        seconds = (table["time"].astype("int64") / 1e9).tolist()
        columns = (table[name].tolist() for name in ("row", "what", "label", "annotator"))
        for row, what, label, who, when in zip(*columns, seconds):
            name, annotator = names.name(label) if what == LABEL else None, who if isinstance(who, str) else None
            said = Said(what, name, when, annotator)
            states[row] = (*states.get(row, ()), said)
    return dict(sorted(states.items(), key=lambda item: item[1][-1].time))


def counting(learner: Any, names: Names) -> dict[int, str]:
    """Return the class that counts of each labeled row of a learner."""
    return {row: names.name(label) for row, label in zip(learner.rows_.tolist(), learner.labels_.tolist())}


def answered(state: State, said: Said | None, annotator: str | None) -> State:
    """Return what a row holds after an answer of an annotator, or with None after it is taken back.

    A label stands beside those of others, one without a name in place of them.  To take back a skip or a drop
    leaves what was said before it; to take back a label leaves those of others.
    """
    labels = tuple(one for one in state if one.what == LABEL)
    if said is None:
        if state and state[-1].what != LABEL:
            return state[:-1]
        mine = annotator if annotator in {one.annotator for one in labels} else None
        return () if annotator is None else tuple(one for one in labels if one.annotator != mine)
    if said.what == DROP:
        return (*(one for one in state if one.what != DROP), said)
    if said.what == SKIP:
        return (said,)
    if said.annotator is None:
        agrees = bool(state) and state[-1][:2] == said[:2]  # nothing new, and nobody's name is taken away
        return state if agrees else (said,)
    return (*(one for one in labels if one.annotator != said.annotator), said)


def disagreements(learner: Any, names: Names) -> list[dict[str, Any]]:
    """Return the rows that people labeled differently, with what each of them said."""
    table = learner.annotations
    table = table[table["row"].isin(learner.disagreements.index) & (table["what"] == LABEL)]
    found: dict[int, list[str]] = {}
    for row, label, annotator in zip(table["row"].tolist(), table["label"].tolist(), table["annotator"].tolist()):
        found.setdefault(row, []).append(f"{name_of_annotator(annotator)}: {names.name(label)}")
    return [{"row": row, "name": None, "correct": None, "others": ", ".join(said)} for row, said in found.items()]


def agreements(learner: Any) -> list[dict[str, Any]]:
    """Return how far every two people agree on the images that both labeled, those with most images first.

    ``kappa`` is None where `DualPromptLearner.annotator_agreement` has NaN: one and the same label everywhere.
    """
    table = learner.annotator_agreement
    table = table[table["n_both"] > 0].sort_values("n_both", ascending=False, kind="stable")
    columns = (table[name].tolist() for name in ("annotator_1", "annotator_2", "n_both", "n_agree", "kappa"))
    return [
        {"people": [first, second], "both": both, "alike": alike, "kappa": None if np.isnan(kappa) else kappa}
        for first, second, both, alike, kappa in zip(*columns)
    ]


def bring(learner: Any, names: Names, want: Mapping[int, State]) -> None:
    """Say to a learner what it lacks of the answers that are wanted; it saves them, and trains on nothing yet.

    It may be repeated: what is there already is not said again.
    """
    with looking_once():
        have = states_of(learner, names)
        changed = {row: state for row, state in want.items() if _heard(state) != _heard(have.get(row, ()))}
        left = _take_back(learner, {row: have.get(row, ()) for row in changed}, changed)
        labels = {row: _labels(state) for row, state in changed.items()}
        labels = {row: wanted if left[row] else _nobody_first(wanted) for row, wanted in labels.items()}
        for place in range(max(map(len, labels.values()), default=0)):
            _label(learner, names, left, labels, place)
        for what in (SKIP, DROP):
            some = {row: said for row, state in changed.items() for said in state if said.what == what}
            for annotator, rows in _by_annotator(some):
                getattr(learner, what)(rows, annotator=annotator, train=False)


def _take_back(learner: Any, have: Mapping[int, State], want: Mapping[int, State]) -> dict[int, State]:
    """Take back what is not wanted any more; return the labels that are left."""
    left, everything, of_one = dict[int, State](), list[int](), dict[str, list[int]]()
    for row, state in have.items():
        wanted, labels = _labels(want[row]), _labels(state)
        is_dropped = bool(state) and state[-1].what == DROP
        skipped = SKIP in {said.what for said in want[row]}
        by_nobody = [said.annotator for said in wanted] == [None]
        overruled = skipped or (by_nobody and _heard(labels[:1]) != _heard(wanted))
        if state and (is_dropped or not (wanted or skipped)):
            everything.append(row)
        elif labels and not overruled:  # a label without a name, or a skip, takes the place of all others by itself
            who = {said.annotator for said in wanted}
            gone = [said.annotator for said in labels if said.annotator not in who]
            rest = tuple(said for said in labels if said.annotator in who)
            is_begun = _heard(rest) == _heard(wanted[: len(rest)])
            if None in gone or (None in who and not is_begun):  # it cannot be taken back, or said, beside others
                everything.append(row)
            else:
                left[row] = rest
                for annotator in gone:
                    of_one.setdefault(str(annotator), []).append(row)
        else:
            left[row] = labels
    if everything:
        learner.forget(everything, train=False)
    for annotator, rows in of_one.items():
        learner.forget(rows, annotator=annotator, train=False)
    return dict.fromkeys(everything, ()) | left


def _label(learner: Any, names: Names, left: dict[int, State], want: Mapping[int, State], place: int) -> None:
    """Say the label of each row that stands at a place among the wanted ones, unless it stands there already."""
    first, others = dict[int, Said](), dict[int, Said]()
    for row, labels in want.items():
        if place < len(labels) and _heard(left[row][: place + 1]) != _heard(labels[: place + 1]):
            said = labels[place]
            (others if left[row] else first)[row] = said
            others_say = () if said.annotator is None else left[row]
            left[row] = (*(one for one in others_say if one.annotator != said.annotator), said)
    known = {name: names.label(name) for name in names.all()}
    for what, some in (("teach", first), ("relabel", others)):
        for annotator, rows in _by_annotator(some):
            y = np.array([known[some[row].name or ""] for row in rows])
            getattr(learner, what)(rows=rows, y=y, annotator=annotator, train=False)


def _nobody_first(labels: State) -> State:
    """Labels in an order in which each can be said: one without a name overrules those before it."""
    return tuple(sorted(labels, key=lambda said: said.annotator is not None))


def _labels(state: State) -> State:
    return tuple(said for said in state if said.what == LABEL)


def _heard(state: State) -> list[tuple[str, str | None, str | None]]:
    """What was said and by whom, whenever that was."""
    return [(said.what, said.name, said.annotator) for said in state]


def _by_annotator(answers: Mapping[int, Said]) -> list[tuple[str | None, list[int]]]:
    rows: dict[str | None, list[int]] = {}
    for row, said in answers.items():
        rows.setdefault(said.annotator, []).append(row)
    return list(rows.items())


def now() -> float:
    """Return the time of an answer."""
    return time.time()
