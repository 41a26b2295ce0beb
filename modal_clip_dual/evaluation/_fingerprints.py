"""The identity of a run: descriptions and digests of settings, users' functions and data."""

from __future__ import annotations

import inspect
import re
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
from sklearn.utils import Bunch


def description_of(thing: Any) -> str:
    """Return a text that is the same for the same settings, in every process."""
    if hasattr(thing, "get_params"):
        params = {name: description_of(value) for name, value in thing.get_params(deep=False).items()}
        return f"{type(thing).__module__}.{type(thing).__qualname__}({params})"
    if isinstance(thing, partial):
        parts = (thing.func, thing.args, thing.keywords)
        return f"partial({', '.join(map(description_of, parts))})"
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        digest = blake2b(np.ascontiguousarray(thing).tobytes(), digest_size=8).hexdigest()
        return f"array({thing.shape}, {thing.dtype}, {digest})"
    if isinstance(thing, dict):
        return str({key: description_of(value) for key, value in thing.items()})
    if isinstance(thing, (list, tuple)):
        return str([description_of(value) for value in thing])
    if callable(thing) and hasattr(thing, "__qualname__"):
        name = f"{thing.__module__}.{thing.__qualname__}"
        ours = name.partition(".")[0] in ("modal_clip_dual", "modAL")
        return name if ours else f"{name} {_source_of(thing)} {description_of(_settings_of(thing))}"
    kind: Any = type(thing)
    if callable(thing) and kind.__repr__ is object.__repr__:  # an object that is called
        return f"{description_of(kind)} {description_of(getattr(thing, '__dict__', {}))}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(thing))


def _source_of(function: Any) -> str:
    """Return a digest of a user's function's source, which changes with the source; "" if unknown."""
    try:
        return blake2b(inspect.getsource(function).encode(), digest_size=8).hexdigest()
    except (OSError, TypeError):
        return ""


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


def digest_of(bunch: Bunch) -> str:
    """Return a digest of pool, test set and labels; for paths, of their names, not of the files."""
    digest = blake2b(digest_size=16)
    for name in ("X", "y", "X_test", "y_test"):
        part = bunch[name]
        if part is None:
            continue
        part = part.astype(str) if part.dtype == object else part
        digest.update(f"{name} {part.shape} {part.dtype}".encode())
        for start in range(0, len(part), 65536):
            digest.update(np.ascontiguousarray(part[start : start + 65536]).data)
    return digest.hexdigest()
