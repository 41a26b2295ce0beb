"""The trainable module: two prompts over frozen embeddings, and its batches."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from skorch.callbacks import Callback
from torch import nn

from .text_prompts import PromptedTextEncoder

CONTEXT_STD = 0.02


class DualPromptModule(nn.Module):
    """A positive and a negative prompt that classify frozen image embeddings.

    Only the two contexts are parameters; the text tower is reached through
    ``text_encoder`` and is neither trained nor part of the state dict.

    Parameters
    ----------
    text_encoder : PromptedTextEncoder
    negative : bool, default=True
        Whether training needs the negative prompt; without, its context keeps the
        values that it was drawn with.
    detach_positive : bool, default=False
        Send the gradient of L2 to the negative prompt alone.
    seed : int, default=0
        Seed of the two initial contexts, drawn from N(0, 0.02^2).
    """

    def __init__(
        self,
        text_encoder: PromptedTextEncoder,
        negative: bool = True,
        detach_positive: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        self.text_encoder = text_encoder
        self.negative = negative
        self.detach_positive = detach_positive
        generator = torch.Generator().manual_seed(seed)
        shape = (2, text_encoder.n_context, text_encoder.width)
        positive, negative_context = torch.randn(shape, generator=generator) * CONTEXT_STD
        self.context_positive = nn.Parameter(positive.clone())
        self.context_negative = nn.Parameter(negative_context.clone())
        self._text_embeddings: torch.Tensor | None = None

    def train(self, mode: bool = True) -> DualPromptModule:
        # Training moves the contexts, so what was computed from them no longer holds.
        if mode:
            self._text_embeddings = None
        return super().train(mode)

    def text_embeddings(self) -> torch.Tensor:
        """Unit text embeddings (2, C, D), positive prompt first; kept while evaluating."""
        if self.training:
            if not self.negative:
                return self.text_encoder(self.context_positive[None])
            return self.text_encoder(torch.stack([self.context_positive, self.context_negative]))
        if self._text_embeddings is None:
            with torch.no_grad():
                both = torch.stack([self.context_positive, self.context_negative])
                self._text_embeddings = self.text_encoder(both)
        return self._text_embeddings

    def forward(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return s+ / tau and z = (s+ - s-) / tau, both (n, C) float32, of (n, D) embeddings.

        z is None while training without a negative prompt.
        """
        image = F.normalize(embeddings.float(), dim=-1)
        text = self.text_embeddings() * self.text_encoder.backbone.logit_scale
        positive = image @ text[0].T
        if len(text) == 1:
            return positive, None
        reference = positive.detach() if self.training and self.detach_positive else positive
        return positive, reference - image @ text[1].T


class ClipEachGradient(Callback):
    """Clip the norm of each parameter's gradient on its own.

    skorch's GradientNormClipping clips them together, by which the negative prompt's
    gradient would reach into the positive prompt's steps.
    """

    def __init__(self, gradient_clip_value: float):
        self.gradient_clip_value = gradient_clip_value

    def on_grad_computed(self, net, named_parameters, **kwargs):
        for _, parameter in named_parameters:
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_(parameter, self.gradient_clip_value)


def as_tensor(embeddings: np.ndarray | torch.Tensor) -> torch.Tensor:
    """A float32 tensor of embeddings, copied only if torch could not share the memory.

    torch warns of arrays that may not be written, such as memory-mapped ones.
    """
    if isinstance(embeddings, torch.Tensor):
        return embeddings
    return torch.from_numpy(np.require(embeddings, np.float32, ["C", "W"]))


class EmbeddingBatches:
    """Batches of tensors cut by slicing: what a DataLoader does, without its work per row.

    Has the constructor that skorch expects of an iterator.  Shuffling draws from
    ``generator`` alone.
    """

    def __init__(self, dataset, batch_size: int, shuffle: bool = False, generator=None):
        rows = None
        while hasattr(dataset, "indices"):  # what skorch's train_split makes of a data set
            rows = dataset.indices if rows is None else np.asarray(dataset.indices)[rows]
            dataset = dataset.dataset
        self.X = dataset.X if rows is None else dataset.X[rows]
        self.y = dataset.y if rows is None else dataset.y[rows]
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = generator

    def __len__(self) -> int:
        return math.ceil(len(self.X) / self.batch_size)

    def __iter__(self):
        n = len(self.X)
        if self.shuffle:
            order = torch.randperm(n, generator=self.generator)
            for rows in order.split(self.batch_size):
                yield self.X[rows], self.y[rows]
        else:
            for start in range(0, n, self.batch_size):
                rows = slice(start, start + self.batch_size)
                X = as_tensor(self.X[rows])
                yield X, torch.empty(0) if self.y is None else self.y[rows]
