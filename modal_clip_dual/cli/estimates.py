"""How long a benchmark takes, from a few steps and images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone

from ..active.abilities import MOST_TRANSDUCED
from ..classifier import MOVED
from ..data.images import kind_of
from ..evaluation.plan import Plan, Run

REPETITIONS = 3  # of what is timed


def estimate_seconds(plan: Plan, runs: Sequence[Run]) -> float:
    """Estimate the seconds of training prompts and of encoding images of some runs, from a few steps and images.

    Images that several classifiers see through the same frozen tower count once.  The training of classifiers that
    have no epochs is left out.
    """
    rng = np.random.default_rng(0)
    n_sample = min(64, len(plan.y))
    rows = rng.permutation(len(plan.y))[:n_sample]
    whole: Any = plan.X  # None in a plan without data alone
    X, y = whole[rows], plan.y[rows]
    images = 0 if kind_of(whole) == "embeddings" else plan.n_pool + plan.n_test
    total = 0.0
    encoded: dict[tuple[str, ...], Any] = {}
    by_estimator: dict[str, list[Run]] = {}
    for run in runs:
        by_estimator.setdefault(run.names["estimator"], []).append(run)
    for same in by_estimator.values():
        clf = clone(same[0].estimator).set_params(cache=None, verbose=0)
        moved = getattr(clf, "visual_prompts", None) is not None
        seen = X
        if images and not moved:
            clip = (clf.model_name, str(clf.pretrained), clf.precision, clf.device)
            if clip not in encoded:
                encoded[clip] = clf.transform(X)  # loads the model and warms up
                total += shortest(partial(clf.transform, X)) / n_sample * images
            seen = encoded[clip]
        if not hasattr(clf, "max_epochs"):
            continue
        clf.set_params(max_epochs=1).fit(seen, y)
        per_step = shortest(partial(clf.fit, seen, y)) / -(-n_sample // clf.batch_size)
        total += per_step * sum(_steps(plan, run, same[0].estimator) for run in same)
        if moved:
            total += shortest(partial(clf.predict, X)) / n_sample * images * plan.n_rounds * len(same)
    return total


def shortest(work: Callable[[], Any]) -> float:
    """Return the seconds of the fastest of a few times: others that share the machine make single ones long."""
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def crowded() -> str | None:
    """Say what to do where threads of torch would wait for cores that others use; None where there are enough.

    Threads of one sum wait for each other, so one that gets no core stops all of them.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads == 1 or not hasattr(os, "getloadavg"):
        return None
    load = os.getloadavg()[0]
    if load + threads <= cores + 1:
        return None
    return (
        f"{load:.0f} processes share the {cores} cores, and torch takes {threads} threads that wait for each other: "
        "it may be many times faster with one, OMP_NUM_THREADS=1 before the command"
    )


def _steps(plan: Plan, run: Run, clf: Any) -> int:
    """Count the training steps of a run; a step with pseudo-labels counts as many as it has batches' worth."""
    from ..nn.training import number_of_epochs, steps_per_epoch

    pseudo = run.n_per_class * plan.n_classes if isinstance(run.n_per_class, int) else plan.n_pool
    if run.n_per_class == "auto":
        pseudo = min(pseudo, MOST_TRANSDUCED)
    pseudo_batch = (clf.net_params or {}).get(*MOVED["pseudo_batch_size"])
    steps = 0
    for round_ in range(0 if pseudo else 1, plan.n_rounds + 1):
        per_epoch = steps_per_epoch(round_ * plan.n_instances, pseudo, clf.batch_size, pseudo_batch)
        steps += per_epoch * number_of_epochs(clf.max_epochs, clf.min_steps, per_epoch)
    return steps


def duration(seconds: float) -> str:
    """Write seconds in the unit that suits them."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
