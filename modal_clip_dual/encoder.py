"""Images to unit embeddings: each image once, here or on the workers of an engine."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import validate_data
from tqdm.auto import tqdm

from .clip.inputs import (
    BATCH_SIZE,
    READING_CONSTRAINTS,
    check_cache,
    check_input,
    check_width,
    disk_cache,
)
from .data.images import kind_of
from .data.reading import ImageSource, run_tasks, uses_engine
from .data.stores import MemoryStore, StackedStores
from .utils.arrays import unit_rows

if TYPE_CHECKING:
    import torch

    from .nn.backbone import Backbone

BAR_DELAY = 3.0  # seconds that encoding lasts before a progress bar appears
ENGINE_BATCHES = 4  # batches per task of an engine's worker
ENGINE_TASKS = 4  # tasks per worker between two writes to the cache


class CLIPImageEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed images with a frozen CLIP: a stateless first step for pipelines.

    Parameters
    ----------
    model_name : str, default="ViT-B-16"
        open_clip's name of the model; see `DualPromptClassifier`.
    pretrained : str or None, default="openai"
        open_clip's tag of the weights, or a checkpoint file; ``"bundled"`` for the model
        ``"demo"``.
    batch_size : int, default=256
        Images per forward pass.
    n_jobs : int, "auto" or None, default="auto"
        Worker processes that read and decode files.  ``"auto"``: one per core, 8 at most,
        for 512 files and more, else none.  Integers and None as in joblib.  Inside
        ``joblib.parallel_config`` with the backend of another library (Dask, Ray, Spark)
        the workers of that engine encode whole chunks of X, each with a CLIP of its own.
    cache : {"memory", "disk"} or None, default="memory"
        Where embeddings are kept, so that an image that was encoded before is not read
        again.  ``"memory"``: in this process, up to 1 GiB per model.  ``"disk"``: there and
        in ``cache_folder``, for every later process.
    cache_folder : str or path-like or None, default=None
        Folder of ``cache="disk"``; None is ``modal_clip_dual`` in the user's cache folder.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA where there is one.
    precision : str, default="auto"
        open_clip's name of the tower's precision; ``"auto"`` is float32 on the CPU and
        bfloat16 (or float16) on a GPU.  Embeddings are always float32.
    verbose : int, default=1
        0: silent.  1: a progress bar when encoding takes more than a few seconds.

    Attributes
    ----------
    n_features_in_ : int
        Width D of the embeddings, if ``fit`` was given embeddings.
    feature_names_in_ : ndarray of shape (D,)
        Column names, if ``fit`` was given a DataFrame of embeddings.

    See Also
    --------
    DualPromptClassifier : Takes these embeddings; or the images themselves.

    Notes
    -----
    The disk cache knows a model by a digest of its weights, its architecture, precision and
    preprocessing, and an image by its pixels, or a file by path, size and time of change.
    Several processes may share it; one that is killed leaves it whole.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from modal_clip_dual import CLIPImageEncoder, DualPromptClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> demo = {"model_name": "demo", "pretrained": "bundled"}
    >>> CLIPImageEncoder(**demo).transform(X[:5]).shape
    (5, 128)
    >>> clf = DualPromptClassifier(class_names, **demo, random_state=0)
    >>> pipeline = make_pipeline(CLIPImageEncoder(**demo), clf).fit(X[:60], y[:60])
    >>> pipeline.predict(X[60:]).shape
    (1737,)
    """

    _parameter_constraints: dict[str, Any] = {**READING_CONSTRAINTS, "batch_size": BATCH_SIZE}

    def __init__(
        self,
        model_name: str = "ViT-B-16",
        pretrained: str | None = "openai",
        *,
        batch_size: int = 256,
        n_jobs: int | str | None = "auto",
        cache: str | None = "memory",
        cache_folder: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        verbose: int = 1,
    ):
        self.model_name = model_name
        self.pretrained = pretrained
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.cache = cache
        self.cache_folder = cache_folder
        self.device = device
        self.precision = precision
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> CLIPImageEncoder:
        """Check the parameters and X; there is nothing to learn.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, n file paths, or embeddings (n, D).
        y : object, default=None
            Ignored.

        Returns
        -------
        self : CLIPImageEncoder

        Raises
        ------
        ValueError
            If a parameter or X does not fit.
        FileNotFoundError
            If X names a file that does not exist.
        """
        array, _ = self._prepare(X)
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        if kind_of(array) == "embeddings":
            validate_data(self, X, reset=True, skip_check_array=True)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encode images to unit embeddings.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8 or n file paths.  Embeddings (n, D) of this CLIP
            are scaled to length 1.

        Returns
        -------
        embeddings : ndarray of shape (n, D), float32

        Raises
        ------
        ValueError
            If X is none of the three forms, or a file cannot be read as an image; what was
            encoded until then is kept in the cache.
        FileNotFoundError
            If X names a file that does not exist.
        """
        array, backbone = self._prepare(X)
        if kind_of(array) == "embeddings":
            if hasattr(self, "n_features_in_"):  # column names, where fit saw some
                validate_data(self, X, reset=False, skip_check_array=True)
            return unit_rows(array)
        return encode(
            backbone,
            array,
            self.batch_size,
            self.verbose,
            cache=self.cache,
            cache_folder=self.cache_folder,
            n_jobs=self.n_jobs,
            device=self.device,
        )

    def _prepare(self, X: Any) -> tuple[np.ndarray, Backbone]:
        """X checked, and the CLIP; what can be seen without the CLIP is checked first."""
        self._validate_params()
        check_cache(self.cache, self.cache_folder, self.n_jobs)
        array = check_input(X, self)
        backbone = self._load_backbone()
        if kind_of(array) == "embeddings":
            check_width(array, backbone, self)
        return array, backbone

    def _load_backbone(self) -> Backbone:
        from .nn.backbone import load_backbone

        return load_backbone(self.model_name, self.pretrained, self.device, self.precision)

    @property
    def _n_features_out(self) -> int:
        return self._load_backbone().embed_dim

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # always float32
        return tags


def encode(
    backbone: Backbone,
    array: np.ndarray,
    batch_size: int = 256,
    verbose: int = 1,
    *,
    cache: str | None = "memory",
    cache_folder: str | os.PathLike[str] | None = None,
    n_jobs: int | str | None = "auto",
    device: str = "auto",
    size_name: str = "batch_size",
) -> np.ndarray:
    """Return the unit embeddings of images or files by a frozen CLIP.

    An image that is in the cache is neither read nor encoded again.

    Parameters
    ----------
    backbone : Backbone
    array : ndarray
        Images, or paths of files that exist; as `data.images.as_array` returns them.
    batch_size, verbose, cache, cache_folder, n_jobs, device
        See `CLIPImageEncoder`; ``device`` is that of an engine's workers.
    size_name : str, default="batch_size"
        What messages call ``batch_size``.

    Returns
    -------
    embeddings : ndarray of shape (n, D), float32

    Raises
    ------
    ValueError
        If a file cannot be read as an image.  What was encoded until then is kept.
    torch.cuda.OutOfMemoryError
        With advice; likewise.
    """
    stores: list[Any] = [backbone.embedding_cache] if cache else []
    if cache == "disk":
        fingerprint = backbone.image_fingerprint
        stores.append(disk_cache(cache_folder, "embeddings", fingerprint, np.float32))
    source = ImageSource(array, backbone.preprocessing, n_jobs=n_jobs, pin=is_cuda(backbone))
    if uses_engine():
        recipe = (backbone.model_name, backbone.pretrained, device, backbone.precision)

        def forward(batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
            return _encode_on_engine(source, batches, recipe, batch_size)

        batch_rows = batch_size * ENGINE_BATCHES
    else:

        def forward(batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
            return one_behind(map(backbone.encode_images, source.read(batches)))

        batch_rows = batch_size
    with encoding_advice(backbone, batch_size, size_name):
        embeddings, left_out = embed(source, forward, StackedStores(*stores), batch_rows, verbose)
    if left_out and cache:
        warnings.warn(
            f"{left_out} embeddings do not fit into the {backbone.embedding_cache.limit >> 20} MiB "
            "that are kept in memory, so these images will be encoded again at the next call: call "
            "transform(X) once and pass the embeddings instead, or use cache='disk'",
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
) -> tuple[np.ndarray, int]:
    """Embeddings of all images of a source, each computed once, and how many were not kept.

    ``forward`` turns batches of rows into their embeddings, lazily and in order.

    Raises
    ------
    FloatingPointError
        If an embedding is not finite; names the row, and keeps nothing of its batch.
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
            _check_finite(embeddings, batch)
            fresh = {key: row.copy() for key, row in zip(keys[batch], embeddings)}
            left_out += store.put(fresh)
            found |= fresh
            bar.update(len(batch))
    return np.stack([found[key] for key in keys]), left_out


