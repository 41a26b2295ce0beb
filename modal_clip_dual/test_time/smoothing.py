"""Randomized smoothing: predictions that noise cannot change, with a radius within which that is certain."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.special import betaincinv
from scipy.stats import binomtest, norm
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from ..data.images import as_array, kind_of
from ..utils.selection import generator_of
from ..utils.weights import without_weights
from ._wrapper import Wrapper
from .denoising import MOST_IMAGES, WienerDenoiser


class SmoothedClassifier(Wrapper):
    """Classify by the vote of a classifier on many noisy copies of an image, and certify how far that holds.

    The label that wins the vote cannot be changed by any change of the image whose Euclidean (L2) length is below the
    certified radius ([1]_, Theorem 1).  This holds for every classifier, whatever is inside.  A denoiser between the
    noise and the classifier is part of the classifier, so that the certificate still holds ([2]_).

    Lengths are measured in the model's own input, 3 x h x w numbers from 0 to 1, after resizing and before
    normalization.  The certificate holds with probability ``1 - alpha`` for each image.  It says nothing about
    whether the label is right, nor about probabilities being calibrated, nor about data of another kind.  It costs
    ``n_select + n_estimate`` passes of the image tower per image: right for test sets, hardly for pools.

    Parameters
    ----------
    estimator : classifier
        A classifier of this package, which must be given images; noise is added to its pixels.  For any
        other classifier X is a table (n, d) of numbers, and noise is added to these.  `fit` trains a clone; without
        it, a fitted classifier is used as it is, and one of this package that was never fitted answers zero-shot.
    sigma : float, default=0.25
        Standard deviation of the noise in every number.  Larger values allow larger radii and cost accuracy.  With 0
        the classifier answers alone, and all radii are 0.
    denoiser : {"wiener"}, callable or None, default=None
        Function from noisy inputs (b, 3, h, w), or (b, d) of a table, to inputs of the same shape.  ``"wiener"`` is a
        `WienerDenoiser`, which `fit` or `fit_denoiser` fits on unlabeled images.
    n_select : int, default=100
        Number of noisy copies that choose the label; `predict` and `predict_proba` use these alone.
    n_estimate : int, default=1000
        Number of further copies from which `certify` bounds the share of the vote.
    alpha : float, default=0.001
        Probability that the certificate of an image is wrong.
    abstain_label : object, default=None
        Label that `predict` returns where the vote of ``n_select`` copies may be a tie (two-sided binomial test of
        the two labels with most votes at level ``alpha``); None returns the winner everywhere.
    batch_size : int, default=256
        Number of noisy copies at a time.
    random_state : int, RandomState instance or None, default=None
        Controls the noise.  All images of a call see the same noise, so that an answer does not depend on the other
        images.

    Attributes
    ----------
    estimator_ : object
        Classifier that `fit` trained.
    classes_ : ndarray of shape (C,)
        Labels of the classifier in use.
    denoiser_ : WienerDenoiser
        Fitted denoiser, with ``denoiser="wiener"``.

    See Also
    --------
    smoothing_sampling : Query the samples whose vote is least clear.
    modal_clip_dual.evaluation.certified_accuracy : Count right labels that are certified at a radius.

    References
    ----------
    .. [1] Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019,
       arXiv:1902.02918.
    .. [2] Salman et al., "Denoised Smoothing: A Provable Defense for Pretrained Classifiers", NeurIPS 2020,
       arXiv:2003.01908.  The diffusion model of Choi et al., "Adversarial Robustification via Text-to-Image
       Diffusion Models", ECCV 2024, arXiv:2407.18658, is not part of this package; it could be passed as the
       ``denoiser``.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, SmoothedClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> zero_shot = DualPromptClassifier(class_names, model_name="demo", pretrained="bundled")
    >>> smoothed = SmoothedClassifier(zero_shot, denoiser="wiener", n_estimate=200, random_state=0)
    >>> labels, radii = smoothed.fit_denoiser(X[:500]).certify(X[500:502])
    >>> labels.shape, radii.shape
    ((2,), (2,))
    """

    _parameter_constraints: dict[str, Any] = {
        **Wrapper._parameter_constraints,
        "sigma": [Interval(Real, 0, None, closed="left")],
        "denoiser": [StrOptions({"wiener"}), callable, None],
        "n_select": [Interval(Integral, 1, None, closed="left")],
        "n_estimate": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "abstain_label": "no_validation",
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }
    denoiser_: WienerDenoiser

    def __init__(
        self,
        estimator: Any,
        sigma: float = 0.25,
        *,
        denoiser: str | Callable[[np.ndarray], np.ndarray] | None = None,
        n_select: int = 100,
        n_estimate: int = 1000,
        alpha: float = 0.001,
        abstain_label: Any = None,
        batch_size: int = 256,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.sigma = sigma
        self.denoiser = denoiser
        self.n_select = n_select
        self.n_estimate = n_estimate
        self.alpha = alpha
        self.abstain_label = abstain_label
        self.batch_size = batch_size
        self.random_state = random_state

    @without_weights
    def fit(self, X: Any, y: Any, *, X_pool: Any = None) -> SmoothedClassifier:
        """Fit a clone of the wrapped classifier, without noise, and the denoiser if it is ``"wiener"``.

        There is no ``sample_weight``.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths; for a classifier of another package a table (n, d).
        y : array-like of shape (n,)
            Labels.
        X_pool : array-like, default=None
            Unlabeled samples on which the denoiser is fitted; None takes X.

        Returns
        -------
        self : SmoothedClassifier

        Raises
        ------
        ValueError
            If a parameter or X or y does not fit, or X holds images and the estimator, such as a Pipeline, is not
            itself a classifier of this package; an earlier fit is kept.
        TypeError
            If weights of samples are passed.
        """
        self._validate_params()
        if self._by_pixels():
            self._check_images(X)
        else:
            self._check_table(X)
        return super().fit(X, y, X_pool=X_pool)

    def _after_fit(self, X: Any, y: Any, X_pool: Any) -> None:
        if self.denoiser == "wiener":
            self.fit_denoiser(X if X_pool is None else X_pool)

    def fit_denoiser(self, X_pool: Any) -> SmoothedClassifier:
        """Fit the denoiser on unlabeled images, and nothing else.

        Parameters
        ----------
        X_pool : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths; for a classifier of another package a table (n, d).  Of
            more than 1,000, evenly spaced ones are used.

        Returns
        -------
        self : SmoothedClassifier

        Raises
        ------
        ValueError
            If ``denoiser`` is not ``"wiener"``, or X_pool holds embeddings or fewer than two samples.
        """
        self._validate_params()
        if self.denoiser != "wiener":
            raise ValueError(f"denoiser={self.denoiser!r} is not fitted; expected 'wiener'")
        n = len(X_pool)
        if n > MOST_IMAGES:
            rows = np.arange(MOST_IMAGES) * n // MOST_IMAGES
            X_pool = X_pool.iloc[rows] if hasattr(X_pool, "iloc") else as_array(X_pool, "X_pool")[rows]
        self.denoiser_ = WienerDenoiser(self.sigma).fit(self._inputs(X_pool))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label with most votes, or ``abstain_label`` where that is not clear.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths; for a classifier of another package a table (n, d).

        Returns
        -------
        labels : ndarray of shape (n,)
            Labels out of ``classes_``, or ``abstain_label``.

        Raises
        ------
        ValueError
            If X holds embeddings, or does not fit.
        NotFittedError
            If the classifier or the denoiser was never fitted.
        """
        (counts,) = self._votes(X, (self.n_select,))
        classes = self._known_classes()
        best = counts.argmax(axis=1)
        if self.abstain_label is None:
            winners: np.ndarray = classes[best]
            return winners
        labels = classes[best].astype(object)
        two = np.sort(counts, axis=1)[:, ::-1][:, :2]
        for row, pair in enumerate(two):
            if len(pair) == 2 and binomtest(int(pair[0]), int(pair.sum())).pvalue > self.alpha:
                labels[row] = self.abstain_label
        return np.array(labels.tolist()) if type(self.abstain_label) is type(classes.tolist()[0]) else labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the share of each label in the vote of ``n_select`` noisy copies.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths; for a classifier of another package a table (n, d).

        Returns
        -------
        shares : ndarray of shape (n, C), float64
            Shares, multiples of 1 / n_select; they say how stable a label is, not how likely it is right.

        Raises
        ------
        ValueError, NotFittedError
            As for `predict`.
        """
        (counts,) = self._votes(X, (self.n_select,))
        shares: np.ndarray = counts / self.n_select
        return shares

    def certify(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return labels, and radii within which no change of the image changes them, by Cohen et al.'s CERTIFY.

        ``n_select`` noisy copies choose the label; the share of ``n_estimate`` others that vote for it has a lower
        bound at confidence ``1 - alpha`` (Clopper and Pearson), p.  The radius is ``sigma`` times the standard normal
        quantile of p.  With p of at most 1/2 nothing is certified.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths; for a classifier of another package a table (n, d).

        Returns
        -------
        labels : ndarray of shape (n,)
            Labels out of ``classes_``, also where it abstains.
        radii : ndarray of shape (n,), float64
            L2 radii, of at least 0; NaN where it abstains.

        Raises
        ------
        ValueError, NotFittedError
            As for `predict`.
        """
        select, estimate = self._votes(X, (self.n_select, self.n_estimate))
        best = select.argmax(axis=1)
        votes = estimate[np.arange(len(best)), best]
        labels: np.ndarray = self._known_classes()[best]
        if not self.sigma:
            return labels, np.zeros(len(labels))
        bound = lower_bound(votes, self.n_estimate, self.alpha)
        radii = self.sigma * norm.ppf(np.where(bound > 0.5, bound, np.nan))
        return labels, radii

    # ---------------------------------------------------------------- votes

    def _by_pixels(self) -> bool:
        return hasattr(self._model(), "proba_of_pixels")

    def _check_images(self, X: Any) -> None:
        array = as_array(X)
        if kind_of(array) == "embeddings":
            raise ValueError(
                f"X has shape {array.shape}, so it holds embeddings, but noise is added to pixels; expected images "
                "(n, H, W[, 3]) of uint8 or file paths"
            )

    def _check_table(self, X: Any) -> None:
        """Refuse images and paths; what else is wrong with X the classifier itself says."""
        try:
            kind = kind_of(as_array(X))
        except (TypeError, ValueError):
            return
        if kind != "embeddings":
            raise ValueError(
                f"X holds {kind}, but noise is added to pixels for a classifier of this package itself, and "
                f"{type(self.estimator).__name__} is none, whatever is inside of it; expected a table (n, d) of "
                "numbers, or SmoothedClassifier around the classifier of this package"
            )

    def _inputs(self, X: Any) -> np.ndarray:
        """Return what noise is added to: pixels (n, 3, h, w), or the table (n, d), as floats."""
        model = self._model()
        if self._by_pixels():
            self._check_images(X)
            pixels: np.ndarray = model.input_pixels(X)
            return pixels
        self._check_table(X)
        table: np.ndarray = validate_data(self, X, reset=False, dtype=np.float64)
        return table

    def _columns(self, inputs: np.ndarray) -> np.ndarray:
        """Return the column (n,) that the classifier in use predicts for each input."""
        model = self._model()
        if self._by_pixels():
            columns: np.ndarray = model.proba_of_pixels(inputs).argmax(axis=1)
            return columns
        with warnings.catch_warnings():  # the names of the columns of X were compared before noise was added
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            labels = model.predict(self._named(inputs))
        found: np.ndarray = np.searchsorted(model.classes_, labels)
        return found

    def _named(self, inputs: np.ndarray) -> Any:
        """Return a table with the names of columns that a Pipeline may choose by; other classifiers do without."""
        if not hasattr(self._model(), "steps") or not hasattr(self, "feature_names_in_"):
            return inputs
        import pandas as pd

        return pd.DataFrame(inputs, columns=self.feature_names_in_)

    def _votes(self, X: Any, sizes: tuple[int, ...]) -> list[np.ndarray]:
        """Return the votes (n, C) of as many noisy copies as each size says."""
        self._validate_params()
        n_classes = len(self._known_classes())
        denoise = self._denoiser()
        inputs = self._inputs(X)
        seed = int(generator_of(self.random_state).integers(2**63))
        if not self.sigma:
            columns = self._columns(inputs if denoise is None else denoise(inputs))
            return [np.eye(n_classes, dtype=np.int64)[columns] * size for size in sizes]
        counts = [np.zeros((len(inputs), n_classes), dtype=np.int64) for _ in sizes]
        for row, clean in enumerate(inputs):
            rng = np.random.default_rng(seed)  # the same noise for every sample
            for count, size in zip(counts, sizes):
                for start in range(0, size, self.batch_size):
                    shape = (min(self.batch_size, size - start), *clean.shape)
                    noise = rng.standard_normal(shape, dtype=np.float32)
                    noisy = clean + clean.dtype.type(self.sigma) * noise.astype(clean.dtype)
                    if denoise is not None:
                        noisy = _denoised(denoise, noisy)
                    count[row] += np.bincount(self._columns(noisy), minlength=n_classes)
        return counts

    def _denoiser(self) -> Callable[[np.ndarray], np.ndarray] | None:
        if not isinstance(self.denoiser, str):
            return self.denoiser
        if "denoiser_" not in self.__dict__:
            raise NotFittedError(
                "denoiser='wiener' was never fitted: call fit, or fit_denoiser with unlabeled images"
            )
        if self.denoiser_.sigma != self.sigma:
            raise NotFittedError(
                f"the denoiser was fitted for sigma={self.denoiser_.sigma}, but sigma is {self.sigma} by now: call "
                "fit_denoiser again"
            )
        return self.denoiser_


def lower_bound(votes: np.ndarray, n: int, alpha: float) -> np.ndarray:
    """Return the one-sided lower bound of Clopper and Pearson for a share of which n draws gave these votes.

    Parameters
    ----------
    votes : ndarray of int
        Number of successes.
    n : int
        Number of draws.
    alpha : float
        Probability that the bound is above the share.
    """
    votes = np.asarray(votes)
    bound: np.ndarray = np.where(votes > 0, betaincinv(np.maximum(votes, 1), n - votes + 1, alpha), 0.0)
    return bound


def _denoised(denoise: Callable[[np.ndarray], np.ndarray], noisy: np.ndarray) -> np.ndarray:
    denoised = np.asarray(denoise(noisy))
    if denoised.shape != noisy.shape:
        raise ValueError(
            f"denoiser returned an array of shape {denoised.shape} for inputs of shape {noisy.shape}; expected the "
            "same"
        )
    return denoised.astype(noisy.dtype)
