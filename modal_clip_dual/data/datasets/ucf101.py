"""UCF101: actions, a frame of each video."""

from __future__ import annotations

import re

from ._dataset import Coop, DataSet, with_spaces


def clean(name: str) -> str:
    """Turn UCF101's "ApplyEyeMakeup", or CoOp's "Apply_Eye_Makeup", into "Apply Eye Makeup"."""
    return with_spaces(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


DATASET = DataSet(
    "ucf101",
    "a photo of a person doing {}.",
    Coop(
        folder="ucf101",
        split="split_zhou_UCF101.json",
        images="UCF-101-midframes",
        needs=("UCF-101-midframes/", "split_zhou_UCF101.json"),
        anchor="ucf101",
    ),
    clean=clean,
    order=6,
)
