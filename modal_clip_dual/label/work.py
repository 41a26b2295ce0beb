"""What happens behind the page, in one thread: encoding, taking in answers, training, choosing."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..active.files import ChangedFilesError
from ..data.files import look_at, looking_once
from ..data.images import UnreadableImagesError
from . import model
from .answers import (
    DROP,
    FORGET,
    LABEL,
    Names,
    Said,
    State,
    agreements,
    answered,
    bring,
    counting,
    now,
    read_said,
    states_of,
)
from .grids import Check, Grid, choose_rows, draw
from .journal import Journal, n_folded

GONE = "the file is gone"
CHANGED = "it is another image than it was: its old answer is left out, and it is asked for as a new image"
SLOW = 3.0  # seconds of a round from which on a grid is prepared ahead


class NoImagesError(ValueError):
    """None of the files can be read."""


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
    _states: dict[int, State]  # all that was said of the rows, of which `said` has the last
    _gone: dict[int, str]  # what is wrong with rows whose file is not there, whose answers wait for it
    _gone_before: set[int]  # those that the learner knows of
    _pending: dict[int, State]  # said, and not in the learner yet
    _pending_classes: list[str]
    _n_events: int
    _n_grids: int
    _stale: bool  # a grid was completed since the last training
    _changed: threading.Condition
    _model: threading.Lock  # of the learner, its estimator included
    _closing: bool
    _failed: bool
    _journal: Journal
    _checked: Callable[..., dict[int, Said | None]]
    _take: Callable[[Mapping[int, State]], None]
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
                if isinstance(error, NoImagesError):  # said on the page and here; nothing of the program broke
                    print(f"error: {error}", file=sys.stderr, flush=True)
                else:
                    traceback.print_exc()
                with self._changed:
                    self._failed = True
                    kind = "" if isinstance(error, NoImagesError) else f"{type(error).__name__}: "
                    self._set_status("error", message=f"{kind}{error}")
            with self._changed:
                while not self._closing and (self._failed or not (jobs or self._job())):
                    self._changed.wait()
                if self._closing and (self._failed or not self._unfolded()):
                    return
                jobs = jobs or [self._fold if self._closing else self._job() or self._fold]

    def _unfolded(self) -> bool:
        return bool(self._pending.keys() - self._gone.keys() or self._pending_classes)

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
                    raise NoImagesError(f"none of the {len(paths)} files can be read as an image: {wrong[0][1]}")
                learner.X_pool = paths if not wrong else [paths[k] for k in kept]
        self._set_status("training")
        if not started and self._journal.path and not os.path.exists(learner.path):
            self._journal.remove()  # of a state file that is gone: it says nothing of this one
        learner.start()
        with self._changed:
            self._states, names = states_of(learner, self.names), counting(learner, self.names)
            for row, state in self._states.items():
                last = state[-1]
                self.said[row] = Said(LABEL, names[row], last.time, last.annotator) if row in names else last
            self._replay()
            self._begin_with_labels()
            self.log = list(learner.log_)
        self._look_for_files()
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
            if "states" in event and event["n"] > folded:
                self._apply({row: tuple(map(read_said, said)) for row, said in event["states"]})
            if "say" in event and event["n"] > folded:  # of a version before, one answer for each row
                for row, *values in event["say"]:
                    said = None if values[0] == FORGET else read_said(values)
                    self._apply({row: answered(self._states.get(row, ()), said, said and said.annotator)})
        grids = [grid for grid in self._ready if not all(row in self.said for row in grid.rows)]
        self.grid, self._ready = (grids[0], grids[1:]) if grids else (None, [])
        self._n_grids = max([len(self.checks), *(grid.number for grid in grids)])
        kept: list[dict[str, Any]] = [{"check": list(vars(check).values())} for check in self.checks]
        kept += [{"class": name} for name in self._pending_classes]
        kept.append({"states": list(self._pending.items())})
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
                self._take(self._after(answers))
                self._stale = True

    def _fold(self) -> None:
        """Bring what was said into the learner, which saves it."""
        with self._changed:
            want = {row: state for row, state in self._pending.items() if row not in self._gone}
            classes, n = list(self._pending_classes), self._n_events
        for name in classes:
            if name not in self.names.all():
                self.names.add(name)
        if want:
            try:
                if self._gone_before & want.keys() and self._look_for_files():  # they are back
                    return self._fold()
                bring(self.learner, self.names, want)
            except FileNotFoundError:
                if not self._look_for_files():
                    raise
                return self._fold()  # a part may have been taken in
            except ChangedFilesError as error:  # a training that was interrupted comes first
                self._ask_anew(error)
                return self._fold()
        n_disagreements, pairs = len(self.learner.disagreements), agreements(self.learner)
        with self._changed:
            self.n_disagreements, self.agreements = n_disagreements, pairs
            for row, state in want.items():
                if self._pending.get(row) == state:  # not said anew meanwhile
                    self._pending.pop(row, None)
            self._pending_classes = self._pending_classes[len(classes) :]
            if want or classes:
                if self._pending:
                    self._write({"states": list(self._pending.items())})
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
        except ChangedFilesError as error:
            self._ask_anew(error)
            self._fold()
            self._next_grid()

    def _ask_anew(self, error: ChangedFilesError) -> None:
        """Leave files out that hold other images by now, and append what they hold to the pool."""
        learner = self.learner
        dropped = {row for row, state in self._states.items() if state and state[-1].what == DROP}
        if len(error.rows) >= self.n_pool - len(dropped | self._gone.keys()):
            raise error  # all are others: rather another disk than so many new images
        learner.drop(error.rows, train=False)
        paths, last = learner.paths_, {path: row for row, path in enumerate(learner.paths_)}
        new = [paths[row] for row in error.rows.tolist() if last[paths[row]] == row]  # else it was appended before
        with self._changed:
            self._leave_out(dict.fromkeys(error.rows.tolist(), CHANGED))
        if new:
            kept, wrong = model.encode(learner.estimator, new, lambda *_: None)
            self.unreadable += [(new[k], reason) for k, reason in wrong]
            if len(kept):
                learner.extend([new[k] for k in kept])

    def _train_and_choose(self) -> None:
        learner = self.learner
        over = self._over()
        if self._look_for_files():
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

    def _look_for_files(self) -> bool:
        """Set files aside that are gone by now, and take in those that are back; return whether there are some."""
        if not model.holds_paths(self.paths):
            return False
        with self._changed:
            dropped = {row for row, state in self._states.items() if state and state[-1].what == DROP}
            before = set(self._gone)
        with looking_once():
            rows = [row for row in range(self.n_pool) if row not in dropped]
            gone = [row for row, look in zip(rows, look_at([self.paths[row] for row in rows])) if look is None]
            if gone and len(gone) == len(rows):  # rather a disk or a network that may come back
                raise FileNotFoundError(
                    f"none of the {len(gone):,} files is there any more: {self.paths[gone[0]]}, ..."
                )
            known = set(self.learner.look_for_files().tolist())
        is_new = before != set(gone) or known != self._gone_before
        self._gone_before = known
        self._set_gone(dict.fromkeys(gone, GONE))
        return is_new

    def _after(self, answers: Mapping[int, Said | None]) -> dict[int, State]:
        """Return what rows hold after some answers."""
        return {row: answered(self._states.get(row, ()), said, self.annotator) for row, said in answers.items()}

    def _apply(self, states: Mapping[int, State]) -> None:
        for row, state in states.items():
            self._states[row] = self._pending[row] = state
            self._show(row)

    def _show(self, row: int) -> None:
        """Let the page show the last answer of a row, or that its file is not there."""
        self.said.pop(row, None)
        state = self._states.get(row, ())
        if row in self._gone:
            self.said[row] = Said(DROP, None, now())
        elif state:
            self.said[row] = state[-1]

    def _set_gone(self, gone: Mapping[int, str]) -> None:
        """Note which rows have no file now: they count as dropped until it is back, with what was said before."""
        with self._changed:
            before, self._gone = self._gone, dict(gone)
            back = before.keys() - gone.keys()
            for row in before.keys() ^ gone.keys():
                self._show(row)
            for row in back:
                self.unreadable.remove((str(self.paths[row]), before[row]))
            self.unreadable += [(str(self.paths[row]), why) for row, why in gone.items() if row not in before]
            self._gone = {row: before.get(row, why) for row, why in gone.items()}
            changed = {*back, *(gone.keys() - before.keys())}
            self._stale |= any(state[-1].what == LABEL for row in changed if (state := self._states.get(row)))
            if changed:
                self._wake()

    def _leave_out(self, reasons: Mapping[int, str]) -> None:
        """Leave files out that broke, and as long as they are gone those that are, and say so on the page."""
        with self._changed:
            gone = {row: why for row, why in reasons.items() if look_at([self.paths[row]])[0] is None}
            broken = {row: why for row, why in reasons.items() if row not in gone}
            self._set_gone({**self._gone, **gone})
            if broken:
                self._take(self._after({row: Said(DROP, None, now()) for row in broken}))
                named = [(str(self.paths[row]), reason) for row, reason in broken.items()]
                self.unreadable += [pair for pair in named if pair not in self.unreadable]
