"""What a CLIP is called, and where and in which precision it computes."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

import open_clip
import torch
from open_clip.factory import parse_model_name

from .folders import CONFIG, check_folder

DEMO_MODEL, DEMO_TAG = "demo", "bundled"
ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors", ".npz", ".npy")  # of files of weights


def resolve_device(device: str) -> torch.device:
    """Turn ``device`` into a torch device; ``"auto"`` is CUDA where there is one.

    Raises
    ------
    ValueError
        If torch does not know the device or this machine does not have it.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} cannot be used on this machine ({str(error).splitlines()[0]}); "
            'expected "auto", "cpu", or a device that torch finds here'
        ) from error
    return resolved


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn ``"auto"`` into float32 on the CPU and half precision on a GPU."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def check_model_name(model_name: str, pretrained: str | os.PathLike[str] | None) -> None:
    """Refuse a model name or tag that open_clip does not know, or a folder without a CLIP, before anything is loaded.

    Raises
    ------
    ValueError
        With the nearest known names or tags, or what is in the folder.
    """
    if model_name == DEMO_MODEL:
        if pretrained != DEMO_TAG:
            raise ValueError(
                f"pretrained={pretrained!r} does not exist for model_name={DEMO_MODEL!r}; "
                f"expected {DEMO_TAG!r}"
            )
        return
    schema, identifier = parse_model_name(model_name)
    if schema == "local-dir":
        check_folder(model_name, Path(identifier))
    if schema is not None:
        return
    known = open_clip.list_models()
    if identifier.replace("/", "-") not in known:
        raise ValueError(
            f"model_name={model_name!r} is not known to open_clip; nearest: "
            f"{_nearest(model_name, [*known, DEMO_MODEL])}.  open_clip.list_models() lists all; "
            "'local-dir:FOLDER' and 'hf-hub:ORG/REPO' load others"
        )
    identifier = identifier.replace("/", "-")
    if pretrained is None or os.path.isfile(pretrained):
        return
    if not open_clip.get_pretrained_cfg(identifier, pretrained):
        _refuse_path(os.fspath(pretrained))
        tags = open_clip.list_pretrained_tags_by_model(identifier)
        raise ValueError(
            f"pretrained={pretrained!r} is neither a file nor a tag of {model_name!r}; nearest: "
            f"{_nearest(str(pretrained), tags)}.  Tags of this model: {', '.join(tags) or 'none'}"
        )


def _refuse_path(path: str) -> None:
    """Refuse what is a path rather than a tag, and no file."""
    if os.path.isdir(path):
        names = sorted(os.listdir(path))
        held = f"it holds {', '.join(names[:5])}" if names else "it is empty"
        hint = f"; model_name='local-dir:{path}' loads it" if CONFIG in names else ""
        raise ValueError(f"pretrained={path!r} is a folder ({held}); expected a file of weights, or a tag{hint}")
    if os.path.isfile(os.path.expanduser(path)):
        raise ValueError(f"pretrained={path!r}: ~ is the shell's; expected {os.path.expanduser(path)!r}")
    if {os.sep, "/"} & set(path) or path.lower().endswith(ENDINGS):
        raise ValueError(f"pretrained={path!r}: there is no such file, seen from {os.getcwd()!r}")


def _nearest(name: str, known: list[str]) -> str:
    # Compare without case: "vit-b-32" should find "ViT-B-32".
    by_lower = {entry.lower(): entry for entry in known}
    matches = get_close_matches(str(name).lower(), by_lower, n=5, cutoff=0.4)
    return ", ".join(repr(by_lower[match]) for match in matches) or "none is close"
