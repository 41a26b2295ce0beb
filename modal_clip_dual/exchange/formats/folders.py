"""A folder for each class, with links to its images or copies of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from ...data import load_image_folder
from ...data.folders import SYSTEM_FOLDERS, part_of
from ...utils.text_files import read_text
from ..table import Entry, Format, Said, Table

CLASSES = "classes.json"  # beside the class folders: which class each one is
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')  # in names of files, on some system
RESERVED = {"con", "prn", "aux", "nul"}  # of Windows
MOST = 60  # characters of a folder's name, at most 240 bytes


def write(table: Table, path: Path, link: bool = False) -> list[Entry]:
    """Write copies, or symbolic links, of images with a label or a prediction into the folder of their class.

    Those whose files are gone, or cannot be read, are left out and returned.
    """
    path.mkdir()
    names: dict[str, str] = {}
    left_out = []
    for entry in table.entries:
        name = entry.label or entry.predicted
        if name is None or entry.path is None:
            continue
        if not _is_readable(entry.path):
            left_out.append(entry)
            continue
        if name not in names:
            names[name] = _folder_name(name, {CLASSES, *names.values()})
            (path / names[name]).mkdir()
        target = _free(path / names[name], os.path.basename(entry.path))
        if link:
            target.symlink_to(entry.path)
            continue
        try:
            shutil.copyfile(entry.path, target)
        except OSError:
            if _is_readable(entry.path):  # a full disk, for example
                raise
            target.unlink(missing_ok=True)
            left_out.append(entry)
    folders = {folder: name for name, folder in names.items()}
    (path / CLASSES).write_text(json.dumps(folders, indent=1), encoding="utf-8")
    return left_out


def _is_readable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)


def _folder_name(name: str, taken: set[str]) -> str:
    """Return a name that every file system takes as one folder; those that are safe stay as they are."""
    safe = FORBIDDEN.sub("_", name)[:MOST].rstrip(". ")
    stem = safe.partition(".")[0].casefold()
    odd = not safe or safe[0] in ". " or stem in RESERVED or safe.casefold() in SYSTEM_FOLDERS
    if odd or part_of(safe) is not None:
        safe = f"class_{safe.strip('. ')}"
    found, number = safe, 2
    lower = {other.casefold() for other in taken}
    while found.casefold() in lower:
        found, number = f"{safe}-{number}", number + 1
    return found


def _free(folder: Path, name: str) -> Path:
    stem, ending = os.path.splitext(name)
    target, number = folder / name, 2
    while os.path.lexists(target):
        target, number = folder / f"{stem}-{number}{ending}", number + 1
    return target


def read(path: Path) -> list[Said]:
    """Read class folders; `classes.json` says what they are called where a class is no name of a folder."""
    paths, target, folders = load_image_folder(path).values()
    names = {}
    if (path / CLASSES).is_file():
        names = json.loads(read_text(path / CLASSES))
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise ValueError(f"{CLASSES} is no object of names by folder")
    labels = [names.get(folder, folder) for folder in folders]
    return [Said(path=str(file), label=labels[label], file=Path(file)) for file, label in zip(paths, target.tolist())]


FORMAT = Format("a folder per class", write, read, folder=True, options=("link",))
