"""Hand-written prompts: text embeddings of zero-shot CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .backbone import Backbone


def clean_name(name: str) -> str:
    """Return a class name as it enters a prompt: underscores become spaces."""
    return " ".join(name.replace("_", " ").split())


def tokenize(backbone: Backbone, texts: list[str], what: list[str]) -> torch.Tensor:
    """Tokenize texts; refuse texts that open_clip's tokenizers would silently cut off."""
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
    tokens: torch.Tensor = backbone.tokenizer(texts)
    return tokens


def template_embeddings(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str]
) -> torch.Tensor:
    """Return zero-shot text embeddings (C, D): the mean over hand-written templates, of unit length."""
    key = (tuple(names), tuple(templates))
    if key in backbone.text_cache:
        return backbone.text_cache[key]
    embeddings = torch.zeros(len(names), backbone.embed_dim, device=backbone.device)
    for template in templates:
        texts = [template.format(clean_name(name)) for name in names]
        what = [f"class name {name!r} in template={template!r}" for name in names]
        tokenize(backbone, texts, what)
        embeddings += backbone.encode_texts(texts)
    if len(backbone.text_cache) >= 32:  # bounded: a process uses few lists of classes
        backbone.text_cache.clear()
    backbone.text_cache[key] = F.normalize(embeddings, dim=-1)
    return backbone.text_cache[key]


