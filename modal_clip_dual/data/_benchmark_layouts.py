"""Reading the layouts that benchmark data sets have on disk."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._benchmark_facts import CALTECH_IGNORED, IMAGENET_TWINS, Benchmark, flower_names
from .folders import load_image_folder

PARTS = ("train", "val", "test")
SPLIT_SEED = 0  # of the splits that nobody has fixed; changing it changes published figures


@dataclass
class Contents:
    """What a layout holds: images and labels by part, class names as written, whose split it is.

    ``source`` is what messages about the contents call them: a file or a folder.
    """

    images: dict[str, Any]
    labels: dict[str, np.ndarray]
    names: list[str]
    split: str
    source: str


# Shared by the layouts


def seeded_split(labels: np.ndarray | Sequence[int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows for testing, two thirds and one third of each class.

    The same labels give the same rows on every machine: `numpy.random.RandomState` is frozen.
    """
    labels = np.asarray(labels)
    random = np.random.RandomState(SPLIT_SEED)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(n_classes):
        rows = np.flatnonzero(labels == label)
        is_test[random.permutation(rows)[: round(len(rows) / 3)]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def divide(
    images: np.ndarray, labels: np.ndarray | Sequence[int], names: list[str], source: str
) -> Contents:
    """Contents of images without a split, by `seeded_split`."""
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


def below(folder: str | os.PathLike[str], path: str, where: str) -> str:
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


def _paths(paths: Iterable[str]) -> np.ndarray:
    listed = list(paths)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file that hold something, each with what messages call it."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield line.strip(), f"{str(path)!r}, line {number},"


def _json(path: Path, expected: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no JSON file ({error}); expected {expected}") from error


def _label(name: str, classes: dict[str, int], where: str) -> int:
    if name not in classes:
        raise ValueError(
            f"{where} has the class {name!r}, which is none of the {len(classes)} classes"
        )
    return classes[name]


def _listed(
    files: dict[str, Path], read: Callable[[str, str], tuple[str, int]], names: Iterable[str], split: str
) -> Contents:
    """Contents of one text file per part, whose lines ``read`` turns into path and label."""
    images, labels = {}, {}
    for part, path in files.items():
        rows = [read(line, where) for line, where in _lines(path)]
        images[part] = _paths(path for path, _ in rows)
        labels[part] = np.array([label for _, label in rows], dtype=int)
    return Contents(images, labels, list(names), split, str(next(iter(files.values())).parent))


# CoOp's


def read_coop(benchmark: Benchmark, folder: Path) -> Contents:
    """Contents of the data set's folder in CoOp's layout."""
    if benchmark.name == "fgvc_aircraft":
        return _read_aircraft(folder)
    if benchmark.name == "imagenet":
        return _read_imagenet(folder)
    return _read_split_file(folder / benchmark.split, folder / benchmark.images)


SPLIT_FILE = (
    'CoOp\'s {"train": [[path, label, class name], ...], "val": [...], "test": [...]}, where '
    "path is a string, label an integer and class name a string"
)


def _read_split_file(path: Path, folder: Path) -> Contents:
    split = _json(path, SPLIT_FILE)
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
            found.append(below(folder, entry[0], where))
            name, earlier = first.setdefault(entry[1], (entry[2], where))
            if name != entry[2]:
                raise ValueError(
                    f"{where} gives label {entry[1]} the class name {entry[2]!r}, but {earlier} gives "
                    f"it {name!r}; expected one class name per label"
                )
        images[part] = _paths(found)
    names = _names_by_label(first, path)
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


def _names_by_label(first: dict[int, tuple[str, str]], path: Path) -> list[str]:
    if first and max(first) >= len(first):
        absent = next(label for label in range(len(first)) if label not in first)
        raise ValueError(
            f"{str(path)!r} has {len(first)} labels, the largest {max(first)}, but none is {absent}; "
            f"expected every integer from 0 to {len(first) - 1}"
        )
    return [first[label][0] for label in range(len(first))]


def _read_aircraft(folder: Path) -> Contents:
    names = [name for name, _ in _lines(folder / "variants.txt")]
    classes = {name: label for label, name in enumerate(names)}

    def read(line: str, where: str) -> tuple[str, int]:
        image, _, name = line.partition(" ")
        return below(folder / "images", f"{image}.jpg", where), _label(name.strip(), classes, where)

    # Also where torchvision fetched it: CoOp takes the authors' own split.
    files = {part: folder / f"images_variant_{part}.txt" for part in PARTS}
    return _listed(files, read, names, "coop")


def _read_imagenet(folder: Path) -> Contents:
    parts = {"train": folder / "images" / "train", "test": folder / "images" / "val"}
    called = dict(line.partition(" ")[::2] for line, _ in _lines(folder / "classnames.txt"))
    contents = read_folders(parts, "coop")
    unknown = [name for name in contents.names if not called.get(name, "").strip()]
    if unknown:
        raise ValueError(
            f"{str(folder / 'classnames.txt')!r} has no name for {len(unknown)} folders of "
            f"{str(parts['train'])!r}, the first {unknown[0]!r}; expected lines such as 'n01440764 tench'"
        )
    names = [called[name].strip() for name in contents.names]
    for label, wnid in enumerate(contents.names):
        if wnid in IMAGENET_TWINS and names.count(names[label]) > 1:
            names[label] = IMAGENET_TWINS[wnid]
    contents.names = names
    return contents


# Folders of class folders


def read_folders(parts: dict[str, Path], split: str) -> Contents:
    """Contents of a folder of class folders per part; labels are positions in the first one's."""
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
    """Contents of one folder of class folders, which nobody has divided."""
    data = load_image_folder(folder)
    names = [name for name in data.class_names if name not in ignored]
    label_of = np.array([names.index(n) if n in names else -1 for n in data.class_names])
    labels = label_of[data.target]
    return divide(data.paths[labels >= 0], labels[labels >= 0], names, str(folder))


# torchvision's


def read_torchvision(benchmark: Benchmark, root: Path) -> Contents:
    """Contents of a data set as torchvision leaves it below the root, with its own split."""
    if benchmark.name.startswith("cifar"):
        return _read_cifar(benchmark, root)
    return _TORCHVISION[benchmark.name](root)


def _read_cifar(benchmark: Benchmark, root: Path) -> Contents:
    # By torchvision itself, which looks at the checksums before it unpickles.
    import torchvision

    assert benchmark.torchvision is not None
    cls = getattr(torchvision.datasets, benchmark.torchvision.cls)
    try:
        loaded = {
            part: cls(root, train=part == "train", download=False) for part in ("train", "test")
        }
    except RuntimeError as error:
        source = root / benchmark.torchvision.needs[0]
        raise ValueError(
            f"{str(source)!r} is incomplete or damaged ({error}); delete it and pass download=True"
        ) from error
    return Contents(
        {part: data.data for part, data in loaded.items()},
        {part: np.array(data.targets) for part, data in loaded.items()},
        list(loaded["train"].classes),
        "torchvision",
        str(root / cls.base_folder),
    )


def _read_dtd(root: Path) -> Contents:
    folder = root / "dtd" / "dtd"
    files = {part: folder / "labels" / f"{part}1.txt" for part in PARTS}
    names = sorted({line.partition("/")[0] for line, _ in _lines(files["train"])})
    classes = {name: label for label, name in enumerate(names)}

    def read(line: str, where: str) -> tuple[str, int]:
        return below(folder / "images", line, where), _label(line.partition("/")[0], classes, where)

    return _listed(files, read, names, "torchvision")


def _read_pets(root: Path) -> Contents:
    folder = root / "oxford-iiit-pet"
    names: dict[int, str] = {}

    def read(line: str, where: str) -> tuple[str, int]:
        image, label, *_ = [*line.split(), ""]
        if not label.isdecimal() or int(label) < 1:
            raise ValueError(
                f"{where} is {line!r}; expected 'Abyssinian_1 1 1 1': image, class, ..."
            )
        names.setdefault(int(label) - 1, image.rpartition("_")[0])
        return below(folder / "images", f"{image}.jpg", where), int(label) - 1

    annotations = folder / "annotations"
    files = {"train": annotations / "trainval.txt", "test": annotations / "test.txt"}
    contents = _listed(files, read, [], "torchvision")
    contents.names = _names_by_label(
        {label: (name, "") for label, name in names.items()}, files["train"]
    )
    return contents


def _read_food(root: Path) -> Contents:
    folder = root / "food-101"
    expected = "a mapping of class to images, {class: ['class/1', ...]}"
    images, labels = {}, {}
    names: list[str] = []
    for part in ("train", "test"):
        path = folder / "meta" / f"{part}.json"
        listed = _json(path, expected)
        if not isinstance(listed, dict) or not all(
            isinstance(some, list) for some in listed.values()
        ):
            raise ValueError(f"{str(path)!r} holds {reprlib.repr(listed)}; expected {expected}")
        names = names or sorted(listed)
        classes = {name: label for label, name in enumerate(names)}
        rows = [
            (below(folder / "images", f"{image}.jpg", str(path)), _label(name, classes, str(path)))
            for name, some in listed.items()
            for image in some
        ]
        images[part] = _paths(image for image, _ in rows)
        labels[part] = np.array([label for _, label in rows], dtype=int)
    return Contents(images, labels, names, "torchvision", str(folder / "meta"))


def _mat(path: Path, name: str, **how: Any) -> Any:
    """A variable of a MATLAB file."""
    from scipy.io import loadmat

    try:
        return loadmat(path, **how)[name]
    except Exception as error:  # whatever SciPy meets in a file that is none
        raise ValueError(f"{str(path)!r} is no MATLAB file with {name!r}, or damaged ({error})") from error


def _read_flowers(root: Path) -> Contents:
    folder = root / "flowers-102"
    target = _mat(folder / "imagelabels.mat", "labels").ravel().astype(int) - 1
    images, labels = {}, {}
    for part, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        chosen = _mat(folder / "setid.mat", key).ravel().astype(int)
        if len(chosen) and not 1 <= chosen.min() <= chosen.max() <= len(target):
            raise ValueError(
                f"{str(folder / 'setid.mat')!r} has numbers from {chosen.min()} to {chosen.max()} in {key!r}; "
                f"expected 1 to {len(target)}, the number of labels"
            )
        images[part] = _paths(str(folder / "jpg" / f"image_{number:05d}.jpg") for number in chosen)
        labels[part] = target[chosen - 1]
    return Contents(images, labels, flower_names(), "torchvision", str(folder / "setid.mat"))


def _read_cars(root: Path) -> Contents:
    folder = root / "stanford_cars"
    names = _mat(folder / "devkit" / "cars_meta.mat", "class_names", squeeze_me=True)
    images, labels = {}, {}
    for part, path in (
        ("train", folder / "devkit" / "cars_train_annos.mat"),
        ("test", folder / "cars_test_annos_withlabels.mat"),
    ):
        rows = _mat(path, "annotations", squeeze_me=True)
        images[part] = _paths(
            below(folder / f"cars_{part}", str(row["fname"]), str(path)) for row in rows
        )
        labels[part] = np.array([int(row["class"]) - 1 for row in rows])
    return Contents(images, labels, names.tolist(), "torchvision", str(folder))


def _read_scenes(root: Path) -> Contents:
    folder = root / "SUN397"
    names: list[str] = []
    paths: list[str] = []
    labels: list[int] = []
    for line, where in _lines(folder / "ClassName.txt"):
        place = below(folder, line.lstrip("/"), where)
        found = sorted(os.listdir(place)) if os.path.isdir(place) else []
        found = [name for name in found if name.startswith("sun_") and name.endswith(".jpg")]
        paths += [os.path.join(place, name) for name in found]
        labels += [len(names)] * len(found)
        names.append(line)
    return divide(_paths(paths), labels, names, str(folder))


_TORCHVISION: dict[str, Callable[[Path], Contents]] = {
    "caltech101": lambda root: read_one_folder(
        root / "caltech101" / "101_ObjectCategories", CALTECH_IGNORED
    ),
    "dtd": _read_dtd,
    "eurosat": lambda root: read_one_folder(root / "eurosat" / "2750"),
    "fgvc_aircraft": lambda root: _read_aircraft(root / "fgvc-aircraft-2013b" / "data"),
    "food101": _read_food,
    "oxford_flowers": _read_flowers,
    "oxford_pets": _read_pets,
    "stanford_cars": _read_cars,
    "sun397": _read_scenes,
}
