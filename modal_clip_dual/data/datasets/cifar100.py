"""CIFAR-100: small photos."""

from __future__ import annotations

from functools import partial

from ._dataset import PHOTO, DataSet, Torchvision
from ._layouts import read_cifar

DATASET = DataSet(
    "cifar100",
    PHOTO,
    torchvision=Torchvision("CIFAR100", ("cifar-100-python/",), partial(read_cifar, "CIFAR100")),
    order=13,
)
