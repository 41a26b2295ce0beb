"""Squared distances between embeddings, in torch on the device where they are.

No n x n matrix is ever stored: distances are computed block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..utils.arrays import as_tensor
from ._equal import alike, first_equal

BLOCK = 1 << 23  # numbers in a block of distances: 32 MiB
# |x|^2 - 2 <x, y> + |y|^2 loses digits where all points lie far off in one direction: beyond
# this ratio of squared mean to variance, differences are taken instead.
CANCELLATION = 100.0
# The same happens between two points that lie close together: below this ratio of squared distance
# to |x|^2, differences are taken for a nearest point, so that an equal one is at distance 0.
CLOSE = 1e-3
ROUNDING = 8 * torch.finfo(torch.float32).eps  # of the three terms and their sum, relative to |x|^2


class Points:
    """Embeddings (n, D) with the distances from them, the same ones for equal embeddings.

    Raises
    ------
    ValueError
        If an embedding is not finite, or the device does not exist; the message names the argument.
    """

    def __init__(self, embeddings: Any, device: str | torch.device | None = None, name: str = "X_pool"):
        self.x = as_tensor(embeddings, device)
        parts = [block.square().sum(dim=1) for block in torch.split(self.x, self._rows(1))]
        self.norms = torch.cat(parts)  # squared
        if not torch.isfinite(self.norms).all():
            row = int((~torch.isfinite(self.norms)).nonzero()[0, 0])
            raise ValueError(f"{name}: the embedding of row {row} is not finite; expected numbers")
        self.first = first_equal(self.x)
        self.norms = alike(self.norms, self.first)
        mean = self.x.mean(dim=0).square().sum()
        variance = self.norms.mean() - mean
        self.cancels = bool(mean > CANCELLATION * variance)
        # Squared distances that differ by less may be equal ones, rounded in two blocks of different shapes.
        self.resolution = 0.0 if self.cancels else ROUNDING * float(self.norms.max())

    def __len__(self) -> int:
        return len(self.x)

    def _rows(self, width: int) -> int:
        return max(1, BLOCK // max(width, self.x.shape[1]))

    def alike(self, values: torch.Tensor) -> torch.Tensor:
        """Return the values (n, ...), with those of the first for all equal embeddings."""
        same: torch.Tensor = alike(values, self.first)
        return same

    def to(self, point: torch.Tensor) -> torch.Tensor:
        """Squared distances (n,) to one point (D,)."""
        return self.alike(self._between(slice(None), point[None])[:, 0])

    def blocks(self, others: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """Squared distances to other points (m, D): slices of rows with their (rows, m).

        These are not made equal for equal embeddings yet: pass the result through `alike`.
        """
        step = self._rows(len(others))
        for start in range(0, len(self), step):
            rows = slice(start, start + step)
            yield rows, self._between(rows, others)

    def to_each(self, others: torch.Tensor) -> torch.Tensor:
        """Squared distances (m, n) to each of other points (m, D)."""
        squared = torch.cat([block.T for _, block in self.blocks(others)], dim=1)
        return self.alike(squared.T).T

    def nearest(self, others: torch.Tensor) -> torch.Tensor:
        """Squared distance (n,) of each to the nearest of other points (m, D)."""
        parts = []
        for rows, block in self.blocks(others):
            squared, which = block.min(dim=1)
            close = (squared < CLOSE * self.norms[rows]).nonzero()[:, 0]
            squared[close] = (self.x[rows][close] - others[which[close]]).square_().sum(dim=1)
            parts.append(squared)
        return self.alike(torch.cat(parts))

    def _between(self, rows: slice, others: torch.Tensor) -> torch.Tensor:
        x = self.x[rows]
        if self.cancels:
            mode = "donot_use_mm_for_euclid_dist"
            return torch.cdist(x, others, compute_mode=mode).square_()
        squared = (x @ others.T).mul_(-2).add_(self.norms[rows, None])
        return squared.add_(others.square().sum(dim=1)).clamp_(min=0)


def highest(values: torch.Tensor, rng: np.random.Generator | None = None) -> int:
    """The row of the largest value; among equals the first, or with ``rng`` any."""
    if rng is None:
        return int(values.argmax())
    ties = (values == values.max()).nonzero()[:, 0]
    return int(ties[rng.integers(len(ties))])
