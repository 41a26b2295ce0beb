"""Public names that are imported at first use, so that importing a package costs little."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def public_names(package: str, modules: dict[str, str]) -> tuple[Callable, Callable]:
    """``__getattr__`` and ``__dir__`` of a package, from public name -> its module."""

    def __getattr__(name: str) -> Any:
        if name in modules:
            value = getattr(import_module(f".{modules[name]}", package), name)
            setattr(sys.modules[package], name, value)
            return value
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return __getattr__, __dir__
