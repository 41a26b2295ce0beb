"""The frozen CLIP: loaded once per process by name, shared, and never pickled."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.factory import parse_model_name

from ..data.preprocessing import preprocessing_of
from ..data.stores import EMBEDDING_BYTES, MemoryStore
from .loaders import load_parts
from .names import check_model_name, resolve_device, resolve_precision

_loaded: dict[tuple[Any, ...], Backbone] = {}
_lock = threading.RLock()


class Backbone:
    """A frozen open_clip model with its preprocessing and tokenizer.

    `load_backbone` creates it.  Copies and pickles hold only the arguments to load it again:
    no weight is duplicated, and pickles of objects that refer to it stay small.

    Attributes
    ----------
    model : torch.nn.Module
        open_clip's model in evaluation mode; no parameter requires a gradient.
    preprocess : callable
        PIL image -> float tensor (3, H, W), open_clip's own for these weights.
    preprocessing : Preprocessing
        The part of ``preprocess`` up to the pixels, (H, W, 3) uint8; `to_input` does the rest.
    tokenizer : callable
        list of str -> token ids (n, context_length).
    embed_dim : int
        Width D of the joint embedding space.
    logit_scale : float
        Inverse temperature 1 / tau; 100 for the OpenAI models.
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
        # This lock is held while the model's forward has hooks (see nn.text_encoder).
        self.lock = threading.RLock()
        self.embedding_cache = MemoryStore(EMBEDDING_BYTES)
        self._other_caches: dict[str, MemoryStore] = {}
        self.text_cache: dict[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]], torch.Tensor] = {}

    @property
    def text_tower(self) -> Any:
        """The module with token_embedding, transformer and the rest of the text side."""
        return getattr(self.model, "text", self.model)

    @property
    def name(self) -> str:
        """The name of this model in messages."""
        return f"model_name={self.model_name!r}, pretrained={self.pretrained!r}"

    def to_input(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn pixels into the image tower's input: on its device, normalized, in its precision.

        Parameters
        ----------
        pixels : torch.Tensor
            Pixels (n, H, W, 3) of uint8, as ``preprocessing`` gives them; or floats (n, 3, H, W)
            that are normalized already.
        """
        dtype = open_clip.get_input_dtype(self.precision) or torch.float32
        pixels = pixels.to(self.device, non_blocking=True)
        if pixels.dtype != torch.uint8:
            return pixels.to(dtype)
        pixels = pixels.permute(0, 3, 1, 2).float()  # a copy, so that the rest may work in place
        return pixels.div_(255).sub_(self._mean).div_(self._std).to(dtype)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalize pixels (n, 3, H, W), floats from 0 to 1, so that `to_input` takes them."""
        pixels = pixels.to(self.device)
        return (pixels - self._mean) / self._std

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

    def cache_of(self, kind: str) -> MemoryStore:
        """Return where this process keeps a kind of features of images."""
        if kind == "embeddings":
            return self.embedding_cache
        return self._other_caches.setdefault(kind, MemoryStore(EMBEDDING_BYTES))

    @cached_property
    def image_fingerprint(self) -> str:
        """Hexadecimal digest of everything but the image that an embedding depends on.

        It is computed from the weights themselves, so that it changes with a replaced file, or with a
        tag that stands for other weights by now.
        """
        tower = self.model.visual
        parts = ("embeddings-2", self.precision, self.preprocessing.fingerprint, str(tower))
        digest = blake2b("\0".join(parts).encode(), digest_size=16)
        _add_weights(digest, tower)
        return digest.hexdigest()

    @cached_property
    def weights_checksum(self) -> str:
        """Hexadecimal digest of all weights of both towers, in their precision.

        It depends on nothing else, so that it is the same with a newer torch or open_clip.
        """
        digest = blake2b(digest_size=16)
        _add_weights(digest, self.model)
        return digest.hexdigest()

    def identity(self) -> dict[str, str]:
        """Return checksums that tell this CLIP from another of the same name; see `check_identity`."""
        preprocessing = str(self.preprocessing and self.preprocessing.fingerprint)
        weights = self.weights_checksum
        return {"precision": self.precision, "weights": weights, "preprocessing": preprocessing}

    def check_identity(self, expected: Mapping[str, str], saved_with: str = "") -> None:
        """Raise an error if this is not the CLIP whose `identity` is expected.

        Another precision rounds the weights differently: then they are loaded again on the CPU in the
        expected precision, compared, and released.

        Raises
        ------
        ValueError
            If it is another CLIP; the message names the model and both checksums.
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


def load_backbone(
    model_name: str, pretrained: str | os.PathLike[str] | None, device: str = "auto", precision: str = "auto"
) -> Backbone:
    """Load a frozen CLIP, or return the one that this process has already loaded.

    Parameters
    ----------
    model_name, pretrained : str
        open_clip's own names, ``"local-dir:"`` and ``"hf-hub:"`` included; a tag may be
        the path of a checkpoint.  ``"demo"`` and ``"bundled"`` name the model that ships
        with this package.
    device : str, default="auto"
        A torch device, or ``"auto"``: CUDA if available.
    precision : str, default="auto"
        open_clip's name of a precision, or ``"auto"``: float32 on the CPU, bfloat16 (or
        float16 where the GPU has no bfloat16) on a GPU.

    Returns
    -------
    Backbone

    Raises
    ------
    ValueError
        If the model, the tag or the device is not known, or a file does not hold the model's weights.
    ImportError
        If a package that the model needs is not installed.
    """
    pretrained = None if pretrained is None else os.fspath(pretrained)
    check_model_name(model_name, pretrained)
    on = resolve_device(device)
    precision = resolve_precision(precision, on)
    recipe = (model_name, pretrained, str(on), precision)
    key = (*recipe, *_file_states(model_name, pretrained))
    with _lock:
        if key not in _loaded:
            for replaced in [other for other in _loaded if other[: len(recipe)] == recipe]:
                del _loaded[replaced]  # its files have changed, so this entry is never found again
            _loaded[key] = _load(*recipe[:2], on, precision)
        return _loaded[key]


def _load(model_name: str, pretrained: str | None, device: torch.device, precision: str) -> Backbone:
    """Load a CLIP from its weights, without the registry."""
    model, preprocess, tokenizer, embed_dim = load_parts(model_name, pretrained, device, precision)
    recipe = (model_name, pretrained, str(device), precision)
    return Backbone(model, preprocess, tokenizer, embed_dim, recipe)


def _file_states(model_name: str, pretrained: str | None) -> tuple[tuple[str, int, int], ...]:
    """Return size and time of local weights, so that a replaced file is loaded again."""
    schema, identifier = parse_model_name(model_name)
    files = []
    if schema == "local-dir":
        files = [path for path in sorted(Path(identifier).iterdir()) if path.is_file()]
    elif schema is None and pretrained is not None and os.path.isfile(pretrained):
        files = [Path(pretrained)]
    return tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
