"""What people change while the loop runs: a label taken back, a sample left out, new samples, a new class."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import CLIPClassifier
from ..clip.inputs import check_input
from ..data.images import as_array, kind_of, unreadable_error
from ..data.reading import ImageSource
from ..utils.arrays import is_mapped
from ..utils.labels import check_known_labels, check_labels, check_new_labels
from ..utils.rollback import unchanged_on_error
from .annotations import Annotations
from .answers import check_annotator, check_rows
from .class_names import check_readable, check_same_meanings, kept, new_names, with_class
from .identity import absolute, keys_of, looks_of, missing_rows, named_rows, numbered

# What a change sets; a training may be going on meanwhile, which sets the rest.
SAID = (
    "_annotations", "_changes", "_due", "_names", "_pool", "_given", "X_pool", "_keys", "_looks", "_truth", "_mark",
)  # fmt: skip


class Correcting:
    """The part of `DualPromptLearner` that changes what was said; all of it is saved before anything is trained.

    Every method takes ``train``: False only saves the change, and the next training takes it in, that of `train`,
    `query` or the next call with ``train=True``.
    """

    estimator: Any
    X_pool: Any
    pseudo_rows_: np.ndarray
    _annotations: Annotations
    _gone: np.ndarray
    _pool: Any
    _given: Any
    _truth: np.ndarray | None
    _keys: np.ndarray | None
    _looks: np.ndarray | None
    _folder: str
    _class_names: Any
    _names: Any
    _trained_rows: np.ndarray
    _changes: list[dict[str, Any]]
    _due: str | None
    _begin: Callable[..., None]
    _check_files: Callable[..., None]
    _labeled: Callable[..., tuple[np.ndarray, np.ndarray]]
    _as_labels: Callable[..., np.ndarray]
    _train_round: Callable[[], None]
    _save: Callable[[], None]

    def relabel(self, rows: Any, y: Any, *, annotator: str | None = None, train: bool = True) -> None:
        """Correct labels, and train anew.

        Parameters
        ----------
        rows : array-like of int
            Positions in the pool, of samples that have a label.
        y : array-like
            Their right labels.
        annotator : str, default=None
            Whose answer it is: it replaces his or her own.  None overrules all answers for these samples.
        train : bool, default=True
            Whether to train at once; saved is the correction in any case.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or a sample has no label; nothing is changed then.
        """
        self._begin(reads=train)
        rows, y, annotator = check_rows(rows, len(self._pool)), check_labels(y), check_annotator(annotator)
        if len(y) != len(rows):
            raise ValueError(f"y has {len(y)} labels for {len(rows)} samples")
        without = np.setdiff1d(rows, self._labeled()[0])
        if len(without):
            raise ValueError(f"rows {without.tolist()} have no label to correct; teach(rows=..., y=...) gives one")
        self._answer("relabel", rows, y, annotator, train)

    def _answer(self, what: str, rows: np.ndarray, y: np.ndarray, annotator: str | None, train: bool) -> None:
        """Take in labels of samples that may have some."""
        overrule = what == "relabel" and annotator is None
        after = self._annotations.answered(rows.tolist(), y.tolist(), annotator, time.time(), overrule)
        before_rows, before = self._labeled()
        others = before[~np.isin(before_rows, rows)]
        check_new_labels(y, others, self._labeled(after)[1], self._class_names)
        note = {"what": what, "rows": rows.tolist(), "labels": y.tolist(), "annotator": annotator}
        new = what == "teach" and not np.isin(rows, self._trained_rows).any()
        # The log names new labels anyhow.  What waits for a training is trained on, even if it is said twice.
        self._say(after, None if new else note, train, stale=self._due is not None)

    def _say(
        self,
        annotations: Annotations,
        note: dict[str, Any] | None,
        train: bool,
        stale: bool = False,
        grown: dict[str, Any] | None = None,
        class_names: Any = None,
    ) -> None:
        """Take in and save what was said, all of it or nothing; then train if labels or the model are ``stale``."""
        stale |= not all(map(np.array_equal, self._labeled(annotations), self._labeled()))
        with unchanged_on_error(self.estimator, only=("class_names",)), unchanged_on_error(self, only=SAID):
            if class_names is not None:
                self.estimator.set_params(class_names=class_names)
            vars(self).update(grown or {})
            self._annotations = annotations
            self._changes = self._changes if note is None else [*self._changes, note]
            if stale:
                self._due = "now" if train else self._due or "later"
            self._save()  # what people say is the dearest thing here: kept before anything is computed
        if stale and train:
            self._train_round()

    def _decide_by(self, disagreement: str) -> None:
        """Take in and save another way to decide where annotators differ; if labels change by it, training is due."""
        before = self._labeled()[1]
        with unchanged_on_error(self, only=(*SAID, "disagreement")):
            vars(self)["disagreement"] = disagreement
            after = self._labeled()[1]
            if not np.array_equal(before, after):
                check_new_labels(after, after, after, self._class_names)
                self._changes = [*self._changes, {"what": "disagreement", "disagreement": disagreement}]
                self._due = self._due or "later"
            self._save()

    def forget(self, rows: Any, *, annotator: str | None = None, train: bool = True) -> None:
        """Take back labels, skips and drops: the samples are unlabeled again; train anew if they had labels.

        Parameters
        ----------
        rows : array-like of int
            Positions in the pool.
        annotator : str, default=None
            Whose labels to take back, so that those of the others stay; None takes back all that was said.
        train : bool, default=True
            Whether to train at once.

        Raises
        ------
        FileNotFoundError
            If a dropped sample's file is still gone.
        TypeError, ValueError
            If ``rows`` does not fit, ``annotator`` labeled not all of them, or what is left cannot be trained on;
            nothing is changed then.
        """
        self._begin(reads=train)
        rows, annotator = check_rows(rows, len(self._pool)), check_annotator(annotator)
        others = [row for row in rows.tolist() if annotator not in self._annotations.annotators(row)]
        if annotator is not None and others:
            raise ValueError(f"rows {others} have no label by annotator={annotator!r}")
        gone = missing_rows(self._pool, rows)
        if len(gone):
            raise FileNotFoundError(f"X_pool: files are gone, {named_rows(gone, self._pool)}; these stay dropped")
        self._check_files(reads=train, rows=np.sort(rows))
        after = self._annotations.forget(rows.tolist(), annotator)
        left = self._labeled(after)[1]
        if len(left):
            check_new_labels(left, left, left, self._class_names)
        whose = {} if annotator is None else {"annotator": annotator}
        self._say(after, {"what": "forget", "rows": rows.tolist(), **whose}, train)

    def skip(self, rows: Any, *, annotator: str | None = None, train: bool = True) -> None:
        """Set samples aside that nobody can label: they are neither asked for again nor pseudo-labeled.

        A label that one has is taken back.  ``teach(rows=...)`` and `forget` bring a sample back.

        Parameters
        ----------
        rows : array-like of int
            Positions in the pool.
        annotator : str, default=None
            Who cannot tell.
        train : bool, default=True
            Whether to train at once if labels or pseudo-labels of the last training are among them.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit; nothing is changed then.
        """
        self._begin(reads=train)
        rows, annotator = check_rows(rows, len(self._pool)), check_annotator(annotator)
        after = self._annotations.skip(rows.tolist(), annotator, time.time())
        self._leave_out(after, {"what": "skip", "rows": rows.tolist(), "annotator": annotator}, train)

    def drop(self, rows: Any, *, annotator: str | None = None, train: bool = True) -> None:
        """Leave samples out of everything, such as files that are gone or broken.

        They are not read again, not even for predictions of the pool.  Labels that they have are kept in
        `annotations` and do not count.  `forget` brings a sample back, as unlabeled.

        Parameters
        ----------
        rows : array-like of int
            Positions in the pool; the others keep theirs.
        annotator : str, default=None
            Who says so.
        train : bool, default=True
            Whether to train at once if labels or pseudo-labels of the last training are among them.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit, or no sample would be left; nothing is changed then.
        """
        self._begin(files=False)
        rows, annotator = check_rows(rows, len(self._pool)), check_annotator(annotator)
        after = self._annotations.drop(rows.tolist(), annotator, time.time())
        if len(after.dropped) == len(self._pool):
            raise ValueError(f"rows: with these all {len(self._pool)} samples of the pool would be dropped")
        self._leave_out(after, {"what": "drop", "rows": rows.tolist(), "annotator": annotator}, train)

    def _leave_out(self, after: Annotations, note: dict[str, Any], train: bool) -> None:
        left = self._labeled(after)[1]
        if len(left):
            check_new_labels(left, left, left, self._class_names)
        self._say(after, note, train, stale=bool(np.isin(note["rows"], self.pseudo_rows_).any()))

    # ---------------------------------------------------------------- the pool and the classes grow

    def extend(self, X_new: Any, y_new: Any = None) -> np.ndarray:
        """Append samples to the pool; nothing is trained until the next label comes.

        Files are read once here, so that none that cannot be read gets into the pool.

        Parameters
        ----------
        X_new : array-like
            Samples of the pool's form: embeddings, images or paths.
        y_new : array-like, default=None
            Their true labels, needed if the learner has ``y_pool``; never trained on.

        Returns
        -------
        rows : ndarray of int
            Their positions in the pool: behind all that were there.

        Raises
        ------
        FileNotFoundError
            If a path names no file.
        UnreadableImagesError
            If files cannot be read as images; nothing is changed then.  ``modal_clip_dual.data.drop_unreadable``
            leaves them out.
        ValueError
            If they are of another form or hold values that are not finite, or the pool lies in a file; nothing is
            changed then.
        """
        self._begin(reads=False)
        if is_mapped(self._pool):
            raise ValueError(
                "X_pool lies in a file and is not copied to grow; append to that file and pass the longer pool to "
                "DualPromptLearner.resume(path, X_pool)"
            )
        given = as_array(X_new, "X_new")
        rows = np.arange(len(self._pool), len(self._pool) + len(given))
        longer, shown, keys, looks = self._joined(given, "X_new", rows)
        truth = self._longer_truth(y_new, len(given))
        grown = {"_pool": longer, "_given": shown, "X_pool": shown, "_keys": keys, "_truth": truth, "_looks": looks}
        self._say(self._annotations, {"what": "extend", "rows": rows.tolist()}, False, grown=grown)
        return rows

    def _joined(
        self, given: Any, name: str, rows: np.ndarray
    ) -> tuple[Any, Any, np.ndarray | None, np.ndarray | None]:
        """The pool, as it is and as it was given, its keys and how its files look, with more samples."""
        if given.shape[1:] != self._pool.shape[1:] or kind_of(given) != kind_of(self._pool):
            raise ValueError(
                f"{name} holds {kind_of(given)} of shape {given.shape}, the pool {kind_of(self._pool)} of shape "
                f"{self._pool.shape}; expected the same form"
            )
        if kind_of(given) == "embeddings":
            given = self._of_pools_type(given, name)
        new = absolute(given, self._folder)
        missing = missing_rows(new, np.arange(len(new)))
        if len(missing):
            raise FileNotFoundError(f"{name}: files do not exist, {named_rows(missing, new)}")
        if kind_of(new) == "paths" and isinstance(self.estimator, CLIPClassifier):
            unreadable = ImageSource(new, None, n_jobs=self.estimator.n_jobs).unreadable()
            if unreadable:
                raise unreadable_error(unreadable, len(new), name, dict(enumerate(new)))
        keys, looks = self._keys, self._looks
        if looks is not None:
            looks = np.concatenate([looks, looks_of(new)])
        if keys is not None:
            keys = np.concatenate([keys, keys_of(new, getattr(self.estimator, "cache", None))])
        return np.concatenate([self._pool, new]), np.concatenate([self._given, given]), keys, looks

    def _of_pools_type(self, given: np.ndarray, name: str) -> np.ndarray:
        """Return embeddings in the pool's type, so that it stays as large as it is.

        Values that the model cannot take are refused, unless the pool has such values too.  A type narrower than
        float32 would lose digits: then the pool gets the wider one.
        """
        dtype, with_clip = self._pool.dtype, isinstance(self.estimator, CLIPClassifier)
        wide = dtype.kind == "f" and dtype.itemsize >= 4
        with np.errstate(over="ignore"):
            new = given.astype(dtype) if wide else given
            seen = new.astype(np.float32) if with_clip else new
        wrong = np.argwhere(~np.isfinite(seen))
        if len(wrong) and np.isfinite(self._pool).all():
            rows, first = np.unique(wrong[:, 0]), tuple(wrong[0].tolist())
            raise ValueError(
                f"{name} has values that are not finite in {seen.dtype}, in {numbered(rows)}: {name}{list(first)} is "
                f"{given[first]}; expected finite numbers"
            )
        if with_clip:
            check_input(new, self.estimator, name)
        return new

    def _longer_truth(self, y_new: Any, n_new: int) -> np.ndarray | None:
        if self._truth is None:
            if y_new is not None:
                raise ValueError("y_new is for learners that were given y_pool; this one has none")
            return None
        if y_new is None:
            raise ValueError("the learner was given y_pool, so y_new is needed: the true labels of X_new")
        new = check_labels(y_new, "y_new")
        if len(new) != n_new:
            raise ValueError(f"y_new has {len(new)} labels, X_new {n_new} rows")
        check_known_labels(new, self._class_names, "y_new")
        return np.concatenate([self._truth, self._as_labels(new, self._truth)])

    def add_class(self, name: str, *, label: Any = None, train: bool = True) -> None:
        """Add a class behind the others, and train anew; labels that were given keep their meaning.

        Parameters
        ----------
        name : str
            What the class is called in a prompt.
        label : int or str, default=None
            Its label where ``class_names`` is a dict; by default the next number.
        train : bool, default=True
            Whether to train at once.

        Raises
        ------
        ValueError
            If the name is taken, there are no ``class_names``, or the estimator cannot be trained with the name: it
            is too long, the same as another to the CLIP, or ``text_embeddings`` lack it; nothing is changed then.
        """
        self._begin(reads=train)
        names = with_class(self._class_names, name, label)
        check_readable(self.estimator, names)
        note = {"what": "add_class", "name": name}
        self._say(self._annotations, note, train, stale=True, grown={"_names": kept(names)}, class_names=names)

    def _follow_names(self) -> bool:
        """Take in class names that were set on the estimator; return whether classes came."""
        now, trained = self._class_names, getattr(self.estimator, "classes_", None)
        check_same_meanings(self._names, now, self._annotations.all_labels(), trained)
        came, gone = new_names(self._names, now), new_names(now, self._names)
        if came or gone:
            check_readable(self.estimator, now)
            # What was added and taken back before a training was no change.
            others = [note for note in self._changes if note["what"] != "add_class" or note["name"] not in gone]
            self._changes = [*others, *({"what": "add_class", "name": name} for name in came)]
            self._names = kept(now)
        return bool(came)
