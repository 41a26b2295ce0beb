"""How strategies speak to whatever modAL calls a classifier."""

from __future__ import annotations

import numpy as np


def ask(classifier, X, method: str) -> np.ndarray:
    """Call a method of the estimator inside `classifier`.

    Goes through modAL's learners, fitted searches and Pipelines (whose other steps
    transform X first) to the first object that has the method.  The answers of a
    Committee's members are averaged.

    Raises
    ------
    TypeError
        If nothing inside has the method; names it.
    ValueError
        If the members of a Committee do not know the same classes.
    """
    members = getattr(classifier, "learner_list", None)
    if members is None:
        inner, X = _find(classifier, X, method)
        return getattr(inner, method)(X)
    answers, classes = [], []
    for member in members:
        inner, transformed = _find(member, X, method)
        answers.append(getattr(inner, method)(transformed))
        classes.append(getattr(inner, "classes_", None))
    for other in classes[1:]:
        if not np.array_equal(classes[0], other):
            raise ValueError(
                f"the members of the Committee know different classes: {classes[0]} and {other}; "
                "give all of them the same class_names, and fit all or none"
            )
    return np.mean(answers, axis=0)


def classes_of(classifier) -> np.ndarray:
    """Labels of the columns of what `ask` returns, sorted."""
    members = getattr(classifier, "learner_list", None)
    inner, _ = _find(members[0] if members else classifier, None, "classes_")
    return inner.classes_


def _find(classifier, X, method):
    """The object inside `classifier` that has the method, and X as that object sees it."""
    inner = classifier
    while not hasattr(inner, method):
        if hasattr(inner, "best_estimator_"):
            inner = inner.best_estimator_
        elif hasattr(inner, "steps"):
            if len(inner.steps) > 1 and X is not None:
                X = inner[:-1].transform(X)
            inner = inner.steps[-1][1]
        elif hasattr(inner, "estimator") and not hasattr(inner, "cv_results_"):
            inner = inner.estimator
        else:
            raise TypeError(
                f"this query strategy needs a classifier with the method {method}(X), such as "
                f"DualPromptClassifier; got {type(classifier).__name__}"
                + ("" if inner is classifier else f" around {type(inner).__name__}")
            )
    return inner, X
