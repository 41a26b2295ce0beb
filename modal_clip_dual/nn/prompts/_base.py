"""What the trained module asks of any kind of visual prompts."""

from __future__ import annotations

import torch
from torch import nn

from ..image_encoder import PromptedImageEncoder
from ..text_encoder import PromptedTextEncoder


class VisualPrompts(nn.Module):
    """Learnable tokens for the image tower, and maybe deeper contexts for the text tower.

    Parameters
    ----------
    image_encoder : PromptedImageEncoder
    text_encoder : PromptedTextEncoder
    n_tokens : int
        Tokens per block, where their number is free.
    depth : int or None
        Blocks with prompts of their own, where that is free; None takes the kind's default.
    generator : torch.Generator
        Source of everything that is drawn.

    Attributes
    ----------
    through_ln_pre : bool
        Whether the first tokens pass the normalization in front of the first block.
    """

    through_ln_pre = False

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

        The positive prompt's come first; P is 2 with ``negative`` and else 1.
        """
        return None

    def visual_tokens(self, context: torch.Tensor) -> torch.Tensor:
        """Return the tokens (J, n_tokens, width) of the image tower's first J blocks.

        ``context`` (M, text width) is that of the positive prompt.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no visual tokens")
