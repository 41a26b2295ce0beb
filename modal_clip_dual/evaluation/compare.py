"""Many active-learning runs on the same splits, first rounds and seeds."""

from __future__ import annotations

import csv
import glob
import inspect
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Bunch
from tqdm import tqdm

from ..active import PROTOCOLS, Protocol
from ..classifier import DualPromptClassifier
from ..data.images import as_array, kind_of
from ..strategies.registry import get_strategy
from ..utils.persistence import named, replacing
from ..utils.validation import check_integer, check_number
from .runs import FIRST, run_active_learning

if TYPE_CHECKING:
    import pandas as pd

LEARNERS = ("selection", "full")
# Raised when the same settings would give other figures, so that stored runs are not mixed up.
FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One run: an estimator in a kind of loop, a strategy and a seed."""

    names: dict[str, Any]  # columns data, estimator, learner, strategy, seed
    estimator: BaseEstimator
    strategy: Callable[..., Any]
    n_pseudo: int
    first_rows: str | None
    key: str

    @property
    def file_name(self) -> str:
        """Readable, and different for everything that makes another run."""
        parts = (str(value) for value in self.names.values())
        slug = "-".join(re.sub(r"[^A-Za-z0-9]+", "_", part)[:24] for part in parts)
        return f"{slug}-{self.key}.csv"


def compare_strategies(
    estimators: Any,
    strategies: (
        str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | Mapping[str, str | Callable[..., Any]]
    ),
    X: Any = None,
    y: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    *,
    data: str | Bunch | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    protocol: str | Protocol = "paper",
    learners: str | Sequence[str] = "selection",
    n_pseudo: int = 16,
    seeds: int | Sequence[int] | np.ndarray = 3,
    first_round: str = "random",
    test_size: float = 1 / 3,
    path: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    verbose: int = 1,
) -> pd.DataFrame:
    """Run every strategy with every estimator and seed, and measure after every round.

    All runs of a seed have the same split and, by default, the same random first round, so that
    differences are those of the strategies.  Nothing looks at the test set but the measurement.

    Parameters
    ----------
    estimators : classifier, list of classifiers or dict of {name: classifier}
        Cloned for every run.  One whose ``class_names`` is None gets those of ``data``, and then
        its template.  A list is named after the classes of its estimators.
    strategies : list of str or callable, or dict of {name: str or callable}
        Names of `available_strategies`, or query strategies.
    X, y : array-like of n samples, array-like of shape (n,), default=None
        The pool and its labels; or ``data``.
    X_test, y_test : array-like, default=None
        What is measured on.  If None, each seed splits X anew.
    data : str or Bunch, default=None
        In place of X and y: a name of `available_benchmarks`, or what `load_benchmark`
        returns.
    root : str or path-like, default=None
        Folder of the named data set.
    download : bool, default=False
        Whether a named data set may be downloaded.
    protocol : {"paper", "1pct", "pcb"} or Protocol, default="paper"
        Labels per round and number of rounds; see `DualPromptLearner.run`.
    learners : {"selection", "full"} or list of both, default="selection"
        ``"selection"``: the strategy chooses, a plain modAL loop trains on the labels.
        ``"full"``: `DualPromptLearner`, with pseudo-labels.  With both, their names are added
        to those of the estimators.
    n_pseudo : int, default=16
        Pseudo-labels per class of ``"full"``.
    seeds : int or list of int, default=3
        Repetitions, each with its own first round, prompts and draws.
    first_round : {"random", "strategy"}, default="random"
        Who chooses the first samples.  ``"strategy"`` needs strategies that do without labels.
    test_size : float, default=1/3
        Share of X that each seed's split keeps for measuring, if X_test is None.
    path : str or path-like, default=None
        Folder for the results: a file per run, whose lines are written round by round.  Runs
        that are there already, of the same data and settings, are read and not repeated; one that
        was stopped in the middle starts anew.
    n_jobs : int, default=None
        Runs at a time, by joblib's processes.
    verbose : int, default=1
        0: silent.  1: a progress bar with the time that is left.

    Returns
    -------
    frame : pandas.DataFrame
        A row per run and round: ``data``, ``estimator``, ``learner``, ``strategy``, ``seed``, and
        the records of `run_active_learning`.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If an argument does not fit, before anything is run.

    See Also
    --------
    summarize : Means and intervals of the result.
    compare_pairs : Which differences are more than chance.

    Notes
    -----
    With frozen images every image is embedded once, before the runs.  With several processes
    torch computes with fewer threads each, which may change the last digits: compare runs of
    one ``n_jobs``.

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
    plan = make_plan(
        estimators, strategies, X, y, X_test, y_test, data=data, root=root, download=download,
        protocol=protocol, learners=learners, n_pseudo=n_pseudo, seeds=seeds,
        first_round=first_round, test_size=test_size,
    )  # fmt: skip
    folder = _results_folder(path)
    done = {run.key for run in plan.runs if folder is not None and (folder / run.file_name).exists()}
    if folder is not None:
        _check_whole([folder / run.file_name for run in plan.runs if run.key in done], plan.n_rounds)
    left = [run for run in plan.runs if run.key not in done]
    inputs = plan.embed(left)
    records = {}
    total = len(plan.runs) * plan.n_rounds
    with tqdm(total=total, initial=len(done) * plan.n_rounds, unit="round", disable=not verbose) as bar:
        if n_jobs in (None, 1):
            for run in left:
                bar.set_description(f"{run.names['estimator']}, {run.names['strategy']}, seed {run.names['seed']}")
                _, records[run.key] = _execute(run, inputs[run.key], plan, folder, bar.update)
        else:
            execute = delayed(_execute_in_worker)
            tasks = (execute(run, inputs[run.key], plan.light(), folder) for run in left)
            for key, rows in Parallel(n_jobs, return_as="generator_unordered")(tasks):
                records[key] = rows
                bar.update(plan.n_rounds)
    if folder is not None:
        return _read([folder / run.file_name for run in plan.runs])
    return _frame([row for run in plan.runs for row in records[run.key]])


