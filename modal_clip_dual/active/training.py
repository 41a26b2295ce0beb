"""One training of the loop: mining pseudo-labels, fitting, and what is noted of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone

from ..data.files import looking_once
from ..data.images import rows_called
from ..scores import SCORES
from ..utils.labels import as_labels
from ..utils.pool import spread_rows
from ..utils.rollback import unchanged_on_error
from .abilities import (
    MOST_TRANSDUCED,
    fit_labeled,
    fit_without_labels,
    kind_of_pseudo_labels,
    number_of_pseudo_labels,
    seed,
    takes_pseudo_labels,
    unfit,
)
from .annotations import Annotations
from .calibration import Calibrating
from .log import FIELDS, asked_for, kappa, share_right
from .pool import part_of
from .pseudo_labels import mine_confident, transductive

# What a training sets; the rest is what people say, perhaps while it runs.
TRAINED = (
    "log_", "pseudo_rows_", "pseudo_labels_", "X_training", "y_training", "_trained_rows", "_predictions", "_query",
    "_fitted", "_calibration", "_judge",
)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What one training works on, whatever is said while it runs."""

    pool: Any
    present: np.ndarray  # rows that are there, ascending
    rows: np.ndarray  # of these, with a label
    labels: np.ndarray
    left: np.ndarray  # those that may be asked for
    truth: np.ndarray | None
    changes: list[dict[str, Any]]
    fresh: np.ndarray  # rows with a label that no training has seen
    lazily: bool  # whether the estimator takes parts of a pool that lies in a file

    @property
    def present_pool(self) -> Any:
        """The samples that are there."""
        return part_of(self.pool, self.present, self.lazily)


