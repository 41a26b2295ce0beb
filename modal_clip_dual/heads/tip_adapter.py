"""Tip-Adapter: votes of labeled samples, added to the logits of the text."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval

from ..base import CLIPClassifier

if TYPE_CHECKING:
    from ..clip.inputs import Template


@dataclass(frozen=True)
class Cache:
    """The arrays that Tip-Adapter keeps from a fit."""

    keys: np.ndarray  # (n, D) unit embeddings of the labeled samples
    values: np.ndarray  # (n, C) one-hot labels, times the samples' weights
    text: np.ndarray  # (C, D) text embeddings, times the logit scale


class TipAdapterClassifier(CLIPClassifier):
    """Add the votes of similar labeled samples to the logits of zero-shot CLIP.

    Nothing is trained ([1]_, Eq. 6, the training-free form): with unit embeddings v of an image, K of the labeled
    samples, one-hot labels L and text embeddings T, the logits are
    ``alpha * exp(-beta * (1 - v K')) L + v T' / tau``.

    Parameters
    ----------
    class_names : list of str or dict of {label: str}, default=None
        Names of the classes in a prompt; see `DualPromptClassifier`.
    model_name : str, default="ViT-B-16"
        open_clip's name of the model.
    pretrained : str, path-like or None, default="openai"
        open_clip's tag of the weights, or a checkpoint file.
    alpha : float, default=1.0
        Weight of the votes relative to the text; 0 is zero-shot CLIP.
    beta : float, default=5.5
        Sharpness of the votes: the larger, the more the nearest samples count.
    template : str, callable, list of these, or dict of {str: list of str}, default="a photo of a {}."
        Hand-written prompt, or several, whose embeddings are averaged.
    encode_batch_size : int, default=256
        Number of images per forward pass of the image tower.
    n_jobs : int, "auto" or None, default="auto"
        Number of worker processes that read and decode files; see `CLIPImageEncoder`.
    cache : {"memory", "disk"}, path-like or None, default="memory"
        Cache for embeddings; see `CLIPImageEncoder`.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA if available.
    precision : str, default="auto"
        open_clip's name of the towers' precision.
    verbose : int, default=1
        Amount of output: 0 is silent, 1 shows a progress bar when encoding images takes more than a few seconds.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        All labels, sorted, including those without a training sample.
    n_features_in_ : int
        Width D of the embeddings, if ``fit`` was given embeddings.
    feature_names_in_ : ndarray of shape (D,)
        Column names, if ``fit`` was given a DataFrame of embeddings.
    saved_with_ : dict of {str: str}
        After `load`, the versions of Python and of the packages that wrote the file.

    See Also
    --------
    DualPromptClassifier : Train prompts.

    References
    ----------
    .. [1] Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot
       Classification", ECCV 2022, arXiv:2207.09519.

    Examples
    --------
    >>> from modal_clip_dual import TipAdapterClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = TipAdapterClassifier(class_names, model_name="demo", pretrained="bundled")
    >>> clf = clf.fit(X[:60], y[:60])
    >>> bool(clf.score(X[60:], y[60:]) > 0.7)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **CLIPClassifier._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
    }
    _Head = Cache

    def __init__(
        self,
        class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None = None,
        *,
        model_name: str = "ViT-B-16",
        pretrained: str | os.PathLike[str] | None = "openai",
        alpha: float = 1.0,
        beta: float = 5.5,
        template: Template = "a photo of a {}.",
        encode_batch_size: int = 256,
        n_jobs: int | str | None = "auto",
        cache: str | os.PathLike[str] | None = "memory",
        device: str = "auto",
        precision: str = "auto",
        verbose: int = 1,
    ):
        super().__init__(
            class_names,
            model_name=model_name,
            pretrained=pretrained,
            template=template,
            encode_batch_size=encode_batch_size,
            n_jobs=n_jobs,
            cache=cache,
            device=device,
            precision=precision,
            verbose=verbose,
        )
        self.alpha = alpha
        self.beta = beta

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TipAdapterClassifier:
        """Keep the labeled samples.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        y : array-like of shape (n,)
            Labels.  A class may have no sample.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample's vote: with 2 it votes like two of the same, with 0 it is left out.

        Returns
        -------
        self : TipAdapterClassifier

        Raises
        ------
        ValueError
            If a parameter or an argument does not fit, before any work; an earlier fit is kept.
        FileNotFoundError
            If X names a file that does not exist.
        """
        return self._fit_samples(X, y, sample_weight)

    def _fit(
        self, embeddings: np.ndarray, target: np.ndarray, text: np.ndarray, logit_scale: float, *weight: np.ndarray
    ) -> Cache:
        values = np.eye(len(text), dtype=np.float32)[target]
        if weight:
            values *= weight[0][:, None].astype(np.float32)
        return Cache(embeddings, values, text * np.float32(logit_scale))

    def _logits(self, embeddings: np.ndarray) -> np.ndarray:
        head: Cache = self._head
        votes = np.exp(np.float32(self.beta) * (embeddings @ head.keys.T - 1)) @ head.values
        logits: np.ndarray = np.float32(self.alpha) * votes + embeddings @ head.text.T
        return logits
