"""Labels, classes and what the classes are called in a prompt."""

from __future__ import annotations

import re
import reprlib
import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from .arrays import as_sequence
from .numbering import Numbering, names_of_numbers

LABELS = "expected a 1-d array of class labels"
WHOLE_NUMBERS = "expected class labels, which are whole numbers or text"
TOO_LARGE = 2.0**63  # for an int64
DIGITS = re.compile(r"\d+")
WHOLE = re.compile(r"\s*([+-]?\d+)(\.0*)?\s*")  # texts that say a whole number


def check_labels(y: Any, name: str = "y") -> np.ndarray:
    """Return y as a 1-d array of labels; messages call it by its name.

    Raises
    ------
    ValueError
        If there are none, one is missing, or they are no class labels.
    TypeError
        If y could only be asked for items without end, as a torch Dataset.
    """
    if y is None:
        # The words that scikit-learn's check_estimator looks for, with the name of the argument.
        raise ValueError(f"this call requires {name} to be passed, but the target {name} is None; {LABELS}")
    y = as_sequence(y, name, LABELS)
    check_missing(y, name)
    try:
        y = column_or_1d(y, warn=True)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            row, label = next((k, one) for k, one in enumerate(y) if np.iterable(one) and not isinstance(one, str))
            shown = f"{name}[{row}] is {reprlib.repr(label)}, a sequence among labels"
            raise ValueError(f"{shown}; expected one label each") from error
        if "Complex" in str(error):
            raise ValueError(f"{name}: Complex data not supported; expected class labels") from error
        raise ValueError(f"{name} is no array of labels: {error}") from error
    if y.dtype == object and any(isinstance(label, complex) for label in y):
        raise ValueError(f"{name}: Complex data not supported; expected class labels")
    if y.dtype == object and all(isinstance(label, (Integral, np.bool_)) for label in y):
        y = np.array(y.tolist())  # whole numbers, as a column of a table may hold them
    elif y.dtype == object and all(isinstance(label, (Real, np.bool_)) for label in y):
        y = y.astype(float)
    elif y.dtype == object:
        _refuse_other_types(y, name)
    if y.dtype.kind == "f":
        _refuse_fractions(y, name)
    try:
        check_classification_targets(y)
    except TypeError as error:
        raise ValueError(
            f"{name} has labels that cannot be sorted ({error}); expected one type"
        ) from error
    labels: np.ndarray = y
    return labels


def _refuse_other_types(y: np.ndarray, name: str) -> None:
    """Refuse objects that are neither all text nor all numbers."""
    kinds = ["text" if isinstance(label, str) else "number" if isinstance(label, Real) else None for label in y]
    row = next((row for row, kind in enumerate(kinds) if kind is None or kind != kinds[0]), None)
    if row is not None:
        beside = f", beside {y[0]!r}" if kinds[row] is not None else ""
        raise ValueError(
            f"{name}[{row}] is {reprlib.repr(y[row])}, a {type(y[row]).__name__}{beside}. Unknown label type: "
            f"unknown; {WHOLE_NUMBERS}, all of one type"
        )


def _refuse_fractions(y: np.ndarray, name: str) -> None:
    """Refuse floats that are no whole numbers; the message has scikit-learn's words and the row."""
    numbers = y.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wrong = ~((numbers == np.trunc(numbers)) & (np.abs(numbers) < TOO_LARGE))
    if not wrong.any():
        return
    row = int(wrong.argmax())
    label = float(numbers[row])
    if np.isinf(label):
        raise ValueError(f"{name}[{row}] is {label}: Input {name} contains infinity; {WHOLE_NUMBERS}")
    what = "too large for a whole number" if label.is_integer() else "no whole number"
    raise ValueError(f"{name}[{row}] is {label}, {what}. Unknown label type: continuous; {WHOLE_NUMBERS}")


def check_missing(y: Any, name: str = "y") -> None:
    """Refuse labels of which one is missing: None, NaN, NA, NaT, or masked.

    Asked before NumPy sees a list, since NumPy makes the text "nan" of a NaN beside texts.

    Raises
    ------
    ValueError
        Names the row.
    """
    if isinstance(y, np.ma.MaskedArray):
        entries: Any = np.ma.getmaskarray(y).ravel()
        row = int(entries.argmax()) if entries.any() else None
    else:
        dtype = getattr(y, "dtype", None)
        if isinstance(dtype, np.dtype) and dtype.kind not in "fO":
            return
        entries = y if isinstance(y, (list, tuple)) else _entries(y)
        row = next((row for row, label in enumerate(entries) if _is_missing(label)), None)
    if row is not None:
        missing = "masked" if isinstance(y, np.ma.MaskedArray) else repr(entries[row])
        raise ValueError(f"{name}[{row}] is missing ({missing}); expected a label for every sample")


def _entries(y: Any) -> Any:
    array = np.asarray(y, dtype=None if isinstance(getattr(y, "dtype", None), np.dtype) else object)
    return array.ravel() if array.ndim else []


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, (float, np.floating)) and bool(np.isnan(label))


