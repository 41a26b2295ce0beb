"""What happens to the files of a pool while its loop runs: some go, some come back, some hold another image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import CLIPClassifier
from ..data.images import kind_of
from ..data.reading import ImageSource
from .annotations import Annotations
from .identity import keys_of, looks_of, missing_rows, named_rows


class ChangedFilesError(ValueError):
    """Files of a pool hold other images than they did when the loop read them.

    Parameters
    ----------
    message : str
        The text of the error.
    rows : sequence of int
        Rows of the files in the pool, ascending.

    Attributes
    ----------
    rows : ndarray of int
        Rows of the files in the pool, ascending.

    Examples
    --------
    >>> from modal_clip_dual.active.files import ChangedFilesError
    >>> ChangedFilesError("X_pool: files hold other images", [3]).rows
    array([3])
    """

    def __init__(self, message: str, rows: Any):
        super().__init__(message)
        self.rows = np.array(rows, dtype=np.intp)

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.rows.tolist())


class Watching:
    """The part of `DualPromptLearner` that notices what happens to the files of its pool."""

    estimator: Any
    pseudo_rows_: np.ndarray
    _pool: Any
    _present: np.ndarray
    _annotations: Annotations
    _gone: np.ndarray
    _keys: np.ndarray | None
    _looks: np.ndarray | None = None  # (n_pool, 2) of files when their bytes were those of `_keys`; see `looks_of`
    _due: str | None
    _begin: Callable[..., None]
    _labeled: Callable[..., tuple[np.ndarray, np.ndarray]]

    def look_for_files(self) -> np.ndarray:
        """Look again which files of the pool are there; those that are gone are left out as long as they are.

        Their labels are kept, and count again once this method, or `resume`, finds the files again.  A change of
        labels is trained on by the next training.

        Returns
        -------
        gone : ndarray of int, shape (n_gone,)
            Rows whose file is not there, ascending; without those dropped.

        Raises
        ------
        FileNotFoundError
            If none of the files is there; nothing is changed then.
        """
        self._begin(files=False)
        rows = np.setdiff1d(np.arange(len(self._pool)), list(self._annotations.dropped))
        gone = missing_rows(self._pool, rows)
        if len(gone) and len(gone) == len(rows):
            raise FileNotFoundError(f"X_pool: none of its files is there, {named_rows(gone, self._pool)}")
        before, self._gone = self._labeled(), gone
        if np.isin(self.pseudo_rows_, gone).any() or not all(map(np.array_equal, self._labeled(), before)):
            self._due = self._due or "later"
        return gone

    def _know_files(self, rows: np.ndarray | None = None) -> None:
        """Remember how files look whose bytes are those of the keys, of all rows or some; without keys, make them.

        A classifier on a CLIP knows files by the same checksums, and does not read them again for those.
        """
        if kind_of(self._pool) != "paths":
            return
        rows = np.arange(len(self._pool)) if rows is None else rows
        looks = np.full((len(self._pool), 2), -1, dtype=np.int64)
        looks[rows] = looks_of(self._pool[rows])
        if self._keys is None:
            self._keys = keys_of(self._pool, getattr(self.estimator, "cache", None))
        self._looks = looks

    def _check_files(self, reads: bool = True, rows: np.ndarray | None = None) -> None:
        """Refuse files that are gone, and before they are read those that hold other images than they did.

        Files of a CLIP's classifier that cannot be read as images any more are left to the error that says so.
        """
        if kind_of(self._pool) != "paths":
            return
        rows = self._present if rows is None else rows
        looks = looks_of(self._pool[rows])
        gone = rows[looks[:, 0] < 0]
        if len(gone):
            where = named_rows(gone, self._pool)
            raise FileNotFoundError(f"X_pool: files are gone, {where}; drop(rows) goes on without them")
        changed = self._changed(rows, looks) if reads else gone
        if len(changed):
            raise ChangedFilesError(
                f"X_pool: files hold other images than when the loop read them, {named_rows(changed, self._pool)}; "
                "drop(rows) goes on without them, and extend(paths) then appends what they hold now; or put the old "
                "files back",
                changed,
            )

    def _changed(self, rows: np.ndarray, looks: np.ndarray) -> np.ndarray:
        """Those rows, ascending, whose files hold other images; only files that look otherwise are read."""
        if self._keys is None:
            return rows[:0]
        if self._looks is None:
            self._looks = np.full((len(self._pool), 2), -1, dtype=np.int64)
        otherwise = (looks != self._looks[rows]).any(axis=1)
        some: np.ndarray = rows[otherwise]
        if not len(some):
            return some
        same = (keys_of(self._pool[some], getattr(self.estimator, "cache", None)) == self._keys[some]).all(axis=1)
        self._looks[some[same]] = looks[otherwise][same]
        changed: np.ndarray = some[~same]
        if len(changed) and isinstance(self.estimator, CLIPClassifier):
            unreadable = ImageSource(self._pool[changed], None, n_jobs=self.estimator.n_jobs).unreadable()
            changed = changed[~np.isin(np.arange(len(changed)), list(unreadable))]
        return changed
