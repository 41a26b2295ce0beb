"""The base class of visual prompts: the interface that the trained module uses."""

from __future__ import annotations

import torch
from torch import nn

from ..image_encoder import PromptedImageEncoder
from ..text_encoder import PromptedTextEncoder


class VisualPrompts(nn.Module):
    """Learnable tokens for the image tower, optionally with deeper contexts for the text tower.

    Parameters
    ----------
    image_encoder : PromptedImageEncoder
    text_encoder : PromptedTextEncoder
    n_tokens : int
        Number of tokens per block, for kinds that leave it free.
    depth : int or None
        Number of blocks with their own prompts, for kinds that leave it free; None takes the kind's default.
    generator : torch.Generator
        Random generator for the initial values.

    Attributes
    ----------
    through_ln_pre : bool
        Whether the first tokens pass the normalization in front of the first block.
    n_tokens : int
        Number of tokens per block if ``n_visual_tokens`` is None.
    maps_context : bool
        Whether the visual tokens are made of the text context.
    """

    through_ln_pre = False
    n_tokens = 20
    maps_context = False

    def __init__(
        self,
        image_encoder: PromptedImageEncoder,
        text_encoder: PromptedTextEncoder,
        n_tokens: int,
        depth: int | None,
        generator: torch.Generator,
    ):
        super().__init__()

    def text_contexts(self, negative: bool) -> torch.Tensor | None:
        """Return contexts (P, J - 1, M, width) of the text tower's later blocks, or None.

        Those of the positive prompt come first; P is 2 with ``negative`` and 1 without.
        """
        return None

    def visual_tokens(self, context: torch.Tensor) -> torch.Tensor:
        """Return the tokens (J, n_tokens, width) of the image tower's first J blocks.

        ``context`` (M, text width) is that of the positive prompt.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no visual tokens")
