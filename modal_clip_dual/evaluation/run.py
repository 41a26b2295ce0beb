"""One active-learning run: a loop with an oracle, measured after every round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone

from .._compat import format_query
from ..active import DualPromptLearner
from ..active.abilities import check_abilities, check_n_per_class, fit_without_labels
from ..active.protocols import FIRST_QUERIES
from ..data.images import as_array
from ..strategies.asking import check_can_ask
from ..strategies.registry import get_strategy
from ..strategies.view import call_strategy
from ..utils.labels import check_known, check_labels, check_one_kind
from ..utils.notes import add_note
from ..utils.pool import pool_argument
from ..utils.seeding import seed_parts
from ..utils.validation import check_integer
from .costs import PeakMemory, scoring_clock
from .measurement import measure, measure_without_labels


def run_active_learning(
    estimator: Any,
    query_strategy: str | Callable[..., Any],
    X_pool: Any,
    y_pool: Any,
    X_test: Any,
    y_test: Any,
    *,
    n_instances: int,
    n_rounds: int,
    first_query: Any = None,
    n_per_class: int | str | None = 0,
    pseudo_labels: str = "auto",
    random_state: Any = 0,
    on_round: Callable[[dict[str, Any]], Any] | None = None,
    from_zero: bool = False,
) -> list[dict[str, Any]]:
    """Label ``n_instances`` samples of a pool per round and measure after each round.

    With ``n_per_class=0`` this is "selection only": modAL's `ActiveLearner` queries the strategy and
    re-fits on all labels so far, and on the pool if ``fit`` takes ``X_pool``.  Otherwise it is the
    "full" loop of `DualPromptLearner`, which starts with a round without labels and adds pseudo-labels
    in every round.

    Parameters
    ----------
    estimator : classifier
        Estimator to clone; its ``random_state``, if it has one, becomes the given one, and each inside of it that
        is None, such as that of a Pipeline's step, follows from it.  With ``n_per_class`` it must be one that
        `DualPromptLearner` takes.
    query_strategy : str or callable
        A name of `available_strategies`, or a modAL query strategy.  If its ``random_state`` is not set, it gets one
        derived from ``random_state`` and the round.
    X_pool, y_pool : array-like of n_pool samples, array-like of shape (n_pool,)
        The pool, and the labels that the loop reveals.
    X_test, y_test : array-like of n samples, array-like of shape (n,)
        Test set for measuring; never used in training.
    n_instances : int
        Number of labels per round.
    n_rounds : int
        Number of rounds, including the first.
    first_query : array-like of int, "random", "strategy" or None, default=None
        Rows of the pool that round 1 labels: given rows; drawn by ``random_state``; or chosen by the
        strategy, which must then work without labels.  None is ``"random"`` for selection only
        and ``"strategy"`` with ``n_per_class``.
    n_per_class : int, None or "auto", default=0
        Number of pseudo-labels per class; None for the whole pool.  See `DualPromptLearner`.
    pseudo_labels : {"auto", "own", "transductive", "collaborative"}, default="auto"
        Who gives them; see `DualPromptLearner`.
    random_state : int, default=0
        Seed of all random draws.
    on_round : callable, default=None
        Function that is called with each round's record as soon as it is complete.
    from_zero : bool, default=False
        Whether there is also a record of round 0, before any label: of the model that the full loop has
        made of the pool by then; in selection only, of zero-shot classification,
        or of ``fit_unlabeled`` where that needs no pseudo-labels.

    Returns
    -------
    records : list of dict
        One record per round: ``round``, ``n_labels``, ``budget`` (n_labels / n_pool), the
        results of ``measurement.measure`` on the test set, ``class_coverage`` (share of the pool's
        classes that have a label), ``n_pseudo``, ``pseudo_accuracy`` (None without them),
        ``train_seconds``, ``score_seconds`` (of the query, in methods of the classifier),
        ``select_seconds`` (the rest of the query) and ``peak_memory_mib`` (resident, of the whole
        process, at most during the round); with ``n_per_class`` also ``estimated_accuracy`` and
        ``pool_accuracy`` of `DualPromptLearner`.

    Raises
    ------
    ValueError
        If samples are not as many as their labels, a number is out of its range, there is no strategy of that name,
        the rounds need more labels than the pool has, labels are missing or of several kinds, or are not those of
        the estimator's ``class_names``, or ``first_query`` does not fit; if ``from_zero`` and the estimator's
        ``class_names`` is None.
    TypeError
        If a number is no integer, or the estimator lacks a method, such as ``predict_proba``; if ``n_per_class`` is
        given with an estimator that `DualPromptLearner` does not take; if ``from_zero`` and the estimator cannot
        classify without labels; if the strategy asks for a method that it does not have.

    See Also
    --------
    compare_strategies : Do many such runs, with the same first rounds and splits.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import random_sampling
    >>> from modal_clip_dual.evaluation import run_active_learning
    >>> X, y = load_digits(return_X_y=True)
    >>> records = run_active_learning(
    ...     LogisticRegression(max_iter=1000), random_sampling, X[:1000] / 16, y[:1000],
    ...     X[1000:] / 16, y[1000:], n_instances=30, n_rounds=2,
    ... )
    >>> [record["n_labels"] for record in records]
    [30, 60]
    """
    y_pool, y_test = check_labels(y_pool, "y_pool"), check_labels(y_test, "y_test")
    check_one_kind(y_pool, y_test, "y_pool", "y_test")
    check_known(getattr(estimator, "class_names", None), y_pool, y_test, "y_pool", "y_test")
    X_pool, X_test = _samples(X_pool, y_pool, "X_pool"), _samples(X_test, y_test, "X_test")
    for name, value, least in (
        ("n_instances", n_instances, 1), ("n_rounds", n_rounds, 1), ("random_state", random_state, 0),
    ):  # fmt: skip
        check_integer(name, value, least=least)
    check_n_per_class(n_per_class, least=0)
    query_strategy = get_strategy(query_strategy, name="query_strategy")
    check_abilities(estimator)
    check_measurable(estimator, "estimator")
    n_pool = len(y_pool)
    if n_instances * n_rounds > n_pool:
        raise ValueError(
            f"n_rounds={n_rounds} of n_instances={n_instances} labels need "
            f"{n_instances * n_rounds} samples, but the pool has {n_pool}"
        )
    first_query = _resolve_first_query(first_query, n_pool, n_instances, n_per_class, random_state)
    if from_zero:
        check_from_zero(estimator, "estimator")
    check_can_ask(estimator, query_strategy)
    estimator = clone(estimator)
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=random_state)
    seed_parts(estimator, random_state)
    make_loop: Any = _SelectionLoop
    if n_per_class != 0:
        make_loop = partial(_FullLoop, n_per_class=n_per_class, pseudo_labels=pseudo_labels)
    arguments = (estimator, query_strategy, X_pool, y_pool, n_instances, random_state)
    rounds = _rounds(partial(make_loop, *arguments), n_rounds, first_query, from_zero, random_state)
    records: list[dict[str, Any]] = []
    for round_ in range(0 if from_zero else 1, n_rounds + 1):
        with PeakMemory() as memory:
            rows, figures = next(rounds)
        record = {"round": round_, "n_labels": len(rows), "budget": len(rows) / n_pool}
        record |= (measure if round_ else measure_without_labels)(estimator, X_test, y_test)
        record["class_coverage"] = len(np.unique(y_pool[rows])) / len(np.unique(y_pool))
        record |= figures | {"peak_memory_mib": memory.mib}
        records.append(record)
        if on_round is not None:
            on_round(record)
    return records


def _samples(X: Any, y: np.ndarray, name: str) -> Any:
    """Return samples as an array, if they are as many as their labels; sparse ones stay as they are."""
    array = X if hasattr(X, "toarray") else as_array(X, name)
    if array.shape[0] != len(y):
        raise ValueError(f"{name} has {array.shape[0]} samples, {name.replace('X', 'y')} {len(y)} labels")
    return array


def check_measurable(estimator: Any, name: str) -> None:
    """Refuse a classifier that gives no class probabilities; messages call it by ``name``."""
    if not hasattr(estimator, "predict_proba") and not hasattr(estimator, "predict_logits"):
        raise TypeError(
            f"{name} is a {type(estimator).__name__} without predict_proba; expected a classifier that gives class "
            "probabilities, which are measured"
        )


def check_from_zero(estimator: Any, name: str) -> None:
    """Refuse a classifier that says nothing before it has labels; messages call it by ``name``."""
    if not hasattr(estimator, "zero_shot_proba"):
        raise TypeError(
            f"{name} is a {type(estimator).__name__}; from_zero=True expects a classifier with zero_shot_proba, such "
            "as DualPromptClassifier"
        )
    if estimator.class_names is None:
        raise ValueError(f"{name} has class_names=None; from_zero=True expects names, since there are no labels yet")


def _resolve_first_query(
    first_query: Any, n_pool: int, n_instances: int, n_per_class: int | str | None, random_state: Any
) -> np.ndarray | None:
    """Return the rows of the first round, or None if the strategy chooses."""
    if first_query is None:
        first_query = "random" if n_per_class == 0 else "strategy"
    if isinstance(first_query, str):
        if first_query not in FIRST_QUERIES:
            raise ValueError(f"first_query={first_query!r}; expected rows of the pool or one of {FIRST_QUERIES}")
        if first_query == "strategy":
            return None
        return np.random.default_rng(random_state).permutation(n_pool)[:n_instances]
    rows = np.asarray(first_query)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(np.unique(rows)) != n_instances:
        raise ValueError(f"first_query={first_query!r}; expected n_instances={n_instances} distinct rows")
    if rows.min() < 0 or rows.max() >= n_pool:
        raise ValueError(f"first_query={first_query!r}; expected rows from 0 to {n_pool - 1}")
    return rows


def _rounds(
    make_loop: Callable[[], _Loop], n_rounds: int, first_query: np.ndarray | None, from_zero: bool, random_state: int
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield the labeled rows and the figures of each round."""
    loop = make_loop()
    nothing_asked = {"score_seconds": 0.0, "select_seconds": 0.0}
    if from_zero:
        yield loop.rows, loop.figures() | nothing_asked
    for round_ in range(n_rounds):
        if round_ == 0 and first_query is not None:
            new, seconds = first_query, nothing_asked
        else:
            new, seconds = _timed_query(loop.estimator, loop.query(round_))
        try:
            loop.teach(new)
        except Exception as error:
            labels = loop.y[np.union1d(loop.rows, new)]
            if len(np.unique(labels)) == 1:
                add_note(
                    error,
                    f"with random_state={random_state} the {len(labels)} labels of round {round_ + 1} are of one "
                    f"class, {labels[0]}, which many classifiers refuse; expected more labels per round or other "
                    "seeds",
                )
            raise
        yield loop.rows, loop.figures() | seconds


