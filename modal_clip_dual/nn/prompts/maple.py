"""MaPLe's prompts: contexts for the first blocks of both towers, coupled by linear maps."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..image_encoder import PromptedImageEncoder
from ..text_encoder import PromptedTextEncoder
from ._deep_contexts import DeepContexts


class CoupledTokens(DeepContexts):
    """MaPLe's prompts: at each depth a linear map from text contexts to visual tokens.

    They follow Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023, arXiv 2210.03117.  The maps are drawn
    as `torch.nn.Linear` draws its weights, from U(-b, b), b = 1 / sqrt(text width); deep contexts
    from N(0, 0.02^2).

    Raises
    ------
    ValueError
        If a tower has fewer blocks than ``depth``.
    """

    maps_context = True

    def __init__(
        self,
        image_encoder: PromptedImageEncoder,
        text_encoder: PromptedTextEncoder,
        n_tokens: int,
        depth: int | None,
        generator: torch.Generator,
    ):
        super().__init__(image_encoder, text_encoder, n_tokens, depth, generator)
        width = text_encoder.width
        bound = 1 / math.sqrt(width)
        weight = torch.rand(self.depth, width, image_encoder.width, generator=generator)
        bias = torch.rand(self.depth, 1, image_encoder.width, generator=generator)
        self.weight = nn.Parameter((2 * weight - 1) * bound)
        self.bias = nn.Parameter((2 * bias - 1) * bound)

    def visual_tokens(self, context: torch.Tensor) -> torch.Tensor:
        """Return the tokens (J, M, width) of the positive prompt's contexts."""
        contexts = torch.cat([context[None], self.deep_positive])
        return torch.baddbmm(self.bias, contexts, self.weight)


PROMPTS = CoupledTokens
