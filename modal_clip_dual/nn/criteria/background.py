"""Training that keeps backgrounds from telling the class."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from ..module import Outputs
from .dual import WEIGHT, DualPromptLoss


class BackgroundLoss(DualPromptLoss):
    """L = L1 + negative_weight * L2 + background_weight * mean KL(uniform || p(background)).

    It is a relative of the Spurious Feature Eraser (arXiv 2403.00376) for training time, and not in that paper: the
    positive prompt is to find every class equally likely for images that show backgrounds alone.  These
    are given once, as embeddings by the frozen tower, and every step uses all of them.

    Parameters
    ----------
    negative_weight : float, default=1.0
        Weight of L2; see `DualPromptLoss`.
    complement : {"uniform", "all", "hard"}, default="uniform"
        Wrong labels that train the negative prompt.
    seed : int, default=0
        Seed of the drawn complementary labels.
    background : array-like of shape (m, D)
        Embeddings of backgrounds, of any length; as many as there are, whatever the number of labels.
    background_weight : float, default=1.0
        Weight of the last term.
    margin : float, default=0.0
        Weight of CLIPood's margin in L1; see `DualPromptLoss`.

    Raises
    ------
    ValueError
        If there are no embeddings of backgrounds.
    """

    needs = frozenset({"text"})
    constraints = {**DualPromptLoss.constraints, "background_weight": WEIGHT}

    def __init__(
        self,
        negative_weight: float = 1.0,
        complement: str = "uniform",
        seed: int = 0,
        background: Any = None,
        background_weight: float = 1.0,
        margin: float = 0.0,
    ):
        super().__init__(negative_weight, complement, seed, margin)
        if background is None:
            raise ValueError(
                "criterion='background' needs embeddings of backgrounds: "
                "net_params={'criterion__background': array of shape (m, D)}"
            )
        embeddings = torch.as_tensor(background, dtype=torch.float32)
        if embeddings.ndim != 2 or not len(embeddings):
            raise ValueError(
                f"criterion__background has shape {tuple(embeddings.shape)}; expected embeddings (m, D), at least one"
            )
        self.register_buffer("background", F.normalize(embeddings, dim=1), persistent=False)
        self.background_weight = background_weight

    def forward(self, outputs: Outputs, target: Any) -> torch.Tensor:
        """Return the loss; see `PromptCriterion.forward`."""
        loss = super().forward(outputs, target)
        if not self.background_weight:
            return loss
        if outputs.text is None:
            raise ValueError(f"outputs lack {sorted(self.needs)}, which BackgroundLoss needs")
        background = self.get_buffer("background").to(outputs.text.device)
        if background.shape[1] != outputs.text.shape[1]:
            raise ValueError(
                f"criterion__background has {background.shape[1]} columns; expected {outputs.text.shape[1]}, the "
                "width of this CLIP's embeddings"
            )
        log_proba = (outputs.logit_scale * background @ outputs.text.T).log_softmax(1)
        divergence = -math.log(log_proba.shape[1]) - log_proba.mean(1)
        return loss + self.background_weight * divergence.mean()


CRITERION = BackgroundLoss
