"""The meaning of labels that scikit-learn's estimators replace by numbers before they pass them on.

Such an estimator clones the classifier, and passes it positions in its own sorted labels.  These labels are found
among the calling functions, at the clone and again at the fit.  A clone keeps what was found: it may be fitted in
another process, where they are out of sight.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import numpy as np

# Modules whose estimators pass 0 to k - 1 for the k labels that they were given, sorted.
NUMBERING = ("sklearn.ensemble._voting", "sklearn.ensemble._stacking", "sklearn.ensemble._bagging")
# Functions that their workers run, in processes where the estimators themselves cannot be seen.
WORKERS = ("_fit_single_estimator", "_parallel_build_estimators")
CROSS_VALIDATION = "sklearn.model_selection._validation"
BINARY = "sklearn.multiclass"  # passes 0 and 1: one class against the rest, or against another
# What was found where joblib took the first clones from a generator: it takes later ones in a thread of its own,
# whose calls begin with that generator.  By the number of the generator's frame; the last ones only.
_GENERATORS: dict[int, Numbering] = {}
N_GENERATORS = 64
TWO_CLASSES = ("OneVsRestClassifier", "OneVsOneClassifier")  # of two classes, 0 is the first and 1 the second


@dataclass(frozen=True)
class Numbering:
    """The estimator that numbers labels, and the meaning of the numbers.

    ``labels`` are the labels by number, or None if they cannot be seen; with ``binary``, 0 and 1 stand
    for groups of classes.  ``owners`` are the estimators and functions that were seen.
    """

    by: str
    labels: tuple[Any, ...] | None
    binary: bool = False
    owners: frozenset[tuple[int, int]] = frozenset()


def numbering(known: Numbering | None = None) -> Numbering | None:
    """Search the calling functions; return None unless an estimator that numbers labels is among them.

    ``known`` is what was found when the classifier, or the one that it was cloned from, was cloned.
    """
    found = _among_callers()
    if found is None or known is None:
        return found or known
    if found.labels is None or found.owners <= known.owners:
        return known if not found.binary else found
    if known.labels is None or known.owners <= found.owners:
        return found
    # Further out than can be seen from here, those of `known` numbered what was passed to those that are seen.
    outer = known.labels
    labels = tuple(outer[k] if isinstance(k, int) and 0 <= k < len(outer) else k for k in found.labels)
    return replace(found, labels=labels, owners=found.owners | known.owners)


def _among_callers() -> Numbering | None:
    by, labels, owners, generators, in_worker, in_binary = "", None, set(), [], False, False
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if not str(module).startswith("sklearn."):  # before Python 3.13, to look at variables keeps them alive
            frame = frame.f_back
            continue
        owner: Any = frame.f_locals.get("ensemble" if function == "_parallel_build_estimators" else "self")
        found = None
        if function == "<genexpr>" and module in (*NUMBERING, CROSS_VALIDATION):
            generators.append(id(frame))
        if module == BINARY:
            in_binary |= function in ("_fit_binary", "_fit_ovo_binary")
            if hasattr(owner, "classes_"):
                name = type(owner).__name__
                if len(owner.classes_) > 2 or name not in TWO_CLASSES:
                    return Numbering(name, None, binary=True)
                in_binary, found = False, (id(owner), name, owner.classes_)
        elif module in NUMBERING and isinstance(getattr(owner, "classes_", None), np.ndarray):
            found = (id(owner), type(owner).__name__, owner.classes_)
        elif module == CROSS_VALIDATION and function == "cross_val_predict" and "le" in frame.f_locals:
            found = (id(frame), function, frame.f_locals["le"].classes_)
        in_worker |= function in WORKERS
        if function == "_fit_and_predict":  # of `cross_val_predict`
            in_worker |= frame.f_locals.get("method") != "predict"
        if found is not None and (os.getpid(), found[0]) not in owners:
            owners.add((os.getpid(), found[0]))
            outer = tuple(found[2].tolist())
            # Numbers of an inner one are positions in what it was given, which an outer one may have numbered.
            labels = outer if labels is None else tuple(outer[k] if isinstance(k, int) else k for k in labels)
            by = by or found[1]
        frame = frame.f_back
    if in_binary:
        return Numbering("an estimator that makes one classifier of several", None, binary=True)
    if by:
        seen = Numbering(by, labels, owners=frozenset(owners))
        for generator in generators:
            while len(_GENERATORS) >= N_GENERATORS:
                _GENERATORS.pop(next(iter(_GENERATORS)), None)
            _GENERATORS[generator] = seen
        return seen
    known = next((_GENERATORS[generator] for generator in generators if generator in _GENERATORS), None)
    if known is not None:
        return known
    return Numbering("an estimator in a worker process", None) if in_worker else None


def names_of_numbers(class_names: Any, y: np.ndarray, known: Numbering | None = None) -> list[str] | None:
    """Return the name of each number in y, if an estimator has numbered the labels; None if the numbers are labels.

    Parameters
    ----------
    class_names : list, mapping or None
        The class names of the classifier.
    y : ndarray of int
    known : Numbering, optional
        See `numbering`.

    Raises
    ------
    ValueError
        If what the numbers mean cannot be known, or is one class against others.
    """
    found = numbering(known)
    if found is None:
        return None
    names = None if class_names is None else list(class_names)
    if found.binary:
        if names is not None and len(names) == 2:
            return None
        shown = "class_names is None" if names is None else f"class_names names {len(names)} classes"
        raise ValueError(
            f"{found.by} passes labels 0 and 1, one group of classes against another, but {shown}; expected this "
            "classifier alone, which takes any number of classes"
        )
    if found.labels is not None:
        return [_name_of(label, class_names, found.by) for label in found.labels]
    listed = names is not None and not isinstance(class_names, Mapping)
    if not listed or names != sorted(names or []) or len(np.unique(y)) < len(names or []):
        raise ValueError(
            f"y holds numbers that {found.by} made of the labels, and the labels cannot be seen from there; expected "
            "class_names with the names of all labels, sorted, or n_jobs=None of that estimator"
        )
    return None


def _name_of(label: Any, class_names: Any, by: str) -> str:
    """Return what a label is called."""
    if class_names is None:
        return str(label)
    if isinstance(class_names, Mapping):
        if label in class_names:
            return str(class_names[label])
    else:
        names: Sequence[str] = list(class_names)
        if label in names:
            return str(label)
        if isinstance(label, int) and 0 <= label < len(names):
            return names[label]
    raise ValueError(
        f"y of {by} has the label {label!r}, which is not a label of class_names; expected one of {class_names!r}"
    )
