"""The one place that knows which modAL and which scikit-learn are installed.

modAL has had no release since 2023.  Two of its calls no longer work with today's
libraries, and `mend_modal` repairs exactly those and one more, each only where it is broken:

- ``check_X_y(..., force_all_finite=...)`` in ``teach`` and ``fit``: scikit-learn 1.8
  removed that argument in favour of ``ensure_all_finite``.
- ``DataFrame.append`` when ``teach`` adds rows of a DataFrame: pandas 2 removed it in
  favour of ``pandas.concat``.

A third call misleads in modAL 0.4.2: ``query`` takes an error of the query strategy, Ctrl-C too,
for a sign that the strategy returns no metrics, runs it again and then takes its rows and metrics
together for the rows.  There the strategy runs once, and its error is the error.

modAL 0.4.1 and 0.4.2 also disagree on what a query strategy returns; `format_query`
gives the form that the installed one expects.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import signature
from types import ModuleType
from typing import Any


@cache
def query_returns_metrics() -> bool:
    """Whether the installed modAL expects (indices, metrics) from a query strategy."""
    from modAL.models.base import BaseLearner

    return "return_metrics" in signature(BaseLearner.query).parameters


def format_query(indices: Any, metrics: Any) -> Any:
    """Return what a query strategy of the installed modAL returns.

    modAL 0.4.2 takes ``(indices, metrics)``; modAL 0.4.1 takes the indices alone and
    would pass a tuple through as if it held the instances.
    """
    return (indices, metrics) if query_returns_metrics() else indices


def _mend_check_X_y(module: ModuleType) -> None:
    check_X_y = module.__dict__.get("check_X_y")
    if check_X_y is None or hasattr(check_X_y, "mended"):
        return
    if "force_all_finite" in signature(check_X_y).parameters:
        return

    @wraps(check_X_y)
    def renamed(*args: Any, force_all_finite: Any = True, **kwargs: Any) -> Any:
        return check_X_y(*args, ensure_all_finite=force_all_finite, **kwargs)

    vars(renamed)["mended"] = True
    vars(module)["check_X_y"] = renamed


def _mend_data_vstack(module: ModuleType) -> None:
    import pandas as pd

    data_vstack = module.__dict__.get("data_vstack")
    if data_vstack is None or hasattr(data_vstack, "mended") or hasattr(pd.DataFrame, "append"):
        return

    @wraps(data_vstack)
    def concatenating(blocks: Any) -> Any:
        if all(isinstance(block, pd.DataFrame) for block in blocks):
            return pd.concat(blocks)
        return data_vstack(blocks)

    vars(concatenating)["mended"] = True
    vars(module)["data_vstack"] = concatenating


def _mend_query(module: ModuleType) -> None:
    for name in ("BaseLearner", "BaseCommittee"):
        learner = module.__dict__.get(name)
        query = None if learner is None else learner.__dict__.get("query")
        if learner is None or query is None or hasattr(query, "mended"):
            continue
        if "return_metrics" in signature(query).parameters:  # the releases that run strategies twice
            learner.query = _asking_once(query)


def _asking_once(query: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(query)
    def asking_once(self: Any, X_pool: Any, *args: Any, **kwargs: Any) -> Any:
        return query(_AskedOnce(self), X_pool, *args, **kwargs)

    vars(asking_once)["mended"] = True
    return asking_once


class _AskedOnce:
    """A learner whose query strategy runs once, and then gives what it gave, errors included."""

    def __init__(self, learner: Any):
        self._learner = learner
        self._answer: tuple[Any] | None = None
        self._error: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)

    def query_strategy(self, _: Any, *args: Any, **kwargs: Any) -> Any:
        if self._error is not None:
            raise self._error
        if self._answer is None:
            try:
                self._answer = (self._learner.query_strategy(self._learner, *args, **kwargs),)
            except BaseException as error:
                self._error = error
                raise
        return self._answer[0]


# modAL's modules copy both names by ``from ... import``, so each copy has to be mended.
_MENDERS = {
    "modAL.utils.data": (_mend_data_vstack,),
    "modAL.utils": (_mend_data_vstack,),
    "modAL.batch": (_mend_data_vstack,),
    "modAL.expected_error": (_mend_data_vstack,),
    "modAL.models.base": (_mend_check_X_y, _mend_data_vstack, _mend_query),
    "modAL.models.learners": (_mend_check_X_y, _mend_data_vstack),
}


class _MendOnImport(MetaPathFinder):
    """Mends a module of modAL right after it has been imported."""

    # Known by this and not by its class: whoever imports this package a second time (coverage
    # tools, notebooks that reload) makes another class of the same name.
    mends_modal = True

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The spec that the other finders have for one of modAL's modules, with the mending added."""
        if fullname not in _MENDERS:
            return None
        for finder in sys.meta_path:
            # Not one of these either: two that ask each other would never end.
            if _is_mender(finder) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                break
        else:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_mend(module: ModuleType) -> None:
            execute(module)
            for mend in _MENDERS[fullname]:
                mend(module)

        loader.exec_module = execute_and_mend
        return spec


def _is_mender(finder: Any) -> bool:
    return getattr(finder, "mends_modal", False) is True


def mend_modal() -> None:
    """Repair modAL for the installed scikit-learn and pandas, now or when it is imported.

    modAL itself is not imported here: that costs seconds, and the user may never need it.
    """
    for name, menders in _MENDERS.items():
        if name in sys.modules:
            for mend in menders:
                mend(sys.modules[name])
    if not any(_is_mender(finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MendOnImport())
