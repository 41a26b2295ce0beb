"""Benchmark data sets by name, with the splits and templates of CoOp."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ._benchmark_facts import BENCHMARKS, COOP_PAGE, Benchmark
from ._benchmark_layouts import (
    PARTS,
    Contents,
    divide,
    read_coop,
    read_folders,
    read_one_folder,
    read_torchvision,
)
from .digits import load_digits_images

LAYOUTS = ("coop", "torchvision")


def available_benchmarks() -> list[str]:
    """Names that `load_benchmark` takes, the six data sets of the paper first.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> from modal_clip_dual.data import available_benchmarks
    >>> available_benchmarks()[:6]
    ['caltech101', 'dtd', 'eurosat', 'fgvc_aircraft', 'oxford_flowers', 'ucf101']
    """
    return list(BENCHMARKS)


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
        inside ``root/train`` and ``root/test`` (and ``root/val``, if there is one), or
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
        If ``name``, ``root`` or ``layout`` is none of the above, if a split file is damaged,
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
    benchmark = _benchmark(name)
    _check_layout(benchmark, layout)
    if name == "digits":
        return _bunch(benchmark, _read_digits())
    root = _root(benchmark, root)
    if name == "folder":
        data = _bunch(benchmark, _read_folder(root))
        data.name = root.name
        return data
    return _bunch(benchmark, _read(benchmark, root, download, layout))


def _read(benchmark: Benchmark, root: Path, download: bool, layout: str | None) -> Contents:
    folder = _coop_folder(benchmark, root) if layout != "torchvision" else None
    if folder:
        if not _has(folder, benchmark.needs):
            raise FileNotFoundError(_missing(benchmark, root, folder, layout))
        return read_coop(benchmark, folder)
    other = benchmark.torchvision if layout != "coop" else None
    if other is None:
        raise FileNotFoundError(_missing(benchmark, root, _looks_like(benchmark, root), layout))
    there = _has(root, other.needs)
    if not there and download and other.fetches:
        _fetch(benchmark, root)
        there = _has(root, other.needs)
        if not there:
            raise FileNotFoundError(
                _missing(benchmark, root, root / benchmark.folder, "torchvision")
                + " (That was done just now. torchvision takes a folder that is there for a whole "
                "one: delete what is left of an earlier download.)"
            )
    if there and (layout == "torchvision" or download or not other.shared):
        return read_torchvision(benchmark, root)
    raise FileNotFoundError(_missing(benchmark, root, _looks_like(benchmark, root), layout))


# Arguments


def _benchmark(name: Any) -> Benchmark:
    if isinstance(name, str) and name in BENCHMARKS:
        return BENCHMARKS[name]
    # Other names that a data set goes by, so that near misses of those are understood, too.
    known: dict[str, str] = {}
    for benchmark in BENCHMARKS.values():
        known |= {benchmark.name: benchmark.name, benchmark.folder: benchmark.name}
        if benchmark.torchvision:
            known[benchmark.torchvision.cls.lower()] = benchmark.name
    close = get_close_matches(str(name).lower(), known, n=3)
    meant = list(dict.fromkeys(known[match] for match in close))
    hint = f"did you mean {' or '.join(map(repr, meant))}? " if meant else ""
    raise ValueError(
        f"name={name!r} is no benchmark; {hint}expected one of {', '.join(BENCHMARKS)}"
    )


def _check_layout(benchmark: Benchmark, layout: str | None) -> None:
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}; expected None, 'coop' or 'torchvision'")
    if layout is not None and layout not in benchmark.layouts:
        allowed = " or ".join(map(repr, [None, *benchmark.layouts]))
        raise ValueError(
            f"layout={layout!r} does not exist for {benchmark.name!r}; expected {allowed}"
        )


def _root(benchmark: Benchmark, root: Any) -> Path:
    if not isinstance(root, (str, os.PathLike)) or not os.fspath(root):
        what = (
            "a folder of class folders"
            if benchmark.name == "folder"
            else f"the folder that holds {_example(benchmark)!r}"
        )
        raise ValueError(f"root={root!r}; load_benchmark({benchmark.name!r}) expects {what}")
    return Path(os.path.abspath(os.path.expanduser(root)))


def _example(benchmark: Benchmark) -> str:
    if benchmark.folder:
        return benchmark.folder
    assert benchmark.torchvision is not None
    return benchmark.torchvision.needs[0].rstrip("/")


# What is on disk


def _has(folder: Path, needs: tuple[str, ...]) -> bool:
    return all(_is_there(folder, entry) for entry in needs)


def _is_there(folder: Path, entry: str) -> bool:
    return os.path.isdir(folder / entry) if entry.endswith("/") else os.path.isfile(folder / entry)


def _coop_folder(benchmark: Benchmark, root: Path) -> Path | None:
    """The folder of the data set with CoOp's split file in it: in the root, or the root itself."""
    if not benchmark.folder:
        return None
    found = [f for f in (root / benchmark.folder, root) if (f / benchmark.split).is_file()]
    if len(found) > 1:
        raise ValueError(
            f"root={str(root)!r} is ambiguous: {benchmark.split} is in it and in {str(found[0])!r}; "
            "expected it in one of them"
        )
    return found[0] if found else None


