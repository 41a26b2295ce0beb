"""The identity of a run: descriptions and digests of settings, users' functions and data."""

from __future__ import annotations

import copyreg
import re
import warnings
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch, check_random_state

from ..active.identity import keys_of
from ..data.files import looking_once
from ..data.images import check_files, kind_of
from ._own_code import (
    OURS,
    digest_of_code,
    is_own_class,
    is_own_function,
    own_classes,
    plain_function,
    read_by,
    source_of,
)

SCALARS = {str, bytes, int, float, complex, bool, type(None), type(...), range, slice}
SHOWN_WHOLE = (np.generic, np.dtype, PurePath, date, time, timedelta, Decimal, Fraction)  # by repr
TRUSTED = (*OURS, "sklearn", "numpy", "scipy")  # whose reprs show all settings, if these are plain
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
DEEPEST = 16  # things inside of each other in one text; what is deeper gets a text of its own
MOST_INSIDE = 5_000  # things inside of others; of further ones each gets a text of its own, once
MOST_PARTS = 100_000  # that have a text of their own
MOST_SET_LEVELS = 3  # sets inside of each other
MOST_SHOWN = 1000  # entries of an array that NumPy shows


def description_of(thing: Any, cloned: bool = False) -> str:
    """Return a text that is the same for the same settings, in every process.

    Code of the user's own counts with all that it reads and calls; that of installed packages by its name.

    Parameters
    ----------
    thing : object
    cloned : bool, default=False
        Whether each run takes a clone of it, so that what an estimator has learned does not count.
    """
    return _Description(cloned).of(thing)


