"""Comparison of strategies: many active-learning runs on the same splits, first rounds and seeds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.utils import Bunch
from tqdm import tqdm

from ..active import Protocol
from ..utils.notes import add_note
from .failures import IN_RUN, Failure, failed_runs
from .plan import Plan, Run, Strategies, find_samples, first_query_of, make_plan
from .results import RoundFile, check_whole, folder_of_runs, frame_of, read_runs
from .run import run_active_learning


def compare_strategies(
    estimators: Any,
    strategies: Strategies,
    X: Any = None,
    y: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    *,
    data: str | Bunch | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    protocol: str | Protocol = "paper",
    loop: str | Sequence[str] = "selection",
    n_per_class: int | str | None = "auto",
    pseudo_labels: str = "auto",
    seeds: int | Sequence[int] | np.ndarray = 3,
    first_query: str | None = None,
    test_size: float = 1 / 3,
    from_zero: bool = False,
    path: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    verbose: int = 1,
) -> pd.DataFrame:
    """Run every strategy with every estimator and seed, and measure after every round.

    All runs of a seed have the same split and, by default, the same random first round, so that
    differences come from the strategies.  The test set is used for measuring only.

    Parameters
    ----------
    estimators : classifier, list of classifiers or dict of {name: classifier}
        Estimators with ``predict_proba`` to compare, cloned for every run.  One whose ``class_names`` is None gets
        the names and the template of ``data``, also inside of a Pipeline or a meta-estimator.  In a list, each is
        named after its class.
    strategies : list of str or callable, or dict of {name: str or callable}
        Names of `available_strategies`, or query strategies.
    X, y : array-like of n samples, array-like of shape (n,), default=None
        The pool and its labels; pass either these or ``data``.
    X_test, y_test : array-like, default=None
        Test set to measure on.  If None, each seed splits X anew.
    data : str or Bunch, default=None
        Data set that replaces X and y: a name of `available_benchmarks`, or a result of
        `load_benchmark`.
    root : str or path-like, default=None
        Folder of the named data set.
    download : bool, default=False
        Whether a named data set may be downloaded.
    protocol : {"paper", "pcb"} or Protocol, default="paper"
        Labels per round and number of rounds; see `DualPromptLearner.run`.
    loop : {"selection", "full"} or list of both, default="selection"
        Kind of loop.  In ``"selection"`` the strategy chooses and a plain modAL loop trains on the labels
        (and the pool, if ``fit`` takes ``X_pool``).
        ``"full"`` is `DualPromptLearner`, with pseudo-labels.  With both, their names are added
        to those of the estimators.
    n_per_class : int, None or "auto", default="auto"
        Number of pseudo-labels per class in ``"full"``; None for the whole pool.  See `DualPromptLearner`.
    pseudo_labels : {"auto", "own", "transductive", "collaborative"}, default="auto"
        Who gives the pseudo-labels in ``"full"``; see `DualPromptLearner`.
    seeds : int or array-like of int, default=3
        Number of repetitions, or their seeds; each has its own first round, prompts and draws.
    first_query : {"random", "strategy"} or None, default=None
        Selection of the first samples.  ``"strategy"`` needs strategies that work without labels.  None follows the
        ``first_query`` of a `Protocol` that has one, and is ``"random"`` otherwise, also for a protocol by its name.
    test_size : float, default=1/3
        Share of X that each seed's split keeps for measuring, if X_test is None.
    from_zero : bool, default=False
        Whether runs begin with a record of round 0, before any label; see `run_active_learning`.  All
        estimators have to classify without labels.
    path : str or path-like, default=None
        Folder for the results: a file per run, whose lines are written round by round.  Stored runs
        of the same data and settings are read and not repeated; a run that was stopped in the
        middle starts again.
    n_jobs : int, default=None
        Number of runs at a time, in joblib's processes; with ``joblib.parallel_config(backend="dask")`` in
        those of a Dask cluster.  A worker that is killed loses its run, which starts again, and not the others.
    verbose : int, default=1
        Amount of output: 0 is silent, 1 shows a progress bar with the remaining time.

    Returns
    -------
    frame : pandas.DataFrame
        A row per run and round: ``data``, ``estimator``, ``loop``, ``strategy``, ``seed``, and
        the records of `run_active_learning`.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If an argument does not fit, before anything is run.
    FailedRunsError
        If a run failed, after all others have ended; it names the failed ones and holds the table of the others.

    See Also
    --------
    summarize : Compute means and intervals of the result.
    compare_pairs : Test which differences are more than chance.

    Notes
    -----
    With frozen images every image is embedded once, before the runs.  With several processes
    torch computes with fewer threads each, which may change the last digits: compare runs with
    the same ``n_jobs``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual.active import Protocol
    >>> from modal_clip_dual.evaluation import compare_strategies
    >>> X, y = load_digits(return_X_y=True)
    >>> frame = compare_strategies(
    ...     LogisticRegression(max_iter=500), ["random", "margin"], X[:600] / 16, y[:600],
    ...     protocol=Protocol(n_rounds=2, per_class=2), seeds=2, verbose=0,
    ... )
    >>> frame.groupby("strategy", sort=False)["n_labels"].max().to_dict()
    {'random': 40, 'margin': 40}
    """
    samples = find_samples(X, y, X_test, y_test, data, root, download)
    plan = make_plan(
        samples, estimators, strategies, protocol, loop, n_per_class, seeds, first_query_of(first_query, protocol),
        test_size, from_zero, pseudo_labels,
    )  # fmt: skip
    return run_plan(plan, path, n_jobs, verbose)


def run_plan(
    plan: Plan,
    path: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    verbose: int = 1,
    on_round: Callable[[dict[str, Any]], Any] | None = None,
    embed: bool = True,
) -> pd.DataFrame:
    """Do the runs of a plan that are not stored yet, and return the table of all runs.

    Parameters
    ----------
    plan : Plan
    path, n_jobs, verbose
        See `compare_strategies`.
    on_round : callable, default=None
        Function that is called with each row of the table as soon as it is measured; from other processes
        the rows come run by run.
    embed : bool, default=True
        Whether to embed images before the runs. Otherwise each run gets the images, and classifiers with a
        cache embed them once, too; their embeddings are then scaled to length 1 once, not twice,
        which may change the last digits.

    Raises
    ------
    FailedRunsError
        If a run failed, after all others have ended.  What ``on_round`` raises, a full disk, Ctrl-C and a worker that
        is killed again and again end all runs at once.
    """
    folder = folder_of_runs(path)
    done = {run.key for run in plan.runs if folder is not None and (folder / run.file_name).exists()}
    if folder is not None:
        check_whole([folder / run.file_name for run in plan.runs if run.key in done], plan.n_records)
    left = [run for run in plan.runs if run.key not in done]
    inputs = plan.embed(left) if embed else {run.key: [plan.X, plan.X_test] for run in left}
    records: dict[str, list[dict[str, Any]]] = {}
    failures: dict[str, Failure] = {}
    total = len(plan.runs) * plan.n_records
    with tqdm(total=total, initial=len(done) * plan.n_records, unit="round", disable=not verbose) as bar:

        def report(row: dict[str, Any]) -> None:
            bar.update()
            if on_round is not None:
                on_round(row)

        def keep(key: str, outcome: list[dict[str, Any]] | Failure) -> None:
            if isinstance(outcome, Failure):
                if failures:  # a debugger is led to the first one; what the others hold may be large
                    clear_frames(outcome.error.__traceback__)
                failures[key] = outcome
                bar.n = (len(done) + len(records) + len(failures)) * plan.n_records
                bar.refresh()
            else:
                records[key] = outcome

        if n_jobs in (None, 1):
            for run in left:
                bar.set_description(f"{run.names['estimator']}, {run.names['strategy']}, seed {run.names['seed']}")
                keep(*_execute(run, inputs[run.key], plan, folder, report))
        else:
            for key, outcome in _in_parallel(left, inputs, plan, folder, n_jobs):
                for row in () if isinstance(outcome, Failure) else outcome:
                    report(row)
                keep(key, outcome)
    ended = [run for run in plan.runs if run.key not in failures]
    if folder is not None:
        frame = read_runs(folder / run.file_name for run in ended)
    else:
        frame = frame_of([row for run in ended for row in records[run.key]])
    if failures:
        failed = [(run.names, failures[run.key].error) for run in plan.runs if run.key in failures]
        raise failed_runs(failed, frame if ended else None, path) from failed[0][1]
    return frame


def _in_parallel(
    runs: Sequence[Run], inputs: dict[str, Any], plan: Plan, folder: Path | None, n_jobs: int
) -> Iterator[tuple[str, list[dict[str, Any]] | Failure]]:
    """Yield the key and the rows of each run as they end, or what failed, from the processes of joblib's backend.

    A process that is killed loses its run, not the others: what is left starts again, as long as some run
    has ended in between.
    """
    left = {run.key: run for run in runs}
    while left:
        n_before = len(left)
        execute = delayed(_execute_in_worker)
        tasks = (execute(run, inputs[run.key], plan.without_data(), folder) for run in list(left.values()))
        try:
            for key, outcome in Parallel(n_jobs, return_as="generator_unordered")(tasks):
                del left[key]
                yield key, outcome
        except BrokenProcessPool:
            if len(left) == n_before:
                raise
            warnings.warn(
                f"a worker process ended before its run did, maybe for want of memory; {len(left)} of {n_before} "
                "runs start again",
                RuntimeWarning,
                stacklevel=3,
            )


def _execute(
    run: Run,
    inputs: Sequence[Any],
    plan: Plan,
    folder: Path | None,
    report: Callable[[dict[str, Any]], Any] | None = None,
) -> tuple[str, list[dict[str, Any]] | Failure]:
    """Do one run; return its key and its rows, or what failed in it."""
    seed = run.names["seed"]
    X, X_test = inputs
    pool, test = plan.split(seed)
    whole = plan.y_test is not None
    file = None if folder is None else RoundFile(folder / run.file_name, run.settings)
    rows: list[dict[str, Any]] = []
    not_the_runs = []  # errors of a disk or of who is told, which other runs will not escape

    def on_round(record: dict[str, Any]) -> None:
        rows.append({**run.names, **record})
        try:
            if file is not None:
                file.write(rows[-1])
            if report is not None:
                report(rows[-1])
        except Exception as error:
            not_the_runs.append(error)
            raise

    try:
        run_active_learning(
            run.estimator,
            run.strategy,
            X if whole else X[pool],
            plan.y[pool],
            X_test if whole else X[test],
            plan.y_test if whole else plan.y[test],
            n_instances=plan.n_instances,
            n_rounds=plan.n_rounds,
            first_query=run.first_query,
            n_per_class=run.n_per_class,
            pseudo_labels=run.pseudo_labels,
            random_state=seed,
            on_round=on_round,
            from_zero=plan.from_zero,
        )
    except BaseException as error:
        if file is not None:
            file.discard()
        if not isinstance(error, Exception):
            raise
        add_note(error, f"{IN_RUN}{run.names}")
        if error in not_the_runs:
            raise
        return run.key, Failure(error)
    if file is not None:
        file.finish()
    return run.key, rows


def _execute_in_worker(*args: Any) -> tuple[str, list[dict[str, Any]] | Failure]:
    """Do the same as `_execute` in a process of loky, which mistakes a loaded model for a memory leak.

    loky ends a worker whose memory has grown by 300 MB since its first task; this happens if the first
    task only read images.  Ending workers while tasks come in can leave both sides waiting for ever
    (joblib 1.5, seen in our tests).
    """
    try:
        from joblib.externals.loky import process_executor

        process_executor._MAX_MEMORY_LEAK_SIZE = float("inf")
    except ImportError:  # another version of joblib
        pass
    return _execute(*args)