def read_results(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read all finished runs of a folder of results.

    Parameters
    ----------
    path : str or path-like
        The ``path`` of `compare_strategies`.

    Returns
    -------
    frame : pandas.DataFrame
        As `compare_strategies` returns it, of all data sets and settings that are there.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no finished run in it.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual.active import Protocol
    >>> from modal_clip_dual.evaluation import compare_strategies, read_results
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame = compare_strategies(
    ...         LogisticRegression(max_iter=500), ["random"], X, y, seeds=1, verbose=0,
    ...         protocol=Protocol(n_rounds=2, per_class=5), path=folder,
    ...     )
    ...     read_results(folder).equals(frame)
    True
    """
    folder = Path(path)
    files = sorted((folder / "runs").glob("*.csv")) if folder.is_dir() else []
    if not files:
        raise FileNotFoundError(f"path={str(path)!r}: there is no folder with finished runs of a comparison")
    return _read(files)


# ---------------------------------------------------------------- what is to be run


@dataclass
class Plan:
    """All runs, and the data that they share."""

    runs: list[Run]
    name: str
    X: np.ndarray | None  # None where the samples come by another way: nothing may follow from it
    y: np.ndarray
    X_test: np.ndarray | None  # alike
    y_test: np.ndarray | None
    protocol: Protocol
    test_size: float
    n_classes: int

    @property
    def n_rounds(self) -> int:
        """Rounds per run."""
        return self.protocol.n_rounds

    @property
    def n_pool(self) -> int:
        """Samples in the pool."""
        return len(self.y) if self.y_test is not None else len(self.y) - self.n_test

    @property
    def n_test(self) -> int:
        """Samples that are measured on."""
        return len(self.y_test) if self.y_test is not None else round(self.test_size * len(self.y))

    @property
    def n_instances(self) -> int:
        """Labels per round."""
        return self.protocol.n_instances(self.n_pool, self.n_classes)

    def light(self) -> Plan:
        """Without samples, which go to worker processes by themselves."""
        return Plan(**vars(self) | {"X": None, "X_test": None, "runs": []})

    def rows(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of pool and test set; the same for all runs of a seed."""
        if self.y_test is not None:
            return np.arange(len(self.y)), np.arange(len(self.y_test))
        order = np.random.default_rng(seed).permutation(len(self.y))
        return order[self.n_test :], order[: self.n_test]

    def embed(self, runs: Sequence[Run]) -> dict[str, list[Any]]:
        """(X, X_test) of each run: embeddings, once per CLIP, where the image tower is frozen."""
        inputs: dict[str, list[Any]] = {}
        by_clip: dict[tuple[Any, ...] | None, list[Any]] = {}
        for run in runs:
            clf = run.estimator
            clip = None
            frozen = isinstance(clf, DualPromptClassifier) and clf.visual_prompts is None
            if frozen and self.X is not None and kind_of(self.X) != "embeddings":
                clip = (clf.model_name, str(clf.pretrained), clf.precision, clf.device)
            if clip not in by_clip:
                pair = [self.X, self.X_test]
                if clip is not None:
                    encoder = clone(clf)
                    pair = [None if part is None else encoder.transform(part) for part in pair]
                by_clip[clip] = pair
            inputs[run.key] = by_clip[clip]
        return inputs


def make_plan(
    estimators: Any,
    strategies: (
        str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | Mapping[str, str | Callable[..., Any]]
    ),
    X: Any = None,
    y: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    *,
    data: str | Bunch | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = False,
    protocol: str | Protocol = "paper",
    learners: str | Sequence[str] = "selection",
    n_pseudo: int = 16,
    seeds: int | Sequence[int] | np.ndarray = 3,
    first_round: str = "random",
    test_size: float = 1 / 3,
) -> Plan:
    """Check the arguments of `compare_strategies` and list the runs; runs nothing."""
    bunch = _resolve_data(X, y, X_test, y_test, data, root, download)
    protocol = _resolve_protocol(protocol)
    if first_round not in FIRST:
        raise ValueError(f"first_round={first_round!r}; expected one of {FIRST}")
    check_number("test_size", test_size, 0, 1)
    plan = Plan(
        [], bunch.name, bunch.X, bunch.y, bunch.X_test, bunch.y_test, protocol, float(test_size),
        len(np.unique(bunch.y) if bunch.class_names is None else bunch.class_names),
    )  # fmt: skip
    if plan.n_test < 1:
        raise ValueError(f"test_size={test_size} of {len(plan.y)} samples leaves none to measure on")
    if plan.n_instances * plan.n_rounds > plan.n_pool:
        raise ValueError(
            f"protocol={protocol}: {plan.n_rounds} rounds of {plan.n_instances} labels are more than "
            f"the pool of {plan.n_pool} samples"
        )
    learners = [learners] if isinstance(learners, str) else list(learners)
    if not learners or not set(learners) <= set(LEARNERS) or len(set(learners)) < len(learners):
        raise ValueError(f"learners={learners!r}; expected some of {LEARNERS}")
    check_integer("n_pseudo", n_pseudo, least=1)
    named = _resolve_estimators(estimators, bunch, learners)
    fingerprint = _fingerprint(bunch)
    for estimator_name, estimator in named.items():
        for learner in learners:
            shown = estimator_name if len(learners) == 1 else f"{estimator_name} ({learner})"
            for strategy_name, strategy in _resolve_strategies(strategies).items():
                for seed in _resolve_seeds(seeds):
                    names = {"data": bunch.name, "estimator": shown, "learner": learner}
                    names |= {"strategy": strategy_name, "seed": seed}
                    k = int(n_pseudo) if learner == "full" else 0
                    settings = [
                        FORMAT, fingerprint, names, _describe(estimator), _describe(strategy), k,
                        first_round, asdict(protocol), None if plan.y_test is not None else test_size,
                    ]  # fmt: skip
                    key = blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8)
                    plan.runs.append(
                        Run(names, estimator, strategy, k, first_round, key.hexdigest())
                    )
    return plan


