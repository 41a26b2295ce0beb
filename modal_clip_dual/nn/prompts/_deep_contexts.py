"""What kinds of prompts share that give both towers' first blocks prompts of their own."""

from __future__ import annotations

import torch
from torch import nn

from ..image_encoder import PromptedImageEncoder
from ..text_encoder import CONTEXT_STD, PromptedTextEncoder
from ._base import VisualPrompts

DEPTH = 9  # blocks with their own prompts in the experiments of MaPLe and PromptSRC


class DeepContexts(VisualPrompts):
    """Contexts for the second to the J-th block of the text tower, drawn from N(0, 0.02^2).

    Attributes
    ----------
    depth : int
        J, the number of first blocks of both towers with their own prompts.

    Raises
    ------
    ValueError
        If a tower has fewer blocks than ``depth``.
    """

    through_ln_pre = True  # as in MaPLe's and PromptSRC's code

    def __init__(
        self,
        image_encoder: PromptedImageEncoder,
        text_encoder: PromptedTextEncoder,
        n_tokens: int,
        depth: int | None,
        generator: torch.Generator,
    ):
        super().__init__(image_encoder, text_encoder, n_tokens, depth, generator)
        self.depth = resolve_depth(depth, image_encoder.n_blocks, text_encoder.n_blocks)
        shape = (2, self.depth - 1, text_encoder.n_context, text_encoder.width)
        positive, negative = torch.randn(shape, generator=generator) * CONTEXT_STD
        self.deep_positive = nn.Parameter(positive.clone())
        self.deep_negative = nn.Parameter(negative.clone())

    def text_contexts(self, negative: bool) -> torch.Tensor:
        """Return the contexts of the second to the J-th block of the text tower."""
        if negative:
            return torch.stack([self.deep_positive, self.deep_negative])
        return self.deep_positive[None]


def resolve_depth(depth: int | None, n_image_blocks: int, n_text_blocks: int) -> int:
    """Return J: the number of first blocks of both towers that get their own prompts.

    None is the papers' 9, or every block of the shallower tower if it has fewer.

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
