"""The trainable module: two text prompts, and maybe tokens in the image tower; its batches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from skorch.callbacks import Callback
from torch import nn

from ..utils.arrays import as_tensor
from .text_prompts import PromptedTextEncoder
from .visual_prompts import (
    CoupledTokens,
    PromptedImageEncoder,
    VisualTokens,
    resolve_prompt_depth,
)

if TYPE_CHECKING:
    from skorch import NeuralNet

CONTEXT_STD = 0.02


class DualPromptModule(nn.Module):
    """A positive and a negative prompt that classify images.

    Only prompts are parameters; the towers are reached through ``text_encoder`` and
    ``image_encoder`` and are neither trained nor part of the state dict.

    Parameters
    ----------
    text_encoder : PromptedTextEncoder
    negative : bool, default=True
        Whether training needs the negative prompt; without, its context keeps the
        values that it was drawn with.
    detach_positive : bool, default=False
        Send the gradient of L2 to the negative prompt alone.
    visual_prompts : {"vpt-deep", "vpt-shallow", "maple"} or None, default=None
        Learnable tokens of the image tower; None takes frozen embeddings.
    n_visual_tokens : int, default=20
        VPT's tokens per block.
    prompt_depth : int or None, default=None
        MaPLe's J; see `visual_prompts.resolve_prompt_depth`.
    seed : int, default=0
        Seed of everything that is drawn: the two contexts from N(0, 0.02^2), then deep
        contexts alike, then what moves the image tower.
    """

    def __init__(
        self,
        text_encoder: PromptedTextEncoder,
        negative: bool = True,
        detach_positive: bool = False,
        visual_prompts: str | None = None,
        n_visual_tokens: int = 20,
        prompt_depth: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.text_encoder = text_encoder
        self.negative = negative
        self.detach_positive = detach_positive
        self.visual_prompts = visual_prompts
        generator = torch.Generator().manual_seed(seed)
        shape = (2, text_encoder.n_context, text_encoder.width)
        positive, negative_context = torch.randn(shape, generator=generator) * CONTEXT_STD
        self.context_positive = nn.Parameter(positive.clone())
        self.context_negative = nn.Parameter(negative_context.clone())
        self.visual: VisualTokens | CoupledTokens | None = None
        if visual_prompts is not None:
            self.image_encoder = PromptedImageEncoder(text_encoder.backbone)
            self._draw_visual(n_visual_tokens, prompt_depth, generator)
        self._text_embeddings: torch.Tensor | None = None

    def _draw_visual(self, n_tokens: int, prompt_depth: int | None, generator: torch.Generator) -> None:
        encoder, text = self.image_encoder, self.text_encoder
        if self.visual_prompts != "maple":
            depth = 1 if self.visual_prompts == "vpt-shallow" else encoder.n_blocks
            self.visual = VisualTokens(encoder, depth, n_tokens, generator)
            return
        depth = resolve_prompt_depth(prompt_depth, encoder.n_blocks, text.n_blocks)
        shape = (2, depth - 1, text.n_context, text.width)
        positive, negative = torch.randn(shape, generator=generator) * CONTEXT_STD
        self.deep_positive = nn.Parameter(positive.clone())
        self.deep_negative = nn.Parameter(negative.clone())
        self.visual = CoupledTokens(depth, text.width, encoder.width, generator)

    def train(self, mode: bool = True) -> DualPromptModule:
        """As `torch.nn.Module.train`; training moves the contexts and so ends what is kept of them."""
        if mode:
            self._text_embeddings = None
        return super().train(mode)

    def text_embeddings(self) -> torch.Tensor:
        """Unit text embeddings (2, C, D), positive prompt first; kept while evaluating."""
        if self.training:
            return self._encode_text(("positive", "negative") if self.negative else ("positive",))
        if self._text_embeddings is None:
            with torch.no_grad():
                self._text_embeddings = self._encode_text(("positive", "negative"))
        return self._text_embeddings

    def _encode_text(self, prompts: tuple[str, ...]) -> torch.Tensor:
        contexts = torch.stack([getattr(self, f"context_{prompt}") for prompt in prompts])
        if self.visual_prompts != "maple":
            return self.text_encoder(contexts)
        deep = torch.stack([getattr(self, f"deep_{prompt}") for prompt in prompts])
        return self.text_encoder(contexts, deep)

    def image_embeddings(self, inputs: torch.Tensor) -> torch.Tensor:
        """Unit image embeddings (n, D), float32, of what `forward` takes."""
        if self.visual is None:
            return F.normalize(inputs.float(), dim=-1)
        contexts = self.context_positive[None]
        if self.visual_prompts == "maple":
            contexts = torch.cat([contexts, self.deep_positive])
        return self.image_encoder(inputs, self.visual(contexts), self.visual.through_ln_pre)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return s+ / tau and z = (s+ - s-) / tau, both (n, C) float32.

        ``inputs`` are embeddings (n, D), or with visual prompts images as
        `Backbone.to_input` takes them.  z is None while training without a negative prompt.
        """
        return self.logits(self.image_embeddings(inputs))

    def logits(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As `forward`, of unit image embeddings (n, D)."""
        text = self.text_embeddings() * self.text_encoder.backbone.logit_scale
        positive = image @ text[0].T
        if len(text) == 1:
            return positive, None
        if self.training and self.detach_positive:
            return positive, positive.detach() - image.detach() @ text[1].T
        return positive, positive - image @ text[1].T


class ClipEachGradient(Callback):
    """Clip the norm of each parameter's gradient on its own.

    skorch's GradientNormClipping clips them together, by which the negative prompt's
    gradient would reach into the positive prompt's steps.
    """

    def __init__(self, gradient_clip_value: float):
        self.gradient_clip_value = gradient_clip_value

    def on_grad_computed(
        self, net: NeuralNet, named_parameters: Iterable[tuple[str, nn.Parameter]], **kwargs: Any
    ) -> None:
        """Clip between the backward pass and the step."""
        for _, parameter in named_parameters:
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_(parameter, self.gradient_clip_value)


class StopIfNotFinite(Callback):
    """End training at the first step whose loss is infinite or no number.

    skorch fetches the loss of every step for its history, so looking at it costs nothing.
    """

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Look at the loss of a training step."""
        if not training:
            return
        loss = net.history[-1]["batches"][-1]["train_loss"]
        if not math.isfinite(loss):
            raise diverged(net, f"the loss is {loss}")


def diverged(net: NeuralNet, what: str) -> FloatingPointError:
    """The error of a training that met numbers that are not finite, with the place and advice."""
    epochs = net.history
    epoch, step = len(epochs), len(epochs[-1]["batches"])
    advice = f"try a smaller lr than {net.lr:g}, or a gradient_clip_value"
    if epoch == step == 1:  # nothing has moved yet
        precision = module_of(net).text_encoder.backbone.precision
        advice = (
            "no prompt had been moved yet, so the towers, augment or a callback gave it; the towers "
            f"compute in {precision}: try precision='fp32'"
        )
    return FloatingPointError(
        f"training diverged: {what} in epoch {epoch}, step {step}; {advice}. The estimator is as it "
        "was before this fit"
    )


class Batches:
    """Batches of embeddings cut by slicing, or of images as they are read.

    What a DataLoader does, without its work per row.  Has the constructor that skorch
    expects of an iterator.  Shuffling, and the augmentation of images that goes with it,
    draw from ``generator`` alone.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
    ):
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

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        n = len(self.X)
        order = torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)
        if hasattr(self.X, "read"):
            yield from self._read(order)
            return
        if isinstance(self.y, torch.Tensor):  # once an epoch rather than at every step
            order = order.to(self.y.device)
        for k, rows in enumerate(order.split(self.batch_size)):
            if not self.shuffle:  # a slice copies nothing
                rows = slice(k * self.batch_size, (k + 1) * self.batch_size)
            yield as_tensor(self.X[rows]), self._labels(rows)

    def _read(self, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        seed = None
        if self.shuffle:
            seed = int(torch.randint(2**31, (), generator=self.generator))
        batches = [rows.numpy() for rows in order.split(self.batch_size)]
        labels = repeat(torch.empty(0)) if self.y is None else self.y[order].split(self.batch_size)
        for pixels, y in zip(self.X.read(batches, seed), labels):
            yield pixels.to(y.device, non_blocking=True), y

    def _labels(self, rows: Any) -> torch.Tensor:
        return torch.empty(0) if self.y is None else self.y[rows]


class PairedBatches:
    """Batches of labelled and of pseudo-labelled samples, joined step by step.

    An epoch is one pass over the set with more batches; the other one is cycled.  Each
    sample comes with the weight 1 over the number of its own kind in the batch.

    Parameters
    ----------
    dataset : skorch Dataset
        The labelled samples first.
    batch_size : int
        Labelled samples per step.
    n_labelled : int
        How many samples of the data set are labelled.
    pseudo_batch_size : int
        Pseudo-labelled samples per step.
    generator : torch.Generator
        Decides order, cycles and augmentation.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        n_labelled: int,
        pseudo_batch_size: int,
        generator: torch.Generator,
    ):
        plain = Batches(dataset, batch_size)
        self.X, self.y = plain.X, plain.y
        rows = np.arange(len(plain.X))
        while hasattr(dataset, "indices"):  # a part of the data, as skorch's train_split makes
            rows, dataset = np.asarray(dataset.indices)[rows], dataset.dataset
        self.sets = [
            (torch.from_numpy(np.flatnonzero(rows < n_labelled)), batch_size),
            (torch.from_numpy(np.flatnonzero(rows >= n_labelled)), pseudo_batch_size),
        ]
        self.generator = generator

    def __len__(self) -> int:
        return max(math.ceil(len(rows) / size) for rows, size in self.sets)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]:
        steps = [self._cycled(rows, size) for rows, size in self.sets if len(rows)]
        parts = list(zip(*steps))
        batches = [torch.cat(part) for part in parts]
        weights = [torch.cat([torch.full((len(k),), 1 / len(k)) for k in part]) for part in parts]
        device = self.y.device
        if hasattr(self.X, "read"):
            seed = int(torch.randint(2**31, (), generator=self.generator))
            inputs = self.X.read([rows.numpy() for rows in batches], seed)
        else:
            inputs = (self.X[rows] for rows in batches)
        for X, rows, weight in zip(inputs, batches, weights):
            X = X.to(device, non_blocking=True)
            yield X, (self.y[rows], weight.to(device, non_blocking=True))

    def _cycled(self, rows: torch.Tensor, size: int) -> list[torch.Tensor]:
        """As many batches as the epoch has, from one shuffled pass after the other."""
        batches: list[torch.Tensor] = []
        while len(batches) < len(self):
            order = torch.randperm(len(rows), generator=self.generator)
            batches += rows[order].split(size)
        return batches[: len(self)]


def module_of(net: NeuralNet) -> DualPromptModule:
    """The module of a skorch net, which ``net_params={"compile": True}`` wraps."""
    module: DualPromptModule = getattr(net.module_, "_orig_mod", net.module_)
    return module
