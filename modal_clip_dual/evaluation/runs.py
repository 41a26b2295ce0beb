"""One active-learning run in a plain modAL loop."""

from __future__ import annotations

import time

import numpy as np
from sklearn.base import clone

from ..strategies.negative_prompt import confidence
from .metrics import auroc_of_correctness, expected_calibration_error


def run_active_learning(
    estimator,
    query_strategy,
    X_pool,
    y_pool,
    X_test,
    y_test,
    *,
    n_instances,
    n_rounds,
    first_rows=None,
    n_pseudo=0,
    random_state=0,
    on_round=None,
):
    """Label ``n_instances`` samples of a pool per round and measure after each round.

    Round 1 labels ``first_rows``, or random rows; every later round queries the strategy
    through modAL's `ActiveLearner` and re-fits on all labels so far.  With ``n_pseudo`` the loop
    is that of `DualPromptLearner`: a round without labels comes before, so that the strategy
    chooses the first rows too, and every round adds pseudo-labels.

    Parameters
    ----------
    estimator : classifier
        Cloned; its ``random_state``, if it has one, becomes the given one.
    query_strategy : callable
        A modAL query strategy.
    X_pool, y_pool : ndarray of n_pool samples, ndarray of shape (n_pool,)
        The pool, and the labels that the loop reveals.
    X_test, y_test : ndarray, ndarray
        What accuracy is measured on; never trained on.
    n_instances : int
        Labels per round.
    n_rounds : int
        Rounds, the first included.
    first_rows : array-like of int, default=None
        Rows of the pool that round 1 labels; without ``n_pseudo``.
    n_pseudo : int, default=0
        Pseudo-labels per class.
    random_state : int, default=0
        Of the estimator and of the random first round.
    on_round : callable, default=None
        Called with each round's record as soon as it is there.

    Returns
    -------
    records : list of dict
        One per round: ``round``, ``n_labels``, ``accuracy``, ``auroc_max_proba``,
        ``train_seconds`` (re-fitting) and ``query_seconds`` (scoring and selecting); with
        a `DualPromptClassifier` also ``auroc_clean`` (of z at the prediction),
        ``auroc_normalized`` (of its softmax over classes) and ``ece_correct`` (of
        `DualPromptClassifier.predict_correct_proba`); and with ``n_pseudo`` ``pseudo_accuracy``,
        ``n_pseudo`` and ``estimated_accuracy`` of `DualPromptLearner`.

    Raises
    ------
    ValueError
        If the rounds need more labels than the pool has.

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
    from modAL.models import ActiveLearner

    n_pool = len(y_pool)
    if n_instances * n_rounds > n_pool:
        raise ValueError(
            f"n_rounds={n_rounds} of n_instances={n_instances} labels need "
            f"{n_instances * n_rounds} samples, but the pool has {n_pool}"
        )
    if n_pseudo:
        if first_rows is not None:
            raise ValueError("first_rows: with n_pseudo the strategy chooses the first rows")
        return _run_full(
            estimator, query_strategy, X_pool, y_pool, X_test, y_test, n_instances, n_rounds,
            n_pseudo, random_state, on_round,
        )  # fmt: skip
    if first_rows is None:
        rng = np.random.default_rng(random_state)
        first_rows = rng.permutation(n_pool)[:n_instances]
    estimator = clone(estimator)
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=random_state)

    unlabelled = np.setdiff1d(np.arange(n_pool), first_rows)
    start = time.perf_counter()
    learner = ActiveLearner(
        estimator,
        query_strategy=query_strategy,
        X_training=X_pool[first_rows],
        y_training=y_pool[first_rows],
    )
    seconds = {"train_seconds": time.perf_counter() - start, "query_seconds": 0.0}
    records = []
    for round_ in range(1, n_rounds + 1):
        if round_ > 1:
            start = time.perf_counter()
            chosen, _ = learner.query(X_pool[unlabelled], n_instances=n_instances)
            queried = time.perf_counter()
            rows = unlabelled[chosen]
            learner.teach(X_pool[rows], y_pool[rows])
            unlabelled = np.delete(unlabelled, chosen)
            seconds = {
                "train_seconds": time.perf_counter() - queried,
                "query_seconds": queried - start,
            }
        record = {"round": round_, "n_labels": n_pool - len(unlabelled)}
        record.update(_measure(learner.estimator, X_test, y_test), **seconds)
        records.append(record)
        if on_round is not None:
            on_round(record)
    return records


def _run_full(
    estimator, query_strategy, X_pool, y_pool, X_test, y_test, n_instances, n_rounds, n_pseudo,
    random_state, on_round,
):  # fmt: skip
    from ..active import DualPromptLearner, Protocol

    learner = DualPromptLearner(
        clone(estimator),
        X_pool,
        query_strategy=query_strategy,
        n_pseudo=n_pseudo,
        y_pool=y_pool,
        random_state=random_state,
    )
    protocol = Protocol(n_rounds, fraction=n_instances / len(y_pool))
    records = []

    def measure(row):
        names = ("round", "n_labels", "n_pseudo", "pseudo_accuracy", "estimated_accuracy")
        names += ("train_seconds", "query_seconds")
        record = {name: row[name] for name in names}
        record["pool_accuracy"] = row["accuracy"]
        record.update(_measure(learner.estimator, X_test, y_test))
        records.append(record)
        if on_round is not None:
            on_round(record)

    learner.run(y_pool, protocol=protocol, on_round=measure)
    return records


def _measure(estimator, X, y) -> dict:
    proba = estimator.predict_proba(X)
    column = proba.argmax(axis=1)
    correct = estimator.classes_[column] == np.asarray(y)
    measured = {
        "accuracy": float(correct.mean()),
        "auroc_max_proba": auroc_of_correctness(proba.max(axis=1), correct),
    }
    if hasattr(estimator, "clean_logits"):
        z = estimator.clean_logits(X)
        for score in ("clean", "normalized"):
            measured[f"auroc_{score}"] = auroc_of_correctness(
                confidence(z, column, score)[0], correct
            )
        measured["ece_correct"] = expected_calibration_error(
            estimator.predict_correct_proba(X), correct
        )
    return measured
