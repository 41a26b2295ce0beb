"""A linear denoiser, fitted on unlabeled images."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

MOST_IMAGES = 1000  # of the pool that the principal axes are computed from


class WienerDenoiser(BaseEstimator):
    """Remove Gaussian noise from images by the linear map with the least mean squared error.

    Along each principal axis of the pool, whose variance there is v, the noisy image is shrunk toward the mean by
    v / (v + sigma^2), the Wiener filter; what is outside of all axes is removed.

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

    _parameter_constraints: dict[str, Any] = {"sigma": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, sigma: float = 0.25):
        self.sigma = sigma

    def fit(self, X: Any, y: Any = None) -> WienerDenoiser:
        """Learn mean and axes of clean images; of more than 1,000, evenly spaced ones are used.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images or any vectors, at least two.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : WienerDenoiser

        Raises
        ------
        ValueError
            If there are fewer than two images, or a parameter does not fit.
        """
        self._validate_params()
        X = np.asarray(X, dtype=np.float32)
        if X.ndim < 2 or len(X) < 2:
            raise ValueError(f"X has shape {X.shape}; expected at least two images, from which a denoiser can learn")
        if len(X) > MOST_IMAGES:
            X = X[np.arange(MOST_IMAGES) * len(X) // MOST_IMAGES]
        pca = PCA(svd_solver="full").fit(X.reshape(len(X), -1))
        variance = np.maximum(pca.explained_variance_, 0)
        noise = self.sigma**2
        self.mean_, self.components_ = pca.mean_, pca.components_
        self.gains_ = variance / np.maximum(variance + noise, np.finfo(np.float32).tiny)
        return self

    def __call__(self, noisy: np.ndarray) -> np.ndarray:
        """Return denoised images.

        Parameters
        ----------
        noisy : ndarray of shape (n, ...)
            Images of the same shape as in `fit`.

        Returns
        -------
        denoised : ndarray of the same shape, float32
        """
        check_is_fitted(self)
        noisy = np.asarray(noisy, dtype=np.float32)
        centered = noisy.reshape(len(noisy), -1) - self.mean_
        denoised = self.mean_ + (centered @ self.components_.T * self.gains_) @ self.components_
        return denoised.reshape(noisy.shape).astype(np.float32)
