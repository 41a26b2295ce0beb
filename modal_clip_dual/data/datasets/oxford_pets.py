"""Oxford-IIIT Pets: breeds of cats and dogs."""

from __future__ import annotations

from pathlib import Path

from ._dataset import Contents, Coop, DataSet, Torchvision, with_spaces
from ._layouts import contents_of_lists, names_by_label, path_inside


def read_torchvision(root: Path) -> Contents:
    """Read the authors' lists."""
    folder = root / "oxford-iiit-pet"
    names: dict[int, str] = {}

    def read(line: str, where: str) -> tuple[str, int]:
        image, label, *_ = [*line.split(), ""]
        if not label.isdecimal() or int(label) < 1:
            raise ValueError(
                f"{where} is {line!r}; expected 'Abyssinian_1 1 1 1': image, class, ..."
            )
        names.setdefault(int(label) - 1, image.rpartition("_")[0])
        return path_inside(folder / "images", f"{image}.jpg", where), int(label) - 1

    annotations = folder / "annotations"
    files = {"train": annotations / "trainval.txt", "test": annotations / "test.txt"}
    contents = contents_of_lists(files, read, [], "torchvision")
    contents.names = names_by_label(
        {label: (name, "") for label, name in names.items()}, files["train"]
    )
    return contents


def clean(name: str) -> str:
    """Return a name in lower case."""
    return with_spaces(name.lower())  # as in CoOp's split; the files' names tell cats by a capital


DATASET = DataSet(
    "oxford_pets",
    "a photo of a {}, a type of pet.",
    Coop(
        folder="oxford_pets",
        split="split_zhou_OxfordPets.json",
        images="images",
        needs=("images/", "split_zhou_OxfordPets.json"),
        anchor="oxfordpets",
    ),
    Torchvision(
        "OxfordIIITPet",
        tuple(
            f"oxford-iiit-pet/{entry}"
            for entry in ("images/", "annotations/trainval.txt", "annotations/test.txt")
        ),
        read_torchvision,
    ),
    clean=clean,
    order=7,
)
