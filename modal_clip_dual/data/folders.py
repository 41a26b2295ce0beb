"""Images in a folder of class folders."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".jpf", ".avif", ".mpo",
)  # fmt: skip
# Folders and files that systems, network drives and tools put beside one's own.
SYSTEM_FOLDERS = (
    "__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "$recycle.bin", "recycler",
    "system volume information", "lost+found", "found.000", "network trash folder", "temporary items", "__pycache__",
)  # fmt: skip
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
# How parts of a divided data set are called.
PART_NAMES = {
    "train": ("train", "training", "trainset", "training_set", "train_set"),
    "val": ("val", "valid", "validation", "valset", "validation_set", "val_set", "dev"),
    "test": ("test", "testing", "testset", "test_set", "eval", "evaluation"),
}


def load_image_folder(folder: str | os.PathLike[str], extensions: Sequence[str] | None = None) -> Any:
    """List the images of a folder that has one folder per class.

    Only names are looked at; no image is opened.  A warning counts, by ending, the files that are
    no images by their names, and says what else was passed over.

    Parameters
    ----------
    folder : str or path-like
        Its folders are the classes, named after them.  Images may lie in folders further
        down.  What starts with a dot is passed over without a word, and so are the files that systems
        keep (Thumbs.db, desktop.ini); their folders (__MACOSX, @eaDir, $RECYCLE.BIN and so
        on) are no classes.
    extensions : sequence of str, default=None
        Ends of the names of images, compared without case.  None stands for all that are read: those of
        JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000 and AVIF, and of HEIC where the package pillow-heif is
        installed.

    Returns
    -------
    data : `sklearn.utils.Bunch`
        ``paths``: ndarray of shape (n,) of str, sorted; what `DualPromptClassifier` takes.
        ``target``: int array of shape (n,), positions in ``class_names``.
        ``class_names``: names of the class folders, sorted; a class may have no image yet.

    Raises
    ------
    NotADirectoryError
        If ``folder`` is not a folder.
    ValueError
        If there is no class folder, or no image in any; or if the folders are called like the parts of a
        divided data set (train, val, test), which `load_benchmark` ("folder") reads.
    TypeError
        If ``folder`` is no path, or ``extensions`` is one string.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from modal_clip_dual.data import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat/tom.png", "dog/rex.png", "dog/lassie.png"):
    ...         path = Path(folder, name)
    ...         path.parent.mkdir(exist_ok=True)
    ...         Image.new("RGB", (4, 4)).save(path)
    ...     paths, y, class_names = load_image_folder(folder).values()
    >>> class_names, y.tolist(), [Path(path).name for path in paths]
    (['cat', 'dog'], [0, 1, 1], ['tom.png', 'lassie.png', 'rex.png'])
    """
    from sklearn.utils import Bunch

    folder = _folder_of(folder)
    extensions = _extensions_of(extensions)
    suffixes = tuple(extension.lower() for extension in extensions)
    over = PassedOver()
    class_names = _class_folders(folder, suffixes, over)
    paths: list[str] = []
    target: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(_files(folder / name, suffixes, over))
        paths += found
        target += [label] * len(found)
    if not paths:
        raise ValueError(
            f"folder={str(folder)!r} has {len(class_names)} folders with no image in them"
            + (f", and {over.beside} images beside them" if over.beside else "")
            + (f" ({over.by_ending()})" if over.endings else "")
            + "; expected a folder per class with its images inside, ending in "
            + ", ".join(extensions)
        )
    over.warn(folder)
    array = np.empty(len(paths), dtype=object)
    array[:] = paths
    return Bunch(paths=array, target=np.array(target), class_names=class_names)


def list_images(folder: str | os.PathLike[str], extensions: Sequence[str] | None = None) -> np.ndarray:
    """List all images of a folder and of the folders in it, whatever these are called.

    Only names are looked at; no image is opened.  What is passed over, and the warning that counts it, are those of
    `load_image_folder`.

    Parameters
    ----------
    folder : str or path-like
        The folder.
    extensions : sequence of str, default=None
        Ends of the names of images, as for `load_image_folder`.

    Returns
    -------
    paths : ndarray of shape (n,) of str
        Sorted; may be empty.

    Raises
    ------
    NotADirectoryError
        If ``folder`` is not a folder.
    TypeError
        If ``folder`` is no path, or ``extensions`` is one string.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from modal_clip_dual.data import list_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "more/a.png"):
    ...         Path(folder, name).parent.mkdir(exist_ok=True)
    ...         Image.new("RGB", (4, 4)).save(Path(folder, name))
    ...     paths = list_images(folder)
    >>> [Path(path).name for path in paths]
    ['b.png', 'a.png']
    """
    folder = _folder_of(folder)
    extensions = _extensions_of(extensions)
    over = PassedOver()
    paths = sorted(_files(folder, tuple(extension.lower() for extension in extensions), over))
    over.warn(folder)
    array = np.empty(len(paths), dtype=object)
    array[:] = paths
    return array


def _folder_of(folder: Any) -> Path:
    """The folder as a path; what names none is refused, the empty text too, which would be where one is."""
    if not isinstance(folder, (str, os.PathLike)) or not isinstance(os.fspath(folder), str):
        raise TypeError(f"folder={folder!r}; expected the path of a folder, str or path-like")
    if not os.fspath(folder):
        raise NotADirectoryError("folder='' names no folder; '.' is the one of this process")
    path = Path(folder)
    if not path.is_dir():
        home = os.path.expanduser(path)
        hint = f"; ~ is the shell's, expected {home!r}" if os.path.isdir(home) else ""
        hint = hint or ("; it is a file" if path.exists() else f", seen from {os.getcwd()!r}")
        raise NotADirectoryError(f"folder={str(path)!r} is not a folder{hint}")
    return path


def _extensions_of(extensions: Any) -> Sequence[str]:
    if isinstance(extensions, str):
        raise TypeError(f"extensions={extensions!r}; expected a sequence such as ('.jpg', '.png')")
    if extensions is None:
        return extensions_read()
    listed: list[Any] = list(extensions) if isinstance(extensions, Iterable) else []
    if not listed or not all(isinstance(extension, str) for extension in listed):
        raise TypeError(f"extensions={extensions!r}; expected a sequence such as ('.jpg', '.png')")
    return listed


def extensions_read() -> tuple[str, ...]:
    """Ends of the names of all files that can be read as images here."""
    from .images import HEIF_EXTENSIONS, reads_heif

    return IMAGE_EXTENSIONS + (HEIF_EXTENSIONS if reads_heif() else ())


def part_of(name: str) -> str | None:
    """Which part of a divided data set a folder's name means: "train", "val", "test" or None."""
    plain = name.casefold().replace("-", "_").replace(" ", "_")
    return next((part for part, names in PART_NAMES.items() if plain in names), None)


