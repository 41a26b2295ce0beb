"""What people want of each image, and how a `DualPromptLearner` is brought there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
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


def said_of(learner: Any, names: Names) -> dict[int, Said]:
    """Return all answers that a learner holds, the latest last."""
    table = learner.annotations
    if not len(table):
        return {}
    seconds = table["time"].astype("int64").to_numpy() / 1e9
    last = dict(zip(table["row"].tolist(), zip(seconds.tolist(), table["annotator"].tolist())))
    said = {}
    for row, label in zip(learner.rows_.tolist(), learner.labels_.tolist()):
        said[row] = Said(LABEL, names.name(label), *last[row])
    for row, what in zip(table["row"].tolist(), table["what"].tolist()):
        if what != LABEL:
            said[row] = Said(what, None, *last[row])
    return dict(sorted(said.items(), key=lambda item: item[1].time))


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


def bring(learner: Any, names: Names, have: Mapping[int, Said], want: Mapping[int, Said | None]) -> None:
    """Say to a learner what it lacks of the answers that are wanted; it saves them, and trains on nothing yet.

    It may be repeated: what is there already is not said again.
    """
    changed = {row: said for row, said in want.items() if not _same(have.get(row), said)}
    with looking_once():
        dropped = {row: said for row, said in changed.items() if said is not None and said.what == DROP}
        for annotator, rows in _by_annotator(dropped):  # first: the others look whether all files are there
            learner.drop(rows, annotator=annotator, train=False)
        undone = {row: have[row] for row, said in changed.items() if row in have and _is_undone(have[row], said)}
        if undone:
            for annotator, rows in _by_annotator(undone):
                learner.forget(rows, annotator=annotator, train=False)
            have = said_of(learner, names)  # what others had said of them
            changed = {row: said for row, said in changed.items() if not _same(have.get(row), said)}
        back = [row for row, said in changed.items() if row in have and (said is None or have[row].what == DROP)]
        if back:
            learner.forget(back, train=False)
        labels = {row: said for row, said in changed.items() if said is not None and said.what == LABEL}
        others = {row for row in labels if row not in back and row in have and have[row].what == LABEL}
        for what, some in (("teach", labels.keys() - others), ("relabel", others)):
            for annotator, rows in _by_annotator({row: labels[row] for row in labels if row in some}):
                y = _labels(names, (labels[row] for row in rows))
                getattr(learner, what)(rows=rows, y=y, annotator=annotator, train=False)
        skipped = {row: said for row, said in changed.items() if said is not None and said.what == SKIP}
        for annotator, rows in _by_annotator(skipped):
            learner.skip(rows, annotator=annotator, train=False)


def _by_annotator(answers: Mapping[int, Said]) -> list[tuple[str | None, list[int]]]:
    rows: dict[str | None, list[int]] = {}
    for row, said in answers.items():
        rows.setdefault(said.annotator, []).append(row)
    return list(rows.items())


def _is_undone(have: Said, want: Said | None) -> bool:
    """Whether a label is taken back in favor of what another one had said before."""
    return (
        want is not None and have.what == want.what == LABEL and have.annotator not in (None, want.annotator)
        and want.time < have.time
    )  # fmt: skip


def _labels(names: Names, said: Iterable[Said | None]) -> np.ndarray:
    known = {name: names.label(name) for name in names.all()}
    return np.array([known[answer.name] for answer in said if answer is not None and answer.name is not None])


def _same(have: Said | None, want: Said | None) -> bool:
    """Whether there is nothing to say: the same answer of the same person, or one without a name to it."""
    if have is None or want is None:
        return have is want
    return have[:2] == want[:2] and want.annotator in (None, have.annotator)


def now() -> float:
    """Return the time of an answer."""
    return time.time()
