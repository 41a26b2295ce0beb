"""The trainable module: two text prompts, and maybe tokens in the image tower; its batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .image_encoder import PromptedImageEncoder
from .text_encoder import PromptedTextEncoder
from .visual_prompts import CoupledTokens, VisualTokens, resolve_prompt_depth

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


def module_of(net: NeuralNet) -> DualPromptModule:
    """The module of a skorch net, which ``net_params={"compile": True}`` wraps."""
    module: DualPromptModule = getattr(net.module_, "_orig_mod", net.module_)
    return module
