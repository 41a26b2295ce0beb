"""Weights in files: what a tag would have said of them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import open_clip

QUICKGELU = "-quickgelu"  # how open_clip names models with OpenAI's activation
# Preprocessing of a tag that says nothing about it: OpenAI's.
PREPROCESSING: dict[str, Any] = {
    "mean": open_clip.OPENAI_DATASET_MEAN,
    "std": open_clip.OPENAI_DATASET_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def preprocessing_of_file(model_name: str, file: str) -> dict[str, Any]:
    """Return the preprocessing of weights in a file, as arguments of open_clip's factory.

    What the tag that the file is named after says, else what all tags of the model agree on;
    a warning where they do not agree.  Empty for a model without tags.
    """
    found = {tag: _preprocessing_of_tag(model_name, tag) for tag in _named_or_all(model_name, file)}
    said = list(found.values())
    if not said:
        return {}
    if any(other != said[0] for other in said):
        ours = [tag for tag, settings in found.items() if settings == PREPROCESSING]
        others = {tag: settings for tag, settings in found.items() if settings != PREPROCESSING}
        warnings.warn(
            f"pretrained={file!r} does not say how its images were prepared, and weights of {model_name!r} differ "
            f"there: CLIP's way is taken, right for {', '.join(ours[:3])} and others, not for {', '.join(others)}. "
            "A file (or its folder) that is named after its tag is read as that tag is",
            UserWarning,
            stacklevel=7,
        )
        return {}
    return {f"image_{name}": value for name, value in said[0].items()}


def _preprocessing_of_tag(model_name: str, tag: str) -> dict[str, Any]:
    settings = open_clip.get_pretrained_cfg(model_name, tag)
    return {name: settings.get(name) or default for name, default in PREPROCESSING.items()}


def _named_or_all(model_name: str, file: str) -> list[str]:
    return tags_in_name(model_name, file) or open_clip.list_pretrained_tags_by_model(model_name)


def tags_in_name(model_name: str, file: str) -> list[str]:
    """Tags of a model that a file, or its folder, is named after; those of one family if none is whole."""
    path = Path(os.path.abspath(file))
    name = _plain(f"{path.parent.name} {path.name}")
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    whole = [tag for tag in tags if _plain(tag) in name]
    return whole or [tag for tag in tags if _plain(tag.split("_")[0]) in name]


def _plain(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())


def warn_of_activation(model_name: str, file: str) -> None:
    """Warn of weights that may have been trained with another activation than the model's.

    The weights themselves do not tell: only the name of the model does, and a tag.
    """
    if model_name.endswith(QUICKGELU):
        plain, quick = model_name.removesuffix(QUICKGELU), model_name
    else:
        plain, quick = model_name, model_name + QUICKGELU
    if {plain, quick} - set(open_clip.list_models()):
        return
    named = tags_in_name(plain, file) or tags_in_name(quick, file)
    settings = [open_clip.get_pretrained_cfg(plain, tag) or {"quick_gelu": True} for tag in named]
    of_tags = {bool(one.get("quick_gelu")) for one in settings}
    if not named and QUICKGELU.strip("-") in _plain(Path(file).name):
        of_tags = {True}
    uses = model_name == quick
    if of_tags == {uses} or (not of_tags and uses):
        return
    other = plain if uses else quick
    if of_tags == {not uses}:
        what = f"is named after weights that were trained {'without' if uses else 'with'} QuickGELU"
    else:
        what = "does not say whether it was trained with QuickGELU, as OpenAI's, MetaCLIP's and DFN's weights were"
    warnings.warn(
        f"pretrained={file!r} {what}, and model_name={model_name!r} computes {'with' if uses else 'without'} it: "
        f"for such weights expected model_name={other!r}",
        UserWarning,
        stacklevel=7,
    )
