"""Encoding of images to unit embeddings: each image once, here or on the workers of an engine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from tqdm.auto import tqdm

from ..data.images import UnreadableImagesError
from ..data.reading import ImageSource, memory_of_pixels, run_tasks, uses_engine
from ..data.stores import MemoryStore, StackedStores
from .inputs import digest_cache, disk_cache

if TYPE_CHECKING:
    import torch

    from .backbone import Backbone

BAR_DELAY = 3.0  # seconds of encoding before a progress bar appears
ENGINE_BATCHES = 4  # batches per task of an engine's worker
ENGINE_TASKS = 4  # tasks per worker between two writes to the cache


class Features(NamedTuple):
    """One kind of vector that a frozen CLIP computes of images; pickled for an engine's workers."""

    kind: str  # name of its cache
    compute: Callable[[Backbone, torch.Tensor], torch.Tensor]  # of a batch, as `Backbone.to_input` takes it
    instead: str = ""  # what else helps if memory does not hold them


def _embeddings(backbone: Backbone, pixels: torch.Tensor) -> torch.Tensor:
    return backbone.encode_images(pixels)


EMBEDDINGS = Features("embeddings", _embeddings, "call transform(X) once and pass the embeddings instead, or ")


def encode(
    backbone: Backbone,
    array: np.ndarray,
    batch_size: int = 256,
    verbose: int = 1,
    *,
    cache: str | os.PathLike[str] | None = "memory",
    n_jobs: int | str | None = "auto",
    device: str = "auto",
    size_name: str = "batch_size",
    features: Features = EMBEDDINGS,
    pixels: Any = None,
) -> np.ndarray:
    """Return the unit embeddings of images or files by a frozen CLIP, or other features of them.

    Images in the cache are neither read nor encoded again.

    Parameters
    ----------
    backbone : Backbone
    array : ndarray
        Images, or paths of files that exist; as `data.images.as_array` returns them.
    batch_size, verbose, cache, n_jobs, device
        See `CLIPImageEncoder`; ``device`` is that of an engine's workers.
    size_name : str, default="batch_size"
        Name of ``batch_size`` in messages.
    features : Features, default=EMBEDDINGS
        Kind of the vectors; each kind has a cache of its own.
    pixels : MemoryStore, DiskCache, StackedStores or None, default=None
        Store of decoded pixels, where a `pixel_source` of the same images has one.

    Returns
    -------
    embeddings : ndarray of shape (n, D), float32

    Raises
    ------
    UnreadableImagesError
        If files cannot be read as images; names all.  Embeddings that are done by then are kept.
    torch.cuda.OutOfMemoryError
        If the device has no memory left; the message says what to change.  Finished embeddings are kept.
    """
    memory = backbone.cache_of(features.kind)
    stores: list[Any] = [memory] if cache else []
    if cache not in (None, "memory"):
        stores.append(disk_cache(cache, features.kind, backbone.image_fingerprint, np.float32))
    source = ImageSource(
        array, backbone.preprocessing, store=pixels, digests=digest_cache(cache), n_jobs=n_jobs,
        pin=is_cuda(backbone),
    )  # fmt: skip
    if uses_engine():
        recipe = (backbone.model_name, backbone.pretrained, device, backbone.precision)

        def forward(batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
            return _encode_on_engine(source, batches, recipe, batch_size, features)

        batch_rows = batch_size * ENGINE_BATCHES
    else:

        def forward(batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
            return prefetch(map(partial(features.compute, backbone), source.read(batches)))

        batch_rows = batch_size
    with encoding_advice(backbone, batch_size, size_name):
        embeddings, left_out = embed(source, forward, StackedStores(*stores), batch_rows, verbose, backbone.precision)
    if left_out and cache:
        warnings.warn(
            f"{left_out} {features.kind} do not fit into the {memory.limit >> 20} MiB that are kept in memory, so "
            f"these images will be encoded again at the next call: {features.instead}use cache='disk'",
            UserWarning,
            stacklevel=3,
        )
    return embeddings


def embed(
    source: ImageSource,
    forward: Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]],
    store: MemoryStore | StackedStores,
    batch_size: int,
    verbose: int,
    precision: str,
) -> tuple[np.ndarray, int]:
    """Return the embeddings of all images of a source, and how many of them the cache could not keep.

    Each image is encoded once.  ``forward`` turns batches of rows into embeddings, lazily and in order, computed in
    ``precision``.

    Raises
    ------
    FloatingPointError
        If an embedding is not finite; the message names the row, and its batch is not kept.
    """
    keys = source.keys(source.preprocessing)
    store.expect(keys)
    found = store.get(keys)
    first: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        if key not in found:
            first.setdefault(key, row)
    rows = np.array(list(first.values()), dtype=np.intp)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    left_out = 0
    with tqdm(
        total=len(rows), desc="Encoding images", unit="img", delay=BAR_DELAY, disable=not verbose
    ) as bar:
        for batch, embeddings in zip(batches, forward(batches)):
            _check_finite(embeddings, batch, precision)
            fresh = {key: row.copy() for key, row in zip(keys[batch], embeddings)}
            left_out += store.put(fresh)
            found |= fresh
            bar.update(len(batch))
    return np.stack([found[key] for key in keys]), left_out