def _resolve_data(
    X: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    data: Any,
    root: str | os.PathLike[str] | None,
    download: bool,
) -> Bunch:
    if data is None:
        if X is None or y is None:
            raise ValueError("expected X and y, or data")
        if (X_test is None) != (y_test is None):
            raise ValueError("X_test and y_test: one was passed without the other; expected both or none")
        parts = {"name": "data", "X": X, "y": y, "X_test": X_test, "y_test": y_test, "class_names": None}
        bunch = Bunch(**parts)
    else:
        passed = {"X": X, "y": y, "X_test": X_test, "y_test": y_test}
        given = [name for name, value in passed.items() if value is not None]
        if given:
            raise ValueError(f"{', '.join(given)} and data were passed; expected X and y, or data")
        if isinstance(data, str):
            from ..data import load_benchmark

            data = load_benchmark(data, root, download=download)
        missing = [name for name in ("name", "X_train", "y_train") if name not in data]
        if missing:
            raise ValueError(f"data has no {', '.join(missing)}; expected what load_benchmark returns")
        bunch = Bunch(**{"X_test": None, "y_test": None, "class_names": None} | data)
        bunch.X, bunch.y = data["X_train"], data["y_train"]
        if (bunch.X_test is None) != (bunch.y_test is None):
            raise ValueError("data has one of X_test and y_test; expected both or none")
    for name in ("X", "X_test"):
        if bunch[name] is not None:
            bunch[name] = as_array(bunch[name], name)
            labels = bunch[name.replace("X", "y")]
            if len(bunch[name]) != len(labels):
                raise ValueError(
                    f"{name} has {len(bunch[name])} samples, {name.replace('X', 'y')} {len(labels)} labels"
                )
    bunch.y = np.asarray(bunch.y)
    bunch.y_test = None if bunch.y_test is None else np.asarray(bunch.y_test)
    return bunch