def resolve_labels(
    class_names: Any, y: Any, numbered: Numbering | None = None
) -> tuple[np.ndarray, list[str], Any]:
    """Return (classes, names, target) of `class_names` and labels y, None if there are none.

    `classes` is sorted and ``names[k]`` is what ``classes[k]`` is called in a prompt.  ``numbered`` is what a
    clone knows of the estimator that numbers its labels.
    """
    classes, names = resolve_classes(class_names, y, numbered)
    return classes, names, None if y is None else encode_labels(y, classes)


def resolve_classes(class_names: Any, y: Any, numbered: Numbering | None = None) -> tuple[np.ndarray, list[str]]:
    """Return (classes, names) as `resolve_labels` does, without a look at single labels."""
    if y is not None and y.dtype.kind in "iu":
        meant = names_of_numbers(class_names, y, numbered)
        if meant is not None:
            _check_names(class_names, meant)
            return np.arange(len(meant)), meant
    if class_names is None:
        classes = np.unique(y)
        names = [str(label) for label in classes.tolist()]
        _warn_of_texts_for_missing(names, classes)
    elif isinstance(class_names, Mapping):
        classes, names = _from_mapping(class_names)
    else:
        names = list(class_names)
        classes = np.arange(len(names))
        if y is not None and are_names(y):
            order = sorted(range(len(names)), key=lambda k: str(names[k]))
            names = [names[k] for k in order]
            classes = np.array(names) if all(isinstance(n, str) for n in names) else classes
    _check_names(class_names, names)
    if y is not None and y.dtype.kind in "iu" and class_names is not None and not isinstance(class_names, Mapping):
        _warn_of_numbers_as_names(names, y)
    return classes, names


def _from_mapping(class_names: Mapping[Any, Any]) -> tuple[np.ndarray, list[Any]]:
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
    if names and all(isinstance(label, str) for label in class_names) and not any(isinstance(n, str) for n in names):
        inverse = {value: label for label, value in list(class_names.items())[:3]}
        raise ValueError(
            f"class_names maps names to {type(names[0]).__name__}; expected what each label is called, "
            f"such as {inverse!r}"
        )
    return classes, names


def _check_names(class_names: Any, names: list[Any]) -> None:
    for name in names:
        if not isinstance(name, str) or not name.replace("_", " ").strip():
            hint = ": class_names.to_pylist()" if hasattr(name, "as_py") else ""  # of pyarrow
            raise ValueError(
                f"class_names contains {name!r}; expected a non-empty string for every class{hint}"
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


def _warn_of_texts_for_missing(names: list[str], classes: np.ndarray) -> None:
    """NumPy makes these texts of values that are missing."""
    found = [name for name in names if name in ("nan", "None", "NaN", "NaT", "<NA>")] if are_names(classes) else []
    if found:
        warnings.warn(
            f"y has the label {found[0]!r}: a missing value that became a text? It is taken for a class; name the "
            "classes in class_names, or leave these samples out",
            UserWarning,
            stacklevel=5,
        )


def _numbers_in(names: list[str]) -> dict[int, int]:
    """Positions of the names that say a number, by that number.

    Names such as "3 stars" and "level 2" count only if all have one number, each another, without a gap.
    """
    matches = [WHOLE.fullmatch(name) for name in names]
    numbers = {int(match[1]): k for k, match in enumerate(matches) if match}
    if numbers:
        return numbers
    found = [DIGITS.findall(name) for name in names]
    if any(len(said) != 1 for said in found):
        return {}
    numbers = {int(said): k for k, (said,) in enumerate(found)}
    gapless = len(numbers) == len(names) and min(numbers) in (0, 1) and max(numbers) - min(numbers) == len(names) - 1
    return numbers if gapless else {}


def _warn_of_numbers_as_names(names: list[str], y: np.ndarray) -> None:
    """Whole numbers are positions in a list of names; these may be meant as names that say numbers."""
    meant = _numbers_in(names)
    if not meant or all(number == k for number, k in meant.items()):
        return
    labels = np.unique(y).tolist()
    if all(label in meant for label in labels) and any(meant[label] != label for label in labels):
        label = next(label for label in labels if meant[label] != label)
        at = repr(names[label]) if 0 <= label < len(names) else "nothing"
        how = "pass them as text: numpy.asarray(y).astype(str)"
        if not WHOLE.fullmatch(names[meant[label]]):
            shown = ", ".join(f"{number}: {names[k]!r}" for number, k in list(meant.items())[:2])
            how = f"pass a mapping: class_names={{{shown}, ...}}"
        warnings.warn(
            f"y holds whole numbers and class_names numbers as text: label {label} is read as a position, which is "
            f"{at}, though there is a class {names[meant[label]]!r}. If y holds names, {how}; if they are positions, "
            "pass a mapping: class_names=dict(enumerate(names))",
            UserWarning,
            stacklevel=5,
        )


def same_meaning(class_names: Any, classes: np.ndarray, names: list[str]) -> bool:
    """Whether class names give labels the meaning that they have in a fit; see `check_meaning`."""
    try:
        check_meaning(class_names, classes, names)
    except ValueError:
        return False
    return True


def check_meaning(class_names: Any, classes: np.ndarray, names: list[str]) -> None:
    """Refuse class names that give another meaning to the labels of a fit.

    ``classes`` and ``names`` are those of the fit.  Labels that are names keep their meaning
    whatever the order; a class that was appended changes nothing.

    Raises
    ------
    ValueError
        Names the first label that means another class by now.
    """
    if class_names is None or (are_names(classes) and not isinstance(class_names, Mapping)):
        return
    try:
        now = class_names if isinstance(class_names, Mapping) else dict(enumerate(class_names))
    except TypeError:  # no list of names at all, which other checks say
        return
    for label, name in zip(classes.tolist(), names):
        if label in now and now[label] != name:
            raise ValueError(
                f"class_names has changed since the fit: label {label!r} stood for {name!r} and would now stand for "
                f"{now[label]!r}; expected the same order (classes may be appended), or a new fit"
            )


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
                f"of {known}{_other_positions(label, y, shown)}"
            )
        target[row] = position[label]
    return target


