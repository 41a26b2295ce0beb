"""Folders of a CLIP, ``local-dir:FOLDER``: what is in them, checked before anything is loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

CONFIG = "open_clip_config.json"
ENDINGS = (".safetensors", ".bin", ".pth")  # of weights that open_clip finds in a folder
# Names that open_clip prefers, in its order.
PREFERRED = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
# What a configuration may say of images; None stands for open_clip's own.
CHOICES = {
    "mode": ("RGB",),
    "interpolation": ("bicubic", "bilinear", "random"),
    "resize_mode": ("shortest", "longest", "squash"),
}


def check_folder(model_name: str, folder: Path) -> None:
    """Refuse a folder that open_clip would make no CLIP of, or one with random weights.

    Parameters
    ----------
    model_name : str
        The folder's name in messages.
    folder : Path

    Raises
    ------
    ValueError
        If there is no such folder, no configuration or none that can be read, or no file of weights; the message
        names the folder and what is in it.
    """
    if not (folder / CONFIG).is_file():
        held = f", and it holds {_listed(folder)}" if folder.is_dir() else ", and there is no such folder"
        seen = "" if folder.is_absolute() else f"; the path is relative, and seen from {os.getcwd()!r}"
        raise ValueError(f"model_name={model_name!r}: expected a folder with {CONFIG} and weights{held}{seen}")
    _check_config(model_name, folder / CONFIG)
    if file_of_weights(folder) is None:
        raise ValueError(
            f"model_name={model_name!r}: open_clip takes no file in this folder for weights, and would make a "
            f"random model; the folder holds {_listed(folder)}. Expected {PREFERRED[0]!r}, {PREFERRED[2]!r}, or "
            f"another name that ends in {', '.join(ENDINGS)}: rename the file of weights, or pass an architecture as "
            "model_name and the file as pretrained"
        )


def file_of_weights(folder: Path) -> Path | None:
    """Return the file in a folder that open_clip reads weights from, if there is one."""
    files = sorted(file for file in folder.iterdir() if file.suffix in ENDINGS)
    known = {file.name: file for file in files}
    first = [known[name] for name in PREFERRED if name in known]
    first += [file for file in files if file.suffix == ENDINGS[0]]
    return (first + files)[0] if files else None


@contextmanager
def errors_of_folder(model_name: str, file: Path | None) -> Iterator[None]:
    """Raise what goes wrong while a folder's model is made as an error that names folder and file.

    Raises
    ------
    ValueError
        With the first error as its cause.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever open_clip meets in a file of another form
        name = "weights" if file is None else file.name
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(
            f"model_name={model_name!r}: {name} in this folder cannot be read, or does not hold the weights of the "
            f"model that {CONFIG} describes ({said}). Expected all weights of this model; a download that was cut "
            "off, or a file of another model?"
        ) from error


def _check_config(model_name: str, file: Path) -> None:
    said, expected = f"model_name={model_name!r}: {CONFIG} in this folder", "expected the file as open_clip writes it"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{said} cannot be read as JSON ({error}); {expected}") from error
    model = config.get("model_cfg") if isinstance(config, Mapping) else None
    towers = [model.get(name) for name in ("vision_cfg", "text_cfg")] if isinstance(model, Mapping) else [None]
    if not all(isinstance(tower, Mapping) for tower in towers):
        raise ValueError(f"{said} has no model_cfg with vision_cfg and text_cfg; {expected}")
    images = config.get("preprocess_cfg") or {}
    if not isinstance(images, Mapping):
        raise ValueError(f"{said} has preprocess_cfg={images!r}; expected settings by name")
    for name, known in CHOICES.items():
        if images.get(name) is not None and images[name] not in known:
            raise ValueError(f"{said} has {name}={images[name]!r} in preprocess_cfg; expected one of {known}")
    for name, least in (("mean", -math.inf), ("std", 0.0)):
        value = images.get(name)
        if value is not None and not _are_channels(value, least):
            raise ValueError(
                f"{said} has {name}={value!r} in preprocess_cfg; expected a finite number for each of three channels"
                f"{', larger than 0' if name == 'std' else ''}"
            )


def _are_channels(value: Any, least: float) -> bool:
    values = value if isinstance(value, list) else [value] * 3
    plain = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values)
    return plain and len(values) == 3 and all(math.isfinite(one) and one > least for one in values)


def _listed(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{', '.join(names[:10])}{more}" if names else "nothing"