def _resolve_protocol(protocol: str | Protocol) -> Protocol:
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}; expected one of {sorted(PROTOCOLS)} or a Protocol")
    return PROTOCOLS[protocol]


def _resolve_estimators(estimators: Any, bunch: Bunch, learners: Sequence[str]) -> dict[str, Any]:
    if isinstance(estimators, Mapping):
        named = {str(name): estimator for name, estimator in estimators.items()}
    else:
        several = estimators if isinstance(estimators, (list, tuple)) else [estimators]
        named = {type(estimator).__name__: estimator for estimator in several}
        if len(named) < len(several):
            raise ValueError("estimators: several of one class; expected a dict of {name: estimator}")
    if not named:
        raise ValueError("estimators is empty; expected at least one")
    for name, estimator in named.items():
        if not hasattr(estimator, "get_params") or not hasattr(estimator, "fit"):
            raise TypeError(f"estimators: {name!r} is a {type(estimator).__name__}; expected a classifier")
        if "full" in learners and not isinstance(estimator, DualPromptClassifier):
            raise TypeError(
                f"estimators: {name!r} is a {type(estimator).__name__}; learners='full' expects a "
                "DualPromptClassifier"
            )
        if isinstance(estimator, DualPromptClassifier) and estimator.class_names is None:
            named[name] = clone(estimator).set_params(class_names=bunch.class_names)
            if bunch.get("template"):
                named[name].set_params(template=bunch.template)
    return named


def _resolve_strategies(strategies: Any) -> dict[str, Callable[..., Any]]:
    if isinstance(strategies, Mapping):
        if not strategies:
            raise ValueError("strategies is empty; expected at least one")
        return {str(name): get_strategy(value, name="strategies") for name, value in strategies.items()}
    if isinstance(strategies, str) or callable(strategies):
        strategies = [strategies]
    named = {
        entry if isinstance(entry, str) else _name_of(entry): get_strategy(entry, name="strategies")
        for entry in strategies
    }
    if len(named) < len(strategies) or not named:
        raise ValueError(
            f"strategies={list(strategies)!r}; expected at least one, of different names: a dict of "
            "{name: strategy} names them"
        )
    return named


def _name_of(strategy: Callable[..., Any]) -> str:
    function = getattr(strategy, "func", strategy)
    return getattr(function, "__name__", type(function).__name__)


def _resolve_seeds(seeds: int | Sequence[int] | np.ndarray) -> list[int]:
    if isinstance(seeds, Integral):
        check_integer("seeds", seeds, least=1)
        return list(range(int(seeds)))
    listed = list(seeds) if isinstance(seeds, (Sequence, np.ndarray)) else []
    if not listed or not all(isinstance(seed, Integral) and int(seed) >= 0 for seed in listed):
        raise ValueError(f"seeds={seeds!r}; expected a number of repetitions or a list of seeds")
    if len(set(listed)) < len(listed):
        raise ValueError(f"seeds={seeds!r}; expected different ones")
    return [int(seed) for seed in listed]


