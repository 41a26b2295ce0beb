"""The loss of dual prompt tuning, and for each class a pull to its hand-written text that fades with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..module import Outputs
from ._base import average, split_target
from .dual import WEIGHT, DualPromptLoss

FEWEST = 0.2  # labels per class below which the text is not held more strongly: fewer were not tried


class AnchoredLoss(DualPromptLoss):
    """L = L1 + negative_weight * L2 + text_weight * A_text + image_weight * A_image.

    With t_k the unit text embedding of class k by the positive prompt, t_0k that of the hand-written template, n_k
    the number of samples labeled k, m the mean of n_k over classes but at least 0.2, v and v_0 the image embeddings
    by the trained and by the frozen tower, and w_k = 1 / (1 + n_k):

    - A_text is (1 + 1 / m^2) times the mean over classes of w_k times the mean of |t_k - t_0k| over dimensions;
    - A_image is the mean of w_k over classes times the mean of |v - v_0| over samples and dimensions; it is 0
      without visual prompts.

    The distances are those of PromptSRC (Khattak et al., ICCV 2023, arXiv 2307.06948).  The weights are ours: a
    class without a label stays near where zero-shot CLIP has it, one with many labels is free, and with less than
    about one label per class all stay near, since a few odd images would lead them astray.  The negative prompt is
    meant to leave the text; no term reaches it.

    Parameters
    ----------
    negative_weight : float, default=1.0
        Weight of L2; see `DualPromptLoss`.
    complement : {"uniform", "all", "hard"}, default="uniform"
        Wrong labels that train the negative prompt.
    seed : int, default=0
        Seed of the drawn complementary labels.
    counts : sequence of float, length C, or None, default=None
        Number of training samples of each class, or the sum of their weights, pseudo-labeled ones included; None
        stands for none.
    text_weight : float, default=20.0
        Weight of A_text.
    image_weight : float, default=400.0
        Weight of A_image.
    margin : float, default=0.0
        Weight of CLIPood's margin in L1; see `DualPromptLoss`.
    """

    needs = frozenset({"text", "frozen_text", "image", "frozen_image"})
    constraints = {**DualPromptLoss.constraints, "text_weight": WEIGHT, "image_weight": WEIGHT}
    holds_classes = True

    def __init__(
        self,
        negative_weight: float = 1.0,
        complement: str = "uniform",
        seed: int = 0,
        counts: Sequence[float] | None = None,
        text_weight: float = 20.0,
        image_weight: float = 400.0,
        margin: float = 0.0,
    ):
        super().__init__(negative_weight, complement, seed, margin)
        self.counts = counts
        self.text_weight = text_weight
        self.image_weight = image_weight

    def forward(self, outputs: Outputs, target: Any) -> torch.Tensor:
        """Return the loss; see `PromptCriterion.forward`."""
        loss = super().forward(outputs, target)
        text, frozen_text, image, frozen_image = (
            outputs.text, outputs.frozen_text, outputs.image, outputs.frozen_image
        )  # fmt: skip
        if text is None or frozen_text is None or image is None or frozen_image is None:
            raise ValueError(f"outputs lack some of {sorted(self.needs)}, which AnchoredLoss needs")
        counts = torch.zeros(len(text)) if self.counts is None else torch.as_tensor(self.counts).float()
        share = (1 / (1 + counts)).to(text.device)
        if self.text_weight:
            few = 1 + max(float(counts.mean()), FEWEST) ** -2
            loss = loss + self.text_weight * few * (share * (text - frozen_text).abs().mean(1)).mean()
        if self.image_weight and image is not frozen_image:  # the same without visual prompts
            weight = split_target(target)[1]
            shift = (image - frozen_image).abs().mean(1)
            moved = shift.mean() if weight is None else average(shift, weight / weight.sum())
            loss = loss + self.image_weight * share.mean() * moved
        return loss


CRITERION = AnchoredLoss
