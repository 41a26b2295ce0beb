"""The batches of training, as skorch iterators."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ..utils.arrays import as_tensor


class Batches:
    """Batches of embeddings cut by slicing, or of images as they are read.

    It replaces a DataLoader, without the work per row.  Its constructor is the one that skorch
    expects of an iterator.  Shuffling, and the augmentation of images that goes with it,
    draw from ``generator`` alone.  ``sample_weight`` (n,) are weights of the samples, with mean 1.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        sample_weight: torch.Tensor | None = None,
    ):
        self.X, self.y, rows = _unwrapped(dataset)
        self.weight = None if sample_weight is None else sample_weight[rows].to(self.y.device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = generator

    def __len__(self) -> int:
        return math.ceil(len(self.X) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, Any]]:
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
            yield as_tensor(self.X[rows]), self._target(rows)

    def _read(self, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, Any]]:
        seed = None
        if self.shuffle:
            seed = int(torch.randint(2**31, (), generator=self.generator))
        batches = [rows.numpy() for rows in order.split(self.batch_size)]
        device = torch.device("cpu") if self.y is None else self.y.device
        for pixels, rows in zip(self.X.read(batches, seed), order.split(self.batch_size)):
            yield _moved(pixels, device), self._target(rows)

    def _target(self, rows: Any) -> Any:
        """Labels, and with weights the factors of a sum of losses, which is their weighted mean."""
        if self.y is None:
            return torch.empty(0)
        if self.weight is None:
            return self.y[rows]
        weight = self.weight[rows]
        return self.y[rows], weight / len(weight)


class ImagesAndEmbeddings:
    """Images that are read without augmentation, each beside its embedding by the frozen tower.

    Batches are dicts of arguments of `DualPromptModule.forward`.

    Parameters
    ----------
    source : ImageSource
    embeddings : ndarray of shape (n, D), float32
        Unit embeddings.
    """

    def __init__(self, source: Any, embeddings: np.ndarray):
        self.source = source
        self.embeddings = embeddings

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, (int, np.integer)):
            return self.source[rows]
        return ImagesAndEmbeddings(self.source[rows], self.embeddings[rows])

    def read(self, batches: Sequence[np.ndarray], seed: int | None = None) -> Iterator[dict[str, torch.Tensor]]:
        """Yield each batch of rows; see `ImageSource.read`."""
        for rows, pixels in zip(batches, self.source.read(batches, seed)):
            yield {"inputs": pixels, "frozen_image": as_tensor(self.embeddings[rows])}


class PairedBatches:
    """Batches of labeled and of pseudo-labeled samples, joined step by step.

    An epoch is one pass over the set with more batches; the other one is cycled.  Each
    sample comes with the weight 1 over the number of its own kind in the batch, times its own weight if it has one.

    Parameters
    ----------
    dataset : skorch Dataset
        Data set with the labeled samples first.
    batch_size : int
        Number of labeled samples per step.
    n_labeled : int
        Number of labeled samples in the data set.
    pseudo_batch_size : int
        Number of pseudo-labeled samples per step.
    generator : torch.Generator
        Random generator for order, cycles and augmentation.
    sample_weight : torch.Tensor of shape (n,), optional
        Weights of the samples, with mean 1 for each kind.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        n_labeled: int,
        pseudo_batch_size: int,
        generator: torch.Generator,
        sample_weight: torch.Tensor | None = None,
    ):
        self.X, self.y, rows = _unwrapped(dataset)
        self.weight = torch.ones(len(rows)) if sample_weight is None else sample_weight[rows]
        self.sets = [
            (torch.from_numpy(np.flatnonzero(rows < n_labeled)), batch_size),
            (torch.from_numpy(np.flatnonzero(rows >= n_labeled)), pseudo_batch_size),
        ]
        self.generator = generator

    def __len__(self) -> int:
        return max(math.ceil(len(rows) / size) for rows, size in self.sets)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        steps = [self._cycled(rows, size) for rows, size in self.sets if len(rows)]
        parts = list(zip(*steps))
        batches = [torch.cat(part) for part in parts]
        weights = [torch.cat([self.weight[k] / len(k) for k in part]) for part in parts]
        device = self.y.device
        if hasattr(self.X, "read"):
            seed = int(torch.randint(2**31, (), generator=self.generator))
            inputs = self.X.read([rows.numpy() for rows in batches], seed)
        else:
            inputs = (self.X[rows] for rows in batches)
        for X, rows, weight in zip(inputs, batches, weights):
            X = _moved(X, device)
            yield X, (self.y[rows], weight.to(device, non_blocking=True))

    def _cycled(self, rows: torch.Tensor, size: int) -> list[torch.Tensor]:
        """Return as many batches as the epoch has, from one shuffled pass after the other."""
        batches: list[torch.Tensor] = []
        while len(batches) < len(self):
            order = torch.randperm(len(rows), generator=self.generator)
            batches += rows[order].split(size)
        return batches[: len(self)]


def _moved(X: Any, device: torch.device) -> Any:
    """Return a tensor, or a dict of them, on a device."""
    if isinstance(X, dict):
        return {name: _moved(value, device) for name, value in X.items()}
    return X.to(device, non_blocking=True)


def _unwrapped(dataset: Any) -> tuple[Any, Any, np.ndarray]:
    """Return samples and labels of a data set or a part of it, and their rows in the whole."""
    rows = None
    while hasattr(dataset, "indices"):  # skorch's train_split turns a data set into these
        rows = np.asarray(dataset.indices) if rows is None else np.asarray(dataset.indices)[rows]
        dataset = dataset.dataset
    if rows is None:
        return dataset.X, dataset.y, np.arange(len(dataset.X))
    return dataset.X[rows], dataset.y[rows], rows