def _describe(thing: Any) -> str:
    """Text that is the same for the same settings, in every process."""
    if hasattr(thing, "get_params"):
        params = {name: _describe(value) for name, value in thing.get_params(deep=False).items()}
        return f"{type(thing).__module__}.{type(thing).__qualname__}({params})"
    if isinstance(thing, partial):
        return f"partial({_describe(thing.func)}, {_describe(thing.args)}, {_describe(thing.keywords)})"
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        digest = blake2b(np.ascontiguousarray(thing).tobytes(), digest_size=8).hexdigest()
        return f"array({thing.shape}, {thing.dtype}, {digest})"
    if isinstance(thing, dict):
        return str({key: _describe(value) for key, value in thing.items()})
    if isinstance(thing, (list, tuple)):
        return str([_describe(value) for value in thing])
    if callable(thing) and hasattr(thing, "__qualname__"):
        name = f"{thing.__module__}.{thing.__qualname__}"
        ours = name.partition(".")[0] in ("modal_clip_dual", "modAL")
        return name if ours else f"{name} {_source_of(thing)} {_describe(_settings_of(thing))}"
    kind: Any = type(thing)
    if callable(thing) and kind.__repr__ is object.__repr__:  # an object that is called
        return f"{_describe(kind)} {_describe(getattr(thing, '__dict__', {}))}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(thing))


def _source_of(function: Any) -> str:
    """Digest of what a user's function says, so that a changed one is another; "" if unknown."""
    try:
        return blake2b(inspect.getsource(function).encode(), digest_size=8).hexdigest()
    except (OSError, TypeError):
        return ""


