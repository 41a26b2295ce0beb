"""Detection of scikit-learn's estimators that replace labels by numbers before they pass them on."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

# Modules whose estimators pass 0 to k - 1 for the k labels that they were given, sorted.
NUMBERING = ("sklearn.ensemble._voting", "sklearn.ensemble._stacking", "sklearn.ensemble._bagging")
# Functions that their workers run, in processes where the estimators themselves cannot be seen.
WORKERS = ("_fit_single_estimator", "_parallel_build_estimators")
CROSS_VALIDATION = "sklearn.model_selection._validation"
BINARY = "sklearn.multiclass"  # passes 0 and 1: one class against the rest, or against another


@dataclass(frozen=True)
class Numbering:
    """The estimator that numbers the labels of the current `fit`, and the meaning of the numbers.

    ``labels`` are the labels by number, or None if they cannot be seen; with ``binary``, 0 and 1 stand
    for groups of classes.
    """

    by: str
    labels: tuple[Any, ...] | None
    binary: bool = False


def numbering() -> Numbering | None:
    """Search the calling functions; return None unless an estimator that numbers labels is among them."""
    by, labels, seen, in_worker = "", None, set(), False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if not str(module).startswith("sklearn."):  # before Python 3.13, to look at variables keeps them alive
            frame = frame.f_back
            continue
        owner: Any = frame.f_locals.get("self")
        found = None
        if module == BINARY and hasattr(owner, "classes_"):
            return Numbering(type(owner).__name__, None, binary=len(owner.classes_) > 2)
        if module in NUMBERING and isinstance(getattr(owner, "classes_", None), np.ndarray):
            found = (id(owner), type(owner).__name__, owner.classes_)
        elif module == CROSS_VALIDATION and function == "cross_val_predict" and "le" in frame.f_locals:
            found = (id(frame), function, frame.f_locals["le"].classes_)
        in_worker |= function in WORKERS
        if function == "_fit_and_predict":  # of `cross_val_predict`
            in_worker |= frame.f_locals.get("method") != "predict"
        if found is not None and found[0] not in seen:
            seen.add(found[0])
            outer = tuple(found[2].tolist())
            # Numbers of an inner one are positions in what it was given, which an outer one may have numbered.
            labels = outer if labels is None else tuple(outer[k] if isinstance(k, int) else k for k in labels)
            by = by or found[1]
        frame = frame.f_back
    if by:
        return Numbering(by, labels)
    return Numbering("an estimator", None) if in_worker else None


def check_numbering(class_names: Any, names: Sequence[Any], y: np.ndarray) -> None:
    """Refuse or warn if the numbers in y are not positions in the list of class names.

    ``names`` are the names that the numbers would be taken for.

    Raises
    ------
    ValueError
        If a number stands for another class than the name at its position.
    """
    found = numbering()
    if found is None:
        return
    numbers = np.unique(y).tolist()
    if class_names is None:
        shown = "" if found.labels is None else f": class_names={list(found.labels)!r}"
        warnings.warn(
            f"{found.by} numbers the labels before it passes them on, and class_names is None: prompts call the "
            f"classes {names[:3]!r} and so on. Pass their names, sorted as {found.by} sorts them{shown}",
            UserWarning,
            stacklevel=5,
        )
    elif found.binary and len(names) > 2:
        raise ValueError(
            f"{found.by} passes labels 0 and 1, one group of classes against another, but class_names names "
            f"{len(names)} classes; expected this classifier alone, which takes any number of classes"
        )
    elif found.labels is not None:
        _compare(found.by, found.labels, names, numbers)
    elif list(names) != sorted(names) or len(numbers) < len(names):
        warnings.warn(
            f"{found.by} numbers the labels before it passes them on: these numbers are positions in class_names "
            "only if the names are sorted and every class has a label",
            UserWarning,
            stacklevel=5,
        )


def _compare(by: str, labels: tuple[Any, ...], names: Sequence[Any], numbers: list[Any]) -> None:
    for number in numbers:
        if not 0 <= number < min(len(labels), len(names)):
            return  # refused elsewhere, as an invalid label
        label = labels[number]
        if names[number] == label or (isinstance(label, int) and label == number):
            continue
        is_name = isinstance(label, str)
        right = list(labels) if is_name else [names[k] if 0 <= k < len(names) else k for k in labels]
        raise ValueError(
            f"{by} passes {number} for the label {label!r}, but class_names has {names[number]!r} at position "
            f"{number}; expected the names of the labels that it is given, in its order: class_names={right!r}"
        )
