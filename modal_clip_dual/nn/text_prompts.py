"""Class names behind learnable contexts, through a frozen text tower.

Two exact ways to the same embeddings:

- ``"prefix-sharing"`` for causal towers.  [start, context] is the same for every class
  and no later token can change it, so it is encoded once per prompt; only the tokens of
  the class names, up to the end of text, are encoded per class, attending to its keys
  and values.
- ``"full"`` for every other tower (SigLIP's has no causal mask, CoCa's an extra class
  token): open_clip's own forward at full length, with the contexts put in place of the
  embeddings of placeholder tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, TextTransformer, Transformer
from torch import nn

from .backbone import Backbone

PLACEHOLDER = "x"


def clean_name(name: str) -> str:
    """Return a class name as it enters a prompt: underscores are spaces."""
    return " ".join(name.replace("_", " ").split())


def _tokenize(backbone: Backbone, texts: list[str], what: list[str]) -> torch.Tensor:
    """Tokenize, refusing what open_clip's tokenizers would silently cut off."""
    limit = backbone.tokenizer.context_length
    # Twice the length plus a margin: the last token of the shortest text is padding.
    long = backbone.tokenizer(texts, context_length=2 * limit + 64)
    padding = long[(long != long[:, -1:]).sum(1).argmin(), -1]
    positions = torch.arange(1, long.shape[1] + 1)
    lengths = ((long != padding) * positions).amax(1)
    worst = int(lengths.argmax())
    if lengths[worst] > limit:
        raise ValueError(
            f"{what[worst]} is too long: its prompt takes {int(lengths[worst])} tokens, and "
            f"{backbone.name} reads at most {limit}"
        )
    return backbone.tokenizer(texts)


def template_embeddings(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str]
) -> torch.Tensor:
    """Zero-shot text embeddings (C, D): the mean over hand-written templates, unit length."""
    key = (tuple(names), tuple(templates))
    if key in backbone.text_cache:
        return backbone.text_cache[key]
    embeddings = torch.zeros(len(names), backbone.embed_dim, device=backbone.device)
    for template in templates:
        texts = [template.format(clean_name(name)) for name in names]
        what = [f"class name {name!r} in template={template!r}" for name in names]
        _tokenize(backbone, texts, what)
        embeddings += backbone.encode_texts(texts)
    if len(backbone.text_cache) >= 32:  # a few class lists per process; never a leak
        backbone.text_cache.clear()
    backbone.text_cache[key] = F.normalize(embeddings, dim=-1)
    return backbone.text_cache[key]


