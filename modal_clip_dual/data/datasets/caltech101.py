"""Caltech-101: objects."""

from __future__ import annotations

from pathlib import Path

from ._dataset import PHOTO, Contents, Coop, DataSet, Torchvision, renamed
from ._layouts import read_one_folder

# As CoOp's datasets/caltech101.py names them.  CoOp's split file holds the new names already; the folders of
# the images, which torchvision goes by, the old ones.
NEW_NAMES = {
    "airplanes": "airplane",
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
}
# CoOp leaves these out: not a class at all, and the faces a second time, cropped.
IGNORED = ("BACKGROUND_Google", "Faces_easy")


def read_torchvision(root: Path) -> Contents:
    """Read the class folders, by a seeded split."""
    return read_one_folder(root / "caltech101" / "101_ObjectCategories", IGNORED)


DATASET = DataSet(
    "caltech101",
    PHOTO,
    Coop(
        folder="caltech-101",
        split="split_zhou_Caltech101.json",
        images="101_ObjectCategories",
        needs=("101_ObjectCategories/", "split_zhou_Caltech101.json"),
        anchor="caltech101",
    ),
    Torchvision("Caltech101", ("caltech101/101_ObjectCategories/",), read_torchvision, official=False),
    clean=renamed(NEW_NAMES),
    order=1,
)
