"""Benchmark data sets by name, with the splits and templates of CoOp."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np

from ._dataset import PARTS, Contents, DataSet, Torchvision
from ._layouts import read_split_file

LAYOUTS = ("coop", "torchvision")
TABLES = (".npz", ".npy", ".csv", ".parquet")  # what people keep embeddings in
COOP_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


def data_sets() -> dict[str, DataSet]:
    """Return the data sets by name: the ``DATASET`` of every other module of this folder."""
    folder = sys.modules[__package__].__path__
    names = [module.name for module in iter_modules(folder) if not module.name.startswith("_")]
    modules = (import_module(f"{__package__}.{name}") for name in names if name != "loading")
    found = sorted((module.DATASET for module in modules), key=lambda data: (data.order, data.name))
    return {data.name: data for data in found}


def available_benchmarks() -> list[str]:
    """List the names that `load_benchmark` takes, the six data sets of the paper first.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> from modal_clip_dual.data import available_benchmarks
    >>> available_benchmarks()[:6]
    ['caltech101', 'dtd', 'eurosat', 'fgvc_aircraft', 'oxford_flowers', 'ucf101']
    """
    return list(data_sets())


def load_benchmark(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = False,
    layout: str | None = None,
) -> Any:
    """Load a benchmark data set by name: file paths, labels, class names and a template.

    Most data sets are looked for in CoOp's folders and with CoOp's splits, else in those of
    torchvision.  No image is opened, but all must be there.

    Parameters
    ----------
    name : str
        One of `available_benchmarks`.  ``"folder"`` is a data set of yours: class folders
        inside ``root/train`` and ``root/test`` (and ``root/val``, if there is one; Train, training, valid,
        validation, dev, Test and the like mean the same), or
        class folders in ``root`` itself, of whose images a fixed draw
        (`numpy.random.RandomState` (0)) gives a third of each class to the test.
    root : str or path-like, optional
        The folder that holds the folders of the data sets, ``root/dtd`` and so on; the folder of the
        one data set will do if it has CoOp's layout.  Not needed, and not looked at, for
        ``"digits"``.
    download : bool, default=False
        If the data set is not below ``root``, let torchvision fetch it into ``root``.  Nothing
        is ever downloaded otherwise.  CoOp's split files cannot be fetched in this way.
    layout : {None, "coop", "torchvision"}, default=None
        Which layout to read.  None takes CoOp's if its split file is there, else torchvision's.
        ``"coop"`` takes CoOp's or fails.  EuroSAT, Food-101 and Stanford Cars lie
        at the same place in both, so there a missing split file may be an oversight: without it,
        torchvision's split is taken only where ``layout`` or ``download`` asks for it.

    Returns
    -------
    data : `sklearn.utils.Bunch`
        ``name``: as given.
        ``X_train``, ``X_val``, ``X_test``: object arrays of absolute file paths, or uint8 arrays of
        images ((n, 32, 32, 3) for CIFAR, (n, 8, 8) for the digits); what `DualPromptClassifier`
        takes.  ``X_val`` is None where there is no validation split.
        ``y_train``, ``y_val``, ``y_test``: int arrays, positions in ``class_names``.
        ``class_names``: list of str, for prompts: without underscores, and all different.
        ``template``: CoOp's hand-written prompt for the data set, with one ``{}`` for the class name.
        ``split``: whose split it is.  ``"coop"``: CoOp's, so that figures compare with those of
        papers that use it.  ``"torchvision"``: that of the data set's authors, with other images and
        mostly another size.  ``"seeded"``: the draw described above, since there is no other.
        ``"folders"``: as the folders say.  **Figures on the last three do not compare** with
        figures on CoOp's splits.

    Raises
    ------
    ValueError
        If ``name``, ``root`` or ``layout`` is not one of the above, if a split file is damaged,
        contradicts itself or names files outside of its folder, or if two classes have the same
        name.
    FileNotFoundError
        If the data set is not there, with the folders and files that are expected and how to get
        them; or if some of its images are missing.
    OSError
        If torchvision cannot fetch it.

    See Also
    --------
    load_image_folder : Paths and labels of one folder of class folders, undivided.

    References
    ----------
    CoOp: Zhou et al., Learning to Prompt for Vision-Language Models, IJCV 2022; how to get the data
    sets: https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from modal_clip_dual.data import load_benchmark
    >>> with tempfile.TemporaryDirectory() as root:
    ...     images = Path(root, "eurosat", "2750")
    ...     images.mkdir(parents=True)
    ...     for image in ("sea.jpg", "river.jpg"):
    ...         images.joinpath(image).touch()
    ...     split = {"train": [["sea.jpg", 1, "Sea or Lake"], ["river.jpg", 0, "River"]],
    ...              "val": [], "test": [["river.jpg", 0, "River"]]}
    ...     _ = Path(root, "eurosat", "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    ...     data = load_benchmark("eurosat", root)
    >>> data.class_names, data.y_train.tolist(), Path(data.X_train[0]).name, data.split
    (['River', 'Sea or Lake'], [1, 0], 'sea.jpg', 'coop')
    >>> data.template.format(data.class_names[0])
    'a centered satellite photo of River.'
    """
    dataset = _data_set(name)
    _check_layout(dataset, layout)
    if dataset.read is not None:
        return _bunch(dataset, dataset.read(_root(dataset, root) if dataset.root else Path()))
    return _bunch(dataset, _read(dataset, _root(dataset, root), download, layout))


def _read(dataset: DataSet, root: Path, download: bool, layout: str | None) -> Contents:
    folder = _coop_folder(dataset, root) if layout != "torchvision" else None
    if folder and dataset.coop:
        coop = dataset.coop
        if not _has(folder, coop.needs):
            raise FileNotFoundError(_missing(dataset, root, folder, layout))
        return coop.read(folder) if coop.read else read_split_file(folder / coop.split, folder / coop.images)
    other = dataset.torchvision if layout != "coop" else None
    if other is None:
        raise FileNotFoundError(_missing(dataset, root, _looks_like(dataset, root), layout))
    there = _has(root, other.needs)
    if not there and download and other.fetches:
        _fetch(dataset.name, other, root)
        there = _has(root, other.needs)
        if not there:
            raise FileNotFoundError(
                _missing(dataset, root, _looks_like(dataset, root), "torchvision")
                + " (That was done just now. torchvision takes a folder that is there for a whole "
                "one: delete what is left of an earlier download.)"
            )
    if there and (layout == "torchvision" or download or not other.shared):
        return other.read(root)
    raise FileNotFoundError(_missing(dataset, root, _looks_like(dataset, root), layout))


# Arguments


def _data_set(name: Any) -> DataSet:
    every = data_sets()
    if isinstance(name, str) and name in every:
        return every[name]
    # Other names that a data set goes by, so that near misses of those are understood, too.
    known: dict[str, str] = {}
    for dataset in every.values():
        known[dataset.name] = dataset.name
        if dataset.coop:
            known[dataset.coop.folder] = dataset.name
        if dataset.torchvision:
            known[dataset.torchvision.cls.lower()] = dataset.name
    close = get_close_matches(str(name).lower(), known, n=3)
    meant = list(dict.fromkeys(known[match] for match in close))
    hint = f"did you mean {' or '.join(map(repr, meant))}? " if meant else ""
    if str(name).lower().endswith(TABLES):
        hint = (
            f"embeddings in a file are compared by examples/compare_learners.py --data {name}, which takes an .npz, "
            "or by compare_strategies with X and y; "
        )
    raise ValueError(f"name={name!r} is no benchmark; {hint}expected one of {', '.join(every)}")


def _check_layout(dataset: DataSet, layout: str | None) -> None:
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}; expected None, 'coop' or 'torchvision'")
    if layout is not None and layout not in dataset.layouts:
        allowed = " or ".join(map(repr, [None, *dataset.layouts]))
        raise ValueError(f"layout={layout!r} does not exist for {dataset.name!r}; expected {allowed}")


def _root(dataset: DataSet, root: Any) -> Path:
    if not isinstance(root, (str, os.PathLike)) or not os.fspath(root):
        what = dataset.root or f"the folder that holds {_example(dataset)!r}"
        raise ValueError(f"root={root!r}; load_benchmark({dataset.name!r}) expects {what}")
    return Path(os.path.abspath(os.path.expanduser(root)))


def _example(dataset: DataSet) -> str:
    if dataset.coop:
        return dataset.coop.folder
    assert dataset.torchvision is not None
    return dataset.torchvision.needs[0].rstrip("/")


# What is on disk


def _has(folder: Path, needs: tuple[str, ...]) -> bool:
    return all(_is_there(folder, entry) for entry in needs)


def _is_there(folder: Path, entry: str) -> bool:
    return os.path.isdir(folder / entry) if entry.endswith("/") else os.path.isfile(folder / entry)


def _coop_folder(dataset: DataSet, root: Path) -> Path | None:
    """Find the folder of the data set with CoOp's split file in it: in the root, or the root itself."""
    if not dataset.coop:
        return None
    split = dataset.coop.split
    found = [f for f in (root / dataset.coop.folder, root) if (f / split).is_file()]
    if len(found) > 1:
        raise ValueError(
            f"root={str(root)!r} is ambiguous: {split} is in it and in {str(found[0])!r}; "
            "expected it in one of them"
        )
    return found[0] if found else None


def _looks_like(dataset: DataSet, root: Path) -> Path:
    """Return the folder of the data set for messages: the root itself if it goes by that name."""
    inside = root / _example(dataset)
    return root if root.name == inside.name and root.is_dir() and not inside.is_dir() else inside


def _fetch(name: str, other: Torchvision, root: Path) -> None:
    import torchvision

    try:
        getattr(torchvision.datasets, other.cls)(str(root), download=True)
    except Exception as error:  # torchvision lets through whatever the network and the disk raise
        raise OSError(
            f"download=True: torchvision could not fetch {name!r} into {str(root)!r} ({error})"
        ) from error


def _missing(dataset: DataSet, root: Path, folder: Path, layout: str | None) -> str:
    """Say what is expected where, what of it is missing, and how to get it."""
    lines = [f"load_benchmark({dataset.name!r}): the data set is not complete in root={str(root)!r}."]
    if dataset.coop and layout != "torchvision":
        lines += ["Expected, as in CoOp:", *_tree(folder, dataset.coop.needs)]
        lines += [f"How to get it: {COOP_PAGE}#{dataset.coop.anchor}"]
    other = dataset.torchvision if layout != "coop" else None
    if other:
        lines += [f"Expected, as in torchvision.datasets.{other.cls}:", *_tree(root, other.needs)]
        lines += [_advice(other, root, beside_coop=dataset.coop is not None)]
    return "\n".join(lines)


def _tree(folder: Path, needs: tuple[str, ...]) -> list[str]:
    here = "" if folder.is_dir() else "  (missing)"
    marks = ["" if _is_there(folder, entry) else "  (missing)" for entry in needs]
    return [f"    {folder}{os.sep}{here}", *(f"    |-- {e}{mark}" for e, mark in zip(needs, marks))]


def _advice(other: Torchvision, root: Path, beside_coop: bool) -> str:
    whose = "torchvision's split" if other.official else "a seeded split"
    compares = other.same_split or not beside_coop
    warning = "" if compares else f", with {whose}, whose figures do not compare with CoOp's"
    if other.shared and _has(root, other.needs):
        return f"How to use what is there{warning}: pass layout='torchvision'."
    if not other.fetches:
        return "torchvision cannot download it any more: its address is gone."
    return f"How to get it{warning}: pass download=True."


# The result


def _bunch(dataset: DataSet, contents: Contents) -> Any:
    from sklearn.utils import Bunch

    names = _class_names(dataset, contents)
    data = Bunch(name=contents.name or dataset.name)
    for part in PARTS:
        images, labels = contents.images.get(part, ()), contents.labels.get(part, ())
        if part != "val" and not len(images):
            raise ValueError(
                f"{contents.source!r} has no image for {part!r}; expected at least one"
            )
        _check_files(images, contents.source)
        low, high = (np.min(labels), np.max(labels)) if len(labels) else (0, 0)
        if low < 0 or high >= len(names):
            raise ValueError(
                f"{contents.source!r} has labels from {low} to {high}, but {len(names)} class names"
            )
        data[f"X_{part}"], data[f"y_{part}"] = (images, labels) if len(images) else (None, None)
    data.update(class_names=names, template=dataset.template, split=contents.split)
    return data


def _class_names(dataset: DataSet, contents: Contents) -> list[str]:
    """Names for prompts.  Tokenizers ignore case, so names have to differ in more than that."""
    names = [dataset.clean(name) for name in contents.names]
    seen: dict[str, int] = {}
    for label, name in enumerate(names):
        other = seen.setdefault(name.casefold(), label)
        if other != label:
            raise ValueError(
                f"{contents.source!r}: classes {contents.names[other]!r} (label {other}) and "
                f"{contents.names[label]!r} (label {label}) would both be called {name!r}; "
                "expected names that differ in more than case, underscores and spaces"
            )
    return names


def _check_files(images: Any, source: str) -> None:
    """Refuse paths of which some are not files.  One look into a folder serves all of its images."""
    if isinstance(images, np.ndarray) and images.dtype != object:
        return
    listings: dict[str, set[str]] = {}
    missing = []
    for path in images:
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _files_of(folder)
        # Asked once more: some systems find a file under another case than it is listed with.
        if name not in listings[folder] and not os.path.isfile(path):
            missing.append(path)
    if missing:
        shown = ", ".join(repr(path) for path in missing[:3]) + ", ..." * (len(missing) > 3)
        raise FileNotFoundError(
            f"{source!r} names {len(images)} images, of which {len(missing)} are missing: {shown}; "
            "are all of the data set's archives unpacked?"
        )


def _files_of(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()
