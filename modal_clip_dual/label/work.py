"""What happens behind the page, in one thread: encoding, taking in answers, training, choosing."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..data.files import look_at
from ..data.images import UnreadableImagesError
from . import model
from .answers import DROP, FORGET, LABEL, Names, Said, agreements, bring, now, said_of
from .grids import Check, Grid, choose_rows, draw
from .journal import Journal, n_folded

SLOW = 3.0  # seconds of a round from which on a grid is prepared ahead


class Working:
    """The part of `LabelSession` that runs in its thread, which alone talks to the learner."""

    learner: Any
    names: Names
    class_names: list[str]
    said: dict[int, Said]
    grid: Grid | None
    checks: list[Check]
    unreadable: list[tuple[str, str]]
    status: dict[str, Any]
    log: list[dict[str, Any]]
    stop_reason: str | None
    n_disagreements: int
    agreements: list[dict[str, Any]]
    n_instances: int
    n_random: int
    annotator: str | None
    n_labeled: Callable[[], int]
    waiting: Callable[[], list[int]]
    _new_paths: list[str]
    _first_labels: dict[str, str]
    _ready: list[Grid]  # prepared, not shown yet
    _pending: dict[int, Said | None]  # said, and not in the learner yet
    _pending_classes: list[str]
    _folded: dict[int, Said]  # what the learner holds
    _n_events: int
    _n_grids: int
    _stale: bool  # a grid was completed since the last training
    _changed: threading.Condition
    _model: threading.Lock  # of the learner, its estimator included
    _closing: bool
    _failed: bool
    _journal: Journal
    _checked: Callable[..., dict[int, Said | None]]
    _take: Callable[[Mapping[int, Said | None]], None]
    _apply: Callable[[Mapping[int, Said | None]], None]
    _show_next: Callable[[], None]
    _write_grid: Callable[[], None]
    _write: Callable[[dict[str, Any]], None]
    _wake: Callable[[], None]
    _set_status: Callable[..., None]

    @property
    def paths(self) -> Any:
        """The pool: paths, or images."""
        return self.learner.X_pool

    @property
    def n_pool(self) -> int:
        """Number of images in the pool."""
        return len(self.learner.X_pool)

    def _run(self) -> None:
        jobs: list[Callable[[], None]] = [self._prepare]
        while True:
            try:
                while jobs:
                    with self._model:
                        jobs[0]()
                    jobs.pop(0)
            except Exception as error:  # whatever it is, the answers are kept and the page says it
                traceback.print_exc()
                with self._changed:
                    self._failed = True
                    self._set_status("error", message=f"{type(error).__name__}: {error}")
            with self._changed:
                while not self._closing and (self._failed or not (jobs or self._job())):
                    self._changed.wait()
                if self._closing and (self._failed or not self._unfolded()):
                    return
                jobs = jobs or [self._fold if self._closing else self._job() or self._fold]

    def _unfolded(self) -> bool:
        return bool(self._pending or self._pending_classes)

    def _job(self) -> Callable[[], None] | None:
        """What the thread has to do next: take in answers, then see to it that there is a grid."""
        if self._unfolded():
            return self._fold
        over = self.status["phase"] == "done" and self._over() is not None
        if not self._ready and not over and (self.grid is None or (self._stale and self._is_slow())):
            return self._next_grid
        return None

    def _is_slow(self) -> bool:
        return bool(self.log) and self._round_seconds() > SLOW

    def _round_seconds(self) -> float:
        return sum(self.log[-1][name] or 0.0 for name in ("train_seconds", "query_seconds"))

    def _prepare(self) -> None:
        """Encode all images, start the learner, and find out where the work stood."""
        learner = self.learner
        started = hasattr(learner, "log_")
        paths = self._new_paths if started else learner.X_pool
        if len(paths):
            kept, wrong = model.encode(learner.estimator, paths, self._encoding)
            self.unreadable += [(str(paths[k]), reason) for k, reason in wrong]
            if started and len(kept):
                learner.extend([paths[k] for k in kept])
            elif not started:
                if not len(kept):
                    raise ValueError(f"none of the {len(paths)} files can be read as an image: {wrong[0][1]}")
                learner.X_pool = paths if not wrong else [paths[k] for k in kept]
        self._set_status("training")
        learner.start()
        with self._changed:
            self._folded = said_of(learner, self.names)
            self.said = dict(self._folded)
            self._replay()
            self._begin_with_labels()
            self.log = list(learner.log_)
        self._fold()
        with self._changed:
            self._stale |= self.log[-1]["n_labels"] != self.n_labeled()
            self._show_next() if self.grid is None else self._wake()
        self._set_status("ready")

    def _encoding(self, done: int, total: int, seconds: float) -> None:
        expected = seconds / done * total if done else None
        with self._changed:
            self.status = {"phase": "encoding", "since": time.time() - seconds, "expected": expected,
                           "done": done, "total": total}  # fmt: skip
            self._wake()

    def _replay(self) -> None:
        """Apply what the journal holds, and write it anew without what the learner has."""
        events = self._journal.read([str(path) for path in self.paths] if self._journal.path else [])
        folded = n_folded(events)
        for event in events:
            if "grids" in event:
                self._ready = [Grid(**grid) for grid in event["grids"]]
            if "check" in event:
                self.checks.append(Check(*event["check"]))
            if "uncheck" in event and self.checks:
                self.checks.pop()
            if "class" in event and event["class"] not in self.class_names:
                self.class_names = [*self.class_names, event["class"]]
                self._pending_classes.append(event["class"])
            if "say" in event and event["n"] > folded:
                self._apply({row: None if said[0] == FORGET else Said(*said) for row, *said in event["say"]})
        grids = [grid for grid in self._ready if not all(row in self.said for row in grid.rows)]
        self.grid, self._ready = (grids[0], grids[1:]) if grids else (None, [])
        self._n_grids = max([len(self.checks), *(grid.number for grid in grids)])
        kept: list[dict[str, Any]] = [{"check": list(vars(check).values())} for check in self.checks]
        kept += [{"class": name} for name in self._pending_classes]
        kept.append({"say": [[row, *(said or (FORGET, None, now()))] for row, said in self._pending.items()]})
        kept.append({"grids": [grid.to_json() for grid in grids]})
        self._n_events = len(kept)
        if self._journal.path:
            numbered = [{"n": k, **event} for k, event in enumerate(kept, 1)]
            self._journal.start([str(path) for path in self.paths], numbered)

    def _begin_with_labels(self) -> None:
        """Take labels that exist as answers, of images that have none yet."""
        if self._first_labels:
            rows = {str(path): row for row, path in enumerate(self.paths)}
            known = {rows[path]: name for path, name in self._first_labels.items() if path in rows}
            answers = self._checked((row, LABEL, name) for row, name in known.items() if row not in self.said)
            if answers:
                self._take(answers)
                self._stale = True

    def _fold(self) -> None:
        """Bring what was said into the learner, which saves it."""
        with self._changed:
            want, classes, n = dict(self._pending), list(self._pending_classes), self._n_events
        for name in classes:
            if name not in self.names.all():
                self.names.add(name)
        if want:
            try:
                bring(self.learner, self.names, self._folded, want)
            except FileNotFoundError:
                if not self._drop_lost_files():
                    raise
                self._folded = said_of(self.learner, self.names)  # a part may have been taken in
                return self._fold()
        n_disagreements, pairs = len(self.learner.disagreements), agreements(self.learner)
        with self._changed:
            self.n_disagreements, self.agreements = n_disagreements, pairs
            for row, said in want.items():
                self._folded.pop(row, None)
                if said is not None:
                    self._folded[row] = said
                if self._pending.get(row) == said:  # not said anew meanwhile
                    self._pending.pop(row, None)
            self._pending_classes = self._pending_classes[len(classes) :]
            if want or classes:
                self._write({"folded": n})
            self._wake()

    def _next_grid(self) -> None:
        """Train if something was said since the last time, and choose the next images; without files that broke."""
        try:
            self._train_and_choose()
        except UnreadableImagesError as error:
            places = {path: row for row, path in enumerate(self.learner.paths_ or [])}
            broken = {places[path]: reason for path, reason in zip(error.paths, error.reasons) if path in places}
            if not broken:
                raise
            self._leave_out(broken)
            self._fold()
            self._next_grid()

    def _train_and_choose(self) -> None:
        learner = self.learner
        over = self._over()
        if self._drop_lost_files():
            self._fold()
        if self._stale:
            expected = self.log[-1]["train_seconds"] if self.log else None
            self._set_status("training", expected=expected)
            learner.train()
            with self._changed:
                self._stale = False
                self.log = list(learner.log_)
        if over is not None or self._over() is not None:
            self._set_status("done", message=over or self._over())
            return
        self._set_status("choosing", expected=self.log[-1]["query_seconds"] if self.log else None)
        for _ in range(2 if self.grid is None and self._is_slow() else 1):
            grid = self._choose()
            with self._changed:
                self.log, self.stop_reason = list(learner.log_), learner.stop_reason()
                if grid is not None:
                    self._ready.append(grid)
                    self._show_next() if self.grid is None else self._write_grid()
        self._set_status("ready")

    def _over(self) -> str | None:
        """Why there is nothing more to ask for, or None."""
        if len(self.said) + len(self.waiting()) >= self.n_pool:
            return "every image has an answer"
        budget = self.learner.budget
        if budget is not None and self.n_labeled() + len(self.waiting()) >= budget:
            return f"the budget of {budget} labels is spent"
        return None

    def _choose(self) -> Grid | None:
        learner = self.learner
        with self._changed:
            shown = {row for grid in [*self._ready, *([self.grid] if self.grid else [])] for row in grid.rows}
            taken = {*self.said, *shown}
            n_labels = self.n_labeled() + len(shown - self.said.keys())
        free = learner.unlabeled_  # also those with an answer that it has not heard of yet
        left = np.setdiff1d(free, list(taken))
        n = min(self.n_instances, len(left))
        if learner.budget is not None:
            n = min(n, learner.budget - n_labels)
        if n <= 0:
            return None
        self._n_grids += 1
        random = draw(left, min(self.n_random, n), (learner.random_state, 1, self._n_grids))
        asked, _ = learner.query(n_instances=n + len(free) - len(left))
        rows = choose_rows(asked.tolist(), random, taken, n)
        if not rows:
            return None
        said = model.predictions(learner, self.paths, rows, self.names)
        return Grid(self._n_grids, len(self.log) - 1, rows, random=[r for r in random if r in rows], **said)

    def _drop_lost_files(self) -> bool:
        """Leave out files that are gone by now, with a word on the page; return whether there are some."""
        if not model.holds_paths(self.paths):
            return False
        with self._changed:
            dropped = {row for row, said in self.said.items() if said.what == DROP}
        rows = [row for row in range(self.n_pool) if row not in dropped]
        gone = [row for row, look in zip(rows, look_at([self.paths[row] for row in rows])) if look is None]
        if gone and len(gone) == len(rows):  # rather a disk or a network that may come back
            raise FileNotFoundError(f"none of the {len(gone):,} files is there any more: {self.paths[gone[0]]}, ...")
        if gone:
            self._leave_out(dict.fromkeys(gone, "the file is gone"))
        return bool(gone)

    def _leave_out(self, reasons: Mapping[int, str]) -> None:
        """Leave files out that are gone or broken, and say so on the page."""
        with self._changed:
            self._take({row: Said(DROP, None, now()) for row in reasons})
            self.unreadable += [(str(self.paths[row]), reason) for row, reason in reasons.items()]