class _Loop(Protocol):
    """A loop: ``query`` prepares what is timed, ``teach`` trains, ``figures`` are those of the last training."""

    estimator: Any
    y: np.ndarray

    @property
    def rows(self) -> np.ndarray: ...

    def query(self, round_: int) -> Callable[[], np.ndarray]: ...

    def teach(self, rows: np.ndarray) -> None: ...

    def figures(self) -> dict[str, Any]: ...


class _SelectionLoop:
    """modAL's `ActiveLearner`, re-fitted on all labels after every query; it passes the pool where `fit` takes it."""

    def __init__(
        self,
        estimator: Any,
        strategy: Callable[..., Any],
        X: Any,
        y: np.ndarray,
        n_instances: int,
        random_state: Any,
    ):
        from modAL.models import ActiveLearner

        self.estimator, self.strategy, self.X, self.y = estimator, strategy, X, y
        self.n_instances, self.random_state = n_instances, random_state
        fit_without_labels(estimator, X, n_per_class=0)
        self.learner = ActiveLearner(estimator)
        self.rows = np.empty(0, dtype=np.intp)
        self.seconds = 0.0

    def query(self, round_: int) -> Callable[[], np.ndarray]:
        unlabeled = np.setdiff1d(np.arange(len(self.y)), self.rows)
        seed = np.random.SeedSequence([self.random_state, round_]).generate_state(1)[0] >> 1
        self.learner.query_strategy = _seeded(self.strategy, int(seed))
        pool = self.X[unlabeled]
        return lambda: unlabeled[self.learner.query(pool, n_instances=self.n_instances)[0]]

    def teach(self, rows: np.ndarray) -> None:
        start = time.perf_counter()
        self.learner.teach(self.X[rows], self.y[rows], **pool_argument(self.estimator, self.X))
        self.seconds = time.perf_counter() - start
        self.rows = np.concatenate([self.rows, rows])

    def figures(self) -> dict[str, Any]:
        return {"n_pseudo": 0, "pseudo_accuracy": None, "train_seconds": self.seconds}


