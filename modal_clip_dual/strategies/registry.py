"""The registry that finds query strategies by name, for benchmarks and the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

# A strategy `x_sampling` in the file x.py of this folder is found by its name, x with dashes.  These
# are the other names, each with its function and the arguments to call it with.
_ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "class-balanced-entropy": (f"{__package__}.class_balanced:class_balanced_entropy_sampling", {}),
    "class-balanced-margin": (f"{__package__}.class_balanced:class_balanced_margin_sampling", {}),
    "core-gcn": (f"{__package__}.gcnal:gcnal_sampling", {"selection": "core"}),
    "uncertain-gcn": (f"{__package__}.gcnal:gcnal_sampling", {"selection": "uncertain"}),
    "pcb-badge": (f"{__package__}.pcb:pcb_sampling", {"base": "badge"}),
    "pcb-coreset": (f"{__package__}.pcb:pcb_sampling", {"base": "coreset"}),
    "pcb-entropy": (f"{__package__}.pcb:pcb_sampling", {"base": "entropy", "max_samples": None}),
    "entropy": ("modAL.uncertainty:entropy_sampling", {}),
    "margin": ("modAL.uncertainty:margin_sampling", {}),
    "least-confidence": ("modAL.uncertainty:uncertainty_sampling", {}),
}
# Modules of modAL whose strategies draw nothing but ties, on request.
_DRAWING_NOTHING = ("modAL.uncertainty", "modAL.disagreement", "modAL.batch")
_REGISTERED: dict[str, Callable[..., Any]] = {}  # registered by the user, in this process


@cache
def _known() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name -> function and arguments, sorted by name.

    Nothing is imported before it is used, so that a command line can list the names without
    scikit-learn.
    """
    known = dict(_ALIASES)
    for path in Path(__file__).parent.glob("*.py"):
        where = f"{__package__}.{path.stem}:{path.stem}_sampling"
        aliased = any(where == other for other, _ in _ALIASES.values())
        if not aliased and f"\ndef {path.stem}_sampling(" in path.read_text(encoding="utf-8"):
            known[path.stem.replace("_", "-")] = where, {}
    return dict(sorted(known.items()))


def available_strategies(classifier: Any = None) -> list[str]:
    """List the names that `get_strategy` knows, the registered ones last.

    Parameters
    ----------
    classifier : estimator, default=None
        Leave out the strategies that ask for a method which this classifier does not have, such as
        ``predict_correct_proba``; it need not be fitted.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import available_strategies
    >>> available_strategies()[:3]
    ['alfa-mix', 'auto', 'badge']
    >>> available_strategies(LogisticRegression())[:3]
    ['alfa-mix', 'badge', 'bald']
    """
    names = [*_known(), *(name for name in _REGISTERED if name not in _known())]
    return names if classifier is None else [name for name in names if _can_ask(classifier, name)]


def _can_ask(classifier: Any, name: str) -> bool:
    """Whether a classifier, or what is inside of it, has the method that a strategy asks for."""
    from .asking import lacking

    return lacking(classifier, get_strategy(name)) is None


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
        Name of the argument in error messages.
    **params
        Arguments to call the strategy with, as by `functools.partial`.  A ``random_state`` is left out for
        strategies of modAL that draw nothing: see Notes.

    Returns
    -------
    strategy : callable
        Query strategy in the form that modAL's learners take.

    Raises
    ------
    ValueError
        If the name, module or function does not exist, or the strategy lacks a parameter in ``params``; if
        ``random_state`` and ``random_tie_break=True`` are given to a strategy of modAL.
    TypeError
        If ``strategy`` is neither a name nor a function, or names a function that takes other arguments than a
        query strategy.

    See Also
    --------
    register_strategy : Give your own function a name.

    Notes
    -----
    modAL's ``"entropy"``, ``"margin"`` and ``"least-confidence"``, and its strategies for committees and batches,
    draw nothing.  A ``random_state`` is dropped there, so that one loop over all names can pass it: the answer is the
    same for every value.  ``random_tie_break=True`` makes them draw from NumPy's global generator, which no
    ``random_state`` reaches: the two together are refused.  So are options that a strategy of modAL does not name,
    which it would pass on to ``predict_proba``.

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
        named = [key for key, parameter in known.items() if parameter.kind is not Parameter.VAR_KEYWORD]
        module = _module_of(function)
        takes_any = len(named) < len(known) and not module.startswith("modAL.")
        if module in _DRAWING_NOTHING and "random_state" in params:
            params = _without_random_state(function, params, label)
        unknown = [key for key in params if key not in named and not takes_any]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a parameter of {label}; it has {named}")
    return partial(function, **params) if params else function


def _module_of(strategy: Callable[..., Any]) -> str:
    while isinstance(strategy, partial):
        strategy = strategy.func
    return str(getattr(strategy, "__module__", ""))


def _without_random_state(strategy: Callable[..., Any], params: dict[str, Any], label: str) -> dict[str, Any]:
    """Options of a strategy of modAL without ``random_state``; ValueError where it would have to decide ties."""
    set_before = strategy.keywords if isinstance(strategy, partial) else {}
    if (set_before | params).get("random_tie_break"):
        raise ValueError(
            f"random_state={params['random_state']!r} and random_tie_break=True: {label} is modAL's and breaks ties "
            "by NumPy's global generator; expected one of them, or numpy.random.seed in place of random_state"
        )
    return {key: value for key, value in params.items() if key != "random_state"}


def register_strategy(name: str, strategy: Callable[..., Any], *, replace: bool = False) -> None:
    """Give a query strategy of your own a name for `get_strategy`, in this process.

    Parameters
    ----------
    name : str
        Name without a colon.
    strategy : callable
        ``strategy(classifier, X_pool, n_instances=1, **kwargs)``; returns rows of X_pool, or rows
        and their scores.
    replace : bool, default=False
        Whether to replace a strategy of this name.

    Raises
    ------
    TypeError
        If the strategy cannot be called, or the name is not a string.
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
    if name in available_strategies() and not replace:
        raise ValueError(f"name={name!r} is taken; expected another one, or replace=True")
    _REGISTERED[name] = strategy


def _resolve(strategy: str, name: str) -> Callable[..., Any]:
    if strategy in _REGISTERED:
        return _REGISTERED[strategy]
    entry = _known().get(strategy)
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
    if entry is None:
        _check_call(function, f"{name}={strategy!r}")
    return partial(function, **params) if params else function


def _check_call(function: Callable[..., Any], shown: str) -> None:
    """Refuse a function that cannot be called as a query strategy is; of builtins Python does not know it."""
    try:
        takes = signature(function)
    except ValueError:
        return
    try:
        takes.bind("classifier", "X_pool", n_instances=1)
    except TypeError as error:
        raise TypeError(
            f"{shown} takes the arguments {takes} ({error}); expected a query strategy, "
            "(classifier, X_pool, n_instances=1)"
        ) from error
