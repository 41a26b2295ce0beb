"""The one place that knows which modAL and which scikit-learn are installed.

modAL has had no release since 2023.  Two of its calls no longer work with today's
libraries, and `mend_modal` repairs those and some more:

- ``check_X_y(..., force_all_finite=...)`` in ``teach`` and ``fit``: scikit-learn 1.8
  removed that argument in favour of ``ensure_all_finite``.
- ``DataFrame.append`` when ``teach`` adds rows of a DataFrame: pandas 2 removed it in
  favour of ``pandas.concat``.  Rows in another container than those before, and Series, were never added.
- ``numpy.float`` in the signature of ``expected_error_reduction``, without which its module cannot
  be imported; and its way through a DataFrame, which took labels of rows for positions.
- ``teach`` and ``fit`` add the samples first and train later: if training is refused, or interrupted, the samples
  stayed, and with a wrong label among them no later ``teach`` could work.  Now all is as before.
- ``__init__`` forgets ``bootstrap_init``, for which a learner could be neither shown nor cloned.

A third call misleads in modAL 0.4.2: ``query`` takes an error of the query strategy, Ctrl-C too,
for a sign that the strategy returns no metrics, runs it again and then takes its rows and metrics
together for the rows.  There the strategy runs once, and its error is the error.

modAL 0.4.1 and 0.4.2 also disagree on what a query strategy returns; `format_query`
gives the form that the installed one expects.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from inspect import Parameter, signature
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
    data_vstack = module.__dict__.get("data_vstack")
    if data_vstack is None or hasattr(data_vstack, "mended"):
        return

    @wraps(data_vstack)
    def stacking(blocks: Any) -> Any:
        if any(hasattr(block, "toarray") for block in blocks):  # sparse
            return data_vstack(blocks)
        return _stacked(blocks[0], blocks[1:])

    vars(stacking)["mended"] = True
    vars(module)["data_vstack"] = stacking


def _stacked(first: Any, others: Any) -> Any:
    """Rows of several containers in one like the first."""
    import numpy as np
    import pandas as pd

    if isinstance(first, pd.DataFrame):
        tables = [_as_table(block, first.columns) for block in others]
        return pd.concat([first, *tables])
    if isinstance(first, list):
        return [*first, *(row for block in others for row in (block.tolist() if hasattr(block, "tolist") else block))]
    arrays = [np.asarray(block) for block in (first, *others)]
    texts = [array.dtype.kind in "OUST" for array in arrays]
    if any(texts) and not all(texts):  # NumPy would make texts of the numbers
        other = arrays[texts.index(not texts[0])]
        raise ValueError(f"rows of {arrays[0].dtype} and of {other.dtype}; expected one kind")
    stacked = np.concatenate(arrays)
    return pd.Series(stacked, name=first.name) if isinstance(first, pd.Series) else stacked


def _as_table(rows: Any, columns: Any) -> Any:
    """Rows as a DataFrame with the columns of another."""
    import numpy as np
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        return rows
    if isinstance(rows, pd.Series):  # one row
        return rows.to_frame().T
    array = np.asarray(rows)
    return pd.DataFrame(array if array.ndim > 1 else array[None], columns=columns)


def _mend_classes(module: ModuleType) -> None:
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    classes: list[Any] = [value for value in own if isinstance(value, type)]
    for cls in classes:
        for name in ("teach", "fit", "rebag"):
            method = cls.__dict__.get(name)
            if method is None or hasattr(method, "mended") or getattr(method, "__isabstractmethod__", False):
                continue
            setattr(cls, name, _whole_or_not(method, checked=name == "teach"))
        init = cls.__dict__.get("__init__")
        if init is not None and not hasattr(init, "mended"):
            cls.__init__ = _remembering(init)


def _whole_or_not(method: Callable[..., Any], checked: bool) -> Callable[..., Any]:
    """A method of a learner that changes nothing if it raises."""

    @wraps(method)
    def whole(self: Any, *args: Any, **kwargs: Any) -> Any:
        from .utils.rollback import unchanged_on_error

        with unchanged_on_error(*_parts(self)):
            if checked and "y" in (given := signature(method).bind(self, *args, **kwargs).arguments):
                _check_labels(self, given["y"])
            return method(self, *args, **kwargs)

    vars(whole)["mended"] = True
    return whole


def _parts(learner: Any) -> list[Any]:
    """A learner, or a committee with its learners, and their estimators with the steps inside."""
    found = [learner]
    for member in getattr(learner, "learner_list", ()):
        found += _parts(member)
    estimator: Any = getattr(learner, "estimator", None)
    if hasattr(estimator, "get_params"):
        inner = [value for value in estimator.get_params(deep=True).values() if hasattr(value, "get_params")]
        found += [thing for thing in (estimator, *inner) if hasattr(thing, "__dict__")]
    return found


def _check_labels(learner: Any, y: Any) -> None:
    """Check labels for a classifier of this package while they are alone, so that a message has their rows."""
    for member in getattr(learner, "learner_list", [learner]):
        classifier = member.estimator
        classifier = getattr(classifier, "_final_estimator", classifier)  # of a Pipeline
        if hasattr(classifier, "predict_correct_proba") and getattr(classifier, "class_names", None) is not None:
            import numpy as np

            from .utils.labels import check_labels, check_new_labels

            before = getattr(member, "y_training", None)
            known = np.empty(0) if before is None else check_labels(before)
            check_new_labels(check_labels(y), known, known, classifier.class_names)


def _remembering(init: Callable[..., Any]) -> Callable[..., Any]:
    """A constructor that stores the arguments which modAL's own forgets, so that ``get_params`` finds them."""

    @wraps(init)
    def remembering(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        bound = signature(init).bind(self, *args, **kwargs)
        bound.apply_defaults()
        for name, value in list(bound.arguments.items())[1:]:
            if bound.signature.parameters[name].kind is not Parameter.VAR_KEYWORD:
                vars(self).setdefault(name, value)

    vars(remembering)["mended"] = True
    return remembering


def _mend_expected_error(module: ModuleType) -> None:
    if hasattr(module.__dict__.get("drop_rows"), "mended"):
        return

    def by_position(X: Any) -> Any:
        """Positions and rows; of a DataFrame as tables of one row."""
        return enumerate(X.iloc[k : k + 1] for k in range(len(X))) if hasattr(X, "iloc") else enumerate(X)

    def without_row(X: Any, row: int) -> Any:
        return X.iloc[[k for k in range(len(X)) if k != row]] if hasattr(X, "iloc") else drop_rows(X, row)

    def with_row(X: Any, row: Any) -> Any:
        import numpy as np

        if hasattr(X, "iloc"):
            return _stacked(X, [row])
        if isinstance(X, np.ndarray):  # images have more than two axes, paths one
            return np.concatenate([X, np.asarray(row, dtype=X.dtype).reshape(1, *X.shape[1:])])
        return add_row(X, row)

    drop_rows, add_row = vars(module)["drop_rows"], vars(module)["add_row"]
    vars(without_row)["mended"] = True
    vars(module).update(enumerate_data=by_position, drop_rows=without_row, add_row=with_row)


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
    "modAL.expected_error": (_mend_data_vstack, _mend_expected_error),
    "modAL.models.base": (_mend_check_X_y, _mend_data_vstack, _mend_query, _mend_classes),
    "modAL.models.learners": (_mend_check_X_y, _mend_data_vstack, _mend_classes),
}


@contextmanager
def _names_of_old_numpy() -> Iterator[None]:
    """``numpy.float``, which is the built-in type, while a module of modAL that names it is run."""
    import numpy as np

    missing = "float" not in vars(np)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # modAL compares texts by "is"
        if missing:
            vars(np)["float"] = float
        try:
            yield
        finally:
            if missing:
                vars(np).pop("float", None)


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
            with _names_of_old_numpy():
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
