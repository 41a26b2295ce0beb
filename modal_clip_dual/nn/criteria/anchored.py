"""The loss of dual prompt tuning, and for each class a pull to its hand-written text that fades with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions

from ..module import Outputs
from ..text_penalty import USUAL, choose_text_penalty
from ._base import average, split_target
from .dual import WEIGHT, DualPromptLoss


class AnchoredLoss(DualPromptLoss):
    """L = L1 + negative_weight * L2 + A_text + image_weight * A_image.

    With t_k the unit text embedding of class k by the positive prompt, t_0k that of the hand-written template, n_k
    the number of samples labeled k, n their sum, m = n / C their mean, s = 1 / tau the factor of logits, and v and
    v_0 the image embeddings by the trained and by the frozen tower:

    - A_text is text_penalty / (2 n) times the sum over classes of s^2 |t_k - t_0k|^2 (1 + m) / (1 + n_k);
    - A_image is the mean of 1 / (1 + n_k) over classes times the mean over samples of s |v - v_0|_1 / sqrt(D), with
      |.|_1 the sum of absolute values of the D dimensions; it is 0 without visual prompts.

    A_text is the logarithm of a normal prior: n cross-entropies grow with the labels and the prior does not, so it
    fades.  In units of logits both mean the same for every CLIP.  A class with fewer labels than the others is held
    more strongly.  How strongly all are held is learned from the labels themselves (`choose_text_penalty`), since
    some data sets look as their names say and others do not.  The distance of A_image is that of PromptSRC
    (Khattak et al., ICCV 2023, arXiv 2307.06948), its weight is ours.  The negative prompt is meant to leave the
    text; no term reaches it.

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
        stands for one of each.
    text_penalty : "auto" or float, default="auto"
        Penalty of texts that move.  ``"auto"`` is chosen in `look`, and 0.01 without that.
    image_weight : float, default=1.6
        Weight of A_image.
    margin : float, default=0.0
        Weight of CLIPood's margin in L1; see `DualPromptLoss`.

    Attributes
    ----------
    text_penalty_ : float
        The penalty in use.
    """

    needs = frozenset({"text", "frozen_text", "image", "frozen_image"})
    constraints = {
        **DualPromptLoss.constraints, "text_penalty": [*WEIGHT, StrOptions({"auto"})], "image_weight": WEIGHT
    }  # fmt: skip
    holds_classes = True

    def __init__(
        self,
        negative_weight: float = 1.0,
        complement: str = "uniform",
        seed: int = 0,
        counts: Sequence[float] | None = None,
        text_penalty: float | str = "auto",
        image_weight: float = 1.6,
        margin: float = 0.0,
    ):
        super().__init__(negative_weight, complement, seed, margin)
        self.counts = counts
        self.text_penalty = text_penalty
        self.image_weight = image_weight
        self.text_penalty_ = USUAL if isinstance(text_penalty, str) else float(text_penalty)

    @property
    def looks(self) -> bool:
        """Whether training is preceded by `look`."""
        return isinstance(self.text_penalty, str)

    def look(
        self, embeddings: np.ndarray, target: np.ndarray, text: np.ndarray, logit_scale: float,
        weight: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Choose the penalty by the labeled samples; see `PromptCriterion.look`."""
        self.text_penalty_ = choose_text_penalty(embeddings, target, text, logit_scale, weight)

    def forward(self, outputs: Outputs, target: Any) -> torch.Tensor:
        """Return the loss; see `PromptCriterion.forward`."""
        loss = super().forward(outputs, target)
        text, frozen_text, image, frozen_image = (
            outputs.text, outputs.frozen_text, outputs.image, outputs.frozen_image
        )  # fmt: skip
        if text is None or frozen_text is None or image is None or frozen_image is None:
            raise ValueError(f"outputs lack some of {sorted(self.needs)}, which AnchoredLoss needs")
        counts = torch.ones(len(text)) if self.counts is None else torch.as_tensor(self.counts).float()
        share = (1 / (1 + counts)).to(text.device)
        if self.text_penalty_:
            n = float(counts.sum()) or 1.0
            moved = (1 + n / len(text)) * (share * (text - frozen_text).square().sum(1)).sum()
            loss = loss + self.text_penalty_ / (2 * n) * outputs.logit_scale**2 * moved
        if self.image_weight and image is not frozen_image:  # the same without visual prompts
            weight = split_target(target)[1]
            shift = outputs.logit_scale * (image - frozen_image).abs().sum(1) / image.shape[1] ** 0.5
            moved = shift.mean() if weight is None else average(shift, weight / weight.sum())
            loss = loss + self.image_weight * share.mean() * moved
        return loss


CRITERION = AnchoredLoss
