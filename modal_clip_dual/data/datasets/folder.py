"""A folder of images of one's own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..folders import part_of
from ._dataset import PARTS, PHOTO, Contents, DataSet
from ._layouts import read_class_folders, read_one_folder


def read(root: Path) -> Contents:
    """Read class folders, divided by folders or by a seeded split."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"root={str(root)!r} is no folder; load_benchmark('folder') expects class folders in "
            f"'train' and 'test':\n    {root}{os.sep}\n    |-- train/CLASS/IMAGE\n"
            f"    |-- test/CLASS/IMAGE\nor to be divided by a seeded draw:\n    {root}{os.sep}\n"
            "    |-- CLASS/IMAGE"
        )
    parts = _parts(root)
    if {"train", "test"} <= set(parts):
        contents = read_class_folders({part: parts[part] for part in PARTS if part in parts}, "folders")
        return replace(contents, name=root.name)
    # A class may be called "train", but not if there is nothing else.
    names = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    if names and names <= {folder.name for folder in parts.values()}:
        raise ValueError(
            f"root={str(root)!r} holds the folders {', '.join(sorted(names))}; expected both 'train' and "
            "'test' with class folders inside, or class folders"
        )
    return replace(read_one_folder(root), name=root.name)


def _parts(root: Path) -> dict[str, Path]:
    """Folders of the parts, whatever their names are: Train, training, valid, ..."""
    parts: dict[str, Path] = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        part = part_of(folder.name)
        if part is not None and part in parts:
            raise ValueError(
                f"root={str(root)!r} holds {parts[part].name!r} and {folder.name!r}, which both mean {part!r}; "
                "expected one of them"
            )
        if part is not None:
            parts[part] = folder
    return parts


DATASET = DataSet("folder", PHOTO, read=read, root="a folder of class folders", order=15)
