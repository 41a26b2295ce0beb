"""PromptSRC's two text terms: the positive prompt stays near the hand-written one."""

from __future__ import annotations

from typing import Any

import torch

from ..module import Outputs
from ._base import average, split_target
from .dual import DualPromptLoss


class PromptSRCLoss(DualPromptLoss):
    """L = L1 + negative_weight * L2 + text_weight * L_text + logits_weight * L_logits.

    L_text and L_logits are two of the three terms of Khattak et al., "Self-regulating Prompts", ICCV 2023,
    arXiv 2307.06948, as their code computes them; t are unit text embeddings of the positive prompt,
    t_0 those of the hand-written template, v the image embeddings, v_0 those of the frozen tower, and s = 1 / tau:

    - L_text is the mean of |t - t_0| over classes and dimensions;
    - L_logits is KL(softmax(s <v_0, t_0>) || softmax(s <v, t>)), the mean over samples, divided by C.

    The negative prompt is meant to leave the text, so neither term reaches it.

    Parameters
    ----------
    negative_weight : float, default=1.0
        Weight of L2; see `DualPromptLoss`.
    complement : {"uniform", "all", "hard"}, default="uniform"
        Wrong labels that train the negative prompt.
    seed : int, default=0
        Seed of the drawn complementary labels.
    text_weight : float, default=25.0
        Weight of L_text.
    logits_weight : float, default=1.0
        Weight of L_logits.
    """

    needs = frozenset({"text", "frozen_text", "frozen_image"})

    def __init__(
        self,
        negative_weight: float = 1.0,
        complement: str = "uniform",
        seed: int = 0,
        text_weight: float = 25.0,
        logits_weight: float = 1.0,
    ):
        super().__init__(negative_weight, complement, seed)
        self.text_weight = text_weight
        self.logits_weight = logits_weight

    def forward(self, outputs: Outputs, target: Any) -> torch.Tensor:
        """Return the loss; see `PromptCriterion.forward`."""
        loss = super().forward(outputs, target)
        text, frozen_text, frozen_image = outputs.text, outputs.frozen_text, outputs.frozen_image
        if text is None or frozen_text is None or frozen_image is None:
            raise ValueError(f"outputs lack some of {sorted(self.needs)}, which PromptSRCLoss needs")
        if self.text_weight:
            loss = loss + self.text_weight * (text - frozen_text).abs().mean()
        if self.logits_weight:
            frozen = (outputs.logit_scale * frozen_image @ frozen_text.T).log_softmax(1)
            log_proba = outputs.positive.log_softmax(1)
            divergence = (frozen.exp() * (frozen - log_proba)).sum(1) / log_proba.shape[1]
            loss = loss + self.logits_weight * average(divergence, split_target(target)[1])
        return loss


CRITERION = PromptSRCLoss
