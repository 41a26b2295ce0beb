"""Shallow visual prompt tuning: tokens in the first block of the image tower."""

from __future__ import annotations

from ..image_encoder import PromptedImageEncoder
from .vpt_deep import DeepVisualTokens


class ShallowVisualTokens(DeepVisualTokens):
    """VPT-shallow (Jia et al., ECCV 2022, arXiv 2203.12119, Eq. 2 to 4)."""

    def _n_blocks(self, image_encoder: PromptedImageEncoder) -> int:
        return 1


PROMPTS = ShallowVisualTokens
