"""The formats of this room, found by walking the folder ``formats``."""

from __future__ import annotations

import os
from pathlib import Path

from ..utils.catalog import module_in, names_in
from .table import Format

FOLDER = Path(__file__).parent / "formats"


def available_formats() -> list[str]:
    """Return the names of the formats of `export_labels` and `import_labels`.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> from modal_clip_dual.exchange import available_formats
    >>> available_formats()
    ['coco', 'csv', 'folders', 'label-studio']
    """
    return names_in(FOLDER)


def format_of(name: str | None, path: str | os.PathLike[str]) -> Format:
    """Return a format by its name, or without one by what the path is.

    Raises
    ------
    ValueError
        If there is no such format, or the path does not tell.
    """
    if name is None:
        path = Path(path)
        folder = path.is_dir() or not path.suffix
        name = "folders" if folder else {".csv": "csv"}.get(path.suffix.lower())
        if name is None:
            raise ValueError(f"path={str(path)!r} does not tell the format; expected format=, {_listed()}")
    if name not in available_formats():
        raise ValueError(f"format={name!r}; expected {_listed()}")
    found: Format = module_in(f"{__package__}.formats", name).FORMAT
    return found


def _listed() -> str:
    return "one of " + ", ".join(map(repr, available_formats()))