class _Description:
    """A description in the making: the text of a thing, and those of the user's own things that it leads to.

    Each of the latter is described once, under a number, so that they may lead to each other.
    """

    def __init__(self, cloned: bool = False, in_sets: int = 0, inside: bool = False):
        self.cloned = cloned
        self.in_sets = in_sets
        self.inside = inside  # of code or of an object, where installed code counts by its name
        self.n_uncommon = 0  # things so far of which a repr may not show all
        self.n_inside = 0
        self.parts: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.open: set[int] = set()

    def of(self, thing: Any) -> str:
        text = self.text(thing)
        self.inside, self.cloned = True, False
        parts = [self._part(part) for part in self.parts]  # each may add others at the end
        return f"{text} {_digest(chr(10).join(parts).encode())}" if parts else text

    def text(self, thing: Any) -> str:
        """Return the text of a thing, or its number if it is inside of itself or too deep."""
        if _is_plain(thing):
            return repr(thing)
        simple = isinstance(thing, (list, tuple)) and all(map(_is_plain, thing))
        if id(thing) in self.open or len(self.open) >= DEEPEST or (self.n_inside >= MOST_INSIDE and not simple):
            return self._number(thing)
        self.n_inside += not simple
        self.open.add(id(thing))
        cloned = self.cloned
        try:
            params = _params_of(thing)
            self.cloned = cloned and (params is not None or isinstance(thing, (list, tuple, set, frozenset)))
            text = self._text(thing) if params is None else self._estimator(thing, params)
        finally:
            self.open.discard(id(thing))
            self.cloned = cloned
        for kind in own_classes(type(thing)):
            self._number(kind)
        return text

    def _text(self, thing: Any) -> str:
        if isinstance(thing, type):
            return self._class(thing)
        if isinstance(thing, ModuleType):
            return thing.__name__
        if isinstance(thing, partial):
            return f"partial({', '.join(map(self.text, (thing.func, thing.args, thing.keywords)))})"
        if isinstance(thing, np.ndarray):
            return self._array(thing)
        if isinstance(thing, dict):
            return self._dict(thing)
        if isinstance(thing, (list, tuple)):
            return self._list(thing)
        if isinstance(thing, (set, frozenset)):
            return self._set(thing)
        if callable(thing) and hasattr(thing, "__qualname__"):
            return self._function(thing)
        kind: Any = type(thing)
        if callable(thing) and kind.__repr__ is object.__repr__ and not self.inside:  # an object that is called
            return f"{self.text(kind)} {self.text(_attributes_of(thing))}"
        return self._object(thing)

    def _part(self, thing: Any) -> str:
        """Return the text of a thing that has a number."""
        self.open = {id(thing)}
        if isinstance(thing, type):
            return f"{_name_of(thing)} {self._dict(_contents_of(thing))}" if is_own_class(thing) else _name_of(thing)
        if isinstance(thing, FunctionType):
            return f"{self._function(thing)} {self._dict(_read_by(thing) if is_own_function(thing) else {})}"
        params = _params_of(thing)
        if params is not None:
            return self._estimator(thing, params)
        common = (partial, np.ndarray, dict, list, tuple, set, frozenset)
        if own_classes(type(thing)) and not isinstance(thing, common):
            return f"{_name_of(type(thing))} {self._state(thing)}"
        return self._text(thing)

    def _number(self, thing: Any) -> str:
        self.n_uncommon += 1
        if id(thing) not in self.numbers:
            if len(self.parts) >= MOST_PARTS:
                return "..."
            self.numbers[id(thing)] = len(self.parts)
            self.parts.append(thing)  # and kept, so that nothing else gets its id
        return f"#{self.numbers[id(thing)]}"

    def _estimator(self, thing: Any, params: Mapping[str, Any]) -> str:
        kind = type(thing)
        if getattr(kind, "__sklearn_clone__", None) is not getattr(BaseEstimator, "__sklearn_clone__", None):
            self.cloned = False  # of a FrozenEstimator
        text = f"{kind.__module__}.{kind.__qualname__}({self._dict(params)})"
        learned = {} if self.cloned else _learned_by(thing)
        return f"{text} {self.text(learned)}" if learned else text

    def _dict(self, thing: Mapping[Any, Any]) -> str:
        texts = {
            key if _is_plain_key(key) else self.text(key): self.text(value)
            for key, value in thing.items()
            if not self.inside or key != "__doc__"
        }
        return f"{{{', '.join(f'{key!r}: {text}' for key, text in texts.items())}}}" if self.inside else str(texts)

    def _list(self, thing: Iterable[Any]) -> str:
        texts = [self.text(value) for value in thing]
        return f"[{', '.join(texts)}]" if self.inside else str(texts)

    def _set(self, thing: Iterable[Any]) -> str:
        """Return the text of a set, whose order means nothing."""
        texts = []
        for value in thing:
            if _is_plain(value):
                texts.append(repr(value))
                continue
            self.n_uncommon += 1
            if self.in_sets >= MOST_SET_LEVELS:
                texts.append(_name_of(type(value)))
            else:
                texts.append(_Description(self.cloned, self.in_sets + 1, self.inside).of(value))
        text = f"{{{', '.join(sorted(texts))}}}" if texts else "set()"
        return text if isinstance(thing, set) else f"frozenset({text if texts else ''})"

    def _array(self, array: np.ndarray) -> str:
        if isinstance(array, np.ma.MaskedArray):
            return f"masked {self._array(array.data)} {self._array(np.ma.getmaskarray(array))}"
        if array.dtype.names:  # between the fields there may be bytes that mean nothing
            self.n_uncommon += 1
            return f"array({array.shape}, {self._dict({name: array[name] for name in array.dtype.names})})"
        if array.dtype.hasobject:
            values = array.ravel().tolist()
            if len(values) <= MOST_SHOWN and all(map(_is_plain, values)):
                return repr(array)
            self.n_uncommon += 1
            return f"array({array.shape}, object, {self._list(values)})"
        self.n_uncommon += 1
        return f"array({array.shape}, {array.dtype}, {_digest(np.ascontiguousarray(array).tobytes())})"

    def _class(self, kind: type) -> str:
        own = own_classes(kind)
        for base in own:
            self._number(base)
        name = _name_of(kind)
        if name.partition(".")[0] in OURS or self.inside:
            return name
        return f"{name} {source_of(kind)} {{}}"

    def _function(self, function: Any) -> str:
        name = f"{getattr(function, '__module__', None)}.{function.__qualname__}"
        own = is_own_function(function)
        code, source = getattr(plain_function(function), "__code__", None), ""
        text = name
        if own or not (self.inside or name.partition(".")[0] in OURS):
            source = source_of(function)
            text = f"{name} {source} {self.text(_settings_of(function))}"
        owner = getattr(function, "__self__", None)
        if owner is not None and not isinstance(owner, ModuleType):  # a bound method
            self.n_uncommon += 1
            text += f" of {self.text(owner)}"
        wrapped = getattr(function, "__wrapped__", None)  # its source is what `source_of` found
        if own and code is not None:
            self.n_uncommon += 1
            text += "" if wrapped is None else f" around {source_of(code)}"
            text += digest_of_code(code) if not source or code.co_name == "<lambda>" else ""
            plain = plain_function(function)
            if plain is not None and _read_by(plain):
                self._number(plain)
        return text if wrapped is None or not is_own_function(wrapped) else f"{text} {self.text(wrapped)}"

    def _object(self, thing: Any) -> str:
        kind = type(thing)
        name = _name_of(kind)
        if own_classes(kind):
            return f"{name} {self._number(thing)}"
        if isinstance(thing, Enum):
            return repr(thing)
        if thing is check_random_state(None):  # the global generator, whose state is another in every process
            return "numpy.random"
        if isinstance(thing, (property, cached_property)):
            parts = [getattr(thing, part, None) for part in ("fget", "fset", "fdel", "func")]
            return f"{name} {self._list(parts)}"
        values = _values_of(thing)
        if values is not None:
            self.n_uncommon += 1
            return f"{name} {self._list(values)}"
        before = self.n_uncommon
        state = self._state(thing)
        if self.n_uncommon == before and name.partition(".")[0] in TRUSTED:
            text = repr(thing)
            if not ADDRESS.search(text):
                return text
        self.n_uncommon += 1
        return f"{name} {state}"

    def _state(self, thing: Any) -> str:
        """Return the text of what pickle would save of an object, or of its attributes where it cannot."""
        inside, self.inside = self.inside, True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reduce = copyreg.dispatch_table.get(type(thing))
                reduced: Any = thing.__reduce_ex__(4) if reduce is None else reduce(thing)
            if not isinstance(reduced, str):  # maker, arguments, attributes; iterators of entries and of items
                reduced = [*reduced[:3], *(None if part is None else list(part) for part in reduced[3:5])]
        except Exception:  # whatever an object of another package raises
            reduced = _attributes_of(thing)
        try:
            return self.text(reduced)
        finally:
            self.inside = inside


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()


