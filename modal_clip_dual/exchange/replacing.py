"""What an export may put itself in place of: only what an export wrote, and never what the loop lives on."""

from __future__ import annotations

import filecmp
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

from ..data.files import look_at
from ..data.folders import SYSTEM_FILES
from ..utils.text_files import read_text

MARK = ".modal-clip-dual-export.json"  # lists what an export wrote into its folder
OLD_MARK = "classes.json"  # all that exports of earlier versions can be known by
COMPANIONS = ("", ".page", ".lock")  # endings of the state file, of the page's journal of answers, and of the lock
Name: TypeAlias = str | os.PathLike[str]
LITTER = {*SYSTEM_FILES, ".ds_store"}  # what file managers leave in folders that are looked at


def write_mark(folder: Path) -> None:
    """Write down, in the folder, what it holds now."""
    files = sorted(_contents(folder))
    (folder / MARK).write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")


def check_exported(folder: Path, shown: str, paths: Sequence[str]) -> None:
    """Refuse a folder that an export did not write, or that holds more than the export wrote.

    Parameters
    ----------
    folder : Path
        The folder, wherever it lies now.
    shown : str
        What the user calls it.
    paths : sequence of str
        Files of the pool.  Folders of earlier versions have no list, so everything in them has to be a link to one of
        these, or a copy.

    Raises
    ------
    FileExistsError
        Names the first file that is somebody's own.
    """
    if folder.is_dir() and (folder / MARK).is_file():
        foreign = _beside_the_list(folder)
    elif folder.is_dir() and (folder / OLD_MARK).is_file():
        foreign = _beside_copies(folder, paths)
    else:
        raise FileExistsError(
            f"path={shown!r} is no folder that was exported before (it has no {MARK}), so it is not replaced; "
            "expected another path"
        )
    first = min(foreign, default=None)
    if first is not None:
        raise FileExistsError(
            f"path={shown!r} holds {first!r}, which no export wrote, so the folder is not replaced; move that "
            "elsewhere, or choose another path"
        )


def check_no_last_copies(folder: Path, shown: str, paths: Sequence[str]) -> None:
    """Refuse to replace an exported folder that may hold the last copies of images whose files are gone.

    Parameters
    ----------
    folder : Path
        The folder that would be replaced.
    shown : str
        What the user calls it.
    paths : sequence of str
        Files of the pool, also those without a label: what is lost is dropped.

    Raises
    ------
    FileNotFoundError
        Names the first such copy.
    """
    lost = {os.path.basename(path): path for path, look in zip(paths, look_at(paths)) if look is None}
    for name in _others(folder):
        file = name.rpartition("/")[2]
        path = lost.get(file) or lost.get(_without_number(file))
        if path is not None and not (folder / name).is_symlink():
            raise FileNotFoundError(
                f"{path!r} is gone, and {name!r} in path={shown!r} may be its last copy, so the folder is not "
                "replaced; expected another path"
            )


def _contents(folder: Name, start: str = "") -> Iterator[str]:
    """Relative names of all files and links, and of folders with nothing in them, which end in a slash."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                name = f"{start}{entry.name}/"
                inside = list(_contents(entry.path, name))
                yield from inside or [name]
            else:
                yield start + entry.name


def _others(folder: Path) -> Iterator[str]:
    """Contents without the marks and without litter."""
    for name in _contents(folder):
        if name not in (MARK, OLD_MARK) and name.rpartition("/")[2].casefold() not in LITTER:
            yield name


def _beside_the_list(folder: Path) -> Iterator[str]:
    try:
        files = json.loads(read_text(folder / MARK))["files"]
        listed = set(files) if isinstance(files, list) else set()
    except (ValueError, KeyError, TypeError):  # not as it was written: then nothing is known to be an export's
        listed = set()
    listed |= {name[: k + 1] for name in listed if isinstance(name, str) for k, c in enumerate(name) if c == "/"}
    return (name for name in _others(folder) if name not in listed)


def _beside_copies(folder: Path, paths: Sequence[str]) -> Iterator[str]:
    try:
        classes = json.loads(read_text(folder / OLD_MARK))
    except ValueError:
        classes = None
    if not isinstance(classes, dict):
        yield OLD_MARK
        return
    pool = set(paths)
    named = defaultdict(list)
    for path in paths:
        named[os.path.basename(path)].append(path)
    for name in _others(folder):
        parent, _, file = name.rpartition("/")
        place = folder / name
        if parent not in classes:
            yield name
        elif place.is_symlink():
            if os.readlink(place) not in pool:
                yield name
        elif not any(_is_copy(place, path) for path in named[file] + named[_without_number(file)]):
            yield name


def _without_number(file: str) -> str:
    """Name of a file before a number was added to it, since another of its name was there."""
    stem, ending = os.path.splitext(file)
    return re.sub(r"-\d+$", "", stem) + ending


def _is_copy(file: Path, path: str) -> bool:
    return os.path.isfile(path) and filecmp.cmp(file, path, shallow=False)


# ---------------------------------------------------------------- what the loop lives on


def check_apart(target: Path, shown: str, state: Name | None, paths: Sequence[str] | None) -> None:
    """Refuse a place that is, or holds, the state file, the answers of the page or an image of the pool.

    Parameters
    ----------
    target : Path
        File or folder that would be replaced.
    shown : str
        What the user calls it.
    state : str, path-like or None
        State file of the loop.
    paths : sequence of str or None
        Files of the pool.

    Raises
    ------
    ValueError
        Names what lies there.
    """
    if state is not None:
        for ending in COMPANIONS:
            file = f"{os.fspath(state)}{ending}"
            if _same(target, file):
                what = "the state file itself" if not ending else f"a file of the state {os.fspath(state)!r}"
                raise ValueError(f"path={shown!r} is {what}; expected another path")
    place, name = os.path.abspath(target), target.name.casefold()
    for path in paths or ():
        if path == place or (os.path.basename(path).casefold() == name and _same(target, path)):
            raise ValueError(f"path={shown!r} is an image of the pool; expected another path")
    if not target.is_dir():
        return
    folder, real = os.path.join(os.path.realpath(target), ""), cache(os.path.realpath)  # few folders, many files
    if state is not None and _lies_in(folder, state, real):
        raise ValueError(
            f"path={shown!r} holds the state file {os.fspath(state)!r}, which would be deleted; expected another path"
        )
    held = next((path for path in paths or () if _lies_in(folder, path, real)), None)
    if held is not None:
        raise ValueError(
            f"path={shown!r} holds {held!r}, an image of the pool, which would be deleted; expected another path"
        )


def _same(target: Path, other: Name) -> bool:
    """Whether two names lead to one file, also by links and on systems that do not tell capitals apart."""
    if os.path.abspath(target) == os.path.abspath(other):
        return True
    try:
        return os.path.samefile(target, other)
    except (OSError, ValueError):
        return False


def _lies_in(folder: str, file: Name, real: Callable[[str], str]) -> bool:
    """Whether a file, or what it leads to if it is a link, lies in a folder (its real path with a separator)."""
    parent, name = os.path.split(os.path.abspath(file))
    entry = os.path.join(real(parent), name)
    return entry.startswith(folder) or (os.path.islink(entry) and os.path.realpath(entry).startswith(folder))