class PromptedTextEncoder:
    """Embeds [start] [context] [class name] [.] [end] for every class and every context.

    Parameters
    ----------
    backbone : Backbone
    names : sequence of str, length C
        What the classes are called.
    n_context : int
        Number M of context vectors.
    path : {"auto", "prefix-sharing", "full"}, default="auto"
        ``"auto"`` shares the prefix wherever the tower allows it.

    Raises
    ------
    ValueError
        If a prompt does not fit the context window (the class is named), or the tower
        allows no learnable context, or not the path asked for.
    """

    def __init__(
        self, backbone: Backbone, names: Sequence[str], n_context: int, path: str = "auto"
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
        prefix = " ".join([PLACEHOLDER] * n_context)
        what = [f"class name {name!r} with n_context={n_context}" for name in self.names]
        texts = [f"{prefix} {clean_name(name)}." for name in self.names]
        self.tokens = _tokenize(backbone, texts, what).to(backbone.device)
        self._check_distinct()
        self.start = self._find_context()
        can_share = _is_causal(backbone.model)
        if path == "prefix-sharing" and not can_share:
            raise ValueError(f"{backbone.name}: its text tower cannot share a prefix")
        self.path = ("prefix-sharing" if can_share else "full") if path == "auto" else path
        if self.path == "prefix-sharing":
            first = self.start + n_context
            end = self._end_of_text()
            self._end = end - first
            self._name_tokens = self.tokens[:, first : int(end.max()) + 1]

    def _check_distinct(self) -> None:
        seen: dict[tuple, str] = {}
        for name, row in zip(self.names, self.tokens.tolist()):
            other = seen.setdefault(tuple(row), name)
            if other is not name:
                raise ValueError(
                    f"class_names {other!r} and {name!r} give the same tokens, so {self.backbone.name} "
                    "cannot tell these classes apart; expected names that differ in more than "
                    "case, underscores or spaces"
                )

    def _find_context(self) -> int:
        """Position of the first placeholder: behind the start token, if there is one."""
        probes = self.backbone.tokenizer([PLACEHOLDER, "y"])
        start = int((probes[0] != probes[1]).int().argmax())
        window = self.tokens[:, start : start + self.n_context]
        if (window != probes[0, start]).any():
            raise ValueError(
                f"{self.backbone.name}: its tokenizer does not map {PLACEHOLDER!r} to one token each"
            )
        return start

    def _end_of_text(self) -> torch.Tensor:
        model = self.backbone.model
        tower = self.backbone.text_tower
        pool_type = getattr(model, "text_pool_type", None) or tower.pool_type
        if pool_type == "argmax":
            return self.tokens.argmax(dim=1)
        end_id = model.text_eos_id if hasattr(model, "text_eos_id") else tower.eos_id
        return (self.tokens == end_id).int().argmax(dim=1)

    @property
    def n_blocks(self) -> int:
        """Number of blocks of the text tower."""
        return len(self.backbone.text_tower.transformer.resblocks)

    def __call__(self, contexts: torch.Tensor, deep: torch.Tensor | None = None) -> torch.Tensor:
        """Encode contexts (P, M, width) to unit embeddings (P, C, D), float32.

        ``deep`` (P, J - 1, M, width): contexts that replace, in front of the second to the
        J-th block, what the block before made of them (MaPLe).
        """
        if deep is None:
            deep = contexts[:, None][:, :0]
        if self.path == "full":
            features = torch.stack([self._encode_full(*pair) for pair in zip(contexts, deep)])
        else:
            features = self._encode_shared(contexts, deep)
        return F.normalize(features.float(), dim=-1)

    def _encode_full(self, context: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        tower = self.backbone.text_tower
        first, last = self.start, self.start + self.n_context

        def put(x, vectors):
            vectors = vectors.to(x.dtype).expand(len(x), -1, -1)
            return torch.cat([x[:, :first], vectors, x[:, last:]], dim=1)

        def put_context(module, inputs, output):
            return put(output, context)

        def put_deep(vectors):
            def hook(module, inputs):
                if tower.transformer.batch_first:
                    return (put(inputs[0], vectors), *inputs[1:])
                return (put(inputs[0].transpose(0, 1), vectors).transpose(0, 1), *inputs[1:])

            return hook

        # The model is shared by every estimator of the process: one set of hooks at a time.
        with self.backbone.lock, ExitStack() as hooks:
            hooks.callback(tower.token_embedding.register_forward_hook(put_context).remove)
            for block, vectors in zip(tower.transformer.resblocks[1:], deep):
                hooks.callback(block.register_forward_pre_hook(put_deep(vectors)).remove)
            return self.backbone.model.encode_text(self.tokens)

    def _encode_shared(self, contexts: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        tower = self.backbone.text_tower
        dtype = tower.transformer.get_cast_dtype()
        position = tower.positional_embedding.to(dtype)
        first = self.start + self.n_context
        start = tower.token_embedding(self.tokens[0, : self.start]).to(dtype)
        start = start.expand(len(contexts), -1, -1)
        prefix = torch.cat([start, contexts.to(dtype)], dim=1) + position[:first]
        name = tower.token_embedding(self._name_tokens).to(dtype)
        name = name + position[first : first + name.shape[1]]
        name = name.expand(len(contexts), -1, -1, -1)
        blocks = tower.transformer.resblocks
        for i, block in enumerate(blocks):
            if 1 <= i <= deep.shape[1]:
                prefix = torch.cat([prefix[:, : self.start], deep[:, i - 1].to(dtype)], dim=1)
            prefix, name = _shared_block(block, prefix, name, last=i + 1 == len(blocks))
        at_end = torch.arange(len(self.tokens), device=name.device)
        pooled = tower.ln_final(name[:, at_end, self._end])
        projection = tower.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return PromptedTextEncoder, (self.backbone, self.names, self.n_context, self.path)

    def __repr__(self):
        return (
            f"PromptedTextEncoder({len(self.names)} classes, n_context={self.n_context}, "
            f"path={self.path!r})"
        )


def _is_causal(model: nn.Module) -> bool:
    """Whether the text tower is one whose every step `_shared_block` reproduces."""
    tower = getattr(model, "text", model)
    if tower is not model and type(tower) is not TextTransformer:
        return False
    pool_type = getattr(model, "text_pool_type", None) or getattr(tower, "pool_type", None)
    return (
        getattr(tower, "attn_mask", None) is not None
        and getattr(tower, "cls_emb", None) is None
        and pool_type in ("argmax", "eos")
        and type(tower.transformer) is Transformer
        and all(
            type(block) is ResidualAttentionBlock
            and type(block.attn) is nn.MultiheadAttention
            and block.attn.in_proj_weight is not None
            for block in tower.transformer.resblocks
        )
    )


def _heads(block: ResidualAttentionBlock, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values (..., heads, length, head width) of x (..., length, width)."""
    attention = block.attn
    qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    qkv = qkv.unflatten(-1, (3, attention.num_heads, attention.head_dim))
    return tuple(part.transpose(-3, -2) for part in qkv.unbind(-3))


def _finish(block: ResidualAttentionBlock, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """The rest of a residual block, from the heads' output on."""
    attended = attended.transpose(-3, -2).flatten(-2)
    x = x + block.ls_1(block.attn.out_proj(attended))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _shared_block(
    block: ResidualAttentionBlock, prefix: torch.Tensor, name: torch.Tensor, last: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """One block over a prefix (P, Lp, width) and the names behind it (P, C, L, width).

    Equal to the block over the C concatenated sequences under a causal mask.  In the
    last block nothing reads the prefix any more, so it is returned as it came.
    """
    query_p, key_p, value_p = _heads(block, prefix)  # (P, H, Lp, d)
    query, key, value = _heads(block, name)  # (P, C, H, L, d)
    n_classes, length = name.shape[1], name.shape[2]
    scale = block.attn.head_dim**-0.5

    # All names look at the same prefix: their queries line up as one long sequence.
    aligned = query.transpose(1, 2).flatten(2, 3)  # (P, H, C * L, d)
    to_prefix = (aligned @ key_p.transpose(-1, -2)).unflatten(2, (n_classes, length))
    to_prefix = to_prefix.transpose(1, 2)  # (P, C, H, L, Lp)
    future = torch.ones(length, length, dtype=torch.bool, device=name.device).triu(1)
    to_name = (query @ key.transpose(-1, -2)).masked_fill(future, float("-inf"))
    weights = (torch.cat([to_prefix, to_name], dim=-1) * scale).softmax(dim=-1)
    on_prefix, on_name = weights.split([prefix.shape[1], length], dim=-1)
    aligned = on_prefix.transpose(1, 2).flatten(2, 3)  # (P, H, C * L, Lp)
    attended = (aligned @ value_p).unflatten(2, (n_classes, length)).transpose(1, 2)
    name = _finish(block, name, attended + on_name @ value)
    if not last:
        attended = F.scaled_dot_product_attention(query_p, key_p, value_p, is_causal=True)
        prefix = _finish(block, prefix, attended)
    return prefix, name
