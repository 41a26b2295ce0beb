"""The labels as a file that the page offers to save."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import NamedTuple

from .answers import LABEL
from .model import holds_paths
from .session import LabelSession


class Format(NamedTuple):
    """What a format is called, its file, and how it is written."""

    title: str
    file: str
    media: str
    write: Callable[[LabelSession], bytes]


def to_csv(session: LabelSession) -> bytes:
    """Write a line per answer: path, what ("label", "skip" or "drop"), label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "what", "label"])
    files = holds_paths(session.paths)
    for row, said in sorted(session.said.items()):
        writer.writerow([session.paths[row] if files else row, said.what, said.name if said.what == LABEL else ""])
    return text.getvalue().encode("utf-8", "surrogateescape")


FORMATS = {"csv": Format("CSV", "labels.csv", "text/csv; charset=utf-8", to_csv)}


def export_file(session: LabelSession, name: str) -> bytes:
    """Return the content of a file in a format."""
    with session.lock:
        return FORMATS[name].write(session)
