"""Labels that are positions mean a class only together with the list of names: they are held together here."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from ..base import CLIPClassifier, check_names
from ..utils.labels import are_names


def kept(class_names: Any) -> Any:
    """A copy of class names, which nobody changes."""
    if class_names is None:
        return None
    return dict(class_names) if isinstance(class_names, Mapping) else list(class_names)


def meanings(class_names: Any, labels: np.ndarray) -> dict[Any, str]:
    """What each label is called; empty where the labels speak for themselves."""
    if class_names is None:
        return {}
    if isinstance(class_names, Mapping):
        return {getattr(label, "item", lambda label=label: label)(): name for label, name in class_names.items()}
    names = [str(name) for name in class_names]
    return {name: name for name in names} if len(labels) and are_names(labels) else dict(enumerate(names))


def check_same_meanings(before: Any, now: Any, given: np.ndarray, trained: Any = None) -> None:
    """Refuse class names by which a label means something else than before; new classes may come.

    ``given`` holds the labels that people gave, ``trained`` those that the model knows, or None.  A class at the end
    that is in neither may go, or get another name.

    Raises
    ------
    ValueError
        Names the first such label.
    """
    if (before is None) != (now is None):
        raise ValueError(f"class_names={now!r}, but labels were given with class_names={before!r}; pass the latter")
    current, said = meanings(now, given), set(given.tolist())
    known = np.empty(0) if trained is None else np.asarray(trained)
    by_model = meanings(before, known)
    learned = {by_model.get(label) for label in known.tolist()}
    for label, name in meanings(before, given).items():
        if current.get(label) == name:
            continue
        if label not in said and name not in learned and name not in current.values():
            continue
        when = "when labels were given" if label in said else "at the last training" if name in learned else "before"
        found = f"is called {current[label]!r} now" if label in current else "is none of them now"
        raise ValueError(
            f"class_names were changed: label {label!r} meant {name!r} {when}, and {found}; "
            "expected the names in their order before, and new ones at the end (add_class adds one)"
        )


def check_readable(estimator: Any, class_names: Any) -> None:
    """Refuse class names that a classifier on a CLIP cannot be trained with; others are not asked.

    Raises
    ------
    ImportError, ValueError
        As `modal_clip_dual.base.check_names`.
    """
    if isinstance(estimator, CLIPClassifier) and class_names is not None:
        check_names(estimator, class_names)


def new_names(before: Any, now: Any) -> list[str]:
    """Names of classes that have come."""
    return [name for name in _names(now) if name not in set(_names(before))]


def _names(class_names: Any) -> list[str]:
    if class_names is None:
        return []
    return list(class_names.values() if isinstance(class_names, Mapping) else class_names)


def label_of_new(class_names: Any, name: str) -> str | None:
    """Label of a class that is about to be added: its name if labels are texts, else None, which takes the next."""
    texts = isinstance(class_names, Mapping) and any(isinstance(label, str) for label in class_names)
    return name if texts else None


def with_class(class_names: Any, name: Any, label: Any = None) -> Any:
    """Class names with one more; ``label`` is that of a dict's.

    Raises
    ------
    ValueError
        If there are no class names, the name or the label is taken, or a label is needed.
    """
    if not isinstance(name, str) or not name.replace("_", " ").strip():
        raise ValueError(f"name={name!r}; expected a non-empty string")
    if class_names is None:
        raise ValueError("class_names is None: classes are those of the labels, so a label of a new class is enough")
    if name in _names(class_names):
        raise ValueError(f"name={name!r} is one of the classes already; expected a new name")
    if not isinstance(class_names, Mapping):
        if label is not None:
            raise ValueError(f"label={label!r}; class_names is a list, in which the new class stands last")
        return [*class_names, name]
    numbered = all(isinstance(key, Integral) for key in class_names)
    label = max(class_names) + 1 if label is None and numbered else label
    if label is None or label in class_names:
        raise ValueError(
            f"label={label!r}; class_names is a dict of labels such as {next(iter(class_names))!r}, so the new class "
            "needs a label that none has yet"
        )
    return {**class_names, label: name}
