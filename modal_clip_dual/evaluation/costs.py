"""The cost of a round: seconds in the classifier, memory of the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Methods of a classifier that strategies call.
SCORING = (
    "predict", "predict_proba", "predict_logits", "clean_logits", "predict_clean_proba",
    "predict_correct_proba", "zero_shot_proba", "transform", "decision_function",
)  # fmt: skip
INTERVAL = 0.02  # seconds between two samples of the memory


@contextmanager
def scoring_clock(estimator: Any) -> Iterator[list[float]]:
    """Sum up the seconds spent in a classifier's scoring methods; nested calls count once.

    It yields a list whose only entry is the sum.  The methods are wrapped on the objects
    themselves, the steps of a Pipeline and the best of a search included, and are restored
    afterward.
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

    owners, wrapped = [estimator], []
    for owner in owners:  # and the objects that a search or a Pipeline holds; the list grows
        owners += [step for _, step in getattr(owner, "steps", [])]
        owners += [owner.best_estimator_] if hasattr(owner, "best_estimator_") else []
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
    """Measure the resident memory of this process, in MiB, with or without its child processes."""
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
    """Sample the largest `resident_mib` while a block runs.

    Parameters
    ----------
    children : bool, default=False
        Whether processes that this one started count, too.

    Examples
    --------
    >>> from modal_clip_dual.evaluation.costs import PeakMemory
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
