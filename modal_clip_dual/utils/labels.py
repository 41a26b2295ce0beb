"""Labels, classes and what the classes are called in a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets


def check_labels(y: Any, name: str = "y") -> np.ndarray:
    """Return y as a 1-d array of labels; messages call it by its name.

    Raises
    ------
    ValueError
        If there are none, one is missing, or they are no class labels.
    """
    if y is None:
        raise ValueError("DualPromptClassifier requires y to be passed, but the target y is None")
    try:
        y = column_or_1d(y, warn=True)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise ValueError(f"{name} holds sequences among its labels; expected one label each") from error
        if "Complex" in str(error):
            raise ValueError(f"{name}: Complex data not supported; expected class labels") from error
        raise ValueError(f"{name} is no array of labels: {error}") from error
    if y.dtype == object and any(isinstance(label, complex) for label in y):
        raise ValueError(f"{name}: Complex data not supported; expected class labels")
    if y.dtype.kind == "f":
        check_array(y, ensure_2d=False, dtype=None, input_name=name)
    if y.dtype == object and any(label is None for label in y):
        row = next(row for row, label in enumerate(y) if label is None)
        raise ValueError(f"{name}[{row}] is None; expected a label for every sample")
    if y.dtype == object and all(isinstance(label, (Integral, np.bool_)) for label in y):
        y = np.array(y.tolist())  # whole numbers, as a column of a table may hold them
    try:
        check_classification_targets(y)
    except TypeError as error:
        raise ValueError(
            f"{name} has labels that cannot be sorted ({error}); expected one type"
        ) from error
    labels: np.ndarray = y
    return labels


def resolve_labels(class_names: Any, y: Any) -> tuple[np.ndarray, list[str], Any]:
    """Return (classes, names, target) of `class_names` and labels y, None if there are none.

    `classes` is sorted and ``names[k]`` is what ``classes[k]`` is called in a prompt.
    """
    if class_names is None:
        classes = np.unique(y)
        names = [str(label) for label in classes.tolist()]
    elif isinstance(class_names, Mapping):
        try:
            classes = np.unique(np.array(list(class_names)))
            names = [class_names[label] for label in classes.tolist()]
            if len(classes) != len(class_names):
                raise TypeError("labels that became equal")
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"class_names has labels of several types: {list(class_names)!r}; expected all "
                "integers or all strings"
            ) from error
    else:
        names = list(class_names)
        classes = np.arange(len(names))
        if y is not None and are_names(y):
            order = sorted(range(len(names)), key=lambda k: str(names[k]))
            names = [names[k] for k in order]
            classes = np.array(names) if all(isinstance(n, str) for n in names) else classes
    for name in names:
        if not isinstance(name, str) or not name.replace("_", " ").strip():
            raise ValueError(
                f"class_names contains {name!r}; expected a non-empty string for every class"
            )
    if len(names) < 2:
        raise ValueError(
            f"class_names names {len(names)} class(es): {names!r}; expected at least two"
            if class_names is not None
            else f"y contains one class only ({names!r}), and class_names is None; expected at "
            "least two classes"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"class_names contains {twice!r} more than once; expected distinct names")
    return classes, names, None if y is None else encode_labels(y, classes)


def encode_labels(y: np.ndarray, classes: np.ndarray, name: str = "y") -> np.ndarray:
    """Positions of the labels y in `classes`; ValueError with the row of one that is not there."""
    position = {label: k for k, label in enumerate(classes.tolist())}
    target = np.empty(len(y), dtype=np.int64)
    for row, label in enumerate(y.tolist()):
        if label not in position:
            shown = classes.tolist()
            known = f"{shown[:10]!r}" + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
            raise ValueError(
                f"{name}[{row}] is {label!r}, which is not a label of class_names; expected one "
                f"of {known}"
            )
        target[row] = position[label]
    return target


def are_names(labels: np.ndarray) -> bool:
    """Whether labels are texts, and not numbers."""
    return labels.dtype.kind in "OUST"


def as_labels(labels: np.ndarray, like: np.ndarray, class_names: Any) -> np.ndarray:
    """Positions in a list of class names as names, or names as positions, as `like` has them."""
    if class_names is None or isinstance(class_names, Mapping):
        return labels
    if labels.dtype.kind in "iu" and are_names(like):
        named: np.ndarray = np.array(list(class_names))[labels]
        return named
    if are_names(labels) and like.dtype.kind in "iu":
        position = {name: k for k, name in enumerate(class_names)}
        return np.array([position[name] for name in labels.tolist()], dtype=like.dtype)
    return labels
