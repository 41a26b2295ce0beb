"""The loss of dual prompt tuning (arXiv 2602.04340, Eq. 4 to 6), sign corrected."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.utils._param_validation import Interval

from ..margin import with_margin
from ..module import Outputs
from ._base import PromptCriterion, average, split_target

COMPLEMENTS = ("uniform", "all", "hard")
WEIGHT = [Interval(Real, 0, None, closed="left")]  # constraint of weights of terms


def negative_prompt_loss(
    clean_logits: torch.Tensor,
    target: torch.Tensor,
    complement: str = "uniform",
    positive_logits: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the loss L2 that trains the negative prompt in reverse (Eq. 5).

    It is ``softplus(-z_y) + E[softplus(z_k)]``, the expectation over complementary labels k.
    The paper prints the second term with the opposite sign, which is unbounded below and
    drives every clean probability to one; its text, and Eq. 6 of arXiv 2602.04337, ask
    for the sign used here.

    Parameters
    ----------
    clean_logits : torch.Tensor of shape (n, C)
        Clean logits z = (s+ - s-) / tau.
    target : torch.Tensor of shape (n,), int64
        The label y of each sample, 0 to C - 1.
    complement : {"uniform", "all", "hard"}, default="uniform"
        Wrong labels in the expectation: one drawn uniformly from the other C - 1; all of them; or all,
        weighted by the softmax of ``positive_logits`` without y, weights detached.
    positive_logits : torch.Tensor of shape (n, C), optional
        Logits s+ / tau; needed by ``"hard"`` only.
    generator : torch.Generator, optional
        Source of the draws of ``"uniform"``, on the device of ``target``.
    weight : torch.Tensor of shape (n,), optional
        Weights of the samples; None weighs each by 1 / n.

    Returns
    -------
    torch.Tensor of shape ()
        Weighted sum over the samples; the mean if there are no weights.
    """
    n_classes = clean_logits.shape[1]
    column = target[:, None]
    is_label = F.softplus(-clean_logits.gather(1, column)).squeeze(1)
    if complement == "uniform":
        shift = torch.randint(
            1, n_classes, column.shape, generator=generator, device=target.device
        )
        other = (column + shift) % n_classes
        is_other = F.softplus(clean_logits.gather(1, other)).squeeze(1)
    elif complement == "all":
        every = F.softplus(clean_logits)
        is_other = (every.sum(1) - every.gather(1, column).squeeze(1)) / (n_classes - 1)
    elif complement == "hard":
        if positive_logits is None:
            raise ValueError("complement='hard' needs positive_logits, which is None")
        rivals = positive_logits.detach().scatter(1, column, float("-inf"))
        is_other = (rivals.softmax(1) * F.softplus(clean_logits)).sum(1)
    else:
        raise ValueError(f"complement={complement!r}; expected one of {COMPLEMENTS}")
    return average(is_label + is_other, weight)


class DualPromptLoss(PromptCriterion):
    """L = L1 + negative_weight * L2 (Eq. 6).

    Parameters
    ----------
    negative_weight : float, default=1.0
        The weight lambda.  With 0 only the cross-entropy L1 (Eq. 4) is left.
    complement : {"uniform", "all", "hard"}, default="uniform"
        Wrong labels that train the negative prompt; see `negative_prompt_loss`.
    seed : int, default=0
        Seed of the draws of ``complement="uniform"``.
    margin : float, default=0.0
        The weight of CLIPood's margin in L1, not in the clean logits; see `nn.margin.with_margin`.  It is measured
        between the hand-written texts of ``template``, which do not move.  CLIPood has 0.3.
    """

    constraints = {"margin": WEIGHT}

    def __init__(
        self, negative_weight: float = 1.0, complement: str = "uniform", seed: int = 0, margin: float = 0.0
    ):
        super().__init__()
        self.negative_weight = negative_weight
        self.complement = complement
        self.seed = seed
        self.margin = margin
        self._generator: torch.Generator | None = None

    @classmethod
    def needed(cls, **params: Any) -> frozenset[str]:
        """Return ``needs``, with the hand-written texts if there is a margin; see `PromptCriterion.needed`."""
        return cls.needs | frozenset({"frozen_text"} if params.get("margin") else ())

    def forward(self, outputs: Outputs, target: Any) -> torch.Tensor:
        """Return the loss; see `PromptCriterion.forward`."""
        target, weight = split_target(target)
        positive_logits, clean_logits = outputs[:2]
        logits = positive_logits
        if self.margin:
            if outputs.frozen_text is None:
                raise ValueError(f"outputs lack 'frozen_text', which margin={self.margin} needs")
            logits = with_margin(logits, target, outputs.frozen_text, outputs.logit_scale, self.margin)
        if weight is None:
            loss = F.cross_entropy(logits, target)
        else:
            loss = average(F.cross_entropy(logits, target, reduction="none"), weight)
        if self.negative_weight and clean_logits is not None:
            if self._generator is None:
                self._generator = torch.Generator(target.device).manual_seed(self.seed)
            loss = loss + self.negative_weight * negative_prompt_loss(
                clean_logits, target, self.complement, positive_logits, self._generator, weight
            )
        return loss


CRITERION = DualPromptLoss
