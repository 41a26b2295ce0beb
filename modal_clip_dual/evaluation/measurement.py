"""What is measured of a model and of a round: predictions, seconds, memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.special import entr, softmax
from sklearn.metrics import balanced_accuracy_score, f1_score

from ..scores import SCORES
from ..strategies.view import View
from .metrics import auroc_of_correctness, expected_calibration_error, negative_log_likelihood

# Methods by which strategies look at a classifier.
SCORING = (
    "predict", "predict_proba", "predict_logits", "clean_logits", "predict_clean_proba",
    "predict_correct_proba", "zero_shot_proba", "transform", "decision_function",
)  # fmt: skip
INTERVAL = 0.02  # seconds between two looks at the memory


def measure(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    """Measure a fitted classifier on labelled samples.

    Parameters
    ----------
    estimator : classifier or Pipeline
        With ``predict_proba``; what it says of its own labels, by ``predict_logits`` or
        ``predict_correct_proba``, is measured where it has these methods.
    X, y : array-like of n samples, array-like of shape (n,)
        Samples that it was not trained on, and their labels.

    Returns
    -------
    measured : dict
        Fractions from 0 to 1, ``nll`` in nats.  ``accuracy``, ``balanced_accuracy``,
        ``macro_f1``; ``nll`` and ``ece_proba`` of the class probabilities; the AUROC of
        several scores for "the prediction is right": ``auroc_max_proba``, ``auroc_margin``
        and ``auroc_entropy`` of the class probabilities; with a negative prompt
        ``auroc_clean`` (z at the prediction), ``auroc_normalized`` (of its softmax),
        ``auroc_clean_margin``; and of P(correct) ``auroc_correct`` and ``ece_correct``.
    """
    y = np.asarray(y)
    view = View(estimator, X)
    dual = view.find("predict_logits", required=False).has("predict_logits")
    if dual:
        logits, z = view.find("predict_logits").ask("predict_logits")
        proba = softmax(logits.astype(np.float64), axis=1)  # float32 would tie the surest ones
    else:
        proba = np.asarray(view.find("predict_proba").ask("predict_proba"), dtype=np.float64)
    classes = view.classes
    column = proba.argmax(axis=1)
    predicted = classes[column]
    correct = predicted == y
    highest = np.clip(proba.max(axis=1), 0, 1)
    measured = {
        "accuracy": float(correct.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(y, predicted)),
        "macro_f1": float(f1_score(y, predicted, average="macro", labels=np.unique(y))),
        "nll": negative_log_likelihood(*_of_all_classes(proba, classes, y)),
        "ece_proba": expected_calibration_error(highest, correct),
        "auroc_max_proba": auroc_of_correctness(highest, correct),
        "auroc_margin": auroc_of_correctness(_margin(proba), correct),
        "auroc_entropy": auroc_of_correctness(-entr(proba).sum(axis=1), correct),
    }
    if dual:
        for score in SCORES.values():
            if score.of_logits is not None:
                confidence, _ = score.of_logits(z, column)
                measured[f"auroc_{score.column}"] = auroc_of_correctness(confidence, correct)
    says = view.find("predict_correct_proba", required=False)
    if says.has("predict_correct_proba"):
        probability = says.ask("predict_correct_proba")
        measured["auroc_correct"] = auroc_of_correctness(probability, correct)
        measured["ece_correct"] = expected_calibration_error(probability, correct)
    return measured


def _margin(proba: np.ndarray) -> np.ndarray:
    if proba.shape[1] == 1:
        return np.ones(len(proba))
    two = np.partition(proba, proba.shape[1] - 2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def _of_all_classes(
    proba: np.ndarray, classes: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with a column for every class that occurs, and the true columns."""
    every = np.unique(np.concatenate([classes, y]))
    full = np.zeros((len(proba), len(every)))
    full[:, np.searchsorted(every, classes)] = proba
    return full, np.searchsorted(every, y)


@contextmanager
def scoring_clock(estimator: Any) -> Iterator[list[float]]:
    """Sum up the seconds that calls of a classifier's scoring methods take, nested ones once.

    Yields a list whose only entry is the sum.  The methods are wrapped on the objects
    themselves, the last step of a Pipeline included, and are themselves again afterwards.
    """
    seconds, depth = [0.0], [0]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            depth[0] += 1
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    seconds[0] += time.perf_counter() - start

        return call

    owners = [estimator, *(step for _, step in getattr(estimator, "steps", []))]
    wrapped = []
    for owner in owners:
        for name in SCORING:
            if hasattr(type(owner), name) and hasattr(owner, name) and name not in vars(owner):
                setattr(owner, name, timed(getattr(owner, name)))
                wrapped.append((owner, name))
    try:
        yield seconds
    finally:
        for owner, name in wrapped:
            delattr(owner, name)


def resident_mib(children: bool = False) -> float:
    """Resident memory of this process, in MiB; with those that it has started or without."""
    import psutil

    here = psutil.Process()
    total = here.memory_info().rss
    for process in here.children(recursive=True) if children else ():
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            pass
    return float(total / 2**20)


class PeakMemory:
    """Largest `resident_mib` while a block runs, sampled.

    Parameters
    ----------
    children : bool, default=False
        Whether processes that this one started count, too.

    Examples
    --------
    >>> from modal_clip_dual.evaluation.measurement import PeakMemory
    >>> with PeakMemory() as memory:
    ...     _ = bytearray(1000)
    >>> memory.mib > 1
    True
    """

    def __init__(self, children: bool = False):
        self.children = children

    def __enter__(self) -> PeakMemory:
        self.mib = 0.0
        self._stop = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        self.mib = max(self.mib, resident_mib(self.children))

    def _sample(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._look()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
