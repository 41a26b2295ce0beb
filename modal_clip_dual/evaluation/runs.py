"""One active-learning run: a loop with an oracle, measured after every round."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone

from .._compat import format_query
from ..strategies.view import call_strategy
from .measurement import PeakMemory, measure, scoring_clock

FIRST = ("random", "strategy")


def run_active_learning(
    estimator: Any,
    query_strategy: Callable[..., Any],
    X_pool: Any,
    y_pool: Any,
    X_test: Any,
    y_test: Any,
    *,
    n_instances: int,
    n_rounds: int,
    first_rows: Any = None,
    n_pseudo: int = 0,
    random_state: Any = 0,
    on_round: Callable[[dict[str, Any]], Any] | None = None,
) -> list[dict[str, Any]]:
    """Label ``n_instances`` samples of a pool per round and measure after each round.

    "Selection only" (``n_pseudo=0``): modAL's `ActiveLearner` queries the strategy and re-fits on
    all labels so far.  "Full" (``n_pseudo`` > 0): the loop of `DualPromptLearner`, in which a
    round without labels comes before, and every round adds pseudo-labels.

    Parameters
    ----------
    estimator : classifier
        Cloned; its ``random_state``, if it has one, becomes the given one.  With ``n_pseudo`` a
        `DualPromptClassifier`.
    query_strategy : callable
        A modAL query strategy.  If it takes a ``random_state`` and was given none, it gets one
        that follows from ``random_state`` and the round.
    X_pool, y_pool : array of n_pool samples, ndarray of shape (n_pool,)
        The pool, and the labels that the loop reveals.
    X_test, y_test : array, ndarray
        What is measured on; never trained on.
    n_instances : int
        Labels per round.
    n_rounds : int
        Rounds, the first included.
    first_rows : array-like of int, "random", "strategy" or None, default=None
        Rows of the pool that round 1 labels: given; drawn by ``random_state``; or chosen by the
        strategy, which then has to do without labels.  None is ``"random"`` for selection only
        and ``"strategy"`` with ``n_pseudo``.
    n_pseudo : int, default=0
        Pseudo-labels per class.
    random_state : int, default=0
        Of everything that is drawn.
    on_round : callable, default=None
        Called with each round's record as soon as it is there.

    Returns
    -------
    records : list of dict
        One per round: ``round``, ``n_labels``, ``budget`` (n_labels / n_pool), what
        ``measurement.measure`` measures on the test set, ``class_coverage`` (share of the pool's
        classes that have a label), ``n_pseudo``, ``pseudo_accuracy`` (None without),
        ``train_seconds``, ``score_seconds`` (of the query, in methods of the classifier),
        ``select_seconds`` (the rest of the query) and ``peak_memory_mib`` (resident, of the whole
        process, at most during the round); with ``n_pseudo`` also ``estimated_accuracy`` and
        ``pool_accuracy`` of `DualPromptLearner`.

    Raises
    ------
    ValueError
        If the rounds need more labels than the pool has, or ``first_rows`` does not fit.
    TypeError
        If ``n_pseudo`` is given with another estimator than a `DualPromptClassifier`.

    See Also
    --------
    compare_strategies : Many such runs, with the same first rounds and splits.

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
    y_pool, y_test = np.asarray(y_pool), np.asarray(y_test)
    n_pool = len(y_pool)
    if n_instances * n_rounds > n_pool:
        raise ValueError(
            f"n_rounds={n_rounds} of n_instances={n_instances} labels need "
            f"{n_instances * n_rounds} samples, but the pool has {n_pool}"
        )
    first_rows = _resolve_first_rows(first_rows, n_pool, n_instances, n_pseudo, random_state)
    estimator = clone(estimator)
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=random_state)
    loop = _full if n_pseudo else _selection_only
    extra = {"n_pseudo": n_pseudo} if n_pseudo else {}
    rounds = loop(
        estimator, query_strategy, X_pool, y_pool, n_instances, n_rounds, first_rows,
        random_state, **extra,
    )  # fmt: skip
    records: list[dict[str, Any]] = []
    while True:
        with PeakMemory() as memory:
            state = next(rounds, None)
        if state is None:
            return records
        classifier, rows, figures = state
        record = {"round": len(records) + 1, "n_labels": len(rows), "budget": len(rows) / n_pool}
        record |= measure(classifier, X_test, y_test)
        record["class_coverage"] = len(np.unique(y_pool[rows])) / len(np.unique(y_pool))
        record |= figures | {"peak_memory_mib": memory.mib}
        records.append(record)
        if on_round is not None:
            on_round(record)


