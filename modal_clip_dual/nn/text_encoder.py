"""The text encoder: class names behind learnable contexts, through a frozen text tower.

There are three exact ways to compute the same embeddings:

- ``"prefix-sharing"`` for causal towers.  [start, context] is the same for every class
  and later tokens cannot change it, so it is encoded once per prompt; only the tokens of
  the class names, up to each one's end of text, are encoded per class, attending to its keys
  and values.
- ``"truncated"`` for causal towers with other kinds of blocks: the sequences are cut
  behind the longest end of text, since nothing that follows it can change it.
- ``"full"`` for every other tower (SigLIP's has no causal mask, CoCa's an extra class
  token): open_clip's own forward at full length, with the contexts put in place of the
  embeddings of placeholder tokens.

If there are many classes, they are encoded in batches, and again when gradients are computed, so
that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, Transformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..clip.backbone import Backbone
from ..clip.templates import Reader, check_distinct, clean_name, tokenize
from ._prefix_sharing import Names, block_with_names

PLACEHOLDER = "x"
CONTEXT_STD = 0.02  # of the initial contexts
AUTO_BATCH = 256  # classes; some 2 GB of activations in the text tower of ViT-B/16


def prompt_tokens(backbone: Backbone | Reader, names: Sequence[str], n_context: int) -> torch.Tensor:
    """Return the tokens (C, length) of every class's prompt, with placeholders for its context.

    Raises
    ------
    ValueError
        If a prompt does not fit the context window (the class is named), or two classes have the same tokens.
    """
    prefix = " ".join([PLACEHOLDER] * n_context)
    what = [f"class name {name!r} with n_context={n_context}" for name in names]
    tokens = tokenize(backbone, [f"{prefix} {clean_name(name)}." for name in names], what)
    check_distinct(names, tokens.tolist(), backbone)
    return tokens


class PromptedTextEncoder:
    """Embeds [start] [context] [class name] [.] [end] for every class and every context.

    Parameters
    ----------
    backbone : Backbone
    names : sequence of str, length C
        Names of the classes.
    n_context : int
        Number M of context vectors.
    path : {"auto", "prefix-sharing", "truncated", "full"}, default="auto"
        ``"auto"`` takes the first of the others that the tower allows.
    batch_size : int, "auto" or None, default="auto"
        Number of classes that are encoded at a time.  With more classes, activations are not kept
        for the gradients but computed again.  ``"auto"`` is 256, None all at once.
    class_specific : bool, default=False
        Whether every class has a context of its own.  Then no prefix is shared.

    Raises
    ------
    ValueError
        If a prompt does not fit the context window (the class is named), or the tower
        does not allow learnable contexts or this path.
    """

    def __init__(
        self,
        backbone: Backbone,
        names: Sequence[str],
        n_context: int,
        path: str = "auto",
        batch_size: int | str | None = "auto",
        class_specific: bool = False,
    ):
        tower = backbone.text_tower
        if not hasattr(tower, "token_embedding"):
            raise ValueError(
                f"{backbone.name}: its text tower ({type(tower).__name__}) takes no learnable "
                "context; expected a model with open_clip's own text transformer"
            )
        self.backbone = backbone
        self.names = list(names)
        self.n_context = n_context
        self.width = tower.token_embedding.weight.shape[1]
        self.tokens = prompt_tokens(backbone, self.names, n_context).to(backbone.device)
        self.start = self._find_context()
        self.class_specific = class_specific
        allowed = _paths(backbone.model)
        if class_specific:
            allowed = tuple(way for way in allowed if way != "prefix-sharing")
        if path not in ("auto", *allowed):
            what_forbids = "class_specific_context=True" if class_specific else f"({type(tower).__name__})"
            raise ValueError(
                f"text_encoding={path!r}: the text tower of {backbone.name} "
                f"{what_forbids} does not allow it; expected one of {('auto', *allowed)}"
            )
        self.path = allowed[0] if path == "auto" else path
        self.batch_size = batch_size
        if batch_size is None:
            batch_size = len(self.names)
        n_at_once = AUTO_BATCH if isinstance(batch_size, str) else batch_size
        # The tokens of names: those behind the context that a text without words lacks.
        special = tokenize(backbone, [""], ["an empty text"]).to(self.tokens.device)
        self._is_name = ~torch.isin(self.tokens[:, self.start + n_context :], special)
        self._is_name = self._is_name[:, : int(self._is_name.any(0).nonzero().max()) + 1]
        self._batches = torch.arange(len(self.names), device=backbone.device).split(n_at_once)
        if self.path != "full":
            self._end = self._end_of_text()
            self._length = int(self._end.max()) + 1
        if self.path == "prefix-sharing":
            first = self.start + n_context
            self._layouts = [Names(self._end[classes] + 1 - first) for classes in self._batches]

    def _find_context(self) -> int:
        """Return the position of the first placeholder: behind the start token, if there is one."""
        probes = self.backbone.tokenizer([PLACEHOLDER, "y"])
        start = int((probes[0] != probes[1]).int().argmax())
        window = self.tokens[:, start : start + self.n_context]
        if (window != probes[0, start]).any():
            raise ValueError(
                f"{self.backbone.name}: its tokenizer does not map {PLACEHOLDER!r} to one token each"
            )
        return start

    def word_vectors(self, words: str) -> torch.Tensor:
        """Return the token embeddings (n, width), float32, of words that may start a context.

        Raises
        ------
        ValueError
            If the words have no token, or more than ``n_context``.
        """
        texts = [f"{words} {word}" for word in (PLACEHOLDER, "y")]
        tokens = tokenize(self.backbone, texts, [f"context_init={words!r}"] * 2)
        end = int((tokens[0] != tokens[1]).int().argmax())  # of the words: there the two texts part
        if not 1 <= end - self.start <= self.n_context:
            raise ValueError(
                f"context_init={words!r} has {end - self.start} tokens; expected 1 to n_context={self.n_context}"
            )
        with torch.no_grad():
            return self._embed_tokens(tokens[0, self.start : end].to(self.backbone.device)).float()

    def _end_of_text(self) -> torch.Tensor:
        model = self.backbone.model
        tower = self.backbone.text_tower
        pool_type = getattr(model, "text_pool_type", None) or tower.pool_type
        if pool_type == "argmax":
            return self.tokens.argmax(dim=1)
        end_id = model.text_eos_id if hasattr(model, "text_eos_id") else tower.eos_id
        end: torch.Tensor = (self.tokens == end_id).int().argmax(dim=1)
        return end

    @property
    def n_blocks(self) -> int:
        """Number of blocks of the text tower."""
        return len(self.backbone.text_tower.transformer.resblocks)

    @property
    def n_name(self) -> int:
        """Number of tokens of the longest class name, with its period."""
        return self._is_name.shape[1]

    def __call__(
        self,
        contexts: torch.Tensor,
        deep: torch.Tensor | None = None,
        offsets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode contexts (P, M, width) to unit embeddings (P, C, D), float32.

        With ``class_specific`` the contexts are (P, C, M, width).
        ``deep`` (P, J - 1, M, width) are contexts that replace the previous block's outputs for them,
        in front of the second to the J-th block (MaPLe).
        ``offsets`` (P, C, n_name, width) are added to the embeddings of the names' tokens; those behind the end of
        a shorter name count for nothing.
        """
        if deep is None:
            deep = contexts.new_empty(len(contexts), 0, *contexts.shape[-2:])
        if self.path == "prefix-sharing":
            encode = partial(self._encode_shared, contexts, deep, offsets)
        else:
            encode = partial(self._encode_each, contexts, deep, offsets)
        if len(self._batches) > 1 and torch.is_grad_enabled():
            encode = partial(checkpoint, encode, use_reentrant=False, preserve_rng_state=False)
        features = torch.cat([encode(batch) for batch in range(len(self._batches))], dim=1)
        return F.normalize(features.float(), dim=-1)

    def _encode_each(
        self, contexts: torch.Tensor, deep: torch.Tensor, offsets: torch.Tensor | None, batch: int
    ) -> torch.Tensor:
        classes = self._batches[batch]
        encode = self._encode_full if self.path == "full" else self._encode_truncated
        if self.class_specific:
            contexts = contexts[:, classes]
        each = [None] * len(contexts) if offsets is None else offsets
        return torch.stack([encode(*parts, classes) for parts in zip(contexts, deep, each)])

    def _shift(
        self, x: torch.Tensor, offsets: torch.Tensor | None, first: int, classes: torch.Tensor
    ) -> torch.Tensor:
        """Return sequences x ([P,] C, length, width) whose names begin at ``first``, with their offsets added."""
        if offsets is None:
            return x
        offsets = (offsets[..., classes, :, :] * self._is_name[classes, :, None]).to(x.dtype)
        return x + F.pad(offsets, (0, 0, first, x.shape[-2] - first - self.n_name))

    def _put(self, x: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Return sequences x (C, length, width) with vectors ([C,] M, width) in place of the context."""
        first, last = self.start, self.start + self.n_context
        vectors = vectors.to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([x[:, :first], vectors, x[:, last:]], dim=1)

    def _encode_full(
        self, context: torch.Tensor, deep: torch.Tensor, offsets: torch.Tensor | None, classes: torch.Tensor
    ) -> torch.Tensor:
        tower = self.backbone.text_tower

        def put_context(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return self._shift(self._put(output, context), offsets, self.start + self.n_context, classes)

        def put_deep(vectors: torch.Tensor) -> Callable[..., tuple[Any, ...]]:
            def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
                if tower.transformer.batch_first:
                    return (self._put(inputs[0], vectors), *inputs[1:])
                return (self._put(inputs[0].transpose(0, 1), vectors).transpose(0, 1), *inputs[1:])

            return hook

        # The model is shared by every estimator of the process: one set of hooks at a time.
        with self.backbone.lock, ExitStack() as hooks:
            hooks.callback(tower.token_embedding.register_forward_hook(put_context).remove)
            for block, vectors in zip(tower.transformer.resblocks[1:], deep):
                hooks.callback(block.register_forward_pre_hook(put_deep(vectors)).remove)
            features: torch.Tensor = self.backbone.model.encode_text(self.tokens[classes])
            return features

    def _encode_truncated(
        self, context: torch.Tensor, deep: torch.Tensor, offsets: torch.Tensor | None, classes: torch.Tensor
    ) -> torch.Tensor:
        transformer = self.backbone.text_tower.transformer
        x = self._put(self._embed_tokens(self.tokens[classes, : self._length]), context)
        x = self._shift(x, offsets, self.start + self.n_context, classes)
        x = x + self._positions[: self._length].to(x.dtype)
        mask = self.backbone.text_tower.attn_mask[: self._length, : self._length]
        for i, block in enumerate(transformer.resblocks):
            if 1 <= i <= len(deep):
                x = self._put(x, deep[i - 1])
            if transformer.batch_first:
                x = block(x, attn_mask=mask)
            else:
                x = block(x.transpose(0, 1), attn_mask=mask).transpose(0, 1)
        return self._project(x[torch.arange(len(x), device=x.device), self._end[classes]])

    def _encode_shared(
        self, contexts: torch.Tensor, deep: torch.Tensor, offsets: torch.Tensor | None, batch: int
    ) -> torch.Tensor:
        """Return embeddings (P, C, D), not yet of unit length, of some classes behind one prefix [start, context]."""
        first = self.start + self.n_context
        classes, names = self._batches[batch], self._layouts[batch]
        start = self._embed_tokens(self.tokens[0, : self.start]).expand(len(contexts), -1, -1)
        prefix = torch.cat([start, contexts.to(start.dtype)], dim=1)
        x = self._embed_tokens(self.tokens[classes, first : self._length])
        x = self._shift(x.expand(len(contexts), -1, -1, -1), offsets, 0, classes)
        positions = self._positions[: self._length].to(x.dtype)
        x = names.pack((x + positions[first:])[:, :, : names.shape[1]])
        x = torch.cat([prefix + positions[:first], x], dim=1)
        blocks = self.backbone.text_tower.transformer.resblocks
        for i, block in enumerate(blocks, start=1):
            if 2 <= i <= deep.shape[1] + 1:
                x = torch.cat([x[:, : self.start], deep[:, i - 2].to(x.dtype), x[:, first:]], dim=1)
            x = block_with_names(block, x, names, first, ends_only=i == len(blocks))
        return self._project(x)

    @property
    def _positions(self) -> torch.Tensor:
        positions: torch.Tensor = self.backbone.text_tower.positional_embedding
        return positions

    def _embed_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        tower = self.backbone.text_tower
        with self.backbone.lock:  # another thread's full path may have a hook on it
            embedded: torch.Tensor = tower.token_embedding(tokens)
        return embedded.to(tower.transformer.get_cast_dtype())

    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        tower = self.backbone.text_tower
        pooled, projection = tower.ln_final(pooled), tower.text_projection
        if projection is None:
            return pooled
        out: torch.Tensor = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptedTextEncoder:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        settings = self.n_context, self.path, self.batch_size, self.class_specific
        return PromptedTextEncoder, (self.backbone, self.names, *settings)

    def __repr__(self) -> str:
        return (
            f"PromptedTextEncoder({len(self.names)} classes, n_context={self.n_context}, "
            f"path={self.path!r}, batches={len(self._batches)})"
        )


def _paths(model: nn.Module) -> tuple[str, ...]:
    """Return the exact ways to encode prompts that the text tower allows, the fastest first."""
    tower: Any = getattr(model, "text", model)
    pool_type = getattr(model, "text_pool_type", None) or getattr(tower, "pool_type", None)
    is_causal = (
        (tower is model or type(tower) is TextTransformer)
        and getattr(tower, "attn_mask", None) is not None
        and getattr(tower, "cls_emb", None) is None
        and pool_type in ("argmax", "eos")
        and type(tower.transformer) is Transformer
    )
    if not is_causal:
        return ("full",)
    # Blocks whose every step `block_behind_prefix` reproduces.
    plain_blocks = all(
        type(block) is ResidualAttentionBlock
        and type(block.attn) is nn.MultiheadAttention
        and block.attn.in_proj_weight is not None
        for block in tower.transformer.resblocks
    )
    return ("prefix-sharing",) * plain_blocks + ("truncated", "full")
