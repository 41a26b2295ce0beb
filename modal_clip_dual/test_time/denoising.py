"""A linear denoiser, fitted on unlabeled images."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from ..utils.validation import check_number

MOST_IMAGES = 1000  # of the pool that the principal axes are computed from


class WienerDenoiser(TransformerMixin, BaseEstimator):
    """Remove Gaussian noise from images by the linear map with the least mean squared error.

    Along each principal axis of the pool, whose variance there is v, the noisy image is shrunk toward the mean by
    v / (v + sigma^2), the Wiener filter; what is outside of all axes is removed.  It is a transformer of
    scikit-learn, and a function of noisy images.

    Parameters
    ----------
    sigma : float, default=0.25
        Standard deviation of the noise in every pixel, in the units of the pixels.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        Mean image, flattened.
    components_ : ndarray of shape (r, d)
        Principal axes of the pool.
    gains_ : ndarray of shape (r,)
        Factors along them, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from modal_clip_dual.test_time import WienerDenoiser
    >>> rng = np.random.default_rng(0)
    >>> clean = rng.normal(size=(100, 1)) * np.ones((1, 8))  # all pixels of an image are equal
    >>> denoiser = WienerDenoiser(sigma=0.5).fit(clean)
    >>> noisy = clean + 0.5 * rng.normal(size=clean.shape)
    >>> bool(np.mean((denoiser(noisy) - clean) ** 2) < 0.2 * np.mean((noisy - clean) ** 2))
    True
    """

    mean_: np.ndarray
    components_: np.ndarray
    gains_: np.ndarray

    def __init__(self, sigma: float = 0.25):
        check_number("sigma", sigma, 0, np.inf, ends="low")
        self.sigma = sigma

    def fit(self, X: Any, y: Any = None) -> WienerDenoiser:
        """Learn mean and axes of clean images; of more than 1,000, evenly spaced ones are used.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images or any vectors, at least two.
        y : None
            Not used.

        Returns
        -------
        self : WienerDenoiser

        Raises
        ------
        ValueError
            If sigma does not fit, there are fewer than two images, or X holds other than finite numbers.
        """
        check_number("sigma", self.sigma, 0, np.inf, ends="low")
        X = _numbers(X, "X")
        if X.ndim < 2 or len(X) < 2:
            raise ValueError(f"X has shape {X.shape}; expected at least two images, from which a denoiser can learn")
        if len(X) > MOST_IMAGES:
            X = X[np.arange(MOST_IMAGES) * len(X) // MOST_IMAGES]
        pca = PCA(svd_solver="full").fit(X.reshape(len(X), -1))
        variance = np.maximum(pca.explained_variance_, 0)
        noise = self.sigma**2
        self.mean_, self.components_, self._shape = pca.mean_, pca.components_, X.shape[1:]
        self.gains_ = variance / np.maximum(variance + noise, np.finfo(np.float32).tiny)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return denoised images; a call does the same.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Noisy images of the same shape as in `fit`.

        Returns
        -------
        denoised : ndarray of the same shape, float32

        Raises
        ------
        NotFittedError
            If it was never fitted.
        ValueError
            If the images have another shape than in `fit`, or are not finite numbers.
        """
        if "mean_" not in self.__dict__:
            raise NotFittedError("This WienerDenoiser was never fitted; call fit with unlabeled images")
        noisy = _numbers(X, "X")
        if noisy.shape[1:] != self._shape:
            expected = ", ".join(map(str, self._shape))
            raise ValueError(f"X has shape {noisy.shape}; expected (n, {expected}), as in fit")
        centered = noisy.reshape(len(noisy), -1) - self.mean_
        flat = self.mean_ + (centered @ self.components_.T * self.gains_) @ self.components_
        denoised: np.ndarray = flat.reshape(noisy.shape).astype(np.float32)
        return denoised

    __call__ = transform


def _numbers(X: Any, name: str) -> np.ndarray:
    """Return an array as float32, or an error that names it where it holds other than finite numbers."""
    try:
        array = np.asarray(X, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} holds something that is no number; expected images (n, ...) of numbers") from error
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1))) if array.ndim else 0
        raise ValueError(f"{name} has values that are not finite, in row {row}; expected finite numbers")
    return array
