"""CLIPImageEncoder, the scikit-learn transformer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import validate_data

from .clip.embedding import encode
from .clip.inputs import (
    BATCH_SIZE,
    READING_CONSTRAINTS,
    check_cache,
    check_input,
    check_width,
    named_columns,
)
from .data.files import looking_once
from .data.images import kind_of
from .utils.arrays import unit_rows

if TYPE_CHECKING:

    from .clip.backbone import Backbone


class CLIPImageEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed images with a frozen CLIP: a stateless first step for pipelines.

    Parameters
    ----------
    model_name : str, default="ViT-B-16"
        open_clip's name of the model; see `DualPromptClassifier`.
    pretrained : str, path-like or None, default="openai"
        open_clip's tag of the weights, or a checkpoint file; ``"bundled"`` for the model
        ``"demo"``.
    batch_size : int, default=256
        Number of images per forward pass.
    n_jobs : int, "auto" or None, default="auto"
        Number of worker processes that read and decode files.  ``"auto"`` is one per core, at most 8,
        for 512 files or more, and otherwise no workers.  Integers and None are as in joblib.  Inside
        ``joblib.parallel_config`` with the backend of another library (Dask, Ray, Spark)
        the workers of that engine encode whole chunks of X, each with its own CLIP.
    cache : {"memory", "disk"}, path-like or None, default="memory"
        Cache for embeddings, so that an image that was encoded before is not read
        again.  ``"memory"`` lasts as long as this process, up to 1 GiB per model.  ``"disk"`` also keeps them
        for later processes, in ``modal_clip_dual`` in the user's cache folder; a path names another folder.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA if available.
    precision : str, default="auto"
        open_clip's name of the tower's precision; ``"auto"`` is float32 on the CPU and
        bfloat16 (or float16) on a GPU.  Embeddings are always float32.
    verbose : int, default=1
        Amount of output: 0 is silent, 1 shows a progress bar when encoding takes more than a few seconds.

    Attributes
    ----------
    n_features_in_ : int
        Width D of the embeddings, if ``fit`` was given embeddings.
    feature_names_in_ : ndarray of shape (D,)
        Column names, if ``fit`` was given a DataFrame of embeddings.

    See Also
    --------
    DualPromptClassifier : Classify these embeddings, or the images themselves.

    Notes
    -----
    The disk cache knows a model by a digest of its weights, its architecture, precision and
    preprocessing, and an image by its pixels, or a file by its bytes, wherever it lies.
    Several processes may share it; a killed process does not damage it.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from modal_clip_dual import CLIPImageEncoder, DualPromptClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> demo = {"model_name": "demo", "pretrained": "bundled"}
    >>> CLIPImageEncoder(**demo).transform(X[:5]).shape
    (5, 128)
    >>> clf = DualPromptClassifier(class_names, **demo, max_epochs=5, random_state=0)
    >>> pipeline = make_pipeline(CLIPImageEncoder(**demo), clf).fit(X[:60], y[:60])
    >>> pipeline.predict(X[60:]).shape
    (1737,)
    """

    _parameter_constraints: dict[str, Any] = {**READING_CONSTRAINTS, "batch_size": BATCH_SIZE}

    def __init__(
        self,
        model_name: str = "ViT-B-16",
        pretrained: str | os.PathLike[str] | None = "openai",
        *,
        batch_size: int = 256,
        n_jobs: int | str | None = "auto",
        cache: str | os.PathLike[str] | None = "memory",
        device: str = "auto",
        precision: str = "auto",
        verbose: int = 1,
    ):
        self.model_name = model_name
        self.pretrained = pretrained
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.cache = cache
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
            validate_data(self, named_columns(X), reset=True, skip_check_array=True)
        return self

    @looking_once()
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
            If X has none of the three forms.
        modal_clip_dual.data.UnreadableImagesError
            If files cannot be read as images, a ValueError that names all of them; what was
            encoded until then is kept in the cache.  See `modal_clip_dual.data.drop_unreadable`.
        FileNotFoundError
            If X names a file that does not exist.
        """
        array, backbone = self._prepare(X)
        if kind_of(array) == "embeddings":
            if hasattr(self, "n_features_in_"):  # column names, if fit was given some
                validate_data(self, named_columns(X), reset=False, skip_check_array=True)
            return unit_rows(array)
        return encode(
            backbone,
            array,
            self.batch_size,
            self.verbose,
            cache=self.cache,
            n_jobs=self.n_jobs,
            device=self.device,
        )

    @looking_once()
    def block_features(self, X: Any, kind: str = "tokens") -> np.ndarray:
        """Return features of each block of the image tower.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8 or n file paths.
        kind : {"tokens", "attention"}, default="tokens"
            ``"tokens"`` are the CLS tokens that the blocks put out.  ``"attention"`` are the attention weights of
            CLS, head by head, on CLS itself and on the patches, row by row; they sum to 1.

        Returns
        -------
        features : ndarray of float32
            Tokens (n, blocks, width), or attention (n, blocks, heads, 1 + patches).

        Raises
        ------
        ValueError
            If the kind is unknown, X holds embeddings, or the image tower is not open_clip's VisionTransformer.
        """
        from .clip.blocks import block_features

        array, backbone = self._prepare(X)
        params = {name: getattr(self, name) for name in ("cache", "n_jobs", "device")}
        return block_features(backbone, array, kind, self.batch_size, self.verbose, **params)

    def _prepare(self, X: Any) -> tuple[np.ndarray, Backbone]:
        """Check X; return it with the CLIP.  Checks that do not need the CLIP come first."""
        self._validate_params()
        check_cache(self.cache, self.n_jobs)
        array = check_input(X, self)
        backbone = self._load_backbone()
        if kind_of(array) == "embeddings":
            check_width(array, backbone, self)
        return array, backbone

    def _load_backbone(self) -> Backbone:
        from .clip.backbone import load_backbone

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
