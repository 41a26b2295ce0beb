"""Files of weights: the forms in which they come, read as open_clip reads them, and what is no such file."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from ..data.files import other_than_binary
from .files import QUICKGELU

# Under these keys training scripts keep the weights; open_clip itself knows "state_dict".
WEIGHTS_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "weights", "params", "net", "clip")
# What TorchScript keeps beside the weights: three numbers of OpenAI's files, and a mask that the model makes itself.
NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask")
ALWAYS_THERE = "logit_scale"  # every CLIP has it, so the prefix of its name is that of all
IMAGE_TOWER, TEXT_TOWER = "visual.", "token_embedding.weight"  # begins, and ends, names of the towers
TRANSFORMERS = "vision_model."  # begins names of Hugging Face's CLIPModel
DEPTH = 3  # of dicts in dicts


def refuse_other_files(file: str) -> None:
    """Refuse files that are no weights at all, and programs: OpenAI's own files are TorchScript, run to be read.

    Raises
    ------
    ValueError
        Says what the file is; of a TorchScript archive with the lines that make weights of it.
    """
    what = other_than_binary(file)
    if what is not None:
        raise ValueError(f"pretrained={file!r} {what}; expected a file of weights")
    if any(name.partition("/")[2] == "constants.pkl" for name in _names_in_zip(file)):
        target = _beside(file)
        raise ValueError(
            f"pretrained={file!r} is a TorchScript archive, as OpenAI's own files are: a program, not weights alone. "
            "If you trust it, convert it once:\n"
            f"    model = torch.jit.load({file!r}, map_location='cpu')\n"
            f"    torch.save({{'state_dict': model.state_dict()}}, {target!r})\n"
            f"and pass pretrained={target!r}; with OpenAI's weights a model_name that ends in {QUICKGELU!r}"
        )


@contextmanager
def as_open_clip_reads(file: str, model_name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a path that open_clip reads, and the weights in it by open_clip's names, empty if not known.

    The path is the file's own, or that of a copy: open_clip goes by the ending of a name, and knows neither other
    keys than "state_dict" nor other prefixes than "module.".  Errors of open_clip's are raised as what is wrong
    with the file.

    Raises
    ------
    ValueError
        If the file cannot be read, or does not hold the weights of the model.
    """
    content = _read(file)
    weights = _weights_in(content, file)
    if weights is not None:
        weights = _with_plain_text(weights, model_name)
        quantized = [name for name, value in weights.items() if value.dtype in (torch.int8, torch.uint8)]
        if quantized:
            raise ValueError(
                f"pretrained={file!r} holds quantized weights ({quantized[0]!r} of {weights[quantized[0]].dtype}); "
                "expected weights of a floating type"
            )
    try:
        if weights is None or (_open_clip_finds(content) == weights.keys() and _is_named_as_it_is(file)):
            yield file, weights or {}
            return
        with tempfile.TemporaryDirectory(prefix="modal-clip-dual-") as folder:
            path = os.path.join(folder, "weights.pt")
            torch.save({"state_dict": weights}, path)
            yield path, weights
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever open_clip meets in a file of another form
        raise _does_not_fit(file, model_name, content, weights, error) from error


def weights_of(file: str) -> dict[str, Any]:
    """Return the weights in a file by open_clip's names; none of a file whose form is not known."""
    try:
        return _weights_in(_read(file), file) or {}
    except ValueError:
        return {}