class _FullLoop:
    """`DualPromptLearner`: a first round without labels, then pseudo-labels beside the labels."""

    def __init__(
        self,
        estimator: Any,
        strategy: Callable[..., Any],
        X: Any,
        y: np.ndarray,
        n_instances: int,
        random_state: Any,
        n_per_class: int | str | None,
        pseudo_labels: str,
    ):
        self.estimator, self.y, self.n_instances = estimator, y, n_instances
        self.learner = DualPromptLearner(
            estimator, X, query_strategy=strategy, n_per_class=n_per_class, pseudo_labels=pseudo_labels, y_pool=y,
            random_state=random_state, calibration=None,  # what each says of itself is measured
        ).start()  # fmt: skip

    @property
    def rows(self) -> np.ndarray:
        rows: np.ndarray = self.learner.rows_
        return rows

    def query(self, round_: int) -> Callable[[], np.ndarray]:
        return lambda: self.learner.query(n_instances=self.n_instances)[0]

    def teach(self, rows: np.ndarray) -> None:
        self.learner.teach(rows=rows, y=self.y[rows])

    def figures(self) -> dict[str, Any]:
        record = self.learner.log_[-1]
        names = ("n_pseudo", "pseudo_accuracy", "estimated_accuracy", "train_seconds")
        return {name: record[name] for name in names} | {"pool_accuracy": record["accuracy"]}


def _seeded(strategy: Callable[..., Any], seed: int) -> Callable[..., Any]:
    """Return the strategy with a seed for its draws, unless its ``random_state`` is set."""

    def query(classifier: Any, X_pool: Any, n_instances: int = 1) -> Any:
        rows, scores = call_strategy(strategy, classifier, X_pool, n_instances, seed)
        return format_query(rows, scores)

    return query


def _timed_query(estimator: Any, query: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return the result of a query, and its seconds inside and outside of the classifier."""
    with scoring_clock(estimator) as scoring:
        start = time.perf_counter()
        result = query()
        seconds = time.perf_counter() - start
    return result, {"score_seconds": scoring[0], "select_seconds": max(0.0, seconds - scoring[0])}