def _check_finite(embeddings: np.ndarray, rows: np.ndarray, precision: str) -> None:
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        advice = f"{precision} may be too narrow for these weights: try precision='fp32'"
        if precision == "fp32":
            advice = "it computes in float32, so the weights, or what they were trained to, are the cause"
        raise FloatingPointError(
            f"X[{rows[finite.argmin()]}]: the image tower produced non-finite values for this image; {advice}"
        )


def pixel_source(
    backbone: Backbone,
    array: np.ndarray,
    augment: Callable[..., Any] | None,
    cache: str | os.PathLike[str] | None,
    n_jobs: int | str | None,
) -> ImageSource:
    """Return the images of a checked X, to be read again and again for a tower that is trained.

    Decoded pixels are kept where ``cache`` says; the arguments are those of `DualPromptClassifier`.
    """
    store: Any = memory_of_pixels if cache == "memory" else disk_cache(cache, "pixels", "2", np.uint8)
    return ImageSource(
        array,
        backbone.preprocessing,
        augment=augment,
        store=store,
        digests=digest_cache(cache),
        n_jobs=n_jobs,
        pin=is_cuda(backbone),
    )


def encoding_advice(backbone: Backbone, batch_size: int, size_name: str) -> AbstractContextManager[None]:
    """Return a context in which out-of-memory errors say what to change; see `utils.memory`."""
    from ..utils.memory import memory_advice, precision_advice

    advice = f"try a smaller {size_name} (now {batch_size}){precision_advice(backbone.precision)}"
    return memory_advice("encoding images", f"{advice}; finished embeddings are kept")


def is_cuda(backbone: Backbone) -> bool:
    """Return whether the model computes on a GPU, to which batches are copied from pinned memory."""
    return backbone.device.type == "cuda"


def prefetch(outputs: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """Yield tensors as arrays, each copied once the next one has been launched.

    So a GPU computes the next one during the copy.  If a computation fails, the finished arrays
    come first.
    """
    previous = None
    try:
        for output in outputs:
            if previous is not None:
                yield previous.cpu().numpy()
            previous = output
    except Exception:
        if previous is not None:
            yield previous.cpu().numpy()
        raise
    if previous is not None:
        yield previous.cpu().numpy()


def _encode_on_engine(
    source: ImageSource,
    batches: Sequence[np.ndarray],
    recipe: tuple[str, str | None, str, str],
    batch_size: int,
    features: Features,
) -> Iterator[np.ndarray]:
    """Yield the embeddings of each batch of rows, computed by the workers of joblib's active backend."""
    n_jobs = effective_n_jobs(None if source.n_jobs == "auto" else source.n_jobs)
    step = ENGINE_TASKS * max(1, n_jobs)
    for start in range(0, len(batches), step):
        chunks = batches[start : start + step]
        try:
            yield from run_tasks(encode_chunk, source.array, chunks, (recipe, batch_size, features), n_jobs)
        except UnreadableImagesError as error:
            raise source.all_unreadable([batches[start:]], error) from error


def encode_chunk(
    array: np.ndarray,
    numbers: np.ndarray,
    recipe: tuple[str, str | None, str, str],
    batch_size: int,
    features: Features = EMBEDDINGS,
) -> np.ndarray:
    """Encode images as a task of an engine's worker; messages name them by ``numbers``."""
    from .backbone import load_backbone

    backbone = load_backbone(*recipe)
    source = ImageSource(array, backbone.preprocessing, n_jobs=1, pin=is_cuda(backbone))
    source.numbers = numbers
    batches = np.array_split(np.arange(len(array)), -(-len(array) // batch_size))
    outputs = map(partial(features.compute, backbone), source.read(batches))
    return np.concatenate(list(prefetch(outputs)))