def _is_plain(thing: Any) -> bool:
    """Tell whether a repr shows all of a thing, and the same in every process."""
    return type(thing) in SCALARS or isinstance(thing, SHOWN_WHOLE)


def _is_plain_key(key: Any) -> bool:
    return _is_plain(key) or (type(key) is tuple and all(map(_is_plain, key)))


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _params_of(thing: Any) -> Mapping[str, Any] | None:
    """Return the parameters of an estimator, or of what has parameters like one; None of other things."""
    if isinstance(thing, type) or not hasattr(thing, "get_params"):
        return None
    try:
        params = thing.get_params(deep=False)
    except Exception:  # something else of this name; of an estimator, clone says it
        return None
    return params if isinstance(params, Mapping) else None


def _learned_by(estimator: Any) -> dict[str, Any]:
    """Return what an estimator has learned, by scikit-learn's convention for names."""
    held = getattr(estimator, "__dict__", {})
    return {name: value for name, value in held.items() if name.endswith("_") and not name.startswith("_")}


def _settings_of(function: Any) -> dict[str, Any]:
    """Return the settings of a user's function: defaults, and variables around it."""
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    held = {}
    for name, cell in zip(code.co_freevars if code else (), cells):
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not set yet
            continue
        if held[name] is function:
            held[name] = "itself"
    defaults = getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)
    return {"defaults": defaults, "held": held} if held or any(defaults) else {}


def _read_by(function: FunctionType) -> dict[str, Any]:
    """Return what a user's function reads beside its settings: global variables, and attributes of its own."""
    attributes = {f".{name}": value for name, value in vars(function).items() if name != "__wrapped__"}
    return read_by(function) | attributes


def _contents_of(kind: type) -> dict[str, Any]:
    """Return the methods and variables of a user's class, without what Python adds."""
    contents = {}
    for name, value in vars(kind).items():
        special = name.startswith("__") and name.endswith("__")
        added = type(value).__name__ in ("member_descriptor", "getset_descriptor", "RequestMethod")
        if (special and plain_function(value) is None) or added or name.startswith(("_abc_", "_sklearn_")):
            continue
        contents[name] = plain_function(value) or value
    return contents


def _attributes_of(thing: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots too."""
    attributes = dict(getattr(thing, "__dict__", {}))
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            found = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            if name not in ("__dict__", "__weakref__") and hasattr(thing, found):
                attributes[name] = getattr(thing, found)
    return attributes


def _values_of(thing: Any) -> list[Any] | None:
    """Return the numbers of a sparse matrix or a tensor of torch; None of other things."""
    if issparse(thing):
        entries = thing.tocoo()
        places = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
        return [entries.shape, entries.data, *places]
    if type(thing).__module__.partition(".")[0] == "torch" and hasattr(thing, "detach") and hasattr(thing, "cpu"):
        numbers = thing.detach().cpu()
        return [str(thing.dtype), (numbers.float() if numbers.is_floating_point() else numbers).numpy()]
    return None


def digest_of(bunch: Bunch, cache: Any = None) -> str:
    """Return a digest of pool, test set and labels; images in files are taken by what the files hold.

    Parameters
    ----------
    bunch : Bunch
        ``X``, ``y``, ``X_test``, ``y_test``; those of a test set may be None.
    cache : str or None, default=None
        Where checksums of files are kept, as classifiers take it.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    """
    digest = blake2b(digest_size=16)
    for name in ("X", "y", "X_test", "y_test"):
        part = bunch[name]
        if part is None:
            continue
        if name.startswith("X") and part.ndim == 1:
            digest.update(f"{name} {part.shape} {kind_of(part)}".encode())
            with looking_once():
                if kind_of(part) == "paths":
                    check_files(part, name)
                digest.update(keys_of(part, cache).tobytes())
            continue
        part = part.astype(str) if part.dtype == object else part
        digest.update(f"{name} {part.shape} {part.dtype}".encode())
        for start in range(0, len(part), 65536):
            digest.update(np.ascontiguousarray(part[start : start + 65536]).data)
    return digest.hexdigest()