def _settings_of(function: Any) -> dict[str, Any]:
    """What a user's function holds beside its source: defaults, and variables around it."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    held = {}
    for name, cell in zip(code.co_freevars if code else (), cells):
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not set yet
            continue
        if held[name] is function:
            held[name] = "itself"
    defaults = getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)
    return {"defaults": defaults, "held": held} if held or any(defaults) else {}


def _fingerprint(bunch: Bunch) -> str:
    """Digest of pool, test set and labels; of paths their names, not their files."""
    digest = blake2b(digest_size=16)
    for name in ("X", "y", "X_test", "y_test"):
        part = bunch[name]
        if part is None:
            continue
        part = part.astype(str) if part.dtype == object else part
        digest.update(f"{name} {part.shape} {part.dtype}".encode())
        for start in range(0, len(part), 65536):
            digest.update(np.ascontiguousarray(part[start : start + 65536]).data)
    return digest.hexdigest()


# ---------------------------------------------------------------- running and storing


def _results_folder(path: str | os.PathLike[str] | None) -> Path | None:
    if path is None:
        return None
    folder = Path(path) / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _execute(
    run: Run,
    inputs: Sequence[Any],
    plan: Plan,
    folder: Path | None,
    update: Callable[[], Any] | None = None,
) -> tuple[str, list[dict[str, Any]]]:
    """Do one run; its key and its rows."""
    seed = run.names["seed"]
    X, X_test = inputs
    pool, test = plan.rows(seed)
    whole = plan.y_test is not None
    file = None if folder is None else _RoundFile(folder / run.file_name)
    rows = []

    def on_round(record: dict[str, Any]) -> None:
        rows.append({**run.names, **record})
        if file is not None:
            file.write(rows[-1])
        if update is not None:
            update()

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
            first_rows=run.first_rows,
            n_pseudo=run.n_pseudo,
            random_state=seed,
            on_round=on_round,
        )
    except BaseException as error:
        if file is not None:
            file.discard()
        if isinstance(error, Exception) and hasattr(error, "add_note"):
            error.add_note(f"in the run {run.names}")
        raise
    if file is not None:
        file.finish()
    return run.key, rows


def _execute_in_worker(*args: Any) -> tuple[str, list[dict[str, Any]]]:
    """As `_execute`, in a process of loky, which takes a model that is loaded for a leak.

    It ends a worker whose memory has grown by 300 MB since its first task, as one does that only
    read images before; and ending workers while tasks come in can leave both sides waiting
    for ever (joblib 1.5, seen in our tests).
    """
    try:
        from joblib.externals.loky import process_executor

        process_executor._MAX_MEMORY_LEAK_SIZE = float("inf")
    except ImportError:  # another version of joblib
        pass
    return _execute(*args)


class _RoundFile:
    """The rows of a run, appended one by one; it gets its name when it is whole."""

    def __init__(self, path: Path):
        self.path = path
        self.n_rows = 0
        # Another process that does the same run has a file of its own.
        machine = re.sub(r"[^A-Za-z0-9]+", "_", platform.node())
        self.stem = f"{path.name}.{machine}-"
        self.partial = path.with_name(f"{self.stem}{os.getpid()}-{time.time_ns()}.partial")

    def write(self, row: dict[str, Any]) -> None:
        try:  # "r+": if it has vanished, it is not begun again in the middle
            mode = "r+" if self.n_rows else "x"
            with open(self.partial, mode, newline="", encoding="utf-8") as stream:
                stream.seek(0, os.SEEK_END)
                writer = csv.writer(stream)
                if not self.n_rows:
                    writer.writerow(row)
                writer.writerow(
                    "" if value is None else as_text(value) if name in TEXT else value
                    for name, value in row.items()
                )
                stream.flush()
            self.n_rows += 1
        except OSError as error:
            raise named(error, self.partial, "finished runs are whole, and not repeated") from error

    def discard(self) -> None:
        self.partial.unlink(missing_ok=True)

    def finish(self) -> None:
        with open(self.partial, "rb+") as stream:
            os.fsync(stream.fileno())
        if self.path.exists():  # another process was as far before
            self.partial.unlink()
        else:
            os.replace(self.partial, self.path)
        for stopped in self.path.parent.glob(f"{glob.escape(self.stem)}*.partial"):
            if not _is_alive(stopped.name[len(self.stem) :].partition("-")[0]):
                stopped.unlink(missing_ok=True)


def _is_alive(process: str) -> bool:
    import psutil

    return process.isdecimal() and psutil.pid_exists(int(process))


TEXT = ("data", "estimator", "learner", "strategy")
# What a spreadsheet takes for a formula; with quotes before it, a name that looks like an escaped one.
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def as_text(name: Any) -> Any:
    """Put a quote before a name that a spreadsheet would take for a formula."""
    return f"'{name}" if isinstance(name, str) and FORMULA.match(name) else name


def _from_text(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _read(files: Iterable[Path]) -> pd.DataFrame:
    rows = []
    for file in files:
        try:
            with open(file, newline="", encoding="utf-8") as stream:
                found = [_row_of(row) for row in csv.DictReader(stream)]
            _frame(found)
        except (csv.Error, ValueError, TypeError) as error:
            raise ValueError(f"{str(file)!r} is no file of results, or damaged ({error})") from error
        rows += found
    return _frame(rows)


def _check_whole(files: Iterable[Path], n_rounds: int) -> None:
    for file in files:
        found = len(_read([file]))
        if found != n_rounds:
            raise ValueError(
                f"{str(file)!r} has {found} of {n_rounds} rounds, so it is damaged; delete it, and the run is "
                "done anew"
            )


def _row_of(row: dict[Any, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ValueError("a line is longer or shorter than the first")
    return {name: _from_text(value) if name in TEXT else value or None for name, value in row.items()}


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a frame, with the same types whether or not they were read from files."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    whole = ("seed", "round", "n_labels", "n_pseudo")
    for name in frame.columns:
        if name not in TEXT:
            numbers = frame[name].astype("float64")  # texts, of files, become what repr was taken of
            frame[name] = numbers.astype("int64") if name in whole else numbers
    return frame


def write_csv(frame: pd.DataFrame, file: str | os.PathLike[str]) -> None:
    """Write a frame as CSV whose names no spreadsheet takes for formulas."""
    names = [name for name in TEXT if name in frame.columns]
    frame.assign(**{name: frame[name].map(as_text) for name in names}).to_csv(file, index=False)


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str]) -> list[Path]:
    """Write a frame as CSV, and as Parquet where pandas can; the files written.

    In the CSV a quote stands before names that a spreadsheet would take for formulas.

    Parameters
    ----------
    frame : pandas.DataFrame
    path : str or path-like
        Folder.

    Returns
    -------
    files : list of Path
    """
    folder = Path(path)
    files = [folder / "results.csv"]
    with replacing(files[0]) as temporary:
        write_csv(frame, temporary)
    try:
        with replacing(folder / "results.parquet") as temporary:
            frame.to_parquet(temporary, index=False)
        files.append(folder / "results.parquet")
    except ImportError:  # neither pyarrow nor fastparquet
        pass
    return files

