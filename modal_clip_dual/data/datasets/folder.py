"""A folder of images of one's own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

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
    names = {entry.name for entry in root.iterdir() if entry.is_dir()}
    if {"train", "test"} <= names:
        contents = read_class_folders({part: root / part for part in PARTS if part in names}, "folders")
        return replace(contents, name=root.name)
    # A class may be called "train", but not if there is nothing else.
    if names and names <= {"train", "test", "val", "valid", "validation"}:
        raise ValueError(
            f"root={str(root)!r} holds the folders {', '.join(sorted(names))}; expected both 'train' and "
            "'test' with class folders inside, or class folders"
        )
    return replace(read_one_folder(root), name=root.name)


DATASET = DataSet("folder", PHOTO, read=read, root="a folder of class folders", order=15)
