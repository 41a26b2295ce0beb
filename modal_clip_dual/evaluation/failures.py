"""Runs that fail while the others of a comparison go on."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..utils.notes import add_note, notes_of

IN_RUN = "in the run "  # how the note begins that names the run of an error
SHOWN = 5  # runs that a message names


class FailedRunsError(RuntimeError):
    """Some runs of a comparison failed; the others ended first.

    The error of the first failed run is its cause.

    Parameters
    ----------
    message : str
        The text of the error.
    runs : sequence of dict
        The failed runs: ``data``, ``estimator``, ``loop``, ``strategy`` and ``seed`` of each.
    errors : sequence of Exception
        What failed in each.
    finished : pandas.DataFrame or None, default=None
        The table of the other runs; None if none ended.

    Attributes
    ----------
    runs : list of dict
        The failed runs, in the order of the comparison.
    errors : list of Exception
        What failed in each.
    finished : pandas.DataFrame or None
        The table of the other runs, as `compare_strategies` would have returned it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from modal_clip_dual.active import Protocol
    >>> from modal_clip_dual.evaluation import FailedRunsError, compare_strategies
    >>> def first_rows(learner, X, n_instances=1):
    ...     return [0] * n_instances
    >>> X, y = load_iris(return_X_y=True)
    >>> try:
    ...     frame = compare_strategies(
    ...         GaussianNB(), ["random", first_rows], X, y, protocol=Protocol(2, per_class=3), seeds=1, verbose=0,
    ...     )
    ... except FailedRunsError as error:
    ...     frame = error.finished
    >>> frame["strategy"].unique().tolist()
    ['random']
    """

    def __init__(
        self,
        message: str,
        runs: Sequence[Mapping[str, Any]],
        errors: Sequence[Exception],
        finished: pd.DataFrame | None = None,
    ):
        super().__init__(message)
        self.runs = [dict(run) for run in runs]
        self.errors = list(errors)
        self.finished = finished

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.runs, self.errors, self.finished), {"__notes__": notes_of(self)}


class RemoteTracebackError(Exception):
    """The traceback of an error in another process, as text; it is shown as the cause of that error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Failure:
    """What failed in a run; it may be sent to another process, whatever the error is."""

    def __init__(self, error: Exception):
        self.error = error

    def __reduce__(self) -> Any:
        """Send the error as it is if that is possible, else its text; and where it came from, as text."""
        error = self.error
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # whatever the error's class does
            error = RuntimeError(f"{type(error).__name__}: {error}")
            for note in notes_of(self.error):
                add_note(error, note)
        return _received, (error, text)


def _received(error: Exception, text: str) -> Failure:
    error.__cause__ = RemoteTracebackError(text)
    return Failure(error)


def failed_runs(
    failed: Sequence[tuple[Mapping[str, Any], Exception]], finished: pd.DataFrame | None, path: Any
) -> FailedRunsError:
    """Return the error that names the failed runs, the cause of the first, and where the others are.

    ``path`` is the folder with the results, or None.
    """
    runs, errors = zip(*failed)
    first = errors[0]
    named = "; ".join(f"{run['strategy']!r} with {run['estimator']!r}, seed {run['seed']}" for run in runs[:SHOWN])
    more = f"; and {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    keys = ["estimator", "strategy", "seed"]
    n_finished = 0 if finished is None else len(finished[[*keys, "data"]].drop_duplicates())
    if not n_finished:
        kept = "No other run ended"
    elif path is not None:
        kept = f"The {n_finished} others are stored in {str(path)!r} and will not be repeated"
    else:
        kept = f"The {n_finished} others are the attribute 'finished' of this error; path=FOLDER would store them"
    error = FailedRunsError(
        f"{len(runs)} of {len(runs) + n_finished} runs failed: {named}{more}. The first with {type(first).__name__}: "
        f"{first}. {kept}",
        runs, errors, finished,
    )  # fmt: skip
    for note in notes_of(first):
        if not note.startswith(IN_RUN):
            add_note(error, note)
    return error
