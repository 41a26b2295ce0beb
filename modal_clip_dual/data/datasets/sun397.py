"""SUN397: scenes."""

from __future__ import annotations

import os
from pathlib import Path

from ._dataset import PHOTO, Contents, Coop, DataSet, Torchvision, with_spaces
from ._layouts import array_of, contents_by_draw, lines_of, path_inside


def read_torchvision(root: Path) -> Contents:
    """Read the folders of the scenes, by a seeded split."""
    folder = root / "SUN397"
    names: list[str] = []
    paths: list[str] = []
    labels: list[int] = []
    for line, where in lines_of(folder / "ClassName.txt"):
        place = path_inside(folder, line.lstrip("/"), where)
        found = sorted(os.listdir(place)) if os.path.isdir(place) else []
        found = [name for name in found if name.startswith("sun_") and name.endswith(".jpg")]
        paths += [os.path.join(place, name) for name in found]
        labels += [len(names)] * len(found)
        names.append(line)
    return contents_by_draw(array_of(paths), labels, names, str(folder))


def clean(name: str) -> str:
    """Turn "/c/church/outdoor" into "outdoor church", as in CoOp's split."""
    words = name.strip("/").split("/")
    if len(words) > 1 and len(words[0]) == 1:
        del words[0]
    return with_spaces(" ".join(reversed(words)))


DATASET = DataSet(
    "sun397",
    PHOTO,
    Coop(
        folder="sun397",
        split="split_zhou_SUN397.json",
        images="SUN397",
        needs=("SUN397/", "split_zhou_SUN397.json"),
        anchor="sun397",
    ),
    Torchvision("SUN397", ("SUN397/a/", "SUN397/ClassName.txt"), read_torchvision, official=False),
    clean=clean,
    order=10,
)
