"""The frozen CLIP: loaded once per process by name, shared, and never pickled."""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.factory import parse_model_name
from open_clip.transform import PreprocessCfg, image_transform_v2

from ..data.preprocessing import preprocessing_of
from ..data.stores import EMBEDDING_BYTES, MemoryStore

DEMO_MODEL, DEMO_TAG = "demo", "bundled"
_DEMO_FOLDER = Path(__file__).parents[1] / "assets" / "demo_clip"

_loaded: dict[tuple[Any, ...], Backbone] = {}
_lock = threading.RLock()


class Backbone:
    """A frozen open_clip model with its preprocessing and tokenizer.

    Made by `load_backbone`.  Copies and pickles hold only the recipe to load it again:
    no weight is duplicated, and a pickle of anything that refers to it stays small.

    Attributes
    ----------
    model : torch.nn.Module
        open_clip's model in evaluation mode, no parameter requires a gradient.
    preprocess : callable
        PIL image -> float tensor (3, H, W), open_clip's own for these weights.
    preprocessing : Preprocessing
        The same up to the pixels, (H, W, 3) uint8; `to_input` does the rest.
    tokenizer : callable
        list of str -> token ids (n, context_length).
    embed_dim : int
        Width D of the joint embedding space.
    logit_scale : float
        1 / tau of method and paper; 100 for the OpenAI models.
    device : torch.device
    precision : str
        open_clip's name for the precision of the towers.
    """

    def __init__(
        self, model: Any, preprocess: Any, tokenizer: Any, embed_dim: int, recipe: tuple[str, str | None, str, str]
    ):
        self.model = model.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.preprocessing = preprocess and preprocessing_of(preprocess)
        self.tokenizer = tokenizer
        self.embed_dim = embed_dim
        self.recipe = recipe
        self.model_name, self.pretrained, device, self.precision = recipe
        self.device = torch.device(device)
        self.logit_scale = float(model.logit_scale.detach().float().exp().max())
        # Held while a forward of the model is instrumented (see nn.text_prompts).
        self.lock = threading.RLock()
        self.embedding_cache = MemoryStore(EMBEDDING_BYTES)
        self.text_cache: dict[tuple[tuple[str, ...], tuple[str, ...]], torch.Tensor] = {}

    @property
    def text_tower(self) -> Any:
        """The module with token_embedding, transformer and the rest of the text side."""
        return getattr(self.model, "text", self.model)

    @property
    def name(self) -> str:
        """How messages call this model."""
        return f"model_name={self.model_name!r}, pretrained={self.pretrained!r}"

    def to_input(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the image tower takes: on its device, normalised, in its precision.

        Parameters
        ----------
        pixels : torch.Tensor
            (n, H, W, 3) uint8, as ``preprocessing`` gives them; or (n, 3, H, W) floats
            that are normalised already.
        """
        dtype = open_clip.get_input_dtype(self.precision) or torch.float32
        pixels = pixels.to(self.device, non_blocking=True)
        if pixels.dtype != torch.uint8:
            return pixels.to(dtype)
        pixels = pixels.permute(0, 3, 1, 2).float()  # a copy, so the rest may work in place
        return pixels.div_(255).sub_(self._mean).div_(self._std).to(dtype)

    @cached_property
    def _mean(self) -> torch.Tensor:
        return torch.tensor(self.preprocessing.mean, device=self.device)[:, None, None]

    @cached_property
    def _std(self) -> torch.Tensor:
        return torch.tensor(self.preprocessing.std, device=self.device)[:, None, None]

    @torch.inference_mode()
    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode images, as `to_input` takes them, to unit embeddings (n, D), float32."""
        return F.normalize(self.model.encode_image(self.to_input(pixels)).float(), dim=-1)

    @cached_property
    def image_fingerprint(self) -> str:
        """Hexadecimal digest of all that an image's embedding depends on, the image aside.

        Computed from the weights themselves, so that a file which was replaced, or a tag
        that means something else by now, is another model.
        """
        tower = self.model.visual
        parts = ("embeddings-1", self.precision, self.preprocessing.fingerprint, str(tower))
        digest = blake2b("\0".join(parts).encode(), digest_size=16)
        _add_weights(digest, tower)
        return digest.hexdigest()

    @cached_property
    def weights_checksum(self) -> str:
        """Hexadecimal digest of all weights of both towers, in the precision that they are in.

        Of nothing else, so that a newer torch or open_clip gives the same.
        """
        digest = blake2b(digest_size=16)
        _add_weights(digest, self.model)
        return digest.hexdigest()

    def identity(self) -> dict[str, str]:
        """What tells this CLIP from another of the same name; see `check_identity`."""
        preprocessing = str(self.preprocessing and self.preprocessing.fingerprint)
        weights = self.weights_checksum
        return {"precision": self.precision, "weights": weights, "preprocessing": preprocessing}

    def check_identity(self, expected: Mapping[str, str], saved_with: str = "") -> None:
        """Refuse to be another CLIP than the one whose `identity` is expected.

        In another precision the weights are rounded otherwise: then they are loaded once more in
        the expected one, on the CPU, to be compared, and forgotten.

        Raises
        ------
        ValueError
            Naming the model and both checksums.
        """
        same = self
        if self.precision != expected["precision"]:
            name, tag, _, _ = self.recipe
            same = _load(name, tag, torch.device("cpu"), expected["precision"])
        found = same.identity()
        for what in ("weights", "preprocessing"):
            if found[what] != expected[what]:
                said = "checksum " if what == "weights" else ""
                raise ValueError(
                    f"{self.name} has other {what} ({said}{found[what]}) than the CLIP that the saved "
                    f"prompts were trained with ({said}{expected[what]}){saved_with}; expected the same "
                    "CLIP, or a new fit"
                )

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        """Encode texts to unit embeddings (len(texts), D), float32."""
        tokens = self.tokenizer(texts).to(self.device)
        with self.lock:
            return F.normalize(self.model.encode_text(tokens).float(), dim=-1)

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return load_backbone, self.recipe

    def __repr__(self) -> str:
        return f"Backbone({self.name}, device={str(self.device)!r}, precision={self.precision!r})"


def _add_weights(digest: blake2b, module: torch.nn.Module) -> None:
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


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
            'expected "auto", "cpu", or a device that torch finds here, such as "cuda"'
        ) from error
    return resolved


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn ``"auto"`` into float32 on the CPU and half precision on a GPU."""
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _nearest(name: str, known: list[str]) -> str:
    # Compare without case: "vit-b-32" should find "ViT-B-32".
    by_lower = {entry.lower(): entry for entry in known}
    matches = get_close_matches(str(name).lower(), by_lower, n=5, cutoff=0.4)
    return ", ".join(repr(by_lower[match]) for match in matches) or "none is close"


def check_model_name(model_name: str, pretrained: str | None) -> None:
    """Refuse a model name or tag that open_clip does not know, before anything is loaded.

    Raises
    ------
    ValueError
        With the nearest known names or tags.
    """
    if model_name == DEMO_MODEL:
        if pretrained != DEMO_TAG:
            raise ValueError(
                f"pretrained={pretrained!r} does not exist for model_name={DEMO_MODEL!r}; "
                f"expected {DEMO_TAG!r}"
            )
        return
    schema, identifier = parse_model_name(model_name)
    if schema == "local-dir" and not (Path(identifier) / "open_clip_config.json").is_file():
        raise ValueError(
            f"model_name={model_name!r}: expected a folder with open_clip_config.json and weights"
        )
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
        tags = open_clip.list_pretrained_tags_by_model(identifier)
        raise ValueError(
            f"pretrained={pretrained!r} is neither a file nor a tag of {model_name!r}; nearest: "
            f"{_nearest(pretrained, tags)}.  Tags of this model: {', '.join(tags) or 'none'}"
        )


@contextmanager
def _own_random_state() -> Iterator[None]:
    # Creating a model draws its initial weights from torch's global generator: leave the
    # user's untouched, and give a model without pre-trained weights the same ones always.
    # Models are made on the CPU; torch.manual_seed would reseed the GPUs as well.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def _load_demo(device: torch.device, precision: str) -> tuple[Any, Any, Any, int]:
    from safetensors.torch import load_file

    config = json.loads((_DEMO_FOLDER / "open_clip_config.json").read_text(encoding="utf-8"))
    state = load_file(_DEMO_FOLDER / "open_clip_model.safetensors")
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
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    return model, preprocess, tokenizer, config["model_cfg"]["embed_dim"]


def _load_from_open_clip(
    model_name: str, pretrained: str | None, device: torch.device, precision: str
) -> tuple[Any, Any, Any, int]:
    schema, identifier = parse_model_name(model_name)
    if schema is None and pretrained is None:
        warnings.warn(
            f"model_name={model_name!r} with pretrained=None has random weights: useful for "
            "timing, not for classifying",
            UserWarning,
            stacklevel=5,
        )
        logging.getLogger().addFilter(_drop_random_weight_notice)
    _refuse_remote_code(model_name)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            model_name, pretrained=pretrained, precision=precision, device=device
        )
    finally:
        logging.getLogger().removeFilter(_drop_random_weight_notice)
    tokenizer = open_clip.get_tokenizer(model_name)
    name = identifier.replace("/", "-") if schema is None else model_name
    return model, preprocess, tokenizer, open_clip.get_model_config(name)["embed_dim"]


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


def load_backbone(
    model_name: str, pretrained: str | None, device: str = "auto", precision: str = "auto"
) -> Backbone:
    """Load a frozen CLIP, or return the one this process has already loaded.

    Parameters
    ----------
    model_name, pretrained : str
        open_clip's own names, ``"local-dir:"`` and ``"hf-hub:"`` included; a tag may be
        the path of a checkpoint.  ``"demo"`` and ``"bundled"`` name the model that ships
        with this package.
    device : str, default="auto"
        A torch device, or ``"auto"``: CUDA where there is one.
    precision : str, default="auto"
        open_clip's name of a precision, or ``"auto"``: float32 on the CPU, bfloat16 (or
        float16 where the GPU has no bfloat16) on a GPU.

    Returns
    -------
    Backbone

    Raises
    ------
    ValueError
        If the model, the tag or the device is not known.
    """
    check_model_name(model_name, pretrained)
    on = resolve_device(device)
    precision = resolve_precision(precision, on)
    recipe = (model_name, pretrained, str(on), precision)
    key = (*recipe, *_file_states(model_name, pretrained))
    with _lock:
        if key not in _loaded:
            for replaced in [other for other in _loaded if other[: len(recipe)] == recipe]:
                del _loaded[replaced]  # its files are others by now, so nothing finds it again
            _loaded[key] = _load(*recipe[:2], on, precision)
        return _loaded[key]


def _load(model_name: str, pretrained: str | None, device: torch.device, precision: str) -> Backbone:
    """Load a CLIP of known name anew."""
    with _own_random_state():
        if model_name == DEMO_MODEL:
            parts = _load_demo(device, precision)
        else:
            parts = _load_from_open_clip(model_name, pretrained, device, precision)
    model, preprocess, tokenizer, embed_dim = parts
    recipe = (model_name, pretrained, str(device), precision)
    return Backbone(model, preprocess, tokenizer, embed_dim, recipe)


def _file_states(model_name: str, pretrained: str | None) -> tuple[tuple[str, int, int], ...]:
    """Size and time of local weights, so that a file that was replaced is loaded again."""
    schema, identifier = parse_model_name(model_name)
    files = []
    if schema == "local-dir":
        files = [path for path in sorted(Path(identifier).iterdir()) if path.is_file()]
    elif schema is None and pretrained is not None and os.path.isfile(pretrained):
        files = [Path(pretrained)]
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
