"""Hand-written prompts: text embeddings of zero-shot CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from ..utils.labels import resolve_classes
from .backbone import Backbone
from .inputs import Template, check_template, clean_name as clean_name, texts_of
from .loaders import load_tokenizer


class Reader(NamedTuple):
    """What of a CLIP reads texts; loaded without its weights."""

    name: str
    tokenizer: Any


def check_class_names(names: Sequence[str], template: Template, model_name: str) -> None:
    """Refuse class names that a CLIP cannot read or tell apart, without its weights.

    Raises
    ------
    ImportError
        If a package that reads texts for this model is not installed.
    ValueError
        Names a class without a name, whose prompt is too long, or two that are the same to the CLIP.
    """
    resolve_classes(list(names), None)
    templates = check_template(template)
    check_prompts(reader_of(model_name), names, templates)


def reader_of(model_name: str) -> Reader:
    """Load what reads texts for the CLIP of a name."""
    return Reader(f"model_name={model_name!r}", load_tokenizer(model_name))


def tokenize(backbone: Backbone | Reader, texts: list[str], what: list[str]) -> torch.Tensor:
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
            f"{backbone.name} reads at most {limit}; shorten it, or split it into several texts, of which the "
            "embeddings are averaged"
        )
    tokens: torch.Tensor = backbone.tokenizer(texts)
    return tokens


def check_distinct(names: Sequence[str], tokens: Sequence[Any], backbone: Backbone | Reader) -> None:
    """Refuse class names that are one to the CLIP; ``tokens`` has those of every class.

    Raises
    ------
    ValueError
        Names two classes whose tokens are the same.
    """
    seen: dict[str, str] = {}
    for name, own in zip(names, tokens):
        other = seen.setdefault(repr(own), name)
        if other is not name:
            raise ValueError(
                f"class_names {other!r} and {name!r} give the same tokens, so {backbone.name} cannot tell these "
                "classes apart; expected names that differ in more than case, underscores or spaces"
            )


def template_embeddings(
    backbone: Backbone, names: Sequence[str], templates: list[Any] | dict[str, list[str]]
) -> torch.Tensor:
    """Zero-shot text embeddings (C, D): the mean over each class's texts, unit length."""
    texts = texts_of(names, templates)
    key = (tuple(names), tuple(map(tuple, texts)))
    if key in backbone.text_cache:
        return backbone.text_cache[key]
    check_prompts(backbone, names, templates)
    embeddings = torch.zeros(len(names), backbone.embed_dim, device=backbone.device)
    for k in range(max(map(len, texts))):
        rows = [row for row, own in enumerate(texts) if len(own) > k]
        encoded = backbone.encode_texts([texts[row][k] for row in rows])
        if len(rows) == len(names):
            embeddings += encoded
        else:
            embeddings[rows] += encoded
    if len(backbone.text_cache) >= 32:  # bounded: a process uses few lists of classes
        backbone.text_cache.clear()
    backbone.text_cache[key] = F.normalize(embeddings, dim=-1)
    return backbone.text_cache[key]


def check_prompts(
    backbone: Backbone | Reader, names: Sequence[str], templates: list[Any] | dict[str, list[str]]
) -> None:
    """Refuse texts that are cut off, and templates that give two classes the same text."""
    texts = texts_of(names, templates)
    said: list[list[list[int]]] = []  # by template, and class
    for k in range(max(map(len, texts))):
        rows = [row for row, own in enumerate(texts) if len(own) > k]
        what = [_described(names[row], templates, k, texts[row][k]) for row in rows]
        said.append(tokenize(backbone, [texts[row][k] for row in rows], what).tolist())
    if not isinstance(templates, dict):
        check_distinct(names, list(zip(*said)), backbone)


def _described(name: str, templates: list[Any] | dict[str, list[str]], k: int, text: str) -> str:
    if isinstance(templates, dict):
        return f"template[{name!r}][{k}]={text!r}"
    shown = templates[k] if isinstance(templates[k], str) else text
    return f"class name {name!r} in template={shown!r}"
