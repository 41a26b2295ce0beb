"""A network that gives the parameters of a Dirichlet distribution over class probabilities (arXiv 2212.07359)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..utils.arrays import ROWS, as_tensor, blocks
from ._maps import Maps, applied, as_arrays, draw_maps, forward, scale_of

if TYPE_CHECKING:
    import torch

LOGARITHMS = 30.0  # largest size of a logarithm of alpha, so that exp stays finite


@dataclass(frozen=True)
class EvidenceNet:
    """A fitted network: per layer, linear maps with ReLU between; with several layers, one more that joins them."""

    scales: tuple[float, ...]  # what each layer is divided by
    maps: tuple[Maps, ...]  # of each layer
    joint: tuple[np.ndarray, np.ndarray] | None

    def alpha(self, layers: list[np.ndarray]) -> np.ndarray:
        """Return the parameters (n, C), float32."""
        parts = []
        for rows in blocks(len(layers[0]), ROWS):
            outputs = []
            for layer, scale, maps in zip(layers, self.scales, self.maps):
                outputs.append(applied(maps, np.asarray(layer[rows], dtype=np.float32) / np.float32(scale)))
            log_alpha = outputs[0]
            if self.joint is not None:
                log_alpha = np.maximum(np.hstack(outputs), 0) @ self.joint[0].T + self.joint[1]
            parts.append(np.exp(np.clip(log_alpha, -LOGARITHMS, LOGARITHMS)))
        alpha: np.ndarray = np.concatenate(parts)
        return alpha


def evidence_loss(alpha: torch.Tensor, target: torch.Tensor, kl_weight: float) -> torch.Tensor:
    """Return the mean of digamma(alpha_0) - digamma(alpha_y) + ``kl_weight`` * KL(Dir(alpha) || Dir(1)).

    The first part is the expected cross-entropy of the class probabilities.
    """
    import torch

    total = alpha.sum(dim=1)
    expected = torch.digamma(total) - torch.digamma(alpha.gather(1, target[:, None])[:, 0])
    n_classes = torch.tensor(float(alpha.shape[1]), dtype=alpha.dtype)
    divergence = torch.lgamma(total) - torch.lgamma(alpha).sum(dim=1) - torch.lgamma(n_classes)
    divergence = divergence + ((alpha - 1) * (torch.digamma(alpha) - torch.digamma(total)[:, None])).sum(dim=1)
    return (expected + kl_weight * divergence).mean()


def fit_evidence(
    layers: list[np.ndarray],
    target: np.ndarray,
    n_classes: int,
    rng: np.random.Generator,
    *,
    hidden: Sequence[int],
    kl_weight: float,
    lr: float,
    max_epochs: int,
    batch_size: int,
) -> EvidenceNet:
    """Train the network by Adam."""
    import torch

    scales = tuple(scale_of(layer) for layer in layers)
    inputs = [as_tensor(layer) / scale for layer, scale in zip(layers, scales)]
    maps = [draw_maps([layer.shape[1], *hidden, n_classes], rng) for layer in layers]
    joint = draw_maps([n_classes * len(layers), n_classes], rng)[0] if len(layers) > 1 else None
    parameters = [parameter for layer in maps for pair in layer for parameter in pair] + list(joint or ())
    optimizer = torch.optim.Adam(parameters, lr)
    y = torch.from_numpy(target.astype(np.int64))
    for _ in range(max_epochs):
        for rows in torch.from_numpy(rng.permutation(len(y))).split(batch_size):
            outputs = [forward(layer, table[rows]) for table, layer in zip(inputs, maps)]
            log_alpha = outputs[0]
            if joint is not None:
                log_alpha = torch.cat(outputs, dim=1).relu() @ joint[0].T + joint[1]
            loss = evidence_loss(log_alpha.clamp(-LOGARITHMS, LOGARITHMS).exp(), y[rows], kl_weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return EvidenceNet(scales, tuple(map(as_arrays, maps)), None if joint is None else as_arrays([joint])[0])

