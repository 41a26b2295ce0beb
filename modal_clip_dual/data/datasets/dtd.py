"""DTD: textures."""

from __future__ import annotations

from pathlib import Path

from ._dataset import PARTS, Contents, Coop, DataSet, Torchvision
from ._layouts import contents_of_lists, label_of, lines_of, path_inside


def read_torchvision(root: Path) -> Contents:
    """Read the first of the authors' ten splits."""
    folder = root / "dtd" / "dtd"
    files = {part: folder / "labels" / f"{part}1.txt" for part in PARTS}
    names = sorted({line.partition("/")[0] for line, _ in lines_of(files["train"])})
    classes = {name: label for label, name in enumerate(names)}

    def read(line: str, where: str) -> tuple[str, int]:
        return path_inside(folder / "images", line, where), label_of(line.partition("/")[0], classes, where)

    return contents_of_lists(files, read, names, "torchvision")


DATASET = DataSet(
    "dtd",
    "{} texture.",
    Coop(
        folder="dtd",
        split="split_zhou_DescribableTextures.json",
        images="images",
        needs=("images/", "split_zhou_DescribableTextures.json"),
        anchor="dtd",
    ),
    Torchvision(
        "DTD",
        ("dtd/dtd/images/", *(f"dtd/dtd/labels/{part}1.txt" for part in PARTS)),
        read_torchvision,
    ),
    order=2,
)
