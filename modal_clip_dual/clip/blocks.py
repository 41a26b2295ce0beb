"""Features of each block of open_clip's VisionTransformer: its CLS token, and what CLS attends to."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import nn

from ..data.images import kind_of
from .backbone import Backbone
from .embedding import Features, encode

KINDS = ("tokens", "attention")


def block_features(
    backbone: Backbone,
    array: np.ndarray,
    kind: str = "tokens",
    batch_size: int = 256,
    verbose: int = 1,
    *,
    cache: str | os.PathLike[str] | None = "memory",
    n_jobs: int | str | None = "auto",
    device: str = "auto",
    size_name: str = "batch_size",
) -> np.ndarray:
    """Return features of each block of the frozen image tower.

    They are cached as embeddings are, but apart from them; embeddings do not change.

    Parameters
    ----------
    backbone : Backbone
    array : ndarray
        Images, or paths of files that exist; as `data.images.as_array` returns them.
    kind : {"tokens", "attention"}, default="tokens"
        ``"tokens"`` are the CLS tokens that the blocks put out.  ``"attention"`` are the CLS rows of the attention
        weights, each of which sums to 1 over the tokens: CLS itself, then the patches, row by row.
    batch_size, verbose, cache, n_jobs, device, size_name
        See `encode`.

    Returns
    -------
    features : ndarray of float32
        Tokens (n, blocks, width), or attention (n, blocks, heads, 1 + patches).

    Raises
    ------
    ValueError
        If the kind is unknown, the array holds embeddings, or the image tower is not open_clip's VisionTransformer
        with torch's attention; the message names the tower.
    UnreadableImagesError, torch.cuda.OutOfMemoryError
        As for `encode`.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; expected one of {KINDS}")
    if kind_of(array) == "embeddings":
        raise ValueError(
            f"X has shape {array.shape}, so it holds embeddings, which say nothing about the blocks of the image "
            "tower; expected images (n, H, W[, 3]) of uint8 or file paths"
        )
    check_tower(backbone)
    flat = encode(
        backbone, array, batch_size, verbose, cache=cache, n_jobs=n_jobs, device=device, size_name=size_name,
        features=FEATURES[kind],
    )  # fmt: skip
    blocks = backbone.model.visual.transformer.resblocks
    heads = (blocks[0].attn.num_heads,) if kind == "attention" else ()
    return flat.reshape(len(flat), len(blocks), *heads, -1)


def check_tower(backbone: Backbone) -> None:
    """Refuse an image tower whose blocks cannot be looked into.

    Raises
    ------
    ValueError
        If it is not open_clip's VisionTransformer with torch's attention; the message names the tower.
    """
    tower = getattr(backbone.model, "visual", None)
    found = describe_tower(tower)
    if isinstance(tower, VisionTransformer):
        blocks: Any = tower.transformer.resblocks
        strange = [block for block in blocks if not isinstance(getattr(block, "attn", None), nn.MultiheadAttention)]
        if not strange:
            return
        found += f" of {type(strange[0]).__name__}"
    raise ValueError(
        f"{backbone.name}: its image tower ({found}) does not show the features of its blocks; expected a model "
        "with open_clip's VisionTransformer, such as 'ViT-B-16' or 'ViT-B-32'"
    )


def describe_tower(tower: Any) -> str:
    """Return the name of an image tower for messages."""
    trunk = getattr(tower, "trunk", None)  # open_clip's wrapper of timm's models
    return type(tower).__name__ + (f" around {type(trunk).__name__}" if trunk is not None else "")


def cls_attention(block: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the CLS row (n, heads, length), float32, of a block's attention for its input (n, length, width).

    Only this row of the weights is computed, from ``in_proj_weight``: softmax(q k / sqrt(width per head)).
    """
    attn, width = block.attn, x.shape[-1]
    normalized = block.ln_1(x)
    weight, bias = attn.in_proj_weight[: 2 * width], None
    if attn.in_proj_bias is not None:
        bias = attn.in_proj_bias[: 2 * width].split(width)
    of_query, of_key = weight.split(width)
    query = F.linear(normalized[:, 0], of_query, bias and bias[0])
    key = F.linear(normalized, of_key, bias and bias[1])
    query = query.unflatten(-1, (attn.num_heads, -1)).float()
    key = key.unflatten(-1, (attn.num_heads, -1)).float()
    scores = (query[:, None] * key).sum(dim=-1) / math.sqrt(key.shape[-1])  # (n, length, heads)
    row: torch.Tensor = scores.softmax(dim=1).transpose(1, 2)
    return row


class _Walk(nn.Module):
    """The blocks of an open_clip Transformer, each of which is read."""

    def __init__(self, transformer: nn.Module, read: Callable[..., torch.Tensor]):
        super().__init__()
        self.transformer = transformer
        self.read = read
        self.answers: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        batch_first = getattr(self.transformer, "batch_first", True)
        blocks: Any = self.transformer.resblocks
        for block in blocks:
            if batch_first:
                out = block(x, attn_mask=attn_mask)
            else:
                out = block(x.transpose(0, 1), attn_mask=attn_mask).transpose(0, 1)
            self.answers.append(self.read(block, x, out).flatten(1))
            x = out
        return x


def _of_blocks(backbone: Backbone, pixels: torch.Tensor, read: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Return what ``read(block, input, output)`` says of each block, joined to one row per image, float32."""
    tower = backbone.model.visual
    # A second view of the same tower: every weight is shared, only the pass through the blocks is ours.
    # The shared model has no hook at any time, so several threads may use it.
    viewed, walk = copy.copy(tower), _Walk(tower.transformer, read)
    viewed._modules = {**tower._modules, "transformer": walk}
    with torch.inference_mode():
        viewed(backbone.to_input(pixels))
        return torch.cat(walk.answers, dim=1)


def _tokens(block: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return out[:, 0].float()


def _attention(block: Any, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return cls_attention(block, x)


FEATURES = {
    kind: Features(f"block-{kind}", partial(_of_blocks, read=read))
    for kind, read in (("tokens", _tokens), ("attention", _attention))
}
