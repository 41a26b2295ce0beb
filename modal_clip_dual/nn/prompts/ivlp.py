"""IVLP's prompts: independent contexts and tokens for the first blocks of both towers."""

from __future__ import annotations

import torch
from torch import nn

from ..image_encoder import PromptedImageEncoder
from ..text_encoder import CONTEXT_STD, PromptedTextEncoder
from ._deep_contexts import DeepContexts


class IndependentTokens(DeepContexts):
    """Independent vision-language prompts: at each depth contexts for the text and tokens for the image.

    They are the prompts of PromptSRC (Khattak et al., "Self-regulating Prompts", ICCV 2023, arXiv 2307.06948), which
    has 4 tokens and, with ``n_context=4``, 4 contexts.  Tokens (J, n_tokens, width) and deep contexts are drawn from
    N(0, 0.02^2).

    Raises
    ------
    ValueError
        If a tower has fewer blocks than ``depth``.
    """

    n_tokens = 4

    def __init__(
        self,
        image_encoder: PromptedImageEncoder,
        text_encoder: PromptedTextEncoder,
        n_tokens: int,
        depth: int | None,
        generator: torch.Generator,
    ):
        super().__init__(image_encoder, text_encoder, n_tokens, depth, generator)
        shape = (self.depth, n_tokens, image_encoder.width)
        self.tokens = nn.Parameter(torch.randn(shape, generator=generator) * CONTEXT_STD)

    def visual_tokens(self, context: torch.Tensor) -> torch.Tensor:
        """Return the tokens; the context is not used."""
        return self.tokens


PROMPTS = IndependentTokens
