"""Weights of a CLIP: open_clip's, and the small model that ships with this package."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.factory import parse_model_name
from open_clip.transform import PreprocessCfg, image_transform_v2

from .checkpoints import as_open_clip_reads, check_loaded, refuse_other_files, weights_of
from .files import preprocessing_of_file, warn_of_activation
from .folders import errors_of_folder, file_of_weights
from .names import DEMO_MODEL

DEMO_FOLDER = Path(__file__).parents[1] / "assets" / "demo_clip"

Parts = tuple[Any, Any, Any, int]  # model, preprocessing, tokenizer, width of the embeddings


def load_parts(model_name: str, pretrained: str | None, device: torch.device, precision: str) -> Parts:
    """Load the weights of a CLIP of known name, with what belongs to them."""
    with _own_random_state():
        if model_name == DEMO_MODEL:
            return _load_demo(device, precision)
        return _load_from_open_clip(model_name, pretrained, device, precision)


@contextmanager
def _own_random_state() -> Iterator[None]:
    # Creating a model draws its initial weights from torch's global generator: leave the
    # user's untouched, and give a model without pre-trained weights the same ones always.
    # Models are made on the CPU; torch.manual_seed would reseed the GPUs as well.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def _load_demo(device: torch.device, precision: str) -> Parts:
    from safetensors.torch import load_file

    config = _demo_config()
    state = load_file(DEMO_FOLDER / "open_clip_model.safetensors")
    rows = state.pop("token_embedding.rows").long()
    values = state["token_embedding.weight"].float()
    cast_dtype = open_clip.get_cast_dtype(precision)
    model = open_clip.CLIP(**config["model_cfg"], cast_dtype=cast_dtype)
    # Only rows that pre-training touched are stored.  The others say nothing, but have
    # to tell unknown words apart: they get the values of an untrained embedding.
    shape = tuple(model.token_embedding.weight.shape)
    untrained = np.random.default_rng(0).standard_normal(shape, dtype=np.float32) * 0.02
    embedding = torch.from_numpy(untrained)
    embedding[rows] = values
    state["token_embedding.weight"] = embedding
    model.load_state_dict(state)
    model = model.to(device)
    if precision in ("fp16", "bf16"):
        open_clip.convert_weights_to_lp(model, dtype=cast_dtype)
    elif precision != "fp32":
        model = model.to(open_clip.get_input_dtype(precision))
    size = config["model_cfg"]["vision_cfg"]["image_size"]
    preprocess = image_transform_v2(PreprocessCfg(size=size, **config["preprocess_cfg"]), is_train=False)
    return model, preprocess, load_tokenizer(DEMO_MODEL), config["model_cfg"]["embed_dim"]


def _demo_config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((DEMO_FOLDER / "open_clip_config.json").read_text(encoding="utf-8"))
    return config


def load_tokenizer(model_name: str) -> Any:
    """Load what a CLIP of known name reads texts with, without its weights.

    Raises
    ------
    ImportError
        If a package that it needs is not installed.
    ValueError
        If it would run code that comes with the model.
    """
    if model_name == DEMO_MODEL:
        return open_clip.SimpleTokenizer(context_length=_demo_config()["model_cfg"]["text_cfg"]["context_length"])
    _refuse_remote_code(model_name)
    return _tokenizer(model_name)


def _load_from_open_clip(
    model_name: str, pretrained: str | None, device: torch.device, precision: str
) -> Parts:
    schema, identifier = parse_model_name(model_name)
    if schema is None and pretrained is None:
        warnings.warn(
            f"model_name={model_name!r} with pretrained=None has random weights: useful for "
            "timing, not for classifying",
            UserWarning,
            stacklevel=5,
        )
        logging.getLogger().addFilter(_drop_random_weight_notice)
    tokenizer = load_tokenizer(model_name)  # first: if it cannot be made, no weights are read
    try:
        how = {"precision": _precision_of_all_parts(model_name, precision), "device": device}
        model, _, preprocess = _create(model_name, pretrained, **how)
    finally:
        logging.getLogger().removeFilter(_drop_random_weight_notice)
    name = identifier.replace("/", "-") if schema is None else model_name
    return model, preprocess, tokenizer, open_clip.get_model_config(name)["embed_dim"]


def _precision_of_all_parts(model_name: str, precision: str) -> str:
    """Return the precision that open_clip is asked for.

    Its "bf16" and "fp16" keep the norms in float32.  They leave out the query of an attention pooling (CoCa) and do
    not know a projection of texts with a bias (SigLIP with open_clip's own image tower); such models are made in half
    precision throughout.
    """
    is_name = parse_model_name(model_name)[0] is None
    config = open_clip.get_model_config(model_name.replace("/", "-") if is_name else model_name)
    vision, text = config["vision_cfg"], config["text_cfg"]
    left_out = "timm_model_name" not in vision and (vision.get("attentional_pool") or text.get("proj_bias"))
    return f"pure_{precision}" if left_out and precision in ("bf16", "fp16") else precision


def _create(model_name: str, pretrained: str | None, **how: Any) -> Any:
    """Make a model by open_clip; weights in a file with what a tag would have said of them."""
    schema, folder = parse_model_name(model_name)
    if schema == "local-dir":
        found = file_of_weights(Path(folder))
        with errors_of_folder(model_name, found):
            made = open_clip.create_model_and_transforms(model_name, **how)
        if found is not None:
            said = f"model_name={model_name!r}: {found.name} in this folder"
            check_loaded(said, model_name, made[0], weights_of(str(found)))
        return made
    name = model_name.replace("/", "-")  # as open_clip's names are
    is_file = pretrained is not None and os.path.isfile(pretrained) and schema is None
    if not is_file or open_clip.get_pretrained_cfg(name, pretrained):
        return open_clip.create_model_and_transforms(model_name, pretrained=pretrained, **how)
    assert pretrained is not None
    refuse_other_files(pretrained)
    warn_of_activation(name, pretrained)
    how |= preprocessing_of_file(name, pretrained)
    with as_open_clip_reads(pretrained, name) as (path, weights):
        made = open_clip.create_model_and_transforms(model_name, pretrained=path, **how)
    check_loaded(f"pretrained={pretrained!r}", name, made[0], weights)
    return made


def _tokenizer(model_name: str) -> Any:
    """open_clip's tokenizer of a model; those of SigLIP and some others need the package transformers."""
    try:
        return open_clip.get_tokenizer(model_name)
    except ImportError as error:
        package = (error.name or "transformers").partition(".")[0]
        raise ImportError(
            f"model_name={model_name!r} reads its prompts with the package {package}, which is not installed: "
            f"pip install {package}. Its vocabulary comes from Hugging Face, or from its cache on this machine",
            name=package,
        ) from error


def _refuse_remote_code(model_name: str) -> None:
    """Refuse a model whose configuration asks for Python code of its own to be run.

    open_clip passes a configuration's ``tokenizer_kwargs`` on to transformers, where
    ``trust_remote_code`` runs a file that lies beside the weights.
    """
    if parse_model_name(model_name)[0] is None:
        return
    config = open_clip.get_model_config(model_name)
    text = config.get("text_cfg") if isinstance(config, dict) else None
    asked = text.get("tokenizer_kwargs") if isinstance(text, dict) else None
    if isinstance(asked, dict) and asked.get("trust_remote_code"):
        raise ValueError(
            f"model_name={model_name!r}: its open_clip_config.json has trust_remote_code in "
            "tokenizer_kwargs, which would run code that comes with the model; expected a model that "
            "needs none"
        )


def _drop_random_weight_notice(record: logging.LogRecord) -> bool:
    return "initialized randomly" not in record.getMessage()
