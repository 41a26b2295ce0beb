"""ImageNet, its 1,000 classes."""

from __future__ import annotations

from pathlib import Path

from ._dataset import PHOTO, Contents, Coop, DataSet
from ._layouts import lines_of, read_class_folders

# CLIP's names for ImageNet, which CoOp's classnames.txt copies, call two pairs of classes the same
# (n03773504 and n04008634 "missile", n04355933 and n04356056 "sunglasses").  Where they do,
# one of each pair gets the first word of its WordNet synset.
TWINS = {"n04008634": "projectile", "n04355933": "sunglass"}


def read(folder: Path) -> Contents:
    """Read the class folders, whose names CoOp lists."""
    parts = {"train": folder / "images" / "train", "test": folder / "images" / "val"}
    called = dict(line.partition(" ")[::2] for line, _ in lines_of(folder / "classnames.txt"))
    contents = read_class_folders(parts, "coop")
    unknown = [name for name in contents.names if not called.get(name, "").strip()]
    if unknown:
        raise ValueError(
            f"{str(folder / 'classnames.txt')!r} has no name for {len(unknown)} folders of "
            f"{str(parts['train'])!r}, the first {unknown[0]!r}; expected lines such as 'n01440764 tench'"
        )
    names = [called[name].strip() for name in contents.names]
    for label, wnid in enumerate(contents.names):
        if wnid in TWINS and names.count(names[label]) > 1:
            names[label] = TWINS[wnid]
    contents.names = names
    return contents


DATASET = DataSet(
    "imagenet",
    PHOTO,
    Coop(
        folder="imagenet",
        split="classnames.txt",
        images="images",
        needs=("images/train/", "images/val/", "classnames.txt"),
        anchor="imagenet",
        read=read,
    ),
    order=11,
)
