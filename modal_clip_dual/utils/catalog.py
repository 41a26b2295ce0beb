"""Parts that are found by the name of their file: a new file is a new part, without any list."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType


def names_in(folder: str | Path) -> list[str]:
    """Return the names of the parts in a folder, sorted: its public files, with hyphens for underscores.

    Nothing is imported.
    """
    files = Path(folder).glob("*.py")
    return sorted(file.stem.replace("_", "-") for file in files if not file.stem.startswith("_"))


def module_in(package: str, name: str) -> ModuleType:
    """Import the file of a part by its name; see `names_in`."""
    return import_module(f"{package}.{name.replace('-', '_')}")
