"""Which functions and classes are the user's own, and what their code reads."""

from __future__ import annotations

import builtins
import dis
import inspect
import os
import sys
import sysconfig
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

OURS = ("modal_clip_dual", "modAL")
SITES = {"site-packages", "dist-packages"}  # folders of installed packages
LIBRARY = tuple(os.path.join(sysconfig.get_paths()[name], "") for name in ("stdlib", "platstdlib"))
READING = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
HEAP_TYPE = 1 << 9  # of __flags__: a class that a program made


def is_own_class(kind: type) -> bool:
    """Tell whether a class is the user's: not Python's, of an installed package, or of this one."""
    module = str(kind.__module__)
    if module == "builtins":  # also that of what exec makes
        made = bool(kind.__flags__ & HEAP_TYPE)
        return made and getattr(builtins, kind.__name__, None) is not kind
    from_file = module == "__main__" or getattr(sys.modules.get(module), "__file__", None)
    if not from_file and not any(isinstance(value, FunctionType) for value in vars(kind).values()):
        return False  # made by compiled code, such as the types of Cython's functions
    return is_own_module(module)


def own_classes(kind: type) -> list[type]:
    """Return the user's classes among a class and its bases."""
    return [base for base in kind.__mro__ if is_own_class(base)]


def is_own_function(thing: Any) -> bool:
    """Tell whether a function or method is written in Python by the user."""
    function = plain_function(thing)
    if function is None or str(function.__module__).partition(".")[0] in OURS:
        return False
    file, module = function.__code__.co_filename, str(function.__module__)
    if file.startswith("<"):  # typed in, or made by exec
        return module in ("builtins", "None") or is_own_module(module)
    return not _is_installed(file)


def is_own_module(name: str) -> bool:
    """Tell whether a module is the user's, by where its file lies."""
    top = name.partition(".")[0]
    if top in OURS:
        return False
    if top == "__main__":
        return True
    for known in (name, top):
        file = getattr(sys.modules.get(known), "__file__", None)
        if file:
            return not _is_installed(file)
    return top not in sys.stdlib_module_names


@lru_cache(maxsize=4096)
def _is_installed(file: str) -> bool:
    path = os.path.abspath(file)
    return bool(SITES & set(Path(path).parts)) or path.startswith(LIBRARY)


def plain_function(thing: Any) -> FunctionType | None:
    """Return the Python function of a function, method or static method; None of anything else."""
    function = thing.__func__ if isinstance(thing, (MethodType, staticmethod, classmethod)) else thing
    return function if isinstance(function, FunctionType) else None


def source_of(code: Any) -> str:
    """Return a digest of the source of a function, class or code object; "" if it is unknown."""
    try:
        return blake2b(inspect.getsource(code).encode(), digest_size=8).hexdigest()
    except (OSError, TypeError, SyntaxError):
        return ""


def digest_of_code(code: CodeType) -> str:
    """Return a digest of what the interpreter executes, for code whose source is unknown or ambiguous."""
    return blake2b(_constant(code).encode(), digest_size=8).hexdigest()


def _constant(value: Any) -> str:
    """Return a constant of code as a text without addresses and without the order of sets."""
    if isinstance(value, CodeType):
        return f"code({value.co_code.hex()}, {value.co_names}, {_constant(value.co_consts)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_constant, value))})"
    return repr(value)


def read_by(function: FunctionType) -> dict[str, Any]:
    """Return the global variables that a function reads, and those of the user's modules that it names."""
    read, attributes = _names_in(function.__code__)
    found: dict[str, Any] = {}
    for name in read:
        if name in function.__globals__ and not _is_special(name):
            value = function.__globals__[name]
            if isinstance(value, ModuleType):
                _add_from_module(name, value, attributes, found)
            else:
                found[name] = value
    return found


def _names_in(code: CodeType) -> tuple[list[str], list[str]]:
    """Return the names that code reads as global variables, and all names in it; functions in it count too."""
    read = [step.argval for step in dis.get_instructions(code) if step.opname in READING]
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner, others = _names_in(constant)
            read, names = read + inner, names + others
    return list(dict.fromkeys(read)), list(dict.fromkeys(names))


def _add_from_module(name: str, module: ModuleType, attributes: list[str], found: dict[str, Any]) -> None:
    """Add the variables of a user's module, and of modules in it, that have one of the names in the code."""
    left, seen = [(name, module)], set()
    for prefix, held in left:
        if id(held) in seen or not is_own_module(held.__name__):
            continue
        seen.add(id(held))
        for attribute in attributes:
            if attribute in vars(held) and not _is_special(attribute):
                value = vars(held)[attribute]
                if isinstance(value, ModuleType):
                    left.append((f"{prefix}.{attribute}", value))
                else:
                    found[f"{prefix}.{attribute}"] = value


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