class Training(Calibrating):
    """The part of `DualPromptLearner` that trains."""

    estimator: Any
    query_strategy: Any
    n_per_class: int | str | None
    pseudo_labels: str
    random_state: int
    start: Callable[[], Any]
    unlabeled_: Any
    log_: list[dict[str, Any]]
    pseudo_rows_: np.ndarray
    X_training: Any
    y_training: Any
    pseudo_labels_: np.ndarray
    _pool: Any
    _present: Any
    _truth: np.ndarray | None
    _annotations: Annotations
    _names: Any  # class_names by which labels are understood
    _query: dict[str, Any] | None  # what was asked last: rows, scores, query_seconds
    _due: str | None  # a training: "now" if one began and did not end, "later" if something changed
    _changes: list[dict[str, Any]]  # since the last training
    _trained_rows: np.ndarray
    _predictions: tuple[np.ndarray, np.ndarray] | None  # rows of the pool and their labels
    _fitted: tuple[Any, dict[str, np.ndarray]]  # what the last training left, as it is saved
    _check_files: Callable[..., None]
    _labeled: Callable[..., tuple[np.ndarray, np.ndarray]]
    _fitted_state: Callable[[], tuple[Any, dict[str, np.ndarray]]]
    _save: Callable[[], None]

    def train(self) -> None:
        """Train anew if labels, samples or classes changed since the last training, or it was interrupted.

        Raises
        ------
        FileNotFoundError, ValueError
            If files of the pool are gone, or hold other images than they did; names the rows, which `drop` leaves
            out.
        """
        self.start()
        if self._due is not None:
            with looking_once():
                self._check_files()
                self._train_round()

    def _waiting(self) -> np.ndarray:
        """Labeled rows that no training has seen."""
        return np.setdiff1d(self._labeled()[0], self._trained_rows)

    def _train_round(self) -> None:
        """Mine with the model that made the query, then train on labels and pseudo-labels.

        Whatever interrupts it: the model that made the query is there, and the labels wait.
        """
        self._due = "now"
        annotations, changes, names = self._annotations, self._changes, self._names
        with looking_once(), unchanged_on_error(self.estimator), unchanged_on_error(self, only=TRAINED):
            self.log_ = self._with_record(self.log_)
        same = self._annotations is annotations and self._names is names
        self._due = None if same else "later"  # something may have been said meanwhile
        self._changes = self._changes[len(changes) :]
        self._save()

    def _with_record(self, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Train, and return the log with one more record."""
        with rows_called("X_pool", self._pool):
            return self._recorded(log)

    def _recorded(self, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
        began = time.perf_counter()
        material = self._material()
        if len(material.rows):
            labeler = self._mine_and_fit(material, len(log))
        else:
            labeler = self._fit_without_labels(material, len(log))
        rows = material.rows
        self._calibrate(rows, material.labels, material.present_pool, len(log), labeler)
        self._trained_rows = rows
        self.X_training, self.y_training = (self._pool[rows], material.labels) if len(rows) else (None, None)
        self._fitted = self._fitted_state()
        record = self._record(material, len(log), time.perf_counter() - began)
        if len(material.fresh):
            self._query = None
        return [*log, record]

    def _material(self) -> Material:
        rows, labels = self._labeled()
        return Material(
            self._pool, self._present, rows, labels, self.unlabeled_, self._truth, self._changes,
            fresh=rows[~np.isin(rows, self._trained_rows)], lazily=hasattr(self.estimator, "fitted_state"),
        )  # fmt: skip

    @property
    def _source(self) -> str:
        return kind_of_pseudo_labels(self.estimator, self.pseudo_labels)

    @property
    def _k(self) -> Any:
        """Pseudo-labels per class, an integer; None for all, ``"auto"`` for what `_transduced` takes."""
        return number_of_pseudo_labels(self.n_per_class, self._source)

    def _fit_without_labels(self, material: Material, round_: int) -> Any:
        """Round 0, which comes again if all labels were taken back; return what gave the pseudo-labels, as below."""
        seed(self.estimator, self.random_state, round_)
        part = part_of(material.pool, material.left, material.lazily)
        self.pseudo_rows_, self.pseudo_labels_ = np.empty(0, dtype=np.intp), np.empty(0)
        k = self._k if len(material.left) else 0
        if self._source == "transductive" and k != 0:
            transducer = transductive(self.estimator, None, None, material.present_pool)
            rows, pseudo = self._transduced(material, transducer)
            fit_labeled(self.estimator, None, pseudo[:0], part, (material.pool[rows], pseudo))
            self.pseudo_rows_ = rows
            self.pseudo_labels_ = pseudo if material.truth is None else self._as_labels(pseudo, material.truth)
            return transducer
        fitted = fit_without_labels(self.estimator, part, k)
        if not fitted and round_:
            unfit(self.estimator)
        if fitted and hasattr(self.estimator, "pseudo_rows_"):
            self.pseudo_rows_ = material.left[self.estimator.pseudo_rows_]
            like = self.pseudo_labels_ if material.truth is None else material.truth
            self.pseudo_labels_ = self._as_labels(self.estimator.pseudo_labels_, like)
        return None

    def _transduced(self, material: Material, transducer: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return rows without a label, and the labels that a `DualLinearClassifier` gives them."""
        left, k = material.left, self._k
        if k == "auto":  # doubtful samples too: those that are surest have little to teach
            left, k = left[spread_rows(len(left), MOST_TRANSDUCED)], None
        part = part_of(material.pool, left, material.lazily)
        found, labels = mine_confident(transducer, part, k, score="correct")
        return left[found], labels

    def _mine_and_fit(self, material: Material, round_: int) -> Any:
        """Train; return the `DualLinearClassifier` that gave the pseudo-labels, if one did."""
        transducer = None
        rows, labels, pool = material.rows, material.labels, material.present_pool
        pseudo_rows, pseudo = rows[:0], labels[:0]
        source = self._source
        wanted = self._k != 0 and takes_pseudo_labels(self.estimator) and len(material.left)
        if wanted and source == "transductive":
            transducer = transductive(self.estimator, material.pool[rows], labels, pool)
            pseudo_rows, pseudo = self._transduced(material, transducer)
        elif wanted and hasattr(self.estimator, "classes_"):
            exclude = np.flatnonzero(~np.isin(material.present, material.left))
            judge = self._second_member(material, round_ - 1) if source == "collaborative" else None
            found, pseudo = mine_confident(
                self.estimator, pool, self._k, exclude=exclude, score=self._score(), judge=judge
            )
            pseudo_rows = material.present[found]
        pseudo = self._as_labels(pseudo, labels)
        seed(self.estimator, self.random_state, round_)
        pseudo_labeled = (material.pool[pseudo_rows], pseudo) if len(pseudo_rows) else None
        fit_labeled(self.estimator, material.pool[rows], labels, pool, pseudo_labeled)
        self.pseudo_rows_, self.pseudo_labels_ = pseudo_rows, pseudo
        return transducer

    def _second_member(self, material: Material, round_: int) -> Any:
        """Train what the estimator was trained on in the last round, from another random start.

        Everything it needs is in the saved state, so that it need not be saved itself.
        """
        member = clone(self.estimator)
        seed(member, self.random_state, round_, 1)
        rows, pool = self.pseudo_rows_, material.present_pool
        y = self.pseudo_labels_[:0] if self.y_training is None else self.y_training
        pseudo = (material.pool[rows], self._as_labels(self.pseudo_labels_, y)) if len(rows) else None
        fit_labeled(member, self.X_training, y, pool, pseudo)
        return member

    def _record(self, material: Material, round_: int, seconds: float) -> dict[str, Any]:
        """What is noted of this round in the log."""
        present, left, truth = material.present, material.left, material.truth
        predicted, correct, odds = self._predictions_of(material.present_pool)
        record: dict[str, Any] = dict.fromkeys(FIELDS) | {"round": round_, "n_labels": len(material.rows)}
        record |= {"n_pseudo": len(self.pseudo_rows_), "changes": material.changes, "train_seconds": seconds}
        pseudo = self.pseudo_labels_ if truth is None else self._as_labels(self.pseudo_labels_, truth)
        record["pseudo_accuracy"] = share_right(pseudo, truth, self.pseudo_rows_)
        record |= asked_for(self._query, material.fresh)
        before, self._predictions = self._predictions, None
        if predicted is not None:
            predicted = self._as_labels(predicted, material.labels if truth is None else truth)
            open_ = np.isin(present, left)
            record["accuracy"] = share_right(predicted[open_], truth, left)
            record["estimated_accuracy"] = float(correct[open_].mean()) if correct is not None and len(left) else None
            if len(left):
                rest = partial(part_of, material.pool, left, material.lazily)
                record["accuracy_interval"] = self._interval(None if odds is None else odds[open_], rest)
            if before is not None:
                _, then, now = np.intersect1d(before[0], present, return_indices=True)
                record["kappa"] = kappa(self._as_labels(before[1], predicted)[then], predicted[now])
            self._predictions = (present, predicted)
        return record

    def _believed(self, rows: np.ndarray) -> list[float] | None:
        """P(correct) of rows by the present model; None before any training."""
        _, correct, _ = self._predictions_of(self._pool[rows])
        return None if correct is None else correct.tolist()

    def _score(self) -> str:
        """The score that the query ranked by, if it is one of ours: querying and mining share it."""
        parameter = signature(self.query_strategy).parameters.get("score")
        asked = (self._query or {}).get("score") or getattr(parameter, "default", None)
        if isinstance(asked, str) and asked in SCORES:
            return asked
        return "clean" if hasattr(self.estimator, "clean_logits") else "correct"

    def _as_labels(self, labels: np.ndarray, like: np.ndarray) -> np.ndarray:
        return as_labels(labels, like, self._class_names)

    @property
    def _class_names(self) -> Any:
        return getattr(self.estimator, "class_names", None)
