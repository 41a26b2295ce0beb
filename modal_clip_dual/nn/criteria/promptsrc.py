"""PromptSRC's loss and average: the positive prompt stays near the frozen CLIP."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from sklearn.utils._param_validation import StrOptions

from ..averaging import WeightAverage
from ..module import Outputs
from ._base import average as weighted, split_target
from .dual import WEIGHT, DualPromptLoss

AVERAGE = {f"average_{name}": name for name in ("mean", "scale", "beta")}  # arguments of `WeightAverage`


class PromptSRCLoss(DualPromptLoss):
    """L = L1 + negative_weight * L2 + text_weight * L_text + image_weight * L_image + logits_weight * L_logits.

    The last three are the terms of Khattak et al., "Self-regulating Prompts", ICCV 2023, arXiv 2307.06948, as their
    code computes them; t are unit text embeddings of the positive prompt, t_0 those of the hand-written ``template``,
    v the unit image embeddings, v_0 those of the frozen tower for the same image, augmented alike, and s = 1 / tau:

    - L_text is the mean of |t - t_0| over classes and dimensions;
    - L_image is the mean of |v - v_0| over samples and dimensions, which is 0 without visual prompts;
    - L_logits is KL(softmax(s <v_0, t_0>) || softmax(s <v, t>)), the mean over samples, divided by C.

    The negative prompt is meant to leave the text, so no term reaches it.  At the end of training all prompts are
    replaced by an average over the epochs; see `WeightAverage`.

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
    image_weight : float, default=10.0
        Weight of L_image.  Without augmentation v_0 is computed once per image, else at every step.
    average : {"gaussian", "beta"} or None, default="gaussian"
        Average of the prompts along training; None leaves the last ones.
    average_mean, average_scale : float, default=0.75, 0.05
        Mean and standard deviation of ``"gaussian"``, as fractions of the epochs.
    average_beta : float, default=0.5
        The b of ``"beta"``.
    margin : float, default=0.0
        Weight of CLIPood's margin in L1; see `DualPromptLoss`.
    """

    needs = frozenset({"text", "image", "frozen_text", "frozen_image"})
    constraints = {
        **DualPromptLoss.constraints,
        "text_weight": WEIGHT,
        "logits_weight": WEIGHT,
        "image_weight": WEIGHT,
        "average": [StrOptions({"gaussian", "beta"}), None],
        **{ours: WeightAverage._parameter_constraints[theirs] for ours, theirs in AVERAGE.items()},
    }

    def __init__(
        self,
        negative_weight: float = 1.0,
        complement: str = "uniform",
        seed: int = 0,
        text_weight: float = 25.0,
        logits_weight: float = 1.0,
        image_weight: float = 10.0,
        average: str | None = "gaussian",
        average_mean: float = 0.75,
        average_scale: float = 0.05,
        average_beta: float = 0.5,
        margin: float = 0.0,
    ):
        super().__init__(negative_weight, complement, seed, margin)
        self.text_weight = text_weight
        self.logits_weight = logits_weight
        self.image_weight = image_weight
        self.average = average
        self.average_mean = average_mean
        self.average_scale = average_scale
        self.average_beta = average_beta

    @classmethod
    def needed(cls, **params: Any) -> frozenset[str]:
        """Return what terms of a weight above 0 read; see `PromptCriterion.needed`."""
        given = _with_defaults(params)
        needed = {"text", "frozen_text"} if given["text_weight"] else set()
        needed |= {"frozen_text"} if given["margin"] else set()
        needed |= {"image", "frozen_image"} if given["image_weight"] else set()
        needed |= {"frozen_text", "frozen_image"} if given["logits_weight"] else set()
        return frozenset(needed)

    @classmethod
    def callbacks(cls, **params: Any) -> list[tuple[str, Any]]:
        """Return the average along training; see `PromptCriterion.callbacks`."""
        given = _with_defaults(params)
        if given["average"] is None:
            return []
        settings = {theirs: given[ours] for ours, theirs in AVERAGE.items()}
        return [("weight_average", WeightAverage(given["average"], **settings))]

    def forward(self, outputs: Outputs, target: Any) -> torch.Tensor:
        """Return the loss; see `PromptCriterion.forward`."""
        loss = super().forward(outputs, target)
        weight = split_target(target)[1]
        if self.text_weight:
            text, frozen_text = _known(outputs, "text", "frozen_text")
            loss = loss + self.text_weight * (text - frozen_text).abs().mean()
        if self.image_weight:
            image, frozen_image = _known(outputs, "image", "frozen_image")
            if image is not frozen_image:  # with visual prompts
                loss = loss + self.image_weight * weighted((image - frozen_image).abs().mean(1), weight)
        if self.logits_weight:
            frozen_text, frozen_image = _known(outputs, "frozen_text", "frozen_image")
            frozen = (outputs.logit_scale * frozen_image @ frozen_text.T).log_softmax(1)
            log_proba = outputs.positive.log_softmax(1)
            divergence = (frozen.exp() * (frozen - log_proba)).sum(1) / log_proba.shape[1]
            loss = loss + self.logits_weight * weighted(divergence, weight)
        return loss


def _with_defaults(params: dict[str, Any]) -> dict[str, Any]:
    defaults = {name: parameter.default for name, parameter in signature(PromptSRCLoss).parameters.items()}
    return defaults | params


def _known(outputs: Outputs, *names: str) -> list[torch.Tensor]:
    found = [getattr(outputs, name) for name in names]
    if any(value is None for value in found):
        raise ValueError(f"outputs lack some of {list(names)}, which PromptSRCLoss needs")
    return found


CRITERION = PromptSRCLoss
