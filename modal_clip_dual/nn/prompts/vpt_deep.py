"""Deep visual prompt tuning: fresh tokens in every block of the image tower."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..image_encoder import PromptedImageEncoder
from ..text_encoder import PromptedTextEncoder
from ._base import VisualPrompts


class DeepVisualTokens(VisualPrompts):
    """VPT-deep (Jia et al., ECCV 2022, arXiv 2203.12119, Eq. 5 to 7).

    Tokens (blocks, n_tokens, width) are drawn from U(-a, a) with
    a = sqrt(6 / (3 * patch area + width)), as in the authors' code.
    """

    def __init__(
        self,
        image_encoder: PromptedImageEncoder,
        text_encoder: PromptedTextEncoder,
        n_tokens: int,
        depth: int | None,
        generator: torch.Generator,
    ):
        super().__init__(image_encoder, text_encoder, n_tokens, depth, generator)
        bound = math.sqrt(6 / (3 * image_encoder.patch_area + image_encoder.width))
        shape = (self._n_blocks(image_encoder), n_tokens, image_encoder.width)
        self.tokens = nn.Parameter((2 * torch.rand(shape, generator=generator) - 1) * bound)

    def _n_blocks(self, image_encoder: PromptedImageEncoder) -> int:
        return image_encoder.n_blocks

    def visual_tokens(self, context: torch.Tensor) -> torch.Tensor:
        """Return the tokens; the context is not used."""
        return self.tokens


PROMPTS = DeepVisualTokens
