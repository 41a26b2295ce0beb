"""EuroSAT: land use from satellites."""

from __future__ import annotations

from pathlib import Path

from ._dataset import Contents, Coop, DataSet, Torchvision, renamed
from ._layouts import read_one_folder

# As CoOp's datasets/eurosat.py names them.  CoOp's split file holds the new names already; the folders of
# the images, which torchvision goes by, the old ones.
NEW_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


def read_torchvision(root: Path) -> Contents:
    """Read the class folders, by a seeded split."""
    return read_one_folder(root / "eurosat" / "2750")


DATASET = DataSet(
    "eurosat",
    "a centered satellite photo of {}.",
    Coop(
        folder="eurosat",
        split="split_zhou_EuroSAT.json",
        images="2750",
        needs=("2750/", "split_zhou_EuroSAT.json"),
        anchor="eurosat",
    ),
    Torchvision("EuroSAT", ("eurosat/2750/",), read_torchvision, shared=True, official=False),
    clean=renamed(NEW_NAMES),
    order=3,
)
