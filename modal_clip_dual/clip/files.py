"""Weights in files: what a tag would have said of them, and the forms in which they come."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch

QUICKGELU = "-quickgelu"  # how open_clip names models with OpenAI's activation
# Preprocessing of a tag that says nothing about it: OpenAI's.
PREPROCESSING: dict[str, Any] = {
    "mean": open_clip.OPENAI_DATASET_MEAN,
    "std": open_clip.OPENAI_DATASET_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
# Under these keys training scripts keep the weights; open_clip itself knows "state_dict".
WEIGHTS_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "weights", "params", "net", "clip")
# What TorchScript keeps beside the weights: three numbers of OpenAI's files, and a mask that the model makes itself.
NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask")
ALWAYS_THERE = "logit_scale"  # every CLIP has it, so the prefix of its name is that of all


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


def refuse_torchscript(file: str) -> None:
    """Refuse a program: OpenAI's own files are TorchScript, which is run to be read.

    Raises
    ------
    ValueError
        With the lines that make weights of it.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        scripted = any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
    if scripted:
        target = Path(file).with_name(f"{Path(file).stem}-weights.pt")
        raise ValueError(
            f"pretrained={file!r} is a TorchScript archive, as OpenAI's own files are: a program, not weights alone. "
            "If you trust it, convert it once:\n"
            f"    model = torch.jit.load({file!r}, map_location='cpu')\n"
            f"    torch.save({{'state_dict': model.state_dict()}}, {str(target)!r})\n"
            f"and pass pretrained={str(target)!r}; with OpenAI's weights a model_name that ends in {QUICKGELU!r}"
        )


@contextmanager
def unwrapped(file: str, model_name: str) -> Iterator[str]:
    """A file that open_clip reads with the weights of another, which keeps them under a key or a prefix.

    Raises
    ------
    ValueError
        If there are no weights of a CLIP in it.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file of another kind brings about
        raise ValueError(f"pretrained={file!r} cannot be read as weights ({_first_line(error)})") from error
    weights = _weights_in(content)
    if weights is None:
        held = f"a {type(content).__name__}" if not isinstance(content, Mapping) else f"{list(content)[:5]!r}"
        raise ValueError(
            f"pretrained={file!r} holds {held}; expected weights of {model_name!r}, by themselves or under one of "
            f"the keys {', '.join(WEIGHTS_KEYS[:3])}"
        )
    with tempfile.TemporaryDirectory(prefix="modal-clip-dual-") as folder:
        path = os.path.join(folder, "weights.pt")
        torch.save({"state_dict": weights}, path)
        yield path


def _weights_in(content: Any) -> dict[str, torch.Tensor] | None:
    """Weights by open_clip's names, without the prefix that wrappers of a model put before them."""
    if not isinstance(content, Mapping):
        return None
    for key in (None, *WEIGHTS_KEYS):
        inner = content if key is None else content.get(key)
        if not isinstance(inner, Mapping):
            continue
        scales = [name for name in inner if isinstance(name, str) and name.split(".")[-1] == ALWAYS_THERE]
        if scales:
            prefix = min(scales, key=len)[: -len(ALWAYS_THERE)]
            own = {n.removeprefix(prefix): v for n, v in inner.items() if isinstance(n, str) and n.startswith(prefix)}
            return {n: v for n, v in own.items() if n not in NO_WEIGHTS}
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def does_not_fit(file: str, model_name: str, error: Exception) -> ValueError:
    """Return the error of weights that are not those of the model."""
    lines = " ".join(str(error).split())
    return ValueError(f"pretrained={file!r} does not hold the weights of model_name={model_name!r} ({lines[:300]})")
