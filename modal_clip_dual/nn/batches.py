"""Batches of a training, as skorch iterators."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import torch

from ..utils.arrays import as_tensor


class Batches:
    """Batches of embeddings cut by slicing, or of images as they are read.

    What a DataLoader does, without its work per row.  Has the constructor that skorch
    expects of an iterator.  Shuffling, and the augmentation of images that goes with it,
    draw from ``generator`` alone.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
    ):
        rows = None
        while hasattr(dataset, "indices"):  # what skorch's train_split makes of a data set
            rows = dataset.indices if rows is None else np.asarray(dataset.indices)[rows]
            dataset = dataset.dataset
        self.X = dataset.X if rows is None else dataset.X[rows]
        self.y = dataset.y if rows is None else dataset.y[rows]
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = generator

    def __len__(self) -> int:
        return math.ceil(len(self.X) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        n = len(self.X)
        order = torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)
        if hasattr(self.X, "read"):
            yield from self._read(order)
            return
        if isinstance(self.y, torch.Tensor):  # once an epoch rather than at every step
            order = order.to(self.y.device)
        for k, rows in enumerate(order.split(self.batch_size)):
            if not self.shuffle:  # a slice copies nothing
                rows = slice(k * self.batch_size, (k + 1) * self.batch_size)
            yield as_tensor(self.X[rows]), self._labels(rows)

    def _read(self, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        seed = None
        if self.shuffle:
            seed = int(torch.randint(2**31, (), generator=self.generator))
        batches = [rows.numpy() for rows in order.split(self.batch_size)]
        labels = repeat(torch.empty(0)) if self.y is None else self.y[order].split(self.batch_size)
        for pixels, y in zip(self.X.read(batches, seed), labels):
            yield pixels.to(y.device, non_blocking=True), y

    def _labels(self, rows: Any) -> torch.Tensor:
        return torch.empty(0) if self.y is None else self.y[rows]


class PairedBatches:
    """Batches of labelled and of pseudo-labelled samples, joined step by step.

    An epoch is one pass over the set with more batches; the other one is cycled.  Each
    sample comes with the weight 1 over the number of its own kind in the batch.

    Parameters
    ----------
    dataset : skorch Dataset
        The labelled samples first.
    batch_size : int
        Labelled samples per step.
    n_labelled : int
        How many samples of the data set are labelled.
    pseudo_batch_size : int
        Pseudo-labelled samples per step.
    generator : torch.Generator
        Decides order, cycles and augmentation.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        n_labelled: int,
        pseudo_batch_size: int,
        generator: torch.Generator,
    ):
        plain = Batches(dataset, batch_size)
        self.X, self.y = plain.X, plain.y
        rows = np.arange(len(plain.X))
        while hasattr(dataset, "indices"):  # a part of the data, as skorch's train_split makes
            rows, dataset = np.asarray(dataset.indices)[rows], dataset.dataset
        self.sets = [
            (torch.from_numpy(np.flatnonzero(rows < n_labelled)), batch_size),
            (torch.from_numpy(np.flatnonzero(rows >= n_labelled)), pseudo_batch_size),
        ]
        self.generator = generator

    def __len__(self) -> int:
        return max(math.ceil(len(rows) / size) for rows, size in self.sets)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        steps = [self._cycled(rows, size) for rows, size in self.sets if len(rows)]
        parts = list(zip(*steps))
        batches = [torch.cat(part) for part in parts]
        weights = [torch.cat([torch.full((len(k),), 1 / len(k)) for k in part]) for part in parts]
        device = self.y.device
        if hasattr(self.X, "read"):
            seed = int(torch.randint(2**31, (), generator=self.generator))
            inputs = self.X.read([rows.numpy() for rows in batches], seed)
        else:
            inputs = (self.X[rows] for rows in batches)
        for X, rows, weight in zip(inputs, batches, weights):
            X = X.to(device, non_blocking=True)
            yield X, (self.y[rows], weight.to(device, non_blocking=True))

    def _cycled(self, rows: torch.Tensor, size: int) -> list[torch.Tensor]:
        """As many batches as the epoch has, from one shuffled pass after the other."""
        batches: list[torch.Tensor] = []
        while len(batches) < len(self):
            order = torch.randperm(len(rows), generator=self.generator)
            batches += rows[order].split(size)
        return batches[: len(self)]
