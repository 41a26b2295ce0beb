"""Pixels and embeddings of a classifier on a CLIP, for methods that change them before a prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.files import looking_once
from ..data.images import kind_of
from ..utils.arrays import blocks
from ..utils.labels import resolve_classes

if TYPE_CHECKING:
    import torch

    from ..clip.backbone import Backbone


class PixelAccess:
    """The methods of `CLIPClassifier` that start from pixels, or from what `transform` returned."""

    class_names: Any
    encode_batch_size: int
    n_jobs: int | str | None
    classes_: np.ndarray
    _names: list[str]
    _prepare: Callable[..., Any]
    _reduce: Callable[..., list[np.ndarray]]
    _text: Callable[..., np.ndarray]
    _zero_shot: Callable[..., np.ndarray]
    _named_backbone: Callable[[], Backbone]
    _fitted_backbone: Callable[[], Backbone]

    @looking_once()
    def input_pixels(self, X: Any) -> np.ndarray:
        """Return images as the image tower sees them, before they are normalized; needs no `fit`.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        pixels : ndarray of shape (n, 3, h, w), float32
            Resized and cropped to the model's input of h x w pixels; values from 0 to 1.

        Raises
        ------
        ValueError
            If X holds embeddings, or images that cannot be read.

        See Also
        --------
        proba_of_pixels : Predict such pixels, changed or not.
        """
        from ..data.reading import ImageSource

        array, backbone = self._prepare(X)
        if kind_of(array) == "embeddings":
            raise ValueError(
                f"X has shape {array.shape}, so it holds embeddings, which have no pixels; expected images "
                "(n, H, W[, 3]) of uint8 or file paths"
            )
        source = ImageSource(array, backbone.preprocessing, n_jobs=self.n_jobs)
        rows = [np.arange(len(array))[part] for part in blocks(len(array), self.encode_batch_size)]
        parts = [part.numpy().transpose(0, 3, 1, 2) for part in source.read(rows)]
        pixels: np.ndarray = np.concatenate(parts).astype(np.float32) / np.float32(255)
        return pixels

    def embeddings_of_pixels(self, pixels: Any) -> np.ndarray:
        """Return unit embeddings of pixels, as `transform` does of images; needs no `fit`.

        Nothing is kept in a cache.

        Parameters
        ----------
        pixels : array-like of shape (n, 3, h, w)
            Numbers around 0 to 1, as `input_pixels` returns them; noise may exceed that range.

        Returns
        -------
        embeddings : ndarray of shape (n, D), float32
            Embeddings of length 1.

        Raises
        ------
        ValueError
            If the pixels do not have the shape of the model's input, or the encoder is not known.
        """
        import torch

        backbone = self._clip_in_use()
        if not hasattr(backbone, "preprocessing"):
            raise ValueError(f"pixels cannot be encoded by {backbone.name}; expected a classifier on a CLIP")
        pixels = np.asarray(pixels, dtype=np.float32)
        shape = (3, *backbone.preprocessing.size)
        if pixels.shape[1:] != shape or not len(pixels):
            raise ValueError(f"pixels has shape {pixels.shape}; expected (n, {', '.join(map(str, shape))})")
        parts = []
        for rows in blocks(len(pixels), self.encode_batch_size):
            normalized = backbone.normalize(torch.from_numpy(np.ascontiguousarray(pixels[rows])))
            parts.append(self._embed_pixels(normalized, backbone).cpu().numpy())
        return np.concatenate(parts)

    def proba_of_pixels(self, pixels: Any) -> np.ndarray:
        """Return class probabilities of pixels.

        Nothing is kept in a cache.  Without a `fit` they are those of zero-shot CLIP.

        Parameters
        ----------
        pixels : array-like of shape (n, 3, h, w)
            Numbers around 0 to 1, as `input_pixels` returns them; noise may exceed that range.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Probabilities; the columns are in the order of ``classes_``.

        Raises
        ------
        ValueError
            If the pixels do not have the shape of the model's input.
        NotFittedError
            If the estimator was never fitted and has no ``class_names``.
        """
        self._names_in_use()  # or an error, before the images are encoded
        return self.proba_of_embeddings(self.embeddings_of_pixels(pixels))

    def proba_of_embeddings(self, embeddings: Any) -> np.ndarray:
        """Return class probabilities of what `transform` returned, with visual prompts too.

        Without a `fit` they are those of zero-shot CLIP.

        Parameters
        ----------
        embeddings : array-like of shape (n, D)
            Embeddings of any length.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Probabilities; the columns are in the order of ``classes_``.

        Raises
        ------
        ValueError
            If the embeddings have another width than the model's.
        NotFittedError
            If the estimator was never fitted and has no ``class_names``.
        """
        names = self._names_in_use()
        backbone = self._clip_in_use()
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != backbone.embed_dim:
            raise ValueError(f"embeddings has shape {embeddings.shape}; expected (n, {backbone.embed_dim})")
        if not hasattr(self, "classes_"):
            return self._zero_shot(embeddings, backbone, names)
        (proba,) = self._reduce(embeddings, lambda positive, z: [positive.softmax(dim=1)], False)
        return proba

    def zero_shot_coef(self) -> np.ndarray:
        """Return the weights of zero-shot CLIP: text embeddings of the ``template``, divided by tau; needs no `fit`.

        Without visual prompts, `zero_shot_proba` is the softmax of ``transform(X) @ zero_shot_coef().T``.

        Returns
        -------
        coef : ndarray of shape (C, D), float32
            Weights; each row has the length 1 / tau.

        Raises
        ------
        NotFittedError
            If the estimator was never fitted and has no ``class_names``.
        """
        names = self._names_in_use()
        backbone = self._clip_in_use()
        coef: np.ndarray = self._text(backbone, names) * np.float32(backbone.logit_scale)
        return coef

    def _embed_pixels(self, normalized: torch.Tensor, backbone: Backbone) -> torch.Tensor:
        """Return the unit embeddings (n, D) of normalized pixels (n, 3, h, w)."""
        return backbone.encode_images(normalized)

    def _clip_in_use(self) -> Backbone:
        """Return the CLIP of the fit; before a fit, the one that the parameters name."""
        if hasattr(self, "classes_"):
            return self._fitted_backbone()
        return self._named_backbone()

    def _names_in_use(self) -> list[str]:
        from sklearn.exceptions import NotFittedError

        if hasattr(self, "classes_"):
            return self._names
        if self.class_names is None:
            raise NotFittedError(
                f"This {type(self).__name__} has class_names=None and was never fitted, so it "
                "does not know its classes yet; pass class_names"
            )
        return resolve_classes(self.class_names, None)[1]
