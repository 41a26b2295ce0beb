"""Images in a folder of class folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2",
    ".avif",
)  # fmt: skip


def load_image_folder(folder: str | os.PathLike[str], extensions: Sequence[str] = IMAGE_EXTENSIONS) -> Any:
    """List the images of a folder that has one folder per class.

    Only names are looked at; no image is opened.

    Parameters
    ----------
    folder : str or path-like
        Its folders are the classes, named after them.  Images may lie in folders further
        down.  What starts with a dot is passed over, and so are files beside the class folders.
    extensions : sequence of str, default=IMAGE_EXTENSIONS
        Ends of the names of images, compared without case.

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
        If there is no class folder, or no image in any.
    TypeError
        If ``extensions`` is one string.

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

    if isinstance(extensions, str):
        raise TypeError(f"extensions={extensions!r}; expected a sequence such as ('.jpg', '.png')")
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"folder={str(folder)!r} is not a folder")
    class_names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    suffixes = tuple(extension.lower() for extension in extensions)
    paths: list[str] = []
    target: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(_files(folder / name, suffixes))
        paths += found
        target += [label] * len(found)
    if not paths:
        flat = sum(entry.name.lower().endswith(suffixes) for entry in folder.iterdir())
        raise ValueError(
            f"folder={str(folder)!r} has {len(class_names)} folders with no image in them"
            + (f", and {flat} images beside them" if flat else "")
            + "; expected a folder per class with its images inside, ending in "
            + ", ".join(extensions)
        )
    array = np.empty(len(paths), dtype=object)
    array[:] = paths
    return Bunch(paths=array, target=np.array(target), class_names=class_names)


def _files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[str]:
    # os.walk does not follow links to folders, so none can lead it in a circle.
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(suffixes):
                yield os.path.join(parent, name)
