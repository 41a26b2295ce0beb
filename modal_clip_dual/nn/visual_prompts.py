"""Learnable tokens in open_clip's vision transformer: VPT, shallow and deep, and MaPLe's.

The tokens stand behind [CLS] and the patches, take no position, and are left out of
pooling.  ``tokens[i]`` enters block i in place of what block i - 1 made of its own
(Jia et al., ECCV 2022, arXiv 2203.12119, Eq. 2 to 7): one set for the first block is
VPT-shallow, a set for every block VPT-deep.  In MaPLe (Khattak et al., CVPR 2023, arXiv
2210.03117) the first J blocks of both towers get fresh ones, and those of the image side
are linear maps of the text side's contexts.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from .image_encoder import PromptedImageEncoder

KINDS = ("vpt-deep", "vpt-shallow", "maple")
MAPLE_DEPTH = 9  # blocks with prompts of their own in MaPLe's experiments


class VisualTokens(nn.Module):
    """VPT's learnable tokens, (depth, n_tokens, width), drawn from U(-a, a).

    a = sqrt(6 / (3 * patch area + width)), as in the authors' code.
    """

    through_ln_pre = False

    def __init__(
        self,
        encoder: PromptedImageEncoder,
        depth: int,
        n_tokens: int,
        generator: torch.Generator,
    ):
        super().__init__()
        bound = math.sqrt(6 / (3 * encoder.patch_area + encoder.width))
        shape = (depth, n_tokens, encoder.width)
        self.tokens = nn.Parameter((2 * torch.rand(shape, generator=generator) - 1) * bound)

    def forward(self, contexts: torch.Tensor) -> torch.Tensor:
        """The tokens; the contexts of the positive prompt play no part."""
        return self.tokens


class CoupledTokens(nn.Module):
    """MaPLe's coupling: each depth has a linear map from text contexts to visual tokens.

    Drawn as `torch.nn.Linear` draws its weights, from U(-b, b), b = 1 / sqrt(text width).
    """

    through_ln_pre = True

    def __init__(self, depth: int, text_width: int, width: int, generator: torch.Generator):
        super().__init__()
        bound = 1 / math.sqrt(text_width)
        weight = torch.rand(depth, text_width, width, generator=generator)
        bias = torch.rand(depth, 1, width, generator=generator)
        self.weight = nn.Parameter((2 * weight - 1) * bound)
        self.bias = nn.Parameter((2 * bias - 1) * bound)

    def forward(self, contexts: torch.Tensor) -> torch.Tensor:
        """Tokens (J, M, width) of the positive prompt's contexts (J, M, text width)."""
        return torch.baddbmm(self.bias, contexts, self.weight)


def resolve_prompt_depth(
    prompt_depth: int | None, n_image_blocks: int, n_text_blocks: int
) -> int:
    """MaPLe's J: the first blocks of both towers that get prompts of their own.

    None is MaPLe's 9, or every block of the shallower tower if it has fewer.

    Raises
    ------
    ValueError
        If a tower has fewer blocks than were asked for.
    """
    most = min(n_image_blocks, n_text_blocks)
    if prompt_depth is None:
        return min(MAPLE_DEPTH, most)
    if prompt_depth > most:
        raise ValueError(
            f"prompt_depth={prompt_depth}; expected at most {most}: the image tower has "
            f"{n_image_blocks} blocks, the text tower {n_text_blocks}"
        )
    return prompt_depth
