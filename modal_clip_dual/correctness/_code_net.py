"""Class codes: a network whose activations are near a fixed binary code of the class (arXiv 2208.14488)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import hadamard
from scipy.special import softmax

from ..utils.arrays import ROWS, as_tensor, blocks
from ._maps import Maps, applied, as_arrays, draw_maps, forward, scale_of

if TYPE_CHECKING:
    import torch

# As in the authors' code.
START, LEAST, LARGEST = 10.0, 1e-4, 50.0  # sharpness of the distances: start and bounds
MOMENTUM, DECAY, LONGEST_STEP = 0.9, 5e-5, 1.0


def draw_codes(n_classes: int, n_bits: str | int, n_layers: int, rng: np.random.Generator) -> np.ndarray:
    """Return codes (C, L) of -1 and 1, int8: per layer ``n_bits`` random distinct ones, or rows of a Hadamard matrix.

    The smallest Hadamard matrix with C rows beside the constant one is taken, of 2^k >= C + 1 bits; any two of
    its rows differ in half of their bits.  Rows and columns are shuffled, layer by layer.
    """
    parts = []
    for _ in range(n_layers):
        if isinstance(n_bits, str):
            matrix = hadamard(1 << int(n_classes).bit_length())
            rows = 1 + rng.permutation(len(matrix) - 1)[:n_classes]
            parts.append(matrix[rows][:, rng.permutation(len(matrix))])
            continue
        found: dict[bytes, np.ndarray] = {}
        while len(found) < n_classes:
            code = rng.choice(np.array([-1, 1], dtype=np.int8), n_bits)
            found.setdefault(code.tobytes(), code)
        parts.append(np.stack(list(found.values())))
    return np.hstack(parts).astype(np.int8)


@dataclass(frozen=True)
class CodeNet:
    """A fitted network: per layer, linear maps with ReLU between, whose outputs are averaged per bit."""

    codes: np.ndarray  # (C, L) of -1 and 1
    scales: tuple[float, ...]  # what each layer is divided by
    maps: tuple[Maps, ...]  # of each layer
    sharpness: float

    @property
    def n_bits(self) -> int:
        """Bits per layer."""
        return int(self.codes.shape[1]) // len(self.maps)

    def activations(self, layers: list[np.ndarray]) -> np.ndarray:
        """Return the activations (n, L), float32."""
        out = np.empty((len(layers[0]), self.codes.shape[1]), dtype=np.float32)
        for rows in blocks(len(out), ROWS):
            for k, (layer, scale, maps) in enumerate(zip(layers, self.scales, self.maps)):
                x = applied(maps, np.asarray(layer[rows], dtype=np.float32) / np.float32(scale))
                out[rows, k * self.n_bits : (k + 1) * self.n_bits] = x.reshape(len(x), self.n_bits, -1).mean(axis=2)
        return out

    def agreement(self, activations: np.ndarray) -> np.ndarray:
        """Return the mean (n, C), over the bits, of activation times code."""
        mean: np.ndarray = activations @ self.codes.T.astype(np.float32) / np.float32(self.codes.shape[1])
        return mean

    def proba(self, activations: np.ndarray) -> np.ndarray:
        """Return class probabilities (n, C): the softmax of -sharpness times the mean distance to each code."""
        distance = np.empty((len(activations), len(self.codes)), dtype=np.float32)
        for k, code in enumerate(self.codes):
            distance[:, k] = np.abs(activations - code).mean(axis=1)
        of_all: np.ndarray = softmax(-self.sharpness * distance, axis=1)
        return of_all


def code_loss(
    activations: torch.Tensor,
    target: torch.Tensor,
    codes: torch.Tensor,
    noisy: torch.Tensor,
    sharpness: Any,
    l1_weight: float,
) -> torch.Tensor:
    """Return cross-entropy by distances to noisy codes, plus ``l1_weight`` times the distance to the true code.

    Distances are means over the bits.
    """
    from torch.nn import functional as F

    distance = (activations[:, None] - noisy).abs().mean(dim=2)
    own = (activations - codes[target]).abs().mean()
    return F.cross_entropy(-sharpness * distance, target) + l1_weight * own


def fit_codes(
    layers: list[np.ndarray],
    target: np.ndarray,
    codes: np.ndarray,
    rng: np.random.Generator,
    *,
    projection: int,
    code_noise: float,
    l1_weight: float,
    lr: float,
    max_epochs: int,
    batch_size: int,
) -> CodeNet:
    """Train the maps by gradient descent with momentum and a learning rate that falls along a cosine."""
    import torch

    n_bits = codes.shape[1] // len(layers)
    scales = tuple(scale_of(layer) for layer in layers)
    inputs = [as_tensor(layer) / scale for layer, scale in zip(layers, scales)]
    maps = []
    for layer in layers:  # the width is kept, but every bit gets as many outputs
        width = -(-layer.shape[1] // n_bits) * n_bits
        maps.append(draw_maps([layer.shape[1]] + [width] * projection, rng))
    sharpness = torch.tensor(START, requires_grad=True)
    parameters = [parameter for layer in maps for pair in layer for parameter in pair]
    optimizer = torch.optim.SGD([*parameters, sharpness], lr, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)
    y, of_class = torch.from_numpy(target.astype(np.int64)), torch.from_numpy(codes.astype(np.float32))
    for _ in range(max_epochs):
        for rows in torch.from_numpy(rng.permutation(len(y))).split(batch_size):
            flips = np.where(rng.random(codes.shape) < code_noise, -1, 1).astype(np.float32)
            activations = torch.cat([_activations(x[rows], layer, n_bits) for x, layer in zip(inputs, maps)], dim=1)
            noisy = of_class * torch.from_numpy(flips)
            loss = code_loss(activations, y[rows], of_class, noisy, sharpness, l1_weight)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*parameters, sharpness], LONGEST_STEP)
            optimizer.step()
            with torch.no_grad():
                sharpness.clamp_(LEAST, LARGEST)
        schedule.step()
    return CodeNet(codes, scales, tuple(map(as_arrays, maps)), sharpness.item())


def _activations(x: torch.Tensor, maps: list[tuple[torch.Tensor, torch.Tensor]], n_bits: int) -> torch.Tensor:
    """Return the activations (n, bits) of one layer."""
    outputs: Any = forward(maps, x)
    of_bits: torch.Tensor = outputs.unflatten(1, (n_bits, -1)).mean(dim=2)
    return of_bits
