"""The margin of CLIPood: classes that are unlike the label have to stay further away."""

from __future__ import annotations

import torch


def with_margin(
    logits: torch.Tensor, target: torch.Tensor, text: torch.Tensor, logit_scale: float, margin: float
) -> torch.Tensor:
    """Return logits of the margin metric softmax (Shu et al., "CLIPood", ICML 2023, arXiv 2302.00864).

    They are ``logits_k - s * margin * <t_y, t_k>`` with the label y and s = 1 / tau.  Up to a constant of the sample,
    this adds ``s * margin * (1 - <t_y, t_k>)`` to each other class.

    Parameters
    ----------
    logits : torch.Tensor of shape (n, C)
        Logits s <v, t_k>.
    target : torch.Tensor of shape (n,), int64
        The label y of each sample.
    text : torch.Tensor of shape (C, D)
        Fixed unit text embeddings.  Learned ones could make the margin small by moving together.
    logit_scale : float
        The scale s.
    margin : float
        The weight lambda; 0 returns the logits themselves.
    """
    if not margin:
        return logits
    return logits - logit_scale * margin * (text @ text.T)[target]
