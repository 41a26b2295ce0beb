"""The base class of criteria: the interface that training uses."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ..module import Outputs


class PromptCriterion(nn.Module):
    """A loss computed from the outputs of `DualPromptModule`.

    Attributes
    ----------
    needs : frozenset of str
        Names of the `Outputs` that it reads beside the logits: ``"text"``, ``"image"``,
        ``"frozen_text"``, ``"frozen_image"``.  No others are computed.
    constraints : dict
        Constraints of its arguments, as scikit-learn's ``_parameter_constraints``.
    holds_classes : bool
        Whether it holds each class near its hand-written text, the more the fewer labels it has.  Then by default
        each class may learn for itself; see ``name_offsets`` of `DualPromptModule`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    constraints: ClassVar[dict[str, Any]] = {}
    holds_classes: ClassVar[bool] = False

    @classmethod
    def needed(cls, **params: Any) -> frozenset[str]:
        """Return the part of ``needs`` that it reads with these arguments; by default all.

        Parameters
        ----------
        **params
            Arguments of the criterion.
        """
        return cls.needs

    @classmethod
    def callbacks(cls, **params: Any) -> list[tuple[str, Any]]:
        """Return the skorch callbacks that training with this criterion needs, with their names.

        Parameters
        ----------
        **params
            Arguments of the criterion.
        """
        return []

    @property
    def looks(self) -> bool:
        """Whether training is preceded by `look`; by default it is not."""
        return False

    def look(
        self, embeddings: np.ndarray, target: np.ndarray, text: np.ndarray, logit_scale: float,
        weight: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """Look at the labeled samples before training, and choose by them what is to be chosen.

        Parameters
        ----------
        embeddings : ndarray of shape (n, D)
            Unit embeddings of the labeled images by the frozen CLIP.
        target : ndarray of int, shape (n,)
            Positions of the labels.
        text : ndarray of shape (C, D)
            Unit embeddings of the hand-written texts.
        logit_scale : float
            1 / tau.
        weight : ndarray of shape (n,), optional
            Weights of the samples.
        """

    def forward(self, outputs: Outputs, target: Any) -> torch.Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        outputs : Outputs
        target : torch.Tensor or pair of torch.Tensor
            Labels (n,), or a pair of labels and weights (n,) of the samples.  In a batch of labeled
            and pseudo-labeled samples the weight is 1 over the number of the sample's kind, so that
            the mean losses of both kinds are added.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")


def split_target(target: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return labels and weights of a criterion's target; the weights are None if all samples count alike."""
    labels, weight = target if isinstance(target, (tuple, list)) else (target, None)
    return labels, weight


def average(losses: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Return the weighted sum of losses (n,), or their mean if there are no weights."""
    return losses.mean() if weight is None else (weight * losses).sum()
