"""Labels of other programs, taken into a loop."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..active import DualPromptLearner
from ..active.class_names import label_of_new, meanings, with_class
from ..data.files import digests_of
from ..utils.text_files import EXPECTED, foreign_byte
from ..utils.validation import check_option
from .registry import format_of
from .table import DROP, LABEL, SKIP, Said

CONFLICTS = ("keep", "replace")
SHOWN = 5  # names that messages show


@dataclass(frozen=True)
class ImportReport:
    """What an import changed.

    Parameters
    ----------
    n_labels : int
        Labels that were new.
    n_changed : int
        Labels that took the place of others.
    n_kept : int
        Samples whose own label was kept, or that were dropped, though the file has a label.
    n_left_out : int
        Samples that were skipped or dropped.
    unmatched : list of str
        What the file calls samples that are not, or not for certain, in the pool.

    Examples
    --------
    >>> from modal_clip_dual.exchange import ImportReport
    >>> ImportReport(n_labels=3, n_changed=0, n_kept=1, n_left_out=0, unmatched=["lost.png"]).n_labels
    3
    """

    n_labels: int
    n_changed: int
    n_kept: int
    n_left_out: int
    unmatched: list[str]


def import_labels(
    learner: Any,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    annotator: str | None = None,
    conflicts: str = "keep",
    add_classes: bool = False,
    train: bool = True,
) -> ImportReport:
    r"""Take labels of a file into a loop, so that work can start from labels that exist.

    Samples are found in the pool by the names of their files, as much of the path as is needed; in class folders
    by the content of the files; in a pool without files by their rows.  Nothing in the file is
    opened by a path that it names.  Labels are names of classes.  All labels of the file are checked before the
    first one is taken in.

    Parameters
    ----------
    learner : DualPromptLearner, str or path-like
        A learner, or its state file, which is resumed and closed again.
    path : str or path-like
        File or folder to read.
    format : {"csv", "folders", "coco", "label-studio"}, default=None
        As in `export_labels`.  CSV needs the columns "label", and "path" (of a pool without files "row"); Label
        Studio's is its export format JSON.
    annotator : str, default=None
        Who gave the labels, where the file does not say it.
    conflicts : {"keep", "replace"}, default="keep"
        What happens where a sample has another label already: the learner's is kept, or replaced.
    add_classes : bool, default=False
        Whether names of classes that the learner does not have are added; otherwise they are an error.  Where labels
        are texts, as those of the page are, the name is the label, too.
    train : bool, default=True
        Whether to train at the end; what was taken in is saved in any case.

    Returns
    -------
    report : ImportReport

    Raises
    ------
    ValueError
        If the file cannot be read as this format, no sample of it is in the pool, or a label is no class; nothing
        is changed then.
    FileNotFoundError
        If there is nothing at the path.

    Warns
    -----
    UserWarning
        If some samples of the file are not, or not for certain, in the pool; shows the first ones.

    See Also
    --------
    export_labels : Write the same formats.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from modal_clip_dual import DualPromptLearner, TipAdapterClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.exchange import import_labels
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = TipAdapterClassifier(class_names, model_name="demo", pretrained="bundled")
    >>> learner = DualPromptLearner(clf, X[:8])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "labels.csv")
    ...     _ = table.write_text("row,label\n3,three\n7,seven\n")
    ...     report = import_labels(learner, table)
    >>> report.n_labels, learner.labels_.tolist()
    (2, [3, 7])
    """
    check_option("conflicts", conflicts, CONFLICTS)
    chosen, source = format_of(format, path), Path(path)
    if not source.exists():
        raise FileNotFoundError(f"path={str(path)!r} does not exist")
    try:
        said = chosen.read(source)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"path={str(path)!r} cannot be read as {chosen.title}: {error}") from error
    if isinstance(learner, (str, os.PathLike)):
        resumed = DualPromptLearner.resume(learner)
        try:
            return _take_in(resumed, said, str(path), annotator, conflicts, add_classes, train)
        finally:
            resumed.close()
    return _take_in(learner, said, str(path), annotator, conflicts, add_classes, train)


def _take_in(
    learner: Any, said: list[Said], path: str, annotator: str | None, conflicts: str, add_classes: bool, train: bool
) -> ImportReport:
    learner.start()
    paths = learner.paths_
    found, unmatched = match(said, paths, len(learner.X_pool) if paths is None else len(paths))
    if paths is not None:  # of files that are gone nothing is taken in
        gone = [row for row in found if not os.path.isfile(paths[row])]
        unmatched += [paths[row] for row in gone]
        found = {row: several for row, several in found.items() if row not in gone}
    if not found:
        shown = f", such as {unmatched[0]!r}" if unmatched else ""
        raise ValueError(
            f"path={path!r} has no label for a sample of the pool ({len(unmatched)} for others{shown})"
            f"{_encoding_advice(unmatched)}{_row_advice(said, paths)}"
        )
    new = _new_classes(found, learner.estimator)
    if new and not add_classes:
        raise ValueError(
            f"path={path!r} has the labels {new[:SHOWN]}, which are no class_names; add_classes=True adds them "
            "(in the shell --add-classes)"
        )
    names = learner.estimator.class_names if new else None
    for name in new:  # all of them can be added, or none is
        names = with_class(names, name, label_of_new(names, name))
    for name in new:
        learner.add_class(name, label=label_of_new(learner.estimator.class_names, name), train=False)
    changed, kept = _apply(learner, found, annotator, conflicts)
    if train:
        learner.train()
    if unmatched:
        warnings.warn(
            f"{path!r}: {len(unmatched)} of {len(said)} samples are not, or not for certain, in the pool: "
            f"{', '.join(map(repr, unmatched[:SHOWN]))}{', ...' if len(unmatched) > SHOWN else ''}"
            f"{_encoding_advice(unmatched)}",
            UserWarning,
            stacklevel=3,
        )
    n_left_out = changed["skip"] + changed["drop"]
    return ImportReport(changed["teach"], changed["relabel"], kept, n_left_out, unmatched)


def _row_advice(said: Sequence[Said], paths: Sequence[str] | None) -> str:
    """What is said where rows alone are to tell which files are meant."""
    rows_only = any(one.row is not None and one.path is None and one.file is None for one in said)
    if paths is None or not rows_only:
        return ""
    return "; rows do not tell which files are meant, since another pool has them in another order: expected 'path'"


def _encoding_advice(unmatched: Sequence[str]) -> str:
    """What is said of paths with bytes that are no UTF-8, if they are in no pool: a file of Windows has such."""
    foreign = any(foreign_byte(path) is not None for path in unmatched)
    return f".  Some are no text in UTF-8; {EXPECTED}" if foreign else ""


def _new_classes(found: Mapping[int, Sequence[Said]], estimator: Any) -> list[str]:
    if getattr(estimator, "class_names", None) is None:
        return []
    names = _labels_of(estimator)
    labels = (str(said.label) for several in found.values() for said in several if said.what == LABEL)
    return [label for label in dict.fromkeys(labels) if label not in names]


def _labels_of(estimator: Any) -> dict[str, Any]:
    """Labels by the names of their classes; empty where a label is its own name."""
    known = meanings(getattr(estimator, "class_names", None), np.empty(0))
    return {name: label for label, name in known.items()}


def _apply(
    learner: Any, found: Mapping[int, Sequence[Said]], annotator: str | None, conflicts: str
) -> tuple[Counter[str], int]:
    """Take in what was said; return how many samples got what, and how many were kept."""
    rows, labels = learner.rows_.tolist(), learner.labels_.tolist()
    labels_of = _labels_of(learner.estimator) or {str(label): label for label in labels}
    said_before = learner.annotations
    dropped = set(said_before.loc[said_before["what"] == DROP, "row"])
    names = {label: name for name, label in labels_of.items()}
    before = {row: names.get(label, str(label)) for row, label in zip(rows, labels)}
    as_names = bool(labels) and isinstance(labels[0], str)
    taken: dict[tuple[str, str | None], list[Said]] = defaultdict(list)
    of: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    kept = 0
    for row, several in found.items():
        for said in several:
            who = said.annotator or annotator
            if row in dropped:
                kept += said.what != DROP
                continue
            if said.what != LABEL:
                call = said.what
                if row in before and conflicts == "keep":
                    kept += 1
                    continue
            elif row not in before:
                call = "teach"
            elif before[row] == said.label:
                continue
            elif conflicts == "keep":
                kept += 1
                continue
            else:
                call = "relabel"
            taken[call, who].append(said)
            of[call, who].append(row)
    counts: Counter[str] = Counter()
    for (call, who), several in taken.items():
        positions = of[call, who]
        counts[call] += len(positions)
        if call in ("teach", "relabel"):
            y = [s.label if as_names else labels_of.get(str(s.label), s.label) for s in several]
            getattr(learner, call)(rows=positions, y=y, annotator=who, train=False)
        else:
            (learner.skip if call == SKIP else learner.drop)(positions, annotator=who, train=False)
    return counts, kept


# ---------------------------------------------------------------- which sample is meant


def match(said: Sequence[Said], paths: Sequence[str] | None, n_pool: int) -> tuple[dict[int, list[Said]], list[str]]:
    """Return what was said by row of the pool, and what the others are called.

    A sample that is said twice by the same annotator counts as the last of both.
    """
    claims: dict[int, list[Said]] = defaultdict(list)
    unmatched = []
    rows = _by_content(said, paths) if paths is not None else [None] * len(said)
    finder = None if paths is None else Finder(paths)
    for one, row in zip(said, rows):
        if row is None and finder is not None and one.file is None:
            row = finder.find(one.path)
        if row is None and paths is None and one.row is not None and one.row < n_pool:
            row = one.row
        if row is None:
            unmatched.append(str(one.path if one.path is not None else one.row))
        else:
            claims[row].append(one)
    found = {}
    for row, several in claims.items():
        names = {one.path for one in several if one.file is None}
        if len(names) > 1:  # several files of one name, of which at most one is this
            unmatched += [str(one.path) for one in several if paths is None or one.path != paths[row]]
            several = [one for one in several if paths is not None and one.path == paths[row]]
        if several:
            found[row] = list({one.annotator: one for one in several}.values())
    return found, unmatched


def _by_content(said: Sequence[Said], paths: Sequence[str]) -> list[int | None]:
    """Return the row of the file with the same bytes, for each; None for what comes without a file."""
    files = [str(one.file) for one in said if one.file is not None]
    if not files:
        return [None] * len(said)
    there = [row for row, path in enumerate(paths) if os.path.isfile(path)]
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in zip(there, digests_of([paths[row] for row in there], None)):
        rows[digest].append(row)
    digests = iter(digests_of(files, None))
    result: list[int | None] = []
    for one in said:
        same = rows.get(next(digests), []) if one.file is not None else []
        if len(same) > 1:  # copies in the pool: the one of this name, else the first that is free
            same = [row for row in same if os.path.basename(paths[row]) == os.path.basename(str(one.file))] or same
            same = [row for row in same if row not in result] or same
        result.append(same[0] if same else None)
    return result


class Finder:
    """Rows of a pool by the ends of their paths."""

    def __init__(self, paths: Sequence[str]):
        self.parts = [_parts(path) for path in paths]
        self.rows: dict[str, list[int]] = defaultdict(list)
        for row, parts in enumerate(self.parts):
            self.rows[parts[-1]].append(row)

    def find(self, path: str | None) -> int | None:
        """Return the row whose path has the longest end in common; None if there is none, or several."""
        parts = _parts(path or "")
        rows = self.rows.get(parts[-1], [])
        for length in range(2, len(parts) + 1):
            if len(rows) < 2:
                break
            longer = [row for row in rows if self.parts[row][-length:] == parts[-length:]]
            if not longer:
                break
            rows = longer
        return rows[0] if len(rows) == 1 else None


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")] or [""]