def _resolve_first_rows(
    first_rows: Any, n_pool: int, n_instances: int, n_pseudo: int, random_state: Any
) -> np.ndarray | None:
    """Rows of the first round; None where the strategy is to choose."""
    if first_rows is None:
        first_rows = "strategy" if n_pseudo else "random"
    if isinstance(first_rows, str):
        if first_rows not in FIRST:
            raise ValueError(f"first_rows={first_rows!r}; expected rows of the pool or one of {FIRST}")
        if first_rows == "strategy":
            return None
        return np.random.default_rng(random_state).permutation(n_pool)[:n_instances]
    rows = np.asarray(first_rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(np.unique(rows)) != n_instances:
        raise ValueError(f"first_rows={first_rows!r}; expected n_instances={n_instances} distinct rows")
    if rows.min() < 0 or rows.max() >= n_pool:
        raise ValueError(f"first_rows={first_rows!r}; expected rows from 0 to {n_pool - 1}")
    return rows


def _selection_only(
    estimator: Any,
    strategy: Callable[..., Any],
    X: Any,
    y: np.ndarray,
    n_instances: int,
    n_rounds: int,
    first_rows: np.ndarray | None,
    random_state: Any,
) -> Iterator[tuple[Any, np.ndarray, dict[str, Any]]]:
    """Yield the classifier, the labelled rows and the figures of each round."""
    from modAL.models import ActiveLearner

    learner = ActiveLearner(estimator)
    rows = np.empty(0, dtype=np.intp)
    for round_ in range(n_rounds):
        figures = {"n_pseudo": 0, "pseudo_accuracy": None}
        unlabelled = np.setdiff1d(np.arange(len(y)), rows)
        if round_ == 0 and first_rows is not None:
            new, seconds = first_rows, {"score_seconds": 0.0, "select_seconds": 0.0}
        else:
            seed = np.random.SeedSequence([random_state, round_]).generate_state(1)[0] >> 1
            learner.query_strategy = _seeded(strategy, int(seed))
            (chosen, *_), seconds = _timed_query(
                estimator, partial(learner.query, X[unlabelled], n_instances=n_instances)
            )
            new = unlabelled[chosen]
        start = time.perf_counter()
        learner.teach(X[new], y[new])
        seconds["train_seconds"] = time.perf_counter() - start
        rows = np.concatenate([rows, new])
        yield estimator, rows, figures | seconds


def _full(
    estimator: Any,
    strategy: Callable[..., Any],
    X: Any,
    y: np.ndarray,
    n_instances: int,
    n_rounds: int,
    first_rows: np.ndarray | None,
    random_state: Any,
    n_pseudo: int,
) -> Iterator[tuple[Any, np.ndarray, dict[str, Any]]]:
    from ..active import DualPromptLearner

    learner = DualPromptLearner(
        estimator,
        X,
        query_strategy=strategy,
        n_pseudo=n_pseudo,
        y_pool=y,
        random_state=random_state,
    ).start()
    for round_ in range(n_rounds):
        if round_ == 0 and first_rows is not None:
            rows, seconds = first_rows, {"score_seconds": 0.0, "select_seconds": 0.0}
        else:
            (rows, _), seconds = _timed_query(
                estimator, partial(learner.query, n_instances=n_instances)
            )
        learner.teach(rows=rows, y=y[rows])
        record = learner.log_[-1]
        names = ("n_pseudo", "pseudo_accuracy", "estimated_accuracy", "train_seconds")
        figures = {name: record[name] for name in names} | {"pool_accuracy": record["accuracy"]}
        yield estimator, learner.rows_, figures | seconds


def _seeded(strategy: Callable[..., Any], seed: int) -> Callable[..., Any]:
    """The strategy, whose draws follow from a seed where it was not told otherwise."""

    def query(classifier: Any, X_pool: Any, n_instances: int = 1) -> Any:
        rows, scores = call_strategy(strategy, classifier, X_pool, n_instances, seed)
        return format_query(rows, scores)

    return query


def _timed_query(estimator: Any, query: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a query returns, and its seconds in the classifier and beside it."""
    with scoring_clock(estimator) as scoring:
        start = time.perf_counter()
        result = query()
        seconds = time.perf_counter() - start
    return result, {"score_seconds": scoring[0], "select_seconds": max(0.0, seconds - scoring[0])}