def _check_finite(embeddings: np.ndarray, rows: np.ndarray) -> None:
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise FloatingPointError(
            f"X[{rows[finite.argmin()]}]: the image tower made numbers of it that are not finite; half "
            "precision may be too narrow for these weights: try precision='fp32'"
        )


def encoding_advice(backbone: Backbone, batch_size: int, size_name: str) -> AbstractContextManager[None]:
    """Context in which an error of memory says what to change; see `nn.memory`."""
    from .utils.memory import memory_advice, precision_advice

    advice = f"try a smaller {size_name} (now {batch_size}){precision_advice(backbone.precision)}"
    return memory_advice("encoding images", f"{advice}; what is encoded already is kept")


def is_cuda(backbone: Backbone) -> bool:
    """Whether the model computes on a GPU, to which batches travel from pinned memory."""
    return backbone.device.type == "cuda"


def one_behind(outputs: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """Tensors as arrays, each fetched when the next has been launched.

    So a GPU has work while the one before is copied.  If what computes them fails, those
    that were ready come first.
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
    source: ImageSource, batches: Sequence[np.ndarray], recipe: tuple[str, str | None, str, str], batch_size: int
) -> Iterator[np.ndarray]:
    """Embeddings of each batch of rows, computed by the workers of joblib's active backend."""
    n_jobs = effective_n_jobs(None if source.n_jobs == "auto" else source.n_jobs)
    step = ENGINE_TASKS * max(1, n_jobs)
    for start in range(0, len(batches), step):
        chunks = batches[start : start + step]
        yield from run_tasks(encode_chunk, source.array, chunks, (recipe, batch_size), n_jobs)


def encode_chunk(
    array: np.ndarray, numbers: np.ndarray, recipe: tuple[str, str | None, str, str], batch_size: int
) -> np.ndarray:
    """Encode images, which messages call by ``numbers``: the task of an engine's worker."""
    from .nn.backbone import load_backbone

    backbone = load_backbone(*recipe)
    source = ImageSource(array, backbone.preprocessing, n_jobs=1, pin=is_cuda(backbone))
    source.numbers = numbers
    batches = np.array_split(np.arange(len(array)), -(-len(array) // batch_size))
    outputs = map(backbone.encode_images, source.read(batches))
    return np.concatenate(list(one_behind(outputs)))
