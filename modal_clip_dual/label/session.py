"""LabelSession: the state behind the page."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..active.answers import check_annotator
from ..active.class_names import check_readable
from ..data.files import looking_once
from .answers import DROP, FORGET, LABEL, SKIP, Names, Said, State, answered, disagreements, now
from .grids import Check, Grid, check_of
from .journal import Journal, journal_of
from .model import doubtful_labels, doubtful_predictions, holds_paths, is_lost, shown
from .work import Working

UNDONE = 200  # gestures that can be taken back


class LabelSession(Working):
    """A person, a page and a `DualPromptLearner`: what is shown, what was said, what is computed behind it.

    One thread alone talks to the learner: it takes in answers, trains and chooses the next grid.  Answers never
    wait for it.  They are in the journal, a file beside the learner's state, before `say` returns; from there they go
    into the state file as soon as the thread is free, and after a kill at the next start.

    Parameters
    ----------
    learner : DualPromptLearner
        Its pool must hold paths or images.  It need not have started: files that cannot be read are left out then.
    n_instances : int, default=20
        Number of images of a grid.
    n_random : int, default=2
        How many of these are drawn at random, to check the model on.
    new_paths : sequence of str, default=()
        Files to append to the pool.
    labels : mapping of {str: str}, default=None
        Class names by path, to begin with.
    annotator : str, default=None
        Who answers.

    Attributes
    ----------
    grid : Grid or None
        What is asked for now.
    said : dict of {int: Said}
        Answers by row of the pool, the latest last.
    status : dict
        What the thread does: ``phase``, ``done`` and ``total`` where they can be counted, ``since`` and
        ``expected``, the seconds that it will take, or None.

    Examples
    --------
    >>> from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.label import LabelSession
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = DualLinearClassifier(dict(zip(class_names, class_names)), model_name="demo", pretrained="bundled")
    >>> session = LabelSession(DualPromptLearner(clf, X[:300], query_strategy=auto_sampling), n_instances=10)
    >>> session.start()
    >>> session.wait()
    >>> len(session.grid.rows)
    10
    >>> session.say([(session.grid.rows[0], "label", "seven")])
    >>> session.confirm(session.grid.number)  # the other nine are what the model says
    >>> session.wait()
    >>> len(session.said), session.grid.round
    (10, 1)
    >>> session.close()
    """

    def __init__(
        self,
        learner: Any,
        *,
        n_instances: int = 20,
        n_random: int = 2,
        new_paths: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        annotator: str | None = None,
    ):
        self.learner = learner
        self.n_instances = n_instances
        self.n_random = n_random
        self.annotator = check_annotator(annotator)
        self.names = Names(learner)
        self.class_names = self.names.all()
        self.said: dict[int, Said] = {}
        self.grid: Grid | None = None
        self.checks: list[Check] = []
        self.unreadable: list[tuple[str, str]] = []  # paths and reasons
        self.status: dict[str, Any] = {}
        self.log: list[dict[str, Any]] = []
        self.stop_reason: str | None = None
        self.n_disagreements = 0
        self.agreements: list[dict[str, Any]] = []  # of every two people
        self.version = 0
        self._new_paths, self._first_labels = list(new_paths), dict(labels or {})
        self._ready: list[Grid] = []  # prepared, not shown yet
        self._states: dict[int, State] = {}  # all that was said of the rows, of which `said` has the last
        self._gone: dict[int, str] = {}  # what is wrong with rows whose file is not there, whose answers wait for it
        self._gone_before: set[int] = set()  # those that the learner knows of
        self._pending: dict[int, State] = {}  # said, and not in the learner yet
        self._pending_classes: list[str] = []
        self._undo: list[tuple[dict[int, State], Grid | None, bool]] = []
        self._n_events = 0
        self._n_grids = 0
        self._stale = False  # a grid was completed since the last training
        self._changed = threading.Condition()
        self._model = threading.Lock()  # of the learner, its estimator included
        self._reviewed: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._closing = self._failed = False
        path = getattr(learner, "path", None)
        self._journal = Journal(None if path is None else journal_of(path))
        self._thread = threading.Thread(target=self._run, name="label", daemon=True)
        self._set_status("starting")

    # ---------------------------------------------------------------- what the page shows

    @property
    def lock(self) -> threading.Condition:
        """Held while what is shown is read or changed; never for long."""
        return self._changed

    @property
    def can_undo(self) -> bool:
        """Whether a gesture can be taken back."""
        return bool(self._undo)

    def n_labeled(self) -> int:
        """Return the number of images with a label.

        Returns
        -------
        n : int
        """
        return sum(said.what == LABEL for said in self.said.values())

    def waiting(self) -> list[int]:
        """Return the rows of the grid that have no answer yet.

        Returns
        -------
        rows : list of int
        """
        return [] if self.grid is None else [row for row in self.grid.rows if row not in self.said]

    def tiles(self, kind: str, offset: int = 0, n: int = 60) -> tuple[list[dict[str, Any]], int]:
        """Return a part of what can be looked through, and how long all of it is.

        Parameters
        ----------
        kind : {"history", "labels", "predictions", "disagreements"}
            Answers, the latest first; labels that the model doubts most; its predictions that it doubts most, both in
            the same order until the next training; images that people labeled differently.
        offset, n : int
            Which part.

        Returns
        -------
        tiles : list of dict
            With ``row``, ``name``, the predicted class, and ``correct``: P(correct), and for labels the probability
            that the model gives the label; for disagreements ``others``, what each one said.
        total : int
            Number of all of them.

        Raises
        ------
        ValueError
            If there is no such kind.
        """
        if kind == "history":
            with self._changed:
                rows = list(self.said)[::-1]
            return [{"row": row, "name": None, "correct": None} for row in rows[offset : offset + n]], len(rows)
        if kind == "disagreements":
            with self.model():
                found = disagreements(self.learner, self.names)
            return found[offset : offset + n], len(found)
        if kind not in ("labels", "predictions"):
            raise ValueError(f"kind={kind!r}; expected history, labels, predictions or disagreements")
        round_, found = self._reviewed.get(kind, (-1, []))
        if round_ != len(self.log):
            with self.model(), looking_once():
                round_, found = len(self.log), self._doubted(kind)
            self._reviewed[kind] = round_, found
        return found[offset : offset + n], len(found)

    def _doubted(self, kind: str) -> list[dict[str, Any]]:
        with self._changed:
            said = dict(self.said)
        if kind == "labels":
            return doubtful_labels(self.learner.estimator, self.paths, said, self.names)
        rows = np.setdiff1d(self.learner.unlabeled_, list(said)).tolist()
        return doubtful_predictions(self.learner, self.paths, rows, self.names)

    @contextmanager
    def model(self) -> Iterator[None]:
        """Keep the thread from the learner, which has taken in all answers; waits for a training that is going on.

        Yields
        ------
        None
            Inside of the block the learner and its estimator stay as they are.
        """
        with self._model:
            self._fold()
            yield

    # ---------------------------------------------------------------- what the person says

    def say(self, answers: Iterable[tuple[int, str, str | None]]) -> None:
        """Take in answers of one gesture, in place of earlier ones.

        Parameters
        ----------
        answers : iterable of (row, what, name)
            ``what`` is "label", with a class name, "skip", "drop" or "forget".

        Raises
        ------
        ValueError
            If one does not fit; nothing is changed then.
        """
        with self._changed:
            checked = self._checked(answers)
            back = {row for row in self._gone if row in checked and os.path.isfile(self.paths[row])}
            self._set_gone({row: reason for row, reason in self._gone.items() if row not in back})
            self._say({row: said for row, said in checked.items() if said is not None or row not in back})

    def confirm(self, number: int, rows: Iterable[int] | None = None) -> None:
        """Give the images of the grid that have no answer the label that the model says, and go on to the next.

        Parameters
        ----------
        number : int
            ``grid.number``, so that a second click does not confirm what it has not seen.
        rows : iterable of int, default=None
            Only these; then the grid stays.

        Raises
        ------
        ValueError
            If that grid is no longer shown, or for an image there is no prediction.
        """
        with self._changed:
            if self.grid is None or self.grid.number != number:
                raise ValueError(f"grid {number} is not the one that is shown")
            predicted, waiting = self.grid.predicted(), self.waiting()
            chosen = waiting if rows is None else [row for row in waiting if row in set(rows)]
            if any(predicted[row] is None for row in chosen):
                raise ValueError("the model says nothing yet; give each image a label, or skip it")
            answers = self._checked((row, LABEL, predicted[row]) for row in chosen)
            self._say(answers, finished=rows is None)

    def undo(self) -> bool:
        """Take the last gesture back.

        Returns
        -------
        done : bool
            Whether there was one.
        """
        with self._changed:
            if not self._undo:
                return False
            before, grid, checked = self._undo[-1]
            self._take(before)  # first, since it may fail: then nothing is changed
            self._undo.pop()
            if grid is not None:
                if self.grid is not None:
                    self._ready.insert(0, self.grid)
                self.grid = grid
                self._write_grid()
            if checked and self.checks:
                self.checks.pop()
                self._write({"uncheck": True})
            return True

    def lose(self, row: int, reason: str) -> None:
        """Leave an image out that could not be shown, so that nobody confirms what nobody saw.

        One that has an answer keeps it, and nothing is left out where the other files are gone, too: then a disk
        or a network is missing, which may come back.

        Parameters
        ----------
        row : int
            Position in the pool.
        reason : str
            What is wrong with its file.
        """
        with self._changed:
            if row not in self.said and holds_paths(self.paths) and is_lost(self.paths, row):
                self._leave_out({row: reason})

    def tell_left_out(self, paths: Iterable[str], reason: str) -> None:
        """Name files on the page that an export has to do without; what was said of them stays.

        Parameters
        ----------
        paths : iterable of str
            Files of the pool; those that are named already are not named again.
        reason : str
            What is wrong with them.
        """
        with self._changed:
            known = {path for path, _ in self.unreadable}
            new = [path for path in dict.fromkeys(paths) if path not in known]
            self.unreadable += [(path, reason) for path in new]
            if new:
                self._wake()

    def add_class(self, name: str) -> str:
        """Add a class behind the others.

        Parameters
        ----------
        name : str
            What it is called in a prompt.

        Returns
        -------
        name : str
            The same without spaces at the ends.

        Raises
        ------
        ValueError
            If it is no text, there is one of this name, or the model cannot read it or tell it from another; nothing
            is changed then.
        """
        if not isinstance(name, str):
            raise ValueError(f"name={name!r}; expected a text")
        name = " ".join(name.split())
        with self._changed:
            if not name.replace("_", ""):
                raise ValueError("a class needs a name")
            if shown(name) != name:
                raise ValueError(f"name={name!r} is no text in UTF-8")
            if name.casefold() in [known.casefold() for known in self.class_names]:
                raise ValueError(f"there is a class {name!r} already")
            check_readable(self.learner.estimator, [*self.class_names, name])
            self._write({"class": name})
            self.class_names = [*self.class_names, name]
            self._pending_classes.append(name)
            self._wake()
        return name

    def extend_budget(self, n: int) -> None:
        """Allow n more labels.

        Parameters
        ----------
        n : int
            Labels beyond those that are there.

        Raises
        ------
        ValueError
            If it is no whole number above 0; nothing is changed then.
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise ValueError(f"n={n!r}; expected a whole number of labels, 1 or more")
        with self._changed:
            self.learner.budget = self.n_labeled() + n
            self._failed = False
            self._wake()

    def retry(self) -> None:
        """Try again what failed."""
        with self._changed:
            self._failed = False
            self._wake()

    def _checked(self, answers: Iterable[tuple[int, str, str | None]]) -> dict[int, Said | None]:
        checked: dict[int, Said | None] = {}
        for row, what, name in answers:
            if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < self.n_pool:
                raise ValueError(f"row {row!r}; expected a number from 0 to {self.n_pool - 1}")
            if what not in (LABEL, SKIP, DROP, FORGET) or (what == LABEL) != (name is not None):
                raise ValueError(f"answer {what!r}, {name!r}; expected label with a class, skip, drop or forget")
            if what == LABEL and name not in self.class_names:
                raise ValueError(f"there is no class {name!r}")
            checked[row] = None if what == FORGET else Said(what, name, now(), self.annotator)
        self._check_own(row for row, said in checked.items() if said is None)
        return checked

    def _check_own(self, rows: Iterable[int]) -> None:
        """Refuse to take back where all answers are other people's."""
        answers = {row: state for row in rows if row not in self._gone and (state := self._states.get(row))}
        if answers and all(answered(state, None, self.annotator) == state for state in answers.values()):
            row, state = next(iter(answers.items()))
            raise ValueError(
                f"row {row} has the answer of {state[-1].annotator}, which {self.annotator} cannot take back; an "
                "answer of your own stands beside it"
            )

    def _say(self, answers: dict[int, Said | None], finished: bool = False) -> None:
        before = {row: self._states.get(row, ()) for row in answers}
        grid = self.grid if finished else None
        self._take(self._after(answers))
        checked = False
        if grid is not None:
            labels = {row: said.name for row, said in self.said.items() if said.what == LABEL and said.name}
            check = check_of(grid, labels)
            self.checks.append(check)
            checked, self._stale = True, True
            self._write({"check": list(vars(check).values())})
            self._show_next()
        if answers or grid is not None:
            self._undo = [*self._undo, (before, grid, checked)][-UNDONE:]

    def _take(self, states: Mapping[int, State]) -> None:
        """Write down what rows hold by now, then show it and let the thread know."""
        self._write({"states": list(states.items())})
        self._apply(states)
        self._wake()

    def _show_next(self) -> None:
        """Show the next grid that is prepared, without what has been answered since."""
        self.grid = None
        while self._ready and self.grid is None:
            grid = self._ready.pop(0).without(self.said)
            self.grid = grid if grid.rows else None
        self._write_grid()

    def _write_grid(self) -> None:
        grids = ([] if self.grid is None else [self.grid]) + self._ready
        self._write({"grids": [grid.to_json() for grid in grids]})

    def _write(self, event: dict[str, Any]) -> None:
        self._n_events += 1
        self._journal.append({"n": self._n_events, **event})

    def _wake(self) -> None:
        self.version += 1
        self._changed.notify_all()

    def _set_status(self, phase: str, **more: Any) -> None:
        with self._changed:
            unknown = {"expected": None, "done": None, "total": None}
            self.status = {"phase": phase, "since": time.time(), **unknown, **more}
            self._wake()

    # ---------------------------------------------------------------- the thread

    def start(self) -> None:
        """Start the thread; the page shows by ``status`` what it does."""
        self._thread.start()

    def close(self, timeout: float | None = 60.0) -> None:
        """Take in what was said, end the thread, and let other processes use the state file.

        Parameters
        ----------
        timeout : float or None, default=60.0
            Seconds to wait for a training that is going on; None waits until its end.
        """
        with self._changed:
            self._closing = True
            self._wake()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if not self._thread.is_alive():
            self.learner.close()

    def wait(self, timeout: float = 600.0, until: Callable[[], bool] | None = None) -> None:
        """Wait until the thread has nothing to do, or until something holds.

        Parameters
        ----------
        timeout : float, default=600.0
            Seconds.
        until : callable, default=None
            Called without arguments, says whether to go on; it may read attributes, not call `tiles` or `model`.

        Raises
        ------
        RuntimeError
            If the thread failed.
        TimeoutError
            If it takes longer.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: self._failed or (until or self._idle)(), timeout)
        if self._failed:
            raise RuntimeError(self.status.get("message") or "the thread failed")
        if not done:
            raise TimeoutError(f"still {self.status['phase']} after {timeout:.0f} s")

    def _idle(self) -> bool:
        return self.status["phase"] in ("ready", "done") and self._job() is None