class PassedOver:
    """What was not taken of a folder, to be told in one warning."""

    def __init__(self) -> None:
        self.endings: Counter[str] = Counter()  # of files that are no images by their names
        self.folders: list[str] = []  # of systems, and links
        self.beside = 0  # images beside the class folders

    def by_ending(self) -> str:
        """Return the numbers of files by ending, the most frequent first."""
        shown = ", ".join(f"{n} {ending or 'without ending'}" for ending, n in self.endings.most_common(8))
        return shown + (f" and {len(self.endings) - 8} other endings" if len(self.endings) > 8 else "")

    def warn(self, folder: Path) -> None:
        """Tell what was passed over, if anything was."""
        told = []
        if self.endings:
            told.append(f"{self.endings.total()} files that are no images by their names: {self.by_ending()}")
        if self.folders:
            more = f" and {len(self.folders) - 5} more" if len(self.folders) > 5 else ""
            told.append(f"the folders {', '.join(self.folders[:5])}{more}")
        if self.beside:
            told.append(f"{self.beside} images beside the class folders")
        heic = any(ending in (".heic", ".heif", ".hif") for ending in self.endings)
        hint = ". HEIC files are taken where pillow-heif is installed: pip install pillow-heif" if heic else ""
        if told:
            warnings.warn(f"{str(folder)!r}: passed over {'; '.join(told)}{hint}", UserWarning, stacklevel=3)


def _class_folders(folder: Path, suffixes: tuple[str, ...], over: PassedOver) -> list[str]:
    """Names of the class folders, sorted."""
    names = []
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            over.beside += entry.name.lower().endswith(suffixes)
        elif entry.name.casefold() in SYSTEM_FOLDERS:
            over.folders.append(entry.name)
        else:
            names.append(entry.name)
    parts = [name for name in names if part_of(name)]
    if len(parts) > 1 and len(parts) == len(names):
        raise ValueError(
            f"folder={str(folder)!r} holds {', '.join(sorted(parts))}, which are parts of a data set and no classes; "
            "expected class folders: load_benchmark('folder', folder) reads the parts, "
            f"load_image_folder(folder + {'/' + parts[0]!r}) one of them"
        )
    return sorted(names)


def _files(folder: Path, suffixes: tuple[str, ...], over: PassedOver) -> Iterator[str]:
    # os.walk does not follow links to folders, so none can lead it in a circle.
    def not_listed(error: OSError) -> None:
        over.folders.append(f"{error.filename} ({error.strerror})")

    for parent, folders, files in os.walk(folder, onerror=not_listed):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        system = [name for name in folders if name.casefold() in SYSTEM_FOLDERS]
        over.folders += [os.path.join(os.path.relpath(parent, folder.parent), name) for name in links + system]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in system]
        for name in files:
            if name.startswith(".") or name.casefold() in SYSTEM_FILES:
                continue
            if name.lower().endswith(suffixes):
                yield os.path.join(parent, name)
            else:
                over.endings[os.path.splitext(name)[1].lower()] += 1
