"""The trainable module: two text prompts, optionally with prompts in the image tower."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..clip.backbone import Backbone
from ..clip.templates import template_embeddings
from .image_encoder import PromptedImageEncoder
from .kept import Kept
from .prompts import visual_prompts_of
from .text_encoder import CONTEXT_STD, PromptedTextEncoder

if TYPE_CHECKING:
    from skorch import NeuralNet

    from .prompts._base import VisualPrompts


class Outputs(NamedTuple):
    """The outputs of a forward pass in training; all float32, and unit embeddings have length 1."""

    positive: torch.Tensor  # (n, C) logits s+ / tau of the class probabilities
    clean: torch.Tensor | None  # (n, C) z = (s+ - s-) / tau; None while training without a negative prompt
    text: torch.Tensor | None = None  # (C, D) unit text embeddings of the positive prompt
    image: torch.Tensor | None = None  # (n, D) unit image embeddings
    frozen_text: torch.Tensor | None = None  # (C, D) unit text embeddings of the hand-written templates
    frozen_image: torch.Tensor | None = None  # (n, D) unit embeddings by the frozen tower
    logit_scale: float = 1.0  # 1 / tau, by which cosines become logits


class DualPromptModule(nn.Module):
    """A positive and a negative prompt that classify images.

    Only prompts are parameters; the towers are reached through ``text_encoder`` and
    ``image_encoder`` and are neither trained nor part of the state dict.

    Parameters
    ----------
    backbone : Backbone
    names : sequence of str, length C
        Names of the classes.
    n_context : int, default=16
        Number of context vectors per prompt.
    negative : bool, default=True
        Whether training uses the negative prompt; otherwise its context keeps its
        initial values.
    detach_positive : bool, default=False
        Whether the gradient of L2 goes to the negative prompt alone.
    visual_prompts : str or None, default=None
        A name in `nn.prompts`; None takes frozen embeddings.
    n_visual_tokens : int or None, default=None
        Number of tokens per block, for kinds of prompts that leave it free; None is the kind's own.
    prompt_depth : int or None, default=None
        Number of blocks with their own prompts, for kinds of prompts that leave it free.
    context_init : str or None, default=None
        Words whose token embeddings start the positive context, directly before the class name; the rest of it and
        the negative context are random.
    class_specific_context : bool, default=False
        Whether every class has contexts of its own (CoOp's CSC).
    name_offsets : bool, default=False
        Whether both prompts learn an offset to the embedding of each token of each class name.  They are 0 at first.
    text_encoding : {"auto", "prefix-sharing", "truncated", "full"}, default="auto"
        How prompts go through the text tower; see `PromptedTextEncoder`.
    text_batch_size : int, "auto" or None, default="auto"
        Number of classes that go through the text tower at a time.
    needs : collection of str, default=()
        Names of the `Outputs` to compute beside the logits.
    templates : list or dict, default=None
        Hand-written prompts behind ``frozen_text``, as `clip.inputs.check_template` returns them; None is
        ``["a photo of a {}."]``.
    seed : int, default=0
        Seed of the random values: the two contexts from N(0, 0.02^2), then the visual
        prompts.  Words of ``context_init`` replace some of them afterwards.

    Raises
    ------
    ValueError
        If a tower does not support an argument, or a prompt does not fit its window.
    """

    def __init__(
        self,
        backbone: Backbone,
        names: Sequence[str],
        n_context: int = 16,
        negative: bool = True,
        detach_positive: bool = False,
        visual_prompts: str | None = None,
        n_visual_tokens: int | None = None,
        prompt_depth: int | None = None,
        context_init: str | None = None,
        class_specific_context: bool = False,
        name_offsets: bool = False,
        text_encoding: str = "auto",
        text_batch_size: int | str | None = "auto",
        needs: Collection[str] = (),
        templates: list[Any] | dict[str, list[str]] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.text_encoder = PromptedTextEncoder(
            backbone, names, n_context, text_encoding, text_batch_size, class_specific_context
        )
        self.negative = negative
        self.detach_positive = detach_positive
        self.needs = frozenset(needs)
        generator = torch.Generator().manual_seed(seed)
        per_class = (len(names),) if class_specific_context else ()
        shape = (2, *per_class, n_context, self.text_encoder.width)
        positive, negative_context = torch.randn(shape, generator=generator) * CONTEXT_STD
        if context_init is not None:
            words = self.text_encoder.word_vectors(context_init).to(positive)
            positive[..., n_context - len(words) :, :] = words
        self.context_positive = nn.Parameter(positive.clone())
        self.context_negative = nn.Parameter(negative_context.clone())
        if name_offsets:
            shape = (len(names), self.text_encoder.n_name, self.text_encoder.width)
            self.offsets_positive, self.offsets_negative = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
        self.name_offsets = name_offsets
        self.visual: VisualPrompts | None = None
        if visual_prompts is not None:
            if class_specific_context and visual_prompts_of(visual_prompts).maps_context:
                raise ValueError(
                    f"class_specific_context=True does not go with visual_prompts={visual_prompts!r}, whose visual "
                    "tokens are made of the one context that all classes share; expected another kind, or False"
                )
            self.image_encoder = PromptedImageEncoder(backbone)
            kind = visual_prompts_of(visual_prompts)
            n_tokens = kind.n_tokens if n_visual_tokens is None else n_visual_tokens
            self.visual = kind(self.image_encoder, self.text_encoder, n_tokens, prompt_depth, generator)
        self._frozen_text: torch.Tensor | None = None
        if "frozen_text" in self.needs:
            self._frozen_text = template_embeddings(backbone, names, templates or ["a photo of a {}."])
        self._kept_text: Kept | None = None

    @property
    def backbone(self) -> Backbone:
        """The frozen CLIP."""
        return self.text_encoder.backbone

    def train(self, mode: bool = True) -> DualPromptModule:
        """Set the mode as `torch.nn.Module.train` does; training mode clears the kept embeddings."""
        if mode:
            self._kept_text = None
        return super().train(mode)

    def text_embeddings(self) -> torch.Tensor:
        """Return unit text embeddings (2, C, D), positive prompt first; kept while evaluating the same prompts."""
        if self.training:
            return self._encode_text(self.negative)
        kept = self._kept_text
        if kept is None or not kept.holds_for(self):
            kept = Kept(self)
            with torch.no_grad():
                kept.value = self._encode_text(negative=True)
            self._kept_text = kept
        text: torch.Tensor = kept.value
        return text

    def _encode_text(self, negative: bool) -> torch.Tensor:
        contexts: list[torch.Tensor] = [self.context_positive]
        if negative:
            contexts.append(self.context_negative)
        deep = None if self.visual is None else self.visual.text_contexts(negative)
        return self.text_encoder(torch.stack(contexts), deep, self.offsets(negative))

    def offsets(self, negative: bool) -> torch.Tensor | None:
        """Return the offsets of the names' tokens (P, C, n_name, width), positive prompt first, if there are any."""
        if not self.name_offsets:
            return None
        both: list[torch.Tensor] = [self.offsets_positive, self.offsets_negative]
        return torch.stack(both[: 1 + negative])

    def image_embeddings(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return unit image embeddings (n, D), float32, of inputs as `forward` takes them."""
        if self.visual is None:
            return F.normalize(inputs.float(), dim=-1)
        tokens = self.visual.visual_tokens(self.context_positive)
        return self.image_encoder(inputs, tokens, self.visual.through_ln_pre)

    def forward(self, inputs: torch.Tensor, frozen_image: torch.Tensor | None = None) -> Outputs:
        """Return the logits and the other outputs in ``needs``.

        ``inputs`` are embeddings (n, D), or with visual prompts images as
        `Backbone.to_input` takes them.  ``frozen_image`` are their unit embeddings (n, D) by the frozen
        tower, where they are known already.
        """
        image = self.image_embeddings(inputs)
        text = self.text_embeddings()
        if "frozen_image" in self.needs and frozen_image is None:
            frozen_image = image if self.visual is None else self.backbone.encode_images(inputs)
        return Outputs(
            *self._logits(image, text),
            text=text[0] if "text" in self.needs else None,
            image=image if "image" in self.needs else None,
            frozen_text=self._frozen_text,
            frozen_image=frozen_image,
            logit_scale=self.backbone.logit_scale,
        )

    def _logits(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        text = text * self.backbone.logit_scale
        positive = image @ text[0].T
        if len(text) == 1:
            return positive, None
        if self.training and self.detach_positive:
            return positive, positive.detach() - image.detach() @ text[1].T
        return positive, positive - image @ text[1].T


def module_of(net: NeuralNet) -> DualPromptModule:
    """Return the module of a skorch net, unwrapped if ``net_params={"compile": True}`` compiled it."""
    module: DualPromptModule = getattr(net.module_, "_orig_mod", net.module_)
    return module