def _other_positions(label: Any, y: np.ndarray, known: list[Any]) -> str:
    """A hint at positions that somebody else counted, for the end of a message."""
    if known != list(range(len(known))) or y.dtype.kind not in "iu":
        return ""
    if label == len(known) and y.min() >= 1:
        return (
            ": labels are positions in class_names, from 0. If these begin at 1, pass y - 1, or a mapping: "
            "class_names=dict(enumerate(names, start=1))"
        )
    if label == -1:
        return ". pandas and scikit-learn give -1 to what is missing or in no cluster"
    return ""


def labels_of_partial_fit(
    class_names: Any,
    y: np.ndarray,
    classes: Any,
    so_far: tuple[np.ndarray, list[str]] | None,
    numbered: Numbering | None = None,
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return (classes, names, target) of checked labels in ``partial_fit``; ``so_far`` has those of the last fit.

    Raises
    ------
    ValueError
        If ``classes`` differs from the classes known so far, or a label is not one of them.
    """
    if so_far is not None:
        known, names = so_far
        target = encode_labels(y, known)
    elif class_names is None and classes is not None:
        known, names, _ = resolve_labels(None, np.asarray(classes))
        target = encode_labels(y, known)
    else:
        known, names, target = resolve_labels(class_names, y, numbered)
    if classes is not None and not np.array_equal(np.unique(classes), known):
        raise ValueError(f"classes={classes!r} differs from the classes known so far: {known.tolist()}")
    return known, names, target


def check_one_kind(labels: np.ndarray, others: np.ndarray, name: str, others_name: str) -> None:
    """Refuse names beside numbers, in checked labels of two parts of the same data.

    Raises
    ------
    ValueError
        Names both arguments, each with one of its labels.
    """
    if len(labels) and len(others) and are_names(labels) != are_names(others):
        kinds = ("names", "numbers") if are_names(labels) else ("numbers", "names")
        one, other = labels[:1].tolist()[0], others[:1].tolist()[0]
        raise ValueError(
            f"{name} holds {kinds[0]} such as {one!r}, {others_name} {kinds[1]} such as {other!r}; expected one kind"
        )


def check_known(class_names: Any, labels: np.ndarray, others: np.ndarray | None, name: str, others_name: str) -> None:
    """Refuse checked labels that class names do not have, in two parts of the same data, of which one may be None.

    What the labels may be mistaken for is left to the fit to warn of.

    Raises
    ------
    ValueError
        If the class names do not fit, or a label is none of theirs; names its row.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        check_known_labels(labels, class_names, name)
        if others is not None:
            check_known_labels(others, class_names, others_name)


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


def check_new_labels(y: np.ndarray, before: np.ndarray, after: np.ndarray, class_names: Any) -> None:
    """Refuse labels y that cannot be trained on, alone or together with those that count with them.

    Raises
    ------
    ValueError
        Names what does not fit.
    """
    if len(before) and are_names(y) != are_names(before):
        kinds = ("positions", "names") if are_names(y) else ("names", "positions")
        old, new = before[:1].tolist()[0], y[:1].tolist()[0]
        raise ValueError(
            f"the labels so far are {kinds[0]} such as {old!r}, y holds {kinds[1]} such as {new!r}; "
            "expected one kind"
        )
    if class_names is not None:
        check_known_labels(y, class_names)
    else:
        resolve_classes(None, after)  # which refuses a single class
        encode_labels(y, np.unique(np.concatenate([after, y])))


def check_known_labels(y: np.ndarray, class_names: Any, name: str = "y") -> None:
    """Refuse checked labels that are none of the classes; with ``class_names=None`` every label is one.

    Raises
    ------
    ValueError
        Names the first that is no class.
    """
    if class_names is not None:
        encode_labels(y, resolve_classes(class_names, y)[0], name)
