"""Stanford Cars: models of cars."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ._dataset import PHOTO, Contents, Coop, DataSet, Torchvision, with_spaces
from ._layouts import array_of, path_inside, read_mat


def read_torchvision(root: Path) -> Contents:
    """Read the authors' split from their MATLAB files."""
    folder = root / "stanford_cars"
    names = read_mat(folder / "devkit" / "cars_meta.mat", "class_names", squeeze_me=True)
    images, labels = {}, {}
    for part, path in (
        ("train", folder / "devkit" / "cars_train_annos.mat"),
        ("test", folder / "cars_test_annos_withlabels.mat"),
    ):
        rows = read_mat(path, "annotations", squeeze_me=True)
        images[part] = array_of(
            path_inside(folder / f"cars_{part}", str(row["fname"]), str(path)) for row in rows
        )
        labels[part] = np.array([int(row["class"]) - 1 for row in rows])
    return Contents(images, labels, names.tolist(), "torchvision", str(folder))


def clean(name: str) -> str:
    """Put the year first, as in CoOp's split: "Acura RL Sedan 2012" -> "2012 Acura RL Sedan"."""
    return with_spaces(re.sub(r"^(.*\S)\s+(\d{4})$", r"\2 \1", name))


DATASET = DataSet(
    "stanford_cars",
    PHOTO,
    Coop(
        folder="stanford_cars",
        split="split_zhou_StanfordCars.json",
        needs=("cars_train/", "cars_test/", "split_zhou_StanfordCars.json"),
        anchor="stanfordcars",
    ),
    Torchvision(
        "StanfordCars",
        (
            "stanford_cars/cars_train/",
            "stanford_cars/cars_test/",
            "stanford_cars/devkit/cars_meta.mat",
            "stanford_cars/devkit/cars_train_annos.mat",
            "stanford_cars/cars_test_annos_withlabels.mat",
        ),
        read_torchvision,
        shared=True,
        fetches=False,  # its address is gone
    ),
    clean=clean,
    order=9,
)
