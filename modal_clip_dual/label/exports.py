"""The labels as one file that the page offers to save."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from ..data.files import looking_once
from ..exchange.exporting import write_labels
from ..exchange.replacing import MARK
from .model import holds_paths
from .session import LabelSession


class Offer(NamedTuple):
    """What the page calls a format of `exchange`, and the file that it saves."""

    title: str
    file: str
    media: str
    format: str
    predictions: bool = False


OFFERS = {
    "csv": Offer("CSV table", "labels.csv", "text/csv; charset=utf-8", "csv"),
    "csv-predictions": Offer("CSV, with predictions", "labels-and-predictions.csv", "text/csv; charset=utf-8", "csv",
                             predictions=True),
    "folders": Offer("Class folders (ZIP)", "labels.zip", "application/zip", "folders"),
    "coco": Offer("COCO-style JSON", "labels-coco.json", "application/json", "coco"),
    "label-studio": Offer("Label Studio, with predictions", "label-studio-tasks.json", "application/json",
                          "label-studio", predictions=True),
}  # fmt: skip


def offers_of(session: LabelSession) -> dict[str, Offer]:
    """Return the formats that fit the pool; a pool without files has only tables."""
    files = holds_paths(session.paths)
    return {name: offer for name, offer in OFFERS.items() if files or offer.format == "csv"}


def export_file(session: LabelSession, name: str, folder: str) -> Path:
    """Write a file in a format into an empty folder, with all answers until now; return its path.

    It waits for a training that is going on.  Images whose files are gone or cannot be read are not in a ZIP
    file, and are named on the page.

    Raises
    ------
    OSError, ValueError
        If it cannot be written.
    """
    offer, target = OFFERS[name], Path(folder) / OFFERS[name].file
    with session.model(), looking_once():
        if offer.format != "folders":
            write_labels(session.learner, target, format=offer.format, predictions=offer.predictions)
            return target
        root = Path(folder) / "labels"
        left_out = write_labels(session.learner, root, format="folders", link=True).left_out
    # Images are compressed already.  ZIP knows the years 1980 to 2107; files of others get the nearest.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for parent, folders, files in os.walk(root):
            for file in sorted(set(files) - {MARK}):
                path = Path(parent, file)
                try:
                    archive.write(path.resolve(), path.relative_to(root.parent))
                except FileNotFoundError:  # since a moment ago
                    left_out.append(str(path.resolve()))
            folders.sort()
    session.tell_left_out(left_out, "the file is gone or cannot be read, so it is not in the export")
    return target


def new_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for one export, which is gone after it."""
    return tempfile.TemporaryDirectory(prefix="modal-clip-dual-", ignore_cleanup_errors=True)
