"""Small networks: linear maps with ReLU between, trained by torch and kept as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Maps = tuple[tuple[np.ndarray, np.ndarray], ...]  # weights (out, in) and biases (out,)


def scale_of(layer: np.ndarray) -> float:
    """Return the root of the mean square of a table, by which it is divided; for unit rows 1 / sqrt(width)."""
    return float(np.sqrt(np.mean(np.square(layer, dtype=np.float64)))) or 1.0


def draw_maps(widths: Sequence[int], rng: np.random.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Draw linear maps from width to width as torch does, from U(-a, a) with a = 1 / sqrt(inputs)."""
    import torch

    maps = []
    for inputs, outputs in pairwise(widths):
        bound = inputs**-0.5
        drawn = (rng.uniform(-bound, bound, shape).astype(np.float32) for shape in ((outputs, inputs), outputs))
        weight, bias = (torch.from_numpy(values).requires_grad_() for values in drawn)
        maps.append((weight, bias))
    return maps


def forward(maps: Sequence[tuple[torch.Tensor, torch.Tensor]], x: torch.Tensor) -> torch.Tensor:
    """Apply the maps to rows, with ReLU between."""
    for number, (weight, bias) in enumerate(maps):
        x = (x.relu() if number else x) @ weight.T + bias
    return x


def as_arrays(maps: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Maps:
    """Return the maps as arrays."""
    return tuple((weight.detach().numpy(), bias.detach().numpy()) for weight, bias in maps)


def applied(maps: Maps, x: np.ndarray) -> np.ndarray:
    """Apply the maps to rows as `forward` does, without torch."""
    for number, (weight, bias) in enumerate(maps):
        x = (np.maximum(x, 0) if number else x) @ weight.T + bias
    return x
