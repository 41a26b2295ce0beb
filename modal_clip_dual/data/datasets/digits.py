"""Scikit-learn's handwritten digits."""

from __future__ import annotations

from pathlib import Path

from ..digits import load_digits_images
from ._dataset import PHOTO, Contents, DataSet
from ._layouts import contents_by_draw


def read(root: Path) -> Contents:
    """Divide the scans by a seeded split; they need no root."""
    images, target, names = load_digits_images().values()
    return contents_by_draw(images, target, names, "scikit-learn's digits")


DATASET = DataSet("digits", PHOTO, read=read, order=14)
