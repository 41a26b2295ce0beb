"""What training asks of any criterion."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from ..module import Outputs


class PromptCriterion(nn.Module):
    """A loss of the outputs of `DualPromptModule`.

    Attributes
    ----------
    needs : frozenset of str
        Names of the `Outputs` that it reads beyond the logits: ``"text"``, ``"image"``,
        ``"frozen_text"``, ``"frozen_image"``.  Others are not computed.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def callbacks(cls, **params: Any) -> list[tuple[str, Any]]:
        """Return the skorch callbacks that training with this criterion has, with their names.

        Parameters
        ----------
        **params
            What the criterion is made with.
        """
        return []

    def forward(self, outputs: Outputs, target: Any) -> torch.Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        outputs : Outputs
        target : torch.Tensor or pair of torch.Tensor
            Labels (n,), or a pair of labels and weights (n,) of the samples: with labeled and
            pseudo-labeled ones in a batch, 1 over the number of their own kind, by which the
            mean losses of both are added.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")


def split_target(target: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return labels and weights, None where each sample counts alike, of a criterion's target."""
    labels, weight = target if isinstance(target, (tuple, list)) else (target, None)
    return labels, weight


def average(losses: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return the weighted sum of losses (n,), or their mean without weights."""
    return losses.mean() if weight is None else (weight * losses).sum()
