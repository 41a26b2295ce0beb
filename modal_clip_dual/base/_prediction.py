"""Predictions from logits: labels, probabilities, and how likely each label is right."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..data.files import looking_once
from ..utils.arrays import unit_rows
from ..utils.odds import against_rest

if TYPE_CHECKING:
    import torch


class Predicting(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator):
    """The methods of `CLIPClassifier` that predict; all of them use `_logits`."""

    class_names: Any
    classes_: np.ndarray
    _names: list[str]
    _check_params: Callable[[], None]
    _prepare: Callable[..., Any]
    _embed: Callable[..., Any]
    _zero_shot: Callable[..., np.ndarray]
    _names_in_use: Callable[[], list[str]]

    def _logits(self, embeddings: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no _logits")  # a subclass writes it

    def _clean(self, embeddings: np.ndarray, logits: np.ndarray) -> np.ndarray:
        clean: np.ndarray = against_rest(logits).astype(np.float32) + np.float32(self._inflation())
        return clean

    def _inflation(self) -> float:
        """The amount by which the clean logit exceeds the log-odds of being right."""
        return math.log(max(len(self.classes_) - 1, 1))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label of each sample.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        labels : ndarray of shape (n,)
            Labels out of ``classes_``.

        Raises
        ------
        NotFittedError
            If the estimator was never fitted.
        ValueError
            If X has none of the three forms, is not finite, or has another width.
        """
        (best,) = self._predict(X, lambda positive, z: [positive.argmax(dim=1)], clean=False)
        labels: np.ndarray = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities, the softmax of the logits.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Probabilities; the columns are in the order of ``classes_``.

        Raises
        ------
        NotFittedError, ValueError
            As for `predict`.
        """
        (proba,) = self._predict(X, lambda positive, z: [positive.softmax(dim=1)], clean=False)
        return proba

    def predict_logits(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of the class probabilities, and clean logits z, in one pass.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        positive : ndarray of shape (n, C), float32
            Logits whose softmax `predict_proba` returns.
        z : ndarray of shape (n, C), float32
            Clean logits, as `clean_logits` returns them.

        Raises
        ------
        NotFittedError, ValueError
            As for `predict`.
        """
        positive, z = self._predict(X, lambda positive, z: [positive, z])
        return positive, z

    def clean_logits(self, X: Any) -> np.ndarray:
        """Return the clean logits z, which query strategies rank by.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        z : ndarray of shape (n, C), float32
            Clean logits; unlike probabilities, they do not saturate.

        Raises
        ------
        NotFittedError, ValueError
            As for `predict`.
        """
        (z,) = self._predict(X, lambda positive, z: [z])
        return z

    def predict_clean_proba(self, X: Any) -> np.ndarray:
        """Return the clean probability p_k = sigmoid(z_k) of every label (arXiv:2602.04340, Eq. 3).

        It ranks like the probability that label k is right, but its logit is larger by log(C - 1)
        if L2 sees one uniform complement; `predict_correct_proba` corrects for that.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        clean : ndarray of shape (n, C), float32
            Values in [0, 1]; rows do not sum to one.

        Raises
        ------
        NotFittedError, ValueError
            As for `predict`.
        """
        (clean,) = self._predict(X, lambda positive, z: [z.sigmoid()])
        return clean

    def predict_correct_proba(self, X: Any) -> np.ndarray:
        """Return the probability that the predicted label is right.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        correct : ndarray of shape (n,), float32
            Values in [0, 1].

        Raises
        ------
        NotFittedError, ValueError
            As for `predict`.
        """
        return self.predict_with_confidence(X)[1]

    def predict_with_confidence(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return predicted labels and the probability that each is right, in one pass.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        labels : ndarray of shape (n,)
            Labels, as `predict` returns them.
        correct : ndarray of shape (n,), float32
            Probabilities, as `predict_correct_proba` returns them.

        Raises
        ------
        NotFittedError, ValueError
            As for `predict`.
        """
        check_is_fitted(self, "classes_")
        inflation = self._inflation()

        def at_prediction(positive: torch.Tensor, z: torch.Tensor) -> list[torch.Tensor]:
            best = positive.argmax(dim=1, keepdim=True)
            return [best[:, 0], (z.gather(1, best)[:, 0] - inflation).sigmoid()]

        best, correct = self._predict(X, at_prediction)
        return self.classes_[best], correct

    @looking_once()
    def zero_shot_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities of CLIP with the hand-written ``template``; needs no `fit`.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Probabilities; the columns are in the order of ``classes_``, and before `fit` in the order of the
            list ``class_names`` or of the sorted labels of a mapping.

        Raises
        ------
        NotFittedError
            If ``class_names`` is None and the estimator was never fitted.
        ValueError
            As for `predict`; and if the template has no ``{}``.
        """
        self._check_params()
        names = self._names_in_use()
        array, backbone = self._prepare(X, frozen=True)
        return self._zero_shot(array, backbone, names)

    @looking_once()
    def transform(self, X: Any) -> np.ndarray:
        """Return the unit image embeddings that predictions are computed from; needs no `fit`.

        They come from the frozen CLIP; after a fit with visual prompts, from the CLIP with these prompts.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        embeddings : ndarray of shape (n, D), float32; a frame after ``set_output(transform="pandas")``
            Embeddings of length 1.  Without visual prompts they may be passed to every method in
            place of X.

        Raises
        ------
        ValueError
            As for `predict`.
        """
        self._check_params()
        array, backbone = self._prepare(X)
        return unit_rows(self._embed(array, backbone))

    @looking_once()
    def _predict(
        self, X: Any, reduce: Callable[..., Sequence[torch.Tensor]], clean: bool = True
    ) -> list[np.ndarray]:
        """Apply ``reduce`` to logits and clean logits of X, block by block.

        Both are float32 tensors (rows, C).  Without ``clean`` the second one is None.
        """
        check_is_fitted(self, "classes_")
        array, backbone = self._prepare(X)
        return self._reduce(self._embed(array, backbone), reduce, clean)

    def _reduce(
        self, embeddings: Any, reduce: Callable[..., Sequence[torch.Tensor]], clean: bool
    ) -> list[np.ndarray]:
        """Do the same as `_predict` for embeddings (n, D) of any length."""
        import torch

        from ..nn.inference import by_blocks

        def of_block(rows: slice) -> Sequence[torch.Tensor]:
            unit = unit_rows(embeddings[rows])
            logits = np.asarray(self._logits(unit), dtype=np.float32)
            z = np.asarray(self._clean(unit, logits), dtype=np.float32) if clean else None
            return reduce(torch.from_numpy(logits), None if z is None else torch.from_numpy(z))

        return by_blocks(len(embeddings), of_block)