def check_loaded(said: str, model_name: str, model: Any, weights: Mapping[str, Any]) -> None:
    """Refuse weights that are not finite; warn of those of a model that reads larger images or longer texts.

    ``said`` begins the messages: what the user called the weights.

    Raises
    ------
    ValueError
        Names the weights that hold NaN or infinity.
    """
    state = {name: value for name, value in model.state_dict().items() if name not in NO_WEIGHTS}
    wrong = [n for n, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if wrong:
        raise ValueError(
            f"{said} holds NaN or infinity in {len(wrong)} of {len(state)} arrays, such as "
            f"{wrong[0]!r}; expected finite weights: did the training diverge, or is the precision too narrow?"
        )
    for name in ("visual.positional_embedding", "positional_embedding", "text.positional_embedding"):
        theirs, ours = weights.get(name), state.get(name)
        if theirs is None or ours is None or theirs.ndim != 2 or len(theirs) == len(ours):
            continue
        what = f"{len(theirs)} positions"
        others = ""
        if name.startswith(IMAGE_TOWER):
            size = _image_size(len(theirs), model.visual)
            what = f"{what}, images of {size} pixels," if size else what
            same = _models_of_size(model_name, size)
            others = f"; expected a model of that size, such as {same[0]!r}" if same else ""
        warnings.warn(
            f"{said} was trained with {what} in {name!r}, and model_name={model_name!r} has "
            f"{len(ours)}: they are interpolated, and what is computed differs{others}",
            UserWarning,
            stacklevel=7,
        )


def _names_in_zip(file: str) -> list[str]:
    if not zipfile.is_zipfile(file):
        return []
    with zipfile.ZipFile(file) as archive:
        return archive.namelist()


def _is_safetensors(file: str) -> bool:
    """Whether a file begins as the format says: the length of a header, and the header, JSON."""
    with open(file, "rb") as opened:
        start = opened.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < os.path.getsize(file) << 1


def _open_clip_finds(content: Mapping[str, Any]) -> set[str]:
    """Names of the weights that open_clip itself finds: under "state_dict", behind "module."."""
    inner = content.get("state_dict", content)
    names = [str(name) for name in inner] if isinstance(inner, Mapping) else []
    prefix = "module." if names and names[0].startswith("module.") else ""
    return {name.removeprefix(prefix) for name in names}


def _is_named_as_it_is(file: str) -> bool:
    return not file.endswith((".npz", ".npy")) and file.endswith(".safetensors") == _is_safetensors(file)


def _read(file: str) -> Any:
    """What is in a file, by its content, whatever its name; arrays of NumPy as tensors.

    Nothing is unpickled but what torch counts as weights.
    """
    with open(file, "rb") as opened:
        start = opened.read(8)
    try:
        if _is_safetensors(file):
            from safetensors.torch import load_file

            return load_file(file)
        names = _names_in_zip(file)
        if names and all(name.endswith(".npy") for name in names):
            with np.load(file, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        if start.startswith(b"\x93NUMPY"):
            return np.load(file, allow_pickle=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on protocols of pickle
            if file.lower().endswith(".safetensors"):  # torch goes by the ending
                with open(file, "rb") as opened:
                    return torch.load(opened, map_location="cpu", weights_only=True)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=bool(names) or None)
    except pickle.UnpicklingError as error:
        found = sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        if not found:
            raise ValueError(f"pretrained={file!r} cannot be read as weights: it begins with {start!r}") from error
        raise _pickled(file, found[0]) from error
    except Exception as error:  # whatever a file of another kind brings about
        raise ValueError(
            f"pretrained={file!r} cannot be read as weights ({_first_line(error)}); a download that was cut off, "
            "a file that was damaged, or one of another kind"
        ) from error


def _pickled(file: str, found: str) -> ValueError:
    """The error of a file that holds objects beside weights, with the lines that leave them out."""
    target = _beside(file)
    is_model = found.partition(".")[0] in ("torch", "open_clip", "clip", "__main__") and "Namespace" not in found
    kept = "content.state_dict()"
    if not is_model:
        kept = "{key: value for key, value in content.items() if isinstance(value, (dict, torch.Tensor))}"
    return ValueError(
        f"pretrained={file!r} holds Python objects ({found}), not weights alone: to read them runs what is in the "
        "file. If you trust it, convert it once:\n"
        f"    content = torch.load({file!r}, map_location='cpu', weights_only=False)\n"
        f"    torch.save({kept}, {target!r})\n"
        f"and pass pretrained={target!r}"
    )


def _weights_in(content: Any, file: str, depth: int = DEPTH) -> dict[str, Any] | None:
    """Weights by open_clip's names, without the prefix that wrappers of a model put before them.

    They may stand under a key, in dicts of dicts.  Known keys come first; of others there may be one with weights.
    """
    if not isinstance(content, Mapping):
        return None
    weights = _without_prefix(content, file)
    if weights is not None or not depth:
        return weights
    inner = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    for key in WEIGHTS_KEYS:
        weights = _weights_in(inner.pop(key, None), file, depth - 1)
        if weights is not None:
            return weights
    found = {key: _weights_in(value, file, depth - 1) for key, value in inner.items()}
    found = {key: value for key, value in found.items() if value is not None}
    if len(found) > 1:
        raise _in_doubt(file, "keys", list(found))
    return next(iter(found.values()), None)


def _without_prefix(content: Mapping[Any, Any], file: str) -> dict[str, Any] | None:
    names = [name for name in content if isinstance(name, str)]
    prefixes = [name[: -len(ALWAYS_THERE)] for name in names if name.split(".")[-1] == ALWAYS_THERE]
    whole = [prefix for prefix in prefixes if any(name.startswith(prefix + IMAGE_TOWER) for name in names)]
    if len(whole) > 1:
        raise _in_doubt(file, "prefixes", whole)
    if not prefixes:
        return None
    prefix = whole[0] if whole else min(prefixes, key=len)
    own = {name.removeprefix(prefix): content[name] for name in names if name.startswith(prefix)}
    return {name: value for name, value in own.items() if name not in NO_WEIGHTS and torch.is_tensor(value)}


def _in_doubt(file: str, what: str, found: list[Any]) -> ValueError:
    return ValueError(
        f"pretrained={file!r} holds several models, under the {what} {found!r}; expected one: torch.save the weights "
        "of the one that is meant to a file of their own"
    )


def _with_plain_text(weights: dict[str, Any], model_name: str) -> dict[str, Any]:
    """Weights of a model with a text tower of its own as those of one without, if that is what the model is."""
    config = open_clip.get_model_config(model_name)
    if config.get("custom_text") or "hf_model_name" in config["text_cfg"] or TEXT_TOWER in weights:
        return weights
    return {name.removeprefix("text."): value for name, value in weights.items()}


def _does_not_fit(
    file: str, model_name: str, content: Any, weights: dict[str, Any] | None, error: Exception
) -> ValueError:
    """The error of a file that open_clip could not make a model of: what the file holds, and what is missing."""
    part = _part(content)
    if part is not None:
        return _without_a_part(file, model_name, content, *part)
    if weights is None:
        held = f"a {type(content).__name__}" if not isinstance(content, Mapping) else f"{list(content)[:5]!r}"
        return ValueError(
            f"pretrained={file!r} holds {held}; expected weights of {model_name!r}, by themselves or under one of "
            f"the keys {', '.join(WEIGHTS_KEYS[:3])}"
        )
    lines = " ".join(str(error).split())
    if "logit_bias" in weights and open_clip.get_model_config(model_name).get("init_logit_bias") is None:
        lines = "they have a logit_bias, as SigLIP's have, and the model has none"
    return ValueError(f"pretrained={file!r} does not hold the weights of model_name={model_name!r} ({lines[:300]})")


def _part(content: Any) -> tuple[str, list[str], str] | None:
    """What a file has of a CLIP, if not all: what that is, the keys that lead there, and a prefix of the names."""
    for keys, inner in _dicts_of_tensors(content):
        names = list(inner)
        if any(name.startswith(TRANSFORMERS) for name in names):
            return "weights by the names of Hugging Face's transformers", keys, ""
        images = [name.partition(IMAGE_TOWER)[0] for name in names if IMAGE_TOWER in name]
        texts = [name.removesuffix(TEXT_TOWER) for name in names if name.endswith(TEXT_TOWER)]
        scale = any(name.split(".")[-1] == ALWAYS_THERE for name in names)
        if images and not texts:
            return "an image tower alone", keys, min(images, key=len)
        if texts and not images:
            return "a text tower alone", keys, texts[0]
        if images and texts and not scale:
            return "both towers, but no logit_scale", keys, min(images, key=len)
    return None


def _dicts_of_tensors(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[list[str], dict[str, Any]]]:
    if not isinstance(content, Mapping) or len(keys) > DEPTH:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and torch.is_tensor(value)}
    if tensors:
        yield list(keys), tensors
    for key, value in content.items():
        yield from _dicts_of_tensors(value, (*keys, key))


def _without_a_part(
    file: str, model_name: str, content: Any, what: str, keys: list[str], prefix: str
) -> ValueError:
    said = f"pretrained={file!r} holds {what}; expected all weights of {model_name!r}"
    if "transformers" in what:
        return ValueError(
            f"{said} by open_clip's names. OpenAI's are the tag 'openai' there; a repository with "
            "open_clip_config.json is loaded by model_name='hf-hub:ORG/REPO'"
        )
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    tag = "openai" if "openai" in tags else (tags or ["TAG"])[0]
    loaded = f"torch.load({file!r}, map_location='cpu')"
    if _is_safetensors(file):
        loaded = f"safetensors.torch.load_file({file!r})"
    loaded += "".join(f"[{key!r}]" for key in keys)
    if prefix:
        loaded = f"{{name.removeprefix({prefix!r}): value for name, value in {loaded}.items()}}"
    target = _beside(file)
    return ValueError(
        f"{said}. To take the others from another model:\n"
        f"    model = open_clip.create_model({model_name!r}, pretrained={tag!r})\n"
        f"    model.load_state_dict({loaded}, strict=False)\n"
        f"    torch.save(model.state_dict(), {target!r})\n"
        f"and pass pretrained={target!r}"
    )


def _image_size(n_positions: int, tower: Any) -> int | None:
    """The size of square images with so many positions, one of them CLS; None if there is no such size."""
    patch = getattr(tower, "patch_size", None)
    grid = round((n_positions - 1) ** 0.5)
    return None if patch is None or grid**2 != n_positions - 1 else grid * int(patch[0])


def _models_of_size(model_name: str, size: int | None) -> list[str]:
    names = [name for name in open_clip.list_models() if size and name.startswith(f"{model_name}-")]
    return [name for name in names if open_clip.get_model_config(name)["vision_cfg"].get("image_size") == size]


def _beside(file: str) -> str:
    return str(Path(file).with_name(f"{Path(file).stem}-weights.pt"))


def _first_line(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0].partition(". This is an internal")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
