"""Readers of layouts that several data sets share."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.text_files import read_text
from ..folders import load_image_folder
from ._dataset import PARTS, Contents

SPLIT_SEED = 0  # of the splits that nobody has fixed; changing it changes published figures


def seeded_split(labels: np.ndarray | Sequence[int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows for training and rows for testing, two thirds and one third of each class.

    The same labels give the same rows on every machine: `numpy.random.RandomState` is frozen.
    """
    labels = np.asarray(labels)
    random = np.random.RandomState(SPLIT_SEED)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(n_classes):
        rows = np.flatnonzero(labels == label)
        is_test[random.permutation(rows)[: round(len(rows) / 3)]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def contents_by_draw(
    images: np.ndarray, labels: np.ndarray | Sequence[int], names: list[str], source: str
) -> Contents:
    """Divide images without a split by `seeded_split`."""
    train, test = seeded_split(labels, len(names))
    if not len(test):
        raise ValueError(
            f"{source} has {len(labels)} images of {len(names)} classes, which leaves none to test "
            "with; expected a class of at least two images"
        )
    labels = np.asarray(labels)
    return Contents(
        {"train": images[train], "test": images[test]},
        {"train": labels[train], "test": labels[test]},
        names,
        "seeded",
        source,
    )


def path_inside(folder: str | os.PathLike[str], path: str, where: str) -> str:
    """Join a path from a file that may be a stranger's; it must not lead out of the folder.

    Backslashes and drives count on every system, since files travel between systems.
    """
    steps = path.replace("\\", "/").split("/")
    # Windows drops dots and spaces at the end of a name, so ".. " is ".." there.
    leaves = any(step not in ("", ".") and not step.strip(" .") for step in steps)
    if leaves or not path or steps[0] == "" or path[1:2] == ":" or "\0" in path:
        raise ValueError(
            f"{where} has the path {reprlib.repr(path)}; expected one relative to "
            f"{str(folder)!r} that stays inside it"
        )
    return os.path.join(folder, *steps)


def array_of(paths: Iterable[str]) -> np.ndarray:
    """Return an object array of paths."""
    listed = list(paths)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a text file that hold something, each with what messages call it."""
    for number, line in enumerate(StringIO(read_text(path), newline=None), 1):
        if line.strip():
            yield line.strip(), f"{str(path)!r}, line {number},"


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no JSON file ({error}); expected {expected}") from error


def read_mat(path: Path, name: str, **how: Any) -> Any:
    """Return a variable of a MATLAB file."""
    from scipy.io import loadmat

    try:
        return loadmat(path, **how)[name]
    except Exception as error:  # whatever SciPy meets in a file of another kind
        raise ValueError(f"{str(path)!r} is no MATLAB file with {name!r}, or damaged ({error})") from error


def label_of(name: str, classes: dict[str, int], where: str) -> int:
    """Return the label of a class by its name."""
    if name not in classes:
        raise ValueError(
            f"{where} has the class {name!r}, which is none of the {len(classes)} classes"
        )
    return classes[name]


def contents_of_lists(
    files: dict[str, Path], read: Callable[[str, str], tuple[str, int]], names: Iterable[str], split: str
) -> Contents:
    """Read one text file per part, whose lines ``read`` turns into path and label."""
    images, labels = {}, {}
    for part, path in files.items():
        rows = [read(line, where) for line, where in lines_of(path)]
        images[part] = array_of(path for path, _ in rows)
        labels[part] = np.array([label for _, label in rows], dtype=int)
    return Contents(images, labels, list(names), split, str(next(iter(files.values())).parent))


def names_by_label(first: dict[int, tuple[str, str]], path: Path) -> list[str]:
    """Return the class names by label; ``first`` has the name of each label."""
    if first and max(first) >= len(first):
        absent = next(label for label in range(len(first)) if label not in first)
        raise ValueError(
            f"{str(path)!r} has {len(first)} labels, the largest {max(first)}, but none is {absent}; "
            f"expected every integer from 0 to {len(first) - 1}"
        )
    return [first[label][0] for label in range(len(first))]


# CoOp's split files

SPLIT_FILE = (
    'CoOp\'s {"train": [[path, label, class name], ...], "val": [...], "test": [...]}, where '
    "path is a string, label an integer and class name a string"
)


def read_split_file(path: Path, folder: Path) -> Contents:
    """Read one of CoOp's split files, whose paths start from the folder."""
    split = read_json(path, SPLIT_FILE)
    if not isinstance(split, dict) or not all(
        isinstance(split.get(part, [] if part == "val" else None), list) for part in PARTS
    ):
        raise ValueError(f"{str(path)!r} holds {reprlib.repr(split)}; expected {SPLIT_FILE}")
    images = {}
    first: dict[int, tuple[str, str]] = {}  # label -> its class name, and the entry that says so
    for part in PARTS:
        found = []
        for row, entry in enumerate(split.get(part, [])):
            where = f"{str(path)!r}, entry {row} of {part!r},"
            _check_entry(entry, where)
            found.append(path_inside(folder, entry[0], where))
            name, earlier = first.setdefault(entry[1], (entry[2], where))
            if name != entry[2]:
                raise ValueError(
                    f"{where} gives label {entry[1]} the class name {entry[2]!r}, but {earlier} gives "
                    f"it {name!r}; expected one class name per label"
                )
        images[part] = array_of(found)
    names = names_by_label(first, path)
    labels = {part: np.array([row[1] for row in split.get(part, [])], dtype=int) for part in PARTS}
    return Contents(images, labels, names, "coop", str(path))


def _check_entry(entry: Any, where: str) -> None:
    if not (
        isinstance(entry, list)
        and [type(value) for value in entry] == [str, int, str]  # True would be an int, too
        and entry[1] >= 0
        and entry[2].strip()
    ):
        raise ValueError(f"{where} is {reprlib.repr(entry)}; expected {SPLIT_FILE}")


# Folders of class folders


def read_class_folders(parts: dict[str, Path], split: str) -> Contents:
    """Read a folder of class folders per part; labels are positions in the first one's."""
    loaded = {part: load_image_folder(folder) for part, folder in parts.items()}
    train = loaded["train"]
    classes = {name: label for label, name in enumerate(train.class_names)}
    labels = {}
    for part, data in loaded.items():
        strange = [name for name in data.class_names if name not in classes]
        if strange:
            raise ValueError(
                f"{str(parts[part])!r} has the class folder {strange[0]!r}, which "
                f"{str(parts['train'])!r} has not; expected the same class folders in both"
            )
        labels[part] = np.array([classes[name] for name in data.class_names])[data.target]
    images = {part: data.paths for part, data in loaded.items()}
    return Contents(images, labels, list(train.class_names), split, str(parts["train"].parent))


def read_one_folder(folder: Path, ignored: Iterable[str] = ()) -> Contents:
    """Read one folder of class folders, which nobody has divided."""
    data = load_image_folder(folder)
    names = [name for name in data.class_names if name not in ignored]
    new_labels = np.array([names.index(n) if n in names else -1 for n in data.class_names])
    labels = new_labels[data.target]
    return contents_by_draw(data.paths[labels >= 0], labels[labels >= 0], names, str(folder))


# By torchvision itself


def read_cifar(cls_name: str, root: Path) -> Contents:
    """Read CIFAR by torchvision itself, which looks at the checksums before it unpickles."""
    import torchvision

    cls = getattr(torchvision.datasets, cls_name)
    source = str(root / cls.base_folder)
    try:
        loaded = {
            part: cls(root, train=part == "train", download=False) for part in ("train", "test")
        }
    except RuntimeError as error:
        raise ValueError(
            f"{source!r} is incomplete or damaged ({error}); delete it and pass download=True"
        ) from error
    return Contents(
        {part: data.data for part, data in loaded.items()},
        {part: np.array(data.targets) for part, data in loaded.items()},
        list(loaded["train"].classes),
        "torchvision",
        source,
    )
