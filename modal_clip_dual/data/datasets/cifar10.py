"""CIFAR-10: small photos."""

from __future__ import annotations

from functools import partial

from ._dataset import PHOTO, DataSet, Torchvision
from ._layouts import read_cifar

DATASET = DataSet(
    "cifar10",
    PHOTO,
    torchvision=Torchvision("CIFAR10", ("cifar-10-batches-py/",), partial(read_cifar, "CIFAR10")),
    order=12,
)
