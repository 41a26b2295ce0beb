"""Query strategies by name, for benchmarks and the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

# Name -> where the function is, and arguments that make it what the name says.  Resolved at
# first use, so that a command line can list the names without importing scikit-learn.
_STRATEGIES: dict[str, tuple[str, dict[str, Any]] | Callable[..., Any]] = {
    "negative-prompt": ("modal_clip_dual:negative_prompt_sampling", {}),
    "random": ("modal_clip_dual:random_sampling", {}),
    "entropy": ("modAL.uncertainty:entropy_sampling", {}),
    "margin": ("modAL.uncertainty:margin_sampling", {}),
    "least-confidence": ("modAL.uncertainty:uncertainty_sampling", {}),
    "class-balanced-entropy": ("modal_clip_dual:class_balanced_entropy_sampling", {}),
    "class-balanced-margin": ("modal_clip_dual:class_balanced_margin_sampling", {}),
    "coreset": ("modal_clip_dual:coreset_sampling", {}),
    "badge": ("modal_clip_dual:badge_sampling", {}),
    "alfa-mix": ("modal_clip_dual:alfa_mix_sampling", {}),
    "core-gcn": ("modal_clip_dual:gcnal_sampling", {"selection": "core"}),
    "uncertain-gcn": ("modal_clip_dual:gcnal_sampling", {"selection": "uncertain"}),
    "cec": ("modal_clip_dual:cec_sampling", {}),
    "pcb-badge": ("modal_clip_dual:pcb_sampling", {"base": "badge"}),
    "pcb-coreset": ("modal_clip_dual:pcb_sampling", {"base": "coreset"}),
    "pcb-entropy": ("modal_clip_dual:pcb_sampling", {"base": "entropy"}),
    "typiclust": ("modal_clip_dual:typiclust_sampling", {}),
    "probcover": ("modal_clip_dual:probcover_sampling", {}),
    "dropquery": ("modal_clip_dual:dropquery_sampling", {}),
}


def available_strategies() -> list[str]:
    """Names that `get_strategy` knows, the registered ones last.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> from modal_clip_dual.strategies import available_strategies
    >>> available_strategies()[:3]
    ['negative-prompt', 'random', 'entropy']
    """
    return list(_STRATEGIES)


def get_strategy(
    strategy: str | Callable[..., Any], *, name: str = "strategy", **params: Any
) -> Callable[..., Any]:
    """Return a query strategy by its name.

    Parameters
    ----------
    strategy : str or callable
        A name of `available_strategies`; ``"package.module:function"`` for any other function; or
        the function itself.
    name : str, default="strategy"
        What errors call the argument.
    **params
        Arguments that the strategy is to be called with, as by `functools.partial`.

    Returns
    -------
    strategy : callable
        As modAL's learners take it.

    Raises
    ------
    ValueError
        If there is no such name, module or function, or it has no such parameter.
    TypeError
        If it is neither a name nor a function.

    See Also
    --------
    register_strategy : Give a function of your own a name.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import get_strategy
    >>> coreset = get_strategy("coreset", random_state=0)
    >>> learner = ActiveLearner(LogisticRegression(), query_strategy=coreset)
    """
    if not isinstance(strategy, str):
        if not callable(strategy):
            raise TypeError(
                f"{name}={strategy!r}; expected a query strategy, which can be called, or its name"
            )
        function, label = strategy, getattr(strategy, "__name__", repr(strategy))
    else:
        function, label = _resolve(strategy, name), strategy
    if params:
        known = signature(function).parameters
        takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in known.values())
        unknown = [key for key in params if key not in known and not takes_any]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no parameter of {label}; it has {list(known)}")
        function = partial(function, **params)
    return function


def register_strategy(name: str, strategy: Callable[..., Any], *, replace: bool = False) -> None:
    """Give a query strategy of your own a name for `get_strategy`, in this process.

    Parameters
    ----------
    name : str
        Without a colon.
    strategy : callable
        ``strategy(classifier, X_pool, n_instances=1, **kwargs)``; returns rows of X_pool, or rows
        and their scores.
    replace : bool, default=False
        Take the place of a strategy of this name.

    Raises
    ------
    TypeError
        If the strategy cannot be called, or the name is no string.
    ValueError
        If the name is empty, has a colon, or is taken.

    Examples
    --------
    >>> from modal_clip_dual import get_strategy, register_strategy
    >>> def first(classifier, X_pool, n_instances=1):
    ...     return list(range(n_instances))
    >>> register_strategy("first", first, replace=True)
    >>> get_strategy("first") is first
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"name={name!r}; expected a string")
    if not name or ":" in name:
        raise ValueError(f"name={name!r}; expected a name without a colon")
    if not callable(strategy):
        raise TypeError(f"strategy={strategy!r} cannot be called; expected a query strategy")
    if name in _STRATEGIES and not replace:
        raise ValueError(f"name={name!r} is taken; expected another one, or replace=True")
    _STRATEGIES[name] = strategy


def _resolve(strategy: str, name: str) -> Callable[..., Any]:
    entry = _STRATEGIES.get(strategy)
    if callable(entry):
        return entry
    if entry is None and ":" not in strategy:
        raise ValueError(
            f"{name}={strategy!r}; expected one of {available_strategies()}, or "
            '"package.module:function"'
        )
    path, params = entry or (strategy, {})
    module, _, attribute = path.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{name}={strategy!r} cannot be imported: {error}") from error
    if not callable(function):
        raise TypeError(f"{name}={strategy!r} is a {type(function).__name__}; expected a function")
    return partial(function, **params) if params else function
