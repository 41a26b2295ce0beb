"""FGVC Aircraft: variants of airplanes."""

from __future__ import annotations

from pathlib import Path

from ._dataset import PARTS, Contents, Coop, DataSet, Torchvision
from ._layouts import contents_of_lists, label_of, lines_of, path_inside

NEEDS = ("images/", "variants.txt", *(f"images_variant_{part}.txt" for part in PARTS))
FOLDER = "fgvc-aircraft-2013b/data"  # torchvision's


def read(folder: Path) -> Contents:
    """Read the authors' lists."""
    names = [name for name, _ in lines_of(folder / "variants.txt")]
    classes = {name: label for label, name in enumerate(names)}

    def entry(line: str, where: str) -> tuple[str, int]:
        image, _, name = line.partition(" ")
        return path_inside(folder / "images", f"{image}.jpg", where), label_of(name.strip(), classes, where)

    # Also where torchvision fetched it: CoOp takes the authors' own split.
    files = {part: folder / f"images_variant_{part}.txt" for part in PARTS}
    return contents_of_lists(files, entry, names, "coop")


DATASET = DataSet(
    "fgvc_aircraft",
    "a photo of a {}, a type of aircraft.",
    Coop(
        folder="fgvc_aircraft",
        split="variants.txt",
        images="images",
        needs=NEEDS,
        anchor="fgvcaircraft",
        read=read,
    ),
    Torchvision(
        "FGVCAircraft",
        tuple(f"{FOLDER}/{entry}" for entry in NEEDS),
        lambda root: read(root / FOLDER),
        same_split=True,
    ),
    order=4,
)
