"""How strategies speak to whatever modAL calls a classifier."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ..utils.arrays import as_array
from ._equal import alike, first_equal

if TYPE_CHECKING:
    import torch


def ask(classifier: Any, X: Any, method: str) -> np.ndarray:
    """Call a method of the estimator inside `classifier`.

    Goes through modAL's learners, fitted searches and Pipelines (whose other steps
    transform X first) to the first object that has the method.  The answers of a
    Committee's members are averaged.  Equal samples get equal answers.

    Raises
    ------
    TypeError
        If nothing inside has the method; names it.
    ValueError
        If the members of a Committee do not know the same classes.
    """
    members = getattr(classifier, "learner_list", None)
    if members is None:
        inner, transformed = find(classifier, X, method)
        answer: np.ndarray = alike(getattr(inner, method)(transformed), first_equal(X))
        return answer
    answers: list[Any] = []
    classes: list[Any] = []
    for member in members:
        inner, transformed = find(member, X, method)
        answers.append(getattr(inner, method)(transformed))
        classes.append(getattr(inner, "classes_", None))
    for other in classes[1:]:
        if not np.array_equal(classes[0], other):
            raise ValueError(
                f"the members of the Committee know different classes: {classes[0]} and {other}; "
                "give all of them the same class_names, and fit all or none"
            )
    mean: np.ndarray = alike(np.mean(answers, axis=0), first_equal(X))
    return mean


def classes_of(classifier: Any) -> np.ndarray:
    """Labels of the columns of what `ask` returns, sorted."""
    members = getattr(classifier, "learner_list", None)
    inner, _ = find(members[0] if members else classifier, None, "classes_")
    classes: np.ndarray = inner.classes_
    return classes


def ask_proba(classifier: Any, X: Any) -> np.ndarray:
    """Class probabilities (n, C), of zero-shot CLIP if the classifier was never fitted.

    Raises
    ------
    TypeError
        If it has no ``predict_proba``.
    NotFittedError
        If it was never fitted and has no ``zero_shot_proba``.
    """
    try:
        return ask(classifier, X, "predict_proba")
    except NotFittedError as error:
        try:
            return ask(classifier, X, "zero_shot_proba")
        except TypeError:
            raise NotFittedError(
                f"this {type(classifier).__name__} was never fitted, so it has no class "
                "probabilities; fit it on a first set of labels, or choose these by random_sampling"
            ) from error


def call_strategy(
    strategy: Callable[..., Any],
    classifier: Any,
    X_pool: Any,
    n_instances: int,
    random_state: Any,
    *args: Any,
    **kwargs: Any,
) -> tuple[np.ndarray, Any]:
    """Rows of the pool and their scores (None where modAL knows none) by any strategy.

    Strategies that draw, and were not told how, draw from ``random_state``.
    """
    parameter = signature(strategy).parameters.get("random_state")
    if parameter is not None and parameter.default is None:
        kwargs.setdefault("random_state", random_state)
    chosen = strategy(classifier, X_pool, n_instances, *args, **kwargs)
    rows, scores = chosen if isinstance(chosen, tuple) else (chosen, None)
    return np.asarray(rows), scores


def embed(classifier: Any, X: Any, name: str = "X_pool") -> np.ndarray | torch.Tensor:
    """Embeddings (n, D) of X, an array or a tensor, in which a strategy measures distances.

    What ``transform`` of the estimator inside `classifier` gives; if it has none, X itself as
    it reaches the estimator, after the steps of a Pipeline.  Where the members of a
    Committee embed differently, squared distances are the means of theirs.  Those of equal
    samples are equal.

    Raises
    ------
    TypeError
        If there is no ``transform`` and X is no table of numbers.
    """
    members = getattr(classifier, "learner_list", None)
    if members is None:
        return _embed(classifier, X, name)
    embeddings = [as_array(_embed(member, X, name)) for member in members]
    if all(np.array_equal(embeddings[0], other) for other in embeddings[1:]):
        return embeddings[0]
    joined: np.ndarray = np.hstack(embeddings) / np.sqrt(len(embeddings))
    return joined


def labelled(classifier: Any, required: bool = False) -> tuple[np.ndarray | None, Any]:
    """Embeddings (m, D) and labels (m,) of the training data of a modAL learner.

    Of a Committee all members' data, each sample once.  None and None before the first labels,
    and for what is no learner.

    Raises
    ------
    ValueError
        If labels are ``required`` and the classifier is no learner.
    """
    members = getattr(classifier, "learner_list", None) or [classifier]
    if required and not hasattr(members[0], "X_training"):
        raise ValueError(
            "this query strategy compares the pool with labelled samples, which "
            f"{_describe(classifier)} does not hold: it has no X_training; expected a modAL learner"
        )
    parts = [
        (member.X_training, member.y_training)
        for member in members
        if getattr(member, "X_training", None) is not None and len(member.y_training)
    ]
    if not parts:
        return None, None
    embeddings = np.concatenate([as_array(embed(classifier, X, "X_training")) for X, _ in parts])
    labels = np.concatenate([y for _, y in parts])
    if len(parts) > 1:
        _, first = np.unique(embeddings, axis=0, return_index=True)
        embeddings, labels = embeddings[np.sort(first)], labels[np.sort(first)]
    return embeddings, labels


def linear_head(classifier: Any, X: Any) -> tuple[np.ndarray | torch.Tensor, np.ndarray, np.ndarray]:
    """Embeddings (n, D) of X, and the weights (C, D) and biases (C,) of their classifier.

    Raises
    ------
    TypeError
        If the classifier is not linear in its embeddings: it has no ``coef_`` of their width.
    NotFittedError
        If it was never fitted.
    """
    if hasattr(classifier, "learner_list"):
        raise TypeError(
            "this query strategy needs one linear classifier, but a Committee has many; pass one "
            "of its learners"
        )
    inner, inputs = find(classifier, X, "coef_", required=False, through_templates=False)
    if not hasattr(inner, "coef_"):
        if hasattr(inner, "fit"):
            check_is_fitted(inner)
        raise TypeError(
            "this query strategy needs a classifier that is linear in its embeddings, with the "
            f"attribute coef_, such as DualPromptClassifier or LogisticRegression; got "
            f"{_describe(classifier, inner)}"
        )
    weights = np.atleast_2d(as_array(inner.coef_)).astype(np.float32)
    biases = np.broadcast_to(np.float32(getattr(inner, "intercept_", 0.0)), len(weights))
    if len(weights) == 1:  # scikit-learn's binary classifiers give the second class's alone
        weights = np.concatenate([np.zeros_like(weights), weights])
        biases = np.concatenate([np.zeros_like(biases), biases])
    embeddings = _embed(classifier, X, "X_pool")
    if embeddings.shape[1] != weights.shape[1]:  # transform leads elsewhere, as in scikit-learn's LDA
        embeddings = _as_table(inputs, inner, "X_pool")
    if embeddings.shape[1] != weights.shape[1]:
        raise TypeError(
            f"coef_ of {type(inner).__name__} has {weights.shape[1]} columns, its embeddings "
            f"{embeddings.shape[1]}; this query strategy needs a classifier that is linear in them"
        )
    return embeddings, weights, biases


def _embed(classifier: Any, X: Any, name: str) -> np.ndarray | torch.Tensor:
    inner, inputs = find(classifier, X, "transform", required=False)
    if not hasattr(inner, "transform") and inputs is X:
        return _as_table(X, inner, name)
    table = inner.transform(inputs) if hasattr(inner, "transform") else _as_table(inputs, inner, name)
    embeddings: np.ndarray | torch.Tensor = table if hasattr(table, "detach") else np.asarray(table)
    return alike(embeddings, first_equal(X))  # type: ignore[no-any-return]


def _as_table(X: Any, inner: Any, name: str) -> np.ndarray | torch.Tensor:
    table: np.ndarray | torch.Tensor = X if hasattr(X, "detach") else np.asarray(X)
    numbers = hasattr(table, "detach") or table.dtype.kind in "fiu"
    if table.ndim != 2 or not numbers:
        raise TypeError(
            f"this query strategy measures distances: it needs a classifier with the method "
            f"transform(X), such as DualPromptClassifier, or embeddings as {name}, numbers of shape "
            f"(n, D); got {type(inner).__name__} and {name} of shape {tuple(table.shape)} and type "
            f"{table.dtype}"
        )
    return table


def check_has(classifier: Any, inner: Any, method: str) -> None:
    """Refuse a classifier whose innermost object has not the method; names both."""
    if not hasattr(inner, method):
        raise TypeError(
            f"this query strategy needs a classifier with the method {method}(X), such as "
            f"DualPromptClassifier; got {_describe(classifier, inner)}"
        )


def _describe(classifier: Any, inner: Any = None) -> str:
    around = "" if inner in (None, classifier) else f" around {type(inner).__name__}"
    return f"{type(classifier).__name__}{around}"


def _is_learner(inner: Any) -> bool:
    return hasattr(inner, "query") and hasattr(inner, "estimator")


def find(
    classifier: Any, X: Any, method: str, required: bool = True, through_templates: bool = True
) -> tuple[Any, Any]:
    """The object inside `classifier` that has the method, and X as that object sees it.

    If none has it: the innermost object, or an error where the method is ``required``.
    scikit-learn's meta-estimators hold a template of the estimators that they fit;
    ``through_templates``: these are looked into, too.
    """
    inner = classifier
    # modAL's learners have methods that their estimator may lack.
    while not hasattr(inner, method) or _is_learner(inner):
        if _is_learner(inner):
            inner = inner.estimator
        elif hasattr(inner, "best_estimator_"):
            inner = inner.best_estimator_
        elif hasattr(inner, "steps"):
            if len(inner.steps) > 1 and X is not None:
                X = inner[:-1].transform(X)
            inner = inner.steps[-1][1]
        elif (
            hasattr(inner, "estimator")
            and not hasattr(inner, "cv_results_")
            and through_templates
        ):
            inner = inner.estimator
        else:
            if required:
                check_has(classifier, inner, method)
            break
    return inner, X
