"""The record of a benchmark data set, and what reading one gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("train", "val", "test")
PHOTO = "a photo of a {}."


@dataclass
class Contents:
    """What a layout holds: images and labels by part, class names as written, whose split it is.

    ``source`` is what messages about the contents call them: a file or a folder.  ``name`` is
    that of the data set where the layout says it.
    """

    images: dict[str, Any]
    labels: dict[str, np.ndarray]
    names: list[str]
    split: str
    source: str
    name: str = ""


def with_spaces(name: str) -> str:
    """Replace underscores by spaces, and runs of spaces by one."""
    return " ".join(name.replace("_", " ").split())


def renamed(new_names: dict[str, str]) -> Callable[[str], str]:
    """Return the function that replaces these class names, and cleans the others."""
    return lambda name: with_spaces(new_names.get(name, name))


@dataclass(frozen=True)
class Coop:
    """A data set in CoOp's layout.

    Parameters
    ----------
    folder : str
        The data set's folder.
    split : str
        The file in ``folder`` that says which images belong to which split, or how the classes
        are called.  Where it is, CoOp's layout is meant.
    needs : tuple of str
        What is read of ``folder``; folders end in "/".
    anchor : str
        Section of CoOp's DATASETS.md.
    images : str
        Folder in ``folder`` that the split's paths start from.
    read : callable, optional
        Reads ``folder`` if ``split`` is not one of CoOp's JSON files.
    """

    folder: str
    split: str
    needs: tuple[str, ...]
    anchor: str
    images: str = ""
    read: Callable[[Path], Contents] | None = None


@dataclass(frozen=True)
class Torchvision:
    """A data set of torchvision.

    Parameters
    ----------
    cls : str
        Its class in `torchvision.datasets`.
    needs : tuple of str
        What is read of it, relative to the root; folders end in "/".
    read : callable
        Reads what torchvision leaves below the root, with its own split.
    shared : bool
        CoOp's guide puts the images at the same place, so only the split file tells which
        of the two splits is meant.
    official : bool
        The data set's authors divide it into training and test images.
    same_split : bool
        Their split is the one that CoOp takes.
    fetches : bool
        torchvision can still download it.
    """

    cls: str
    needs: tuple[str, ...]
    read: Callable[[Path], Contents]
    shared: bool = False
    official: bool = True
    same_split: bool = False
    fetches: bool = True


@dataclass(frozen=True)
class DataSet:
    """A data set by name.

    Folders and files are those of CoOp's DATASETS.md and datasets/*.py, and of torchvision 0.29's
    datasets; templates those of CUSTOM_TEMPLATES in CoOp's trainers/zsclip.py, where it has one.

    Parameters
    ----------
    name : str
        What `load_benchmark` calls it.
    template : str
        Hand-written prompt with one ``{}`` for the class name.
    coop : Coop, optional
        CoOp's layout, if CoOp includes the data set.
    torchvision : Torchvision, optional
        torchvision's layout, if it includes the data set.
    read : callable, optional
        Reads a data set that has neither layout, from the root.
    root : str
        What the root of such a data set has to be; "" if it needs none.
    clean : callable
        Turns a class name as written in files into the one for prompts.
    order : int
        Place in `available_benchmarks`; those of one place are sorted by name.
    """

    name: str
    template: str
    coop: Coop | None = None
    torchvision: Torchvision | None = None
    read: Callable[[Path], Contents] | None = None
    root: str = ""
    clean: Callable[[str], str] = with_spaces
    order: int = 100

    @property
    def layouts(self) -> tuple[str, ...]:
        """Layouts that it may have on disk, the preferred one first."""
        return ("coop",) * (self.coop is not None) + ("torchvision",) * (self.torchvision is not None)
