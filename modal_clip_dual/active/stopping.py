"""When to stop labeling."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.validation import check_integer, check_number, check_option

BOUNDS = ("estimate", "low")


def check_stopping(stopping: Any) -> None:
    """Refuse what is no list of criteria, functions of the log.

    Raises
    ------
    TypeError
        If ``stopping`` is a single criterion or no collection, or an entry is a class or cannot be called.
    """
    if not isinstance(stopping, Collection) or isinstance(stopping, (str, bytes, Mapping)):
        hint = ": put it in brackets" if callable(stopping) else ""
        raise TypeError(f"stopping={stopping!r} is a {type(stopping).__name__}; expected a list of criteria{hint}")
    for k, criterion in enumerate(stopping):
        if isinstance(criterion, type):
            raise TypeError(
                f"stopping[{k}] is the class {criterion.__name__}; expected a criterion made by it, such as "
                "EstimatedAccuracy(0.9)"
            )
        if not callable(criterion):
            raise TypeError(
                f"stopping[{k}]={criterion!r} cannot be called; expected a criterion, such as "
                "EstimatedAccuracy(0.9), or a function of the log that returns a reason to stop or None"
            )


def reason_of(stopping: Any, log: list[dict[str, Any]]) -> str | None:
    """Return the reason of the first criterion that is met, or None.

    Raises
    ------
    TypeError
        As `check_stopping`, or if a criterion says something else than a reason as text or None.
    """
    check_stopping(stopping)
    for k, criterion in enumerate(stopping):
        reason: Any = criterion(log)
        if isinstance(reason, str):
            return reason
        if reason is not None:
            raise TypeError(
                f"stopping[{k}] returned {reason!r}, a {type(reason).__name__}; expected a reason to stop as text, "
                "or None to go on"
            )
    return None


@dataclass(frozen=True)
class StablePredictions:
    """Stop when the predictions for the pool no longer change from round to round.

    Cohen's kappa between the predictions of successive rounds, at least ``kappa`` on the mean
    of the last ``n_rounds`` (Bloodgood and Vijay-Shanker, CoNLL 2009).

    Parameters
    ----------
    kappa : float, default=0.99
        Mean agreement from which on predictions count as stable, -1 to 1.
    n_rounds : int, default=3
        Rounds that the mean is taken over, at least 1.

    Raises
    ------
    TypeError, ValueError
        If kappa is no number from -1 to 1, or n_rounds no whole number from 1 on.

    Examples
    --------
    >>> from modal_clip_dual.active import StablePredictions
    >>> stop = StablePredictions(kappa=0.99, n_rounds=2)
    >>> stop([{"kappa": None}, {"kappa": 0.995}]) is None
    True
    >>> stop([{"kappa": 1.0}, {"kappa": 0.995}])
    'predictions are stable: mean kappa 0.998 over 2 rounds'
    """

    kappa: float = 0.99
    n_rounds: int = 3

    def __post_init__(self) -> None:
        check_number("kappa", self.kappa, -1, 1, ends="low high")
        check_integer("n_rounds", self.n_rounds, least=1)

    def __call__(self, log: list[dict[str, Any]]) -> str | None:
        """Say why to stop.

        Parameters
        ----------
        log : list of dict
            ``log_`` of the learner.

        Returns
        -------
        reason : str or None
            None to go on.
        """
        last = [record["kappa"] for record in log][-self.n_rounds :]
        if len(last) < self.n_rounds or None in last or np.mean(last) < self.kappa:
            return None
        return f"predictions are stable: mean kappa {np.mean(last):.3f} over {self.n_rounds} rounds"


@dataclass(frozen=True)
class EstimatedAccuracy:
    """Stop when the accuracy estimated from P(correct) reaches a target.

    With ``DualPromptLearner(calibration=None)`` the estimate by prompts themselves was 7 to 30 points too low on the
    digits (docs/literal-prompts.md), so it stops late; docs/correctness.md has figures with a judge.

    Parameters
    ----------
    target : float
        Accuracy, 0 to 1.
    bound : {"estimate", "low"}, default="estimate"
        What has to reach the target: the estimate, or the lower end of its 90% interval, which stops later
        and needs a learner that gives one: see ``calibration`` of `DualPromptLearner`.

    Raises
    ------
    TypeError, ValueError
        If target is no number from 0 to 1, or bound is unknown.

    Examples
    --------
    >>> from modal_clip_dual.active import EstimatedAccuracy
    >>> stop = EstimatedAccuracy(0.9)
    >>> stop([{"estimated_accuracy": 0.85}]) is None
    True
    >>> stop([{"estimated_accuracy": 0.91}])
    'estimated accuracy 91.0% has reached 90.0%'
    >>> EstimatedAccuracy(0.9, bound="low")([{"estimated_accuracy": 0.94, "accuracy_interval": [0.91, 0.96]}])
    'estimated accuracy 94.0%, at least 91.0%, has reached 90.0%'
    """

    target: float
    bound: str = "estimate"

    def __post_init__(self) -> None:
        check_number("target", self.target, 0, 1, ends="low high")
        check_option("bound", self.bound, BOUNDS)

    def __call__(self, log: list[dict[str, Any]]) -> str | None:
        """Say why to stop.

        Parameters
        ----------
        log : list of dict
            ``log_`` of the learner.

        Returns
        -------
        reason : str or None
            None to go on.

        Raises
        ------
        ValueError
            If ``bound="low"`` and the log has an estimate without an interval.
        """
        if not log or log[-1]["estimated_accuracy"] is None:
            return None
        estimate = reached = log[-1]["estimated_accuracy"]
        least = ""
        if self.bound == "low":
            interval = log[-1].get("accuracy_interval")
            if interval is None:
                raise ValueError(
                    "bound='low', but the log has no accuracy_interval; expected DualPromptLearner("
                    "calibration='judge', 'own' or 'transductive'), or a CalibratedCorrectness"
                )
            reached = interval[0]
            least = f", at least {reached:.1%},"
        if reached < self.target:
            return None
        return f"estimated accuracy {estimate:.1%}{least} has reached {self.target:.1%}"
