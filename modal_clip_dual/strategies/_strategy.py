"""The decorator of query strategies: checks before the mathematics, and the return form after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import BoundArguments, signature
from typing import Any, ParamSpec

from sklearn.utils.validation import _num_samples

from .._compat import format_query
from ..utils.selection import generator_of
from ..utils.validation import check_device, check_n_instances, validated
from .view import View

P = ParamSpec("P")


def query_strategy(**constraints: Any) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Turn a function with the mathematics alone into a query strategy.

    The function has the signature and the docstring of the strategy: ``strategy(classifier, X_pool,
    n_instances=1, random_tie_break=False, *, ..., random_state=None)``.  Before it runs, all arguments are
    checked and resolved:

    - ``classifier`` is a `View` of the classifier and X_pool;
    - ``n_instances`` is an int, 1 to the number of samples;
    - ``random_state`` is a NumPy generator;
    - ``random_tie_break`` is the same generator where ties are to be broken at random, else None;
    - ``device``, if it has this parameter, exists.

    The function returns rows of the pool and their metrics; the strategy returns what the installed modAL expects.

    Parameters
    ----------
    **constraints
        Allowed values of the other parameters, by name, as in scikit-learn's `_parameter_constraints`.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, Any]:
        known = signature(function)

        @validated(**constraints)
        @wraps(function)
        def strategy(*args: P.args, **kwargs: P.kwargs) -> Any:
            resolved = _resolve(known.bind(*args, **kwargs), "X_pool")
            rows, metrics = function(*resolved.args, **resolved.kwargs)
            return format_query(rows, metrics)

        vars(strategy)["takes_views"] = True
        return strategy

    return decorate


def query_utility(**constraints: Any) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Turn a function into a utility, ``utility(classifier, X, ...)``; see `query_strategy`.

    The function gets a `View` as ``classifier``, and a generator as ``random_state``; it returns a
    value per sample.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, Any]:
        known = signature(function)

        @validated(**constraints)
        @wraps(function)
        def utility(*args: P.args, **kwargs: P.kwargs) -> Any:
            resolved = _resolve(known.bind(*args, **kwargs), "X")
            return function(*resolved.args, **resolved.kwargs)

        return utility

    return decorate


def _resolve(bound: BoundArguments, name: str) -> BoundArguments:
    """Check the arguments that all strategies share, and replace them by their resolved forms."""
    bound.apply_defaults()
    given = bound.arguments
    X = given[name]
    if "n_instances" in given:
        given["n_instances"] = check_n_instances(given["n_instances"], _num_samples(X))
    elif not _num_samples(X):
        raise ValueError(f"{name} is empty; expected at least one sample")
    check_device(given.get("device"))
    if "random_state" in given:
        given["random_state"] = generator_of(given["random_state"])
    if "random_tie_break" in given:
        given["random_tie_break"] = given["random_state"] if given["random_tie_break"] else None
    given["classifier"] = _view_of(given["classifier"], X, name)
    return bound


def _view_of(classifier: Any, X: Any, name: str) -> View:
    """Return the view that was passed as the classifier, if it is of these samples; else a new one."""
    if not isinstance(classifier, View):
        return View(classifier, X, name)
    return classifier if classifier.X is X else View(classifier.classifier, X, name)
