"""MaPLe's prompts: contexts for the first blocks of both towers, coupled by linear maps."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..image_encoder import PromptedImageEncoder
from ..text_encoder import CONTEXT_STD, PromptedTextEncoder
from ._base import VisualPrompts

DEPTH = 9  # blocks with their own prompts in MaPLe's experiments


class CoupledTokens(VisualPrompts):
    """MaPLe's prompts: at each depth a linear map from text contexts to visual tokens.

    They follow Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023, arXiv 2210.03117.  The maps are drawn
    as `torch.nn.Linear` draws its weights, from U(-b, b), b = 1 / sqrt(text width); deep contexts
    from N(0, 0.02^2).

    Raises
    ------
    ValueError
        If a tower has fewer blocks than ``depth``.
    """

    through_ln_pre = True  # as in MaPLe's code
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
        depth = resolve_depth(depth, image_encoder.n_blocks, text_encoder.n_blocks)
        width = text_encoder.width
        shape = (2, depth - 1, text_encoder.n_context, width)
        positive, negative = torch.randn(shape, generator=generator) * CONTEXT_STD
        self.deep_positive = nn.Parameter(positive.clone())
        self.deep_negative = nn.Parameter(negative.clone())
        bound = 1 / math.sqrt(width)
        weight = torch.rand(depth, width, image_encoder.width, generator=generator)
        bias = torch.rand(depth, 1, image_encoder.width, generator=generator)
        self.weight = nn.Parameter((2 * weight - 1) * bound)
        self.bias = nn.Parameter((2 * bias - 1) * bound)

    def text_contexts(self, negative: bool) -> torch.Tensor:
        """Return the contexts of the second to the J-th block of the text tower."""
        if negative:
            return torch.stack([self.deep_positive, self.deep_negative])
        return self.deep_positive[None]

    def visual_tokens(self, context: torch.Tensor) -> torch.Tensor:
        """Return the tokens (J, M, width) of the positive prompt's contexts."""
        contexts = torch.cat([context[None], self.deep_positive])
        return torch.baddbmm(self.bias, contexts, self.weight)


def resolve_depth(depth: int | None, n_image_blocks: int, n_text_blocks: int) -> int:
    """Return MaPLe's J: the number of first blocks of both towers that get their own prompts.

    None is MaPLe's 9, or every block of the shallower tower if it has fewer.

    Raises
    ------
    ValueError
        If a tower has fewer blocks than ``depth``.
    """
    most = min(n_image_blocks, n_text_blocks)
    if depth is None:
        return min(DEPTH, most)
    if depth > most:
        raise ValueError(
            f"prompt_depth={depth}; expected at most {most}: the image tower has "
            f"{n_image_blocks} blocks, the text tower {n_text_blocks}"
        )
    return depth


PROMPTS = CoupledTokens
