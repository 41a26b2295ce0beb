"""Food-101: dishes."""

from __future__ import annotations

import reprlib
from pathlib import Path

import numpy as np

from ._dataset import Contents, Coop, DataSet, Torchvision
from ._layouts import array_of, label_of, path_inside, read_json


def read_torchvision(root: Path) -> Contents:
    """Read the authors' lists."""
    folder = root / "food-101"
    expected = "a mapping of class to images, {class: ['class/1', ...]}"
    images, labels = {}, {}
    names: list[str] = []
    for part in ("train", "test"):
        path = folder / "meta" / f"{part}.json"
        listed = read_json(path, expected)
        if not isinstance(listed, dict) or not all(
            isinstance(some, list) for some in listed.values()
        ):
            raise ValueError(f"{str(path)!r} holds {reprlib.repr(listed)}; expected {expected}")
        names = names or sorted(listed)
        classes = {name: label for label, name in enumerate(names)}
        rows = [
            (path_inside(folder / "images", f"{image}.jpg", str(path)), label_of(name, classes, str(path)))
            for name, some in listed.items()
            for image in some
        ]
        images[part] = array_of(image for image, _ in rows)
        labels[part] = np.array([label for _, label in rows], dtype=int)
    return Contents(images, labels, names, "torchvision", str(folder / "meta"))


DATASET = DataSet(
    "food101",
    "a photo of {}, a type of food.",
    Coop(
        folder="food-101",
        split="split_zhou_Food101.json",
        images="images",
        needs=("images/", "split_zhou_Food101.json"),
        anchor="food101",
    ),
    Torchvision(
        "Food101",
        ("food-101/images/", "food-101/meta/train.json", "food-101/meta/test.json"),
        read_torchvision,
        shared=True,
    ),
    order=8,
)
