"""The image encoder: open_clip's vision transformer with extra tokens.

The tokens stand behind [CLS] and the patches, take no position, and are left out of
pooling.  ``tokens[i]`` replaces the output of block i - 1 for the extra tokens as input of block i.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import nn

from ..clip.backbone import Backbone
from ..clip.blocks import describe_tower


class PromptedImageEncoder:
    """Embeds images by a frozen vision transformer with extra tokens.

    Parameters
    ----------
    backbone : Backbone

    Attributes
    ----------
    width : int
        Width of the tower's tokens.
    n_blocks : int
        Number of its blocks.
    patch_area : int
        Pixels of a patch, height times width.

    Raises
    ------
    ValueError
        If the image tower is not open_clip's VisionTransformer; names the tower and what
        works instead.
    """

    def __init__(self, backbone: Backbone):
        tower = backbone.model.visual
        if not isinstance(tower, VisionTransformer):
            raise ValueError(
                f"{backbone.name}: its image tower ({describe_tower(tower)}) takes no visual prompts; "
                "expected a model with open_clip's VisionTransformer, such as 'ViT-B-16' or "
                "'ViT-B-32'.  With this model, visual_prompts=None trains the text prompts alone"
            )
        self.backbone = backbone
        self.width = tower.conv1.weight.shape[0]
        self.n_blocks = len(tower.transformer.resblocks)
        self.patch_area = math.prod(tower.conv1.kernel_size)

    def __call__(
        self, pixels: torch.Tensor, tokens: torch.Tensor, through_ln_pre: bool = False
    ) -> torch.Tensor:
        """Encode images to unit embeddings (n, D), float32.

        Parameters
        ----------
        pixels : torch.Tensor
            As `Backbone.to_input` takes them.
        tokens : torch.Tensor of shape (J, n_tokens, width)
            Row i enters block i.
        through_ln_pre : bool, default=False
            Whether the first tokens pass the normalization in front of the first block,
            as in MaPLe's code; VPT's are inputs of the block itself.
        """
        tower = self.backbone.model.visual
        tokens = tokens.to(tower.conv1.weight.dtype)
        first = tower.ln_pre(tokens[0]) if through_ln_pre else tokens[0]
        # A second view of the same tower: every weight is shared, only the pass through the
        # blocks is ours.  The shared model is not changed, so several threads may use it.
        prompted = copy.copy(tower)
        walk = _PromptedTransformer(tower.transformer, [first, *tokens[1:]])
        prompted._modules = {**tower._modules, "transformer": walk}
        features = prompted(self.backbone.to_input(pixels))
        if isinstance(features, tuple):  # CoCa's tower returns its tokens too
            features = features[0]
        return F.normalize(features.float(), dim=-1)

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptedImageEncoder:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return PromptedImageEncoder, (self.backbone,)

    def __repr__(self) -> str:
        return f"PromptedImageEncoder({self.n_blocks} blocks, width={self.width})"


class _PromptedTransformer(nn.Module):
    """The blocks of an open_clip Transformer, extra tokens behind its own in the first ones."""

    def __init__(self, transformer: nn.Module, tokens: list[torch.Tensor]):
        super().__init__()
        self.transformer = transformer
        self.tokens = tokens

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        batch_first = getattr(self.transformer, "batch_first", True)
        length = x.shape[1]
        blocks: Any = self.transformer.resblocks
        for i, block in enumerate(blocks):
            if i < len(self.tokens):
                fresh = self.tokens[i].to(x.dtype).expand(len(x), -1, -1)
                x = torch.cat([x[:, :length], fresh], dim=1)
            if batch_first:
                x = block(x, attn_mask=attn_mask)
            else:
                x = block(x.transpose(0, 1), attn_mask=attn_mask).transpose(0, 1)
        return x[:, :length]
