"""The pool of a loop: which samples are there, which have a label, which may be asked for."""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np

from ..data.images import EXPECTED, as_array, kind_of
from ..utils.arrays import Rows, is_mapped, n_samples
from .annotations import Annotations
from .identity import absolute


class Pooled:
    """The part of `DualPromptLearner` that knows its samples."""

    X_pool: Any
    disagreement: str
    _pool: Any  # an array or Rows; paths are absolute
    _given: Any  # the same with paths as they were given
    _folder: str  # where relative paths begin
    _truth: np.ndarray | None
    _annotations: Annotations
    _gone: np.ndarray  # rows whose file was not there at resume

    @property
    def rows_(self) -> np.ndarray:
        """Labeled rows of the pool, in the order of labeling; read-only."""
        return _read_only(self._labeled()[0])

    @property
    def labels_(self) -> np.ndarray:
        """The labels of ``rows_`` that count; to assign to some of them is to `relabel` these, without training."""
        return Labels.of(self)

    @property
    def paths_(self) -> list[str] | None:
        """Absolute paths of the pool's files, wherever the process has gone since; None if it holds no files."""
        pool = getattr(self, "_pool", None)
        pool = absolute(as_array(self.X_pool, "X_pool"), self._folder) if pool is None else pool
        return pool.tolist() if kind_of(pool) == "paths" else None

    @property
    def unlabeled_(self) -> np.ndarray:
        """Rows of the pool that may be asked for, ascending: without label, neither skipped nor dropped."""
        if not hasattr(self, "_pool"):
            return np.arange(n_samples(self.X_pool, "X_pool", EXPECTED))
        return np.setdiff1d(self._present, [*self._labeled()[0].tolist(), *self._annotations.skipped])

    def _labeled(self, annotations: Annotations | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows that have a label and are there, and their labels."""
        said = self._annotations if annotations is None else annotations
        return said.labeled(self.disagreement, self._gone.tolist())

    @property
    def _present(self) -> np.ndarray:
        """Rows that were not dropped and whose file was there, ascending."""
        rows = np.arange(len(self._pool))
        left_out = [*self._annotations.dropped, *self._gone.tolist()]
        return np.setdiff1d(rows, left_out) if left_out else rows


class Labels(np.ndarray):
    """A copy of a learner's labels; what is assigned to its items is a correction, which is saved at once."""

    _learner: Any = None  # of the copy itself, not of what is made of it

    @classmethod
    def of(cls, learner: Any) -> Labels:
        """The labels of a learner that count."""
        labels = _read_only(learner._labeled()[1]).view(cls)
        labels._learner = ref(learner)  # labels that somebody keeps do not keep the state file
        return labels

    def __setitem__(self, key: Any, value: Any) -> None:
        learner = None if self._learner is None else self._learner()
        if learner is None:
            super().__setitem__(key, value)
            return
        rows = np.atleast_1d(learner._labeled()[0][key])
        several = isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value)
        learner.relabel(rows, list(value) if several else [value] * len(rows), train=False)

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()


def _read_only(array: np.ndarray) -> np.ndarray:
    """Return a copy that nobody can write to: what is written to it would be lost without a word."""
    copy = np.array(array)
    copy.flags.writeable = False
    return copy


def part_of(pool: Any, rows: np.ndarray, lazily: bool) -> Any:
    """Ascending rows of a pool; of one that lies in a file no copy, where these may come ``lazily``."""
    if len(rows) == len(pool):
        return pool
    return Rows(pool, rows) if lazily and is_mapped(pool) else pool[rows]