def _looks_like(benchmark: Benchmark, root: Path) -> Path:
    """The folder of the data set for messages: the root itself if it goes by that name."""
    inside = root / benchmark.folder
    return (
        root if root.name == benchmark.folder and root.is_dir() and not inside.is_dir() else inside
    )


def _fetch(benchmark: Benchmark, root: Path) -> None:
    import torchvision

    assert benchmark.torchvision is not None
    try:
        getattr(torchvision.datasets, benchmark.torchvision.cls)(str(root), download=True)
    except Exception as error:  # torchvision lets through whatever the network and the disk raise
        raise OSError(
            f"download=True: torchvision could not fetch {benchmark.name!r} into {str(root)!r} ({error})"
        ) from error


def _missing(benchmark: Benchmark, root: Path, folder: Path, layout: str | None) -> str:
    """What is expected where, what of it is missing, and how to get it."""
    lines = [
        f"load_benchmark({benchmark.name!r}): the data set is not complete in root={str(root)!r}."
    ]
    if benchmark.folder and layout != "torchvision":
        lines += ["Expected, as in CoOp:", *_tree(folder, benchmark.needs)]
        lines += [f"How to get it: {COOP_PAGE}#{benchmark.anchor}"]
    other = benchmark.torchvision if layout != "coop" else None
    if other:
        lines += [f"Expected, as in torchvision.datasets.{other.cls}:", *_tree(root, other.needs)]
        lines += [_advice(benchmark, root)]
    return "\n".join(lines)


def _tree(folder: Path, needs: tuple[str, ...]) -> list[str]:
    here = "" if folder.is_dir() else "  (missing)"
    marks = ["" if _is_there(folder, entry) else "  (missing)" for entry in needs]
    return [f"    {folder}{os.sep}{here}", *(f"    |-- {e}{mark}" for e, mark in zip(needs, marks))]


def _advice(benchmark: Benchmark, root: Path) -> str:
    other = benchmark.torchvision
    assert other is not None
    whose = "torchvision's split" if other.official else "a seeded split"
    compares = other.same_split or not benchmark.folder
    warning = "" if compares else f", with {whose}, whose figures do not compare with CoOp's"
    if other.shared and _has(root, other.needs):
        return f"How to use what is there{warning}: pass layout='torchvision'."
    if not other.fetches:
        return "torchvision cannot download it any more: its address is gone."
    return f"How to get it{warning}: pass download=True."


# The data sets that have no layout of their own


def _read_digits() -> Contents:
    images, target, names = load_digits_images().values()
    return divide(images, target, names, "scikit-learn's digits")


def _read_folder(root: Path) -> Contents:
    if not root.is_dir():
        raise FileNotFoundError(
            f"root={str(root)!r} is no folder; load_benchmark('folder') expects class folders in "
            f"'train' and 'test':\n    {root}{os.sep}\n    |-- train/CLASS/IMAGE\n"
            f"    |-- test/CLASS/IMAGE\nor to be divided by a seeded draw:\n    {root}{os.sep}\n"
            "    |-- CLASS/IMAGE"
        )
    names = {entry.name for entry in root.iterdir() if entry.is_dir()}
    if {"train", "test"} <= names:
        return read_folders({part: root / part for part in PARTS if part in names}, "folders")
    # A class may be called "train", but not if there is nothing else.
    if names and names <= {"train", "test", "val", "valid", "validation"}:
        raise ValueError(
            f"root={str(root)!r} holds the folders {', '.join(sorted(names))}; expected both 'train' and "
            "'test' with class folders inside, or class folders"
        )
    return read_one_folder(root)


# The result


def _bunch(benchmark: Benchmark, contents: Contents) -> Any:
    from sklearn.utils import Bunch

    names = _class_names(benchmark, contents)
    data = Bunch(name=benchmark.name)
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
    data.update(class_names=names, template=benchmark.template, split=contents.split)
    return data


def _class_names(benchmark: Benchmark, contents: Contents) -> list[str]:
    """Names for prompts.  Tokenizers ignore case, so names have to differ in more than that."""
    names = [benchmark.clean(name) for name in contents.names]
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
    """Refuse paths of which some are no files.  One look into a folder serves all of its images."""
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
