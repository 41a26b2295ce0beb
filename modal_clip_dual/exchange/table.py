"""What is exchanged: what people said of each sample of a pool, and what the model says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABEL, SKIP, DROP = "label", "skip", "drop"


@dataclass(frozen=True)
class Entry:
    """One sample of a pool."""

    row: int
    path: str | None  # absolute; None if the pool holds no files
    what: str | None  # LABEL, SKIP or DROP; None if nobody said anything
    label: str | None  # name of the class that people gave
    annotator: str | None
    time: str | None  # ISO 8601, UTC
    predicted: str | None  # name of the class that the model predicts
    sure: float | None  # P(correct) of the prediction


@dataclass(frozen=True)
class Table:
    """A pool with its labels, to be written."""

    class_names: list[str]
    entries: list[Entry]


@dataclass(frozen=True)
class Said:
    """What a file says of one sample; neither path nor row is trusted before they are found in a pool."""

    path: str | None = None
    row: int | None = None
    what: str = LABEL
    label: str | None = None
    annotator: str | None = None
    file: Path | None = None  # a copy of the image, known by its bytes


@dataclass(frozen=True)
class Format:
    """How labels are written and read.

    Attributes
    ----------
    title : str
        What it is, in a few words.
    write : callable
        Called with a `Table`, a temporary path that takes the place of the final one afterwards, and options; returns
        the entries that it left out since their files cannot be read, or None.
    read : callable
        Called with a path, returns a list of `Said`.
    folder : bool
        Whether it is a folder of files, and not a single file.
    paths : bool
        Whether it needs a pool of files.
    options : tuple of str
        Names of further arguments of ``write``.
    """

    title: str
    write: Callable[..., list[Entry] | None]
    read: Callable[[Path], list[Said]]
    folder: bool = False
    paths: bool = True
    options: tuple[str, ...] = ()


def text_or_none(value: Any, where: str) -> str | None:
    """Return a text of a file, None for nothing.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ValueError(f"{where} is {value!r}; expected text")
    return value
