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
    """
    members = getattr(classifier, "learner_list", None)
    if members is not None:
        return np.mean([ask(member, X, method) for member in members], axis=0)
    inner = classifier
    while not hasattr(inner, method):
        if hasattr(inner, "best_estimator_"):
            inner = inner.best_estimator_
        elif hasattr(inner, "steps"):
            if len(inner.steps) > 1:
                X = inner[:-1].transform(X)
            inner = inner.steps[-1][1]
        elif hasattr(inner, "estimator"):
            inner = inner.estimator
        else:
            raise TypeError(
                f"this query strategy needs a classifier with the method {method}(X), such as "
                f"DualPromptClassifier; got {type(classifier).__name__}"
                + ("" if inner is classifier else f" around {type(inner).__name__}")
            )
    return getattr(inner, method)(X)
