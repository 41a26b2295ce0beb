"""Labels of a loop as a file or a folder."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..active.class_names import meanings
from ..active.saved import SavedLoop, read_loop
from ..data.images import as_array
from ..utils.persistence import check_target, check_writable, replacing
from .registry import format_of
from .replacing import check_apart, check_exported, check_no_last_copies, write_mark
from .table import DROP, LABEL, Entry, Format, Table

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5  # files that a warning names


class Written(NamedTuple):
    """What was written: how many samples with a label, and the files that were left out since they cannot be read."""

    n: int
    left_out: list[str]


def export_labels(
    learner: Any,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    predictions: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> int:
    """Write the labels of a loop for other programs.

    Labels are the ones that count, by the names of their classes.  What is written is whole or not there at all:
    a file takes the place of an old one at once.

    Parameters
    ----------
    learner : DualPromptLearner, str or path-like
        A learner, or its state file, which another process may go on working with.
    path : str or path-like
        File or folder to write.
    format : {"csv", "folders", "coco", "label-studio"}, default=None
        None tells it by the path: ``.csv``, or no ending for ``"folders"``.

        - ``"csv"``: a line per sample of the pool, with the columns row, path, what ("label", "skip", "drop" or
          empty), label, annotator, time, predicted and sure.  A quote stands before texts that a spreadsheet would
          take for formulas.
        - ``"folders"``: a folder per class with copies of its images (``link=True``: symbolic links).  Images whose
          files are gone or cannot be read are left out.
        - ``"coco"``: JSON with images, categories and annotations, one per label, without boxes.
        - ``"label-studio"``: tasks with people's annotations and the model's pre-annotations;
          ``root=`` is the folder that Label Studio serves (``LOCAL_FILES_DOCUMENT_ROOT``), by default the one that
          holds all files.
    predictions : bool, default=False
        Whether to add the model's prediction for every sample that is there, and P(correct).  In ``"folders"``
        samples without a label then lie in the folder of their predicted class.
    overwrite : bool, default=False
        Whether to replace what is at the path: a file, or a folder that was exported before and in which nothing else
        lies since.
    **options
        Arguments of the format: ``link``, ``root``.

    Returns
    -------
    n : int
        Number of samples with a label.

    Raises
    ------
    FileNotFoundError
        If a folder would be replaced that may hold the last copy of an image whose file is gone.
    FileExistsError
        If there is something at the path, or, with ``overwrite=True``, a folder with anything that no export wrote.
    TypeError, ValueError
        If an argument does not fit, or the path is or holds the state file or an image of the pool; then nothing is
        written.

    Warns
    -----
    UserWarning
        If files of images are left out; names the first ones.

    See Also
    --------
    import_labels : Read the same formats.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from modal_clip_dual import DualPromptLearner, TipAdapterClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.exchange import export_labels
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = TipAdapterClassifier(class_names, model_name="demo", pretrained="bundled")
    >>> learner = DualPromptLearner(clf, X[:8])
    >>> learner.teach(rows=[3, 7], y=y[[3, 7]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n = export_labels(learner, f"{folder}/labels.csv")
    ...     print(n, Path(folder, "labels.csv").read_text().splitlines()[4][:16])
    2 3,,label,three,,
    """
    n, left_out = write_labels(learner, path, format=format, predictions=predictions, overwrite=overwrite, **options)
    if left_out:
        warnings.warn(
            f"path={str(path)!r}: {len(left_out)} files are gone or cannot be read, and are left out: "
            f"{', '.join(map(repr, left_out[:SHOWN]))}{', ...' if len(left_out) > SHOWN else ''}",
            UserWarning,
            stacklevel=2,
        )
    return n


def write_labels(
    learner: Any,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    predictions: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> Written:
    """Write the labels as `export_labels` does, and return what was left out in place of a warning.

    Raises
    ------
    FileExistsError, FileNotFoundError, TypeError, ValueError
        As `export_labels`.
    """
    chosen = format_of(format, path)
    unknown = sorted(set(options) - set(chosen.options))
    if unknown:
        raise TypeError(
            f"{chosen.title} takes no {', '.join(unknown)}; expected {list(chosen.options) or 'nothing more'}"
        )
    target = check_target(path) if not chosen.folder else Path(os.path.realpath(path))
    _check_free(target, str(path), overwrite)
    if isinstance(learner, (str, os.PathLike)):
        loop, samples = read_loop(learner), None
    else:
        loop, samples = _loop_of(learner), as_array(learner.X_pool)
    check_apart(target, str(path), learner if samples is None else learner.path, loop.paths)
    if chosen.paths and loop.paths is None:
        raise ValueError(f"{chosen.title} needs a pool of files, and this one holds none; expected format='csv'")
    if chosen.folder and os.path.lexists(target):
        check_exported(target, str(path), loop.paths or [])
    table = table_of(loop, predictions, samples)
    left_out: list[Entry] = []
    if chosen.folder:
        left_out = _write_folder(table, target, chosen, options, str(path), loop.paths or [])
    else:
        with replacing(target) as temporary:
            chosen.write(table, temporary, **options)
    n = sum(entry.what == LABEL for entry in table.entries) - sum(entry.what == LABEL for entry in left_out)
    return Written(n, [str(entry.path) for entry in left_out])


def _check_free(target: Path, shown: str, overwrite: bool) -> None:
    if target.absolute().parent.is_dir():
        check_writable(target.absolute().parent)
    if not os.path.lexists(target):
        if not target.absolute().parent.is_dir():
            raise ValueError(f"path={shown!r}: there is no such folder to write to")
        return
    if not overwrite:
        raise FileExistsError(f"path={shown!r} exists; overwrite=True replaces it (in the shell --overwrite)")


def _loop_of(learner: Any) -> SavedLoop:
    learner.start()
    paths = learner.paths_
    n_pool = len(learner.X_pool) if paths is None else len(paths)
    names = getattr(learner.estimator, "class_names", None)
    return SavedLoop(n_pool, paths, learner.annotations, names, lambda: learner.estimator)


def table_of(loop: SavedLoop, predictions: bool, samples: Any = None) -> Table:
    """Return what is exported of a loop.

    ``samples`` are those of a pool without files.
    """
    counted = loop.annotations[loop.annotations["counts"].astype(bool)]  # of no answers, too
    said = dict(zip(counted["row"].tolist(), counted.to_dict("records")))
    labels = np.array([line["label"] for line in said.values() if line["what"] == "label"])
    known = meanings(loop.class_names, labels)
    names = _class_names(loop.class_names) or sorted({str(label) for label in labels.tolist()})
    predicted = _predicted(loop, samples, said, known) if predictions else {}
    entries = [_entry(row, loop, said.get(row), known, predicted.get(row)) for row in range(loop.n_pool)]
    extra = sorted({entry.predicted for entry in entries if entry.predicted is not None} - set(names))
    return Table([*names, *extra], entries)


def _class_names(class_names: Any) -> list[str]:
    if class_names is None:
        return []
    return [str(name) for name in (class_names.values() if isinstance(class_names, Mapping) else class_names)]


def _name(label: Any, known: Mapping[Any, str]) -> str:
    label = label.item() if isinstance(label, np.generic) else label
    return known.get(label, str(label))


def _entry(row: int, loop: SavedLoop, line: Any, known: Mapping[Any, str], predicted: Any) -> Entry:
    line = line or {"what": None, "label": None, "annotator": None, "time": None}
    time: pd.Timestamp | None = line["time"]
    return Entry(
        row=row,
        path=None if loop.paths is None else loop.paths[row],
        what=line["what"],
        label=_name(line["label"], known) if line["what"] == LABEL else None,
        annotator=line["annotator"] if isinstance(line["annotator"], str) else None,  # NaN in a column of texts
        time=None if time is None or time != time else time.isoformat(timespec="seconds"),
        predicted=None if predicted is None else predicted[0],
        sure=None if predicted is None else predicted[1],
    )


def _predicted(
    loop: SavedLoop, samples: Any, said: Mapping[int, Any], known: Mapping[Any, str]
) -> dict[int, tuple[str, float | None]]:
    """Predictions by row, of samples that are there."""
    classifier = loop.classifier()
    if classifier is None or not hasattr(classifier, "classes_"):
        raise ValueError("predictions=True, but nothing was trained yet; expected predictions=False")
    rows = [row for row in range(loop.n_pool) if said.get(row, {}).get("what") != DROP]
    if loop.paths is not None:
        rows = [row for row in rows if os.path.isfile(loop.paths[row])]
        part: Any = [loop.paths[row] for row in rows]
    elif samples is None:
        raise ValueError("predictions=True: the state file holds no samples; expected the learner itself")
    else:
        part = samples[np.array(rows, dtype=np.intp)]
    if not rows:
        return {}
    known = {**meanings(loop.class_names, classifier.classes_), **known}
    if hasattr(classifier, "predict_with_confidence"):
        labels, sure = classifier.predict_with_confidence(part)
    else:
        labels, sure = classifier.predict(part), [None] * len(rows)
    return {
        row: (_name(label, known), None if p is None else round(float(p), 6))
        for row, label, p in zip(rows, labels.tolist(), sure)
    }


def _write_folder(
    table: Table, target: Path, chosen: Format, options: Mapping[str, Any], shown: str, paths: Sequence[str]
) -> list[Entry]:
    """Write a folder beside the target, which then takes its place; return the entries that were left out."""
    mark = uuid.uuid4().hex[:8]
    new, old = (target.with_name(f".{target.name}.{mark}.{part}") for part in ("new", "old"))
    try:
        left_out = chosen.write(table, new, **options) or []
        write_mark(new)
        if os.path.lexists(target):
            check_no_last_copies(target, shown, paths)
            os.replace(target, old)
            check_exported(old, shown, paths)  # again: what came meanwhile is nobody's to delete either
        os.replace(new, target)
        return left_out
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if os.path.lexists(old) and not os.path.lexists(target):
            os.replace(old, target)
        shutil.rmtree(old, ignore_errors=True)
