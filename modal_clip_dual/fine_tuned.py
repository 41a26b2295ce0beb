"""FineTunedClassifier: the last blocks of the image tower, or all of it, are trained; the text stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .base import CLIPClassifier
from .clip.inputs import BATCH_SIZE
from .data.stores import EMBEDDING_BYTES, MemoryStore
from .nn.fitted_tower import FittedTower
from .utils.selection import generator_of

if TYPE_CHECKING:
    import torch

    from .clip.backbone import Backbone
    from .clip.inputs import Template


class FineTunedClassifier(CLIPClassifier):
    """Fine-tune the image tower of a CLIP, its last blocks or all of it, with the text embeddings fixed.

    This is CLIPood [1]_ for one labeled set: cross-entropy with a margin that is large between classes with unlike
    names, AdamW with a small learning rate, and an average of the weights from the pre-trained start to the end.
    Only images can be learned from and predicted: embeddings are what is trained.

    The classifier owns a copy of the blocks that it trains; the CLIP that it shares with other estimators of the
    process never changes.  Without ``augment`` the output of the blocks in front of them is computed once per image
    of a fit.

    Parameters
    ----------
    class_names : list of str or dict of {label: str}, default=None
        Names of the classes in a prompt; see `DualPromptClassifier`.
    layers : {"last", "all"} or int, default="last"
        Number of last blocks to train, together with the normalization and projection behind them.  ``"last"`` is 1
        block; ``"all"`` is the whole tower, with its patch and position embeddings, as in [1]_.  Numbers need
        open_clip's VisionTransformer.
    model_name : str, default="ViT-B-16"
        open_clip's name of the model.
    pretrained : str, path-like or None, default="openai"
        open_clip's tag of the weights, or a checkpoint file.
    margin : float, default=0.3
        Weight lambda of the margin metric softmax: the logits of the loss are
        ``(<v, t_k> - margin * <t_y, t_k>) / tau`` for the label y.  0 is plain cross-entropy.
    average : {"beta", "gaussian"} or None, default="beta"
        Average of the weights along training; see `WeightAverage`.  None leaves the last weights.
    beta : float, default=0.5
        The b of ``average="beta"``; [1]_ has 0.1 where there are new classes.
    lr : float, default=5e-6
        Learning rate of AdamW at the start; it falls to 0 along a cosine, step by step.  The default is that of [1]_
        for the ViT-B/16 of OpenAI with all layers; small models such as ``"demo"`` need some 1e-4.
    weight_decay : float, default=0.1
        Weight decay of AdamW.
    n_steps : int, default=500
        Number of steps, rounded up to whole passes over the labeled samples.
    batch_size : int, default=36
        Number of labeled samples per step.
    augment : callable or None, default=None
        Random change of training images: a callable takes a PIL image and returns one, or the finished tensor.  [1]_
        has torchvision's ``RandomResizedCrop(224, scale=(0.7, 1))`` and a horizontal flip.  With it every step
        computes the frozen blocks, too.
    template : str, callable, list of these, or dict of {str: list of str}, default="a photo of a {}."
        Hand-written prompt, or several, whose embeddings are averaged.  See `DualPromptClassifier`.
    encode_batch_size : int, default=256
        Number of images per forward pass of the image tower, except in training.
    n_jobs : int, "auto" or None, default="auto"
        Number of worker processes that read and decode files; see `CLIPImageEncoder`.
    cache : {"memory", "disk"}, path-like or None, default="memory"
        Cache for decoded pixels, as of `DualPromptClassifier` with visual prompts.
    device : str, default="auto"
        A torch device; ``"auto"`` takes CUDA if available.
    precision : str, default="auto"
        open_clip's name of the precision of the frozen blocks.  The trained ones are float32 always.
    verbose : int, default=1
        Amount of output: 0 is silent, 1 shows a progress bar when encoding images takes more than a few seconds, 2
        also shows skorch's line per pass.
    random_state : int, RandomState instance or None, default=None
        Decides the order of the samples, and the changes of ``augment``.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        All labels, sorted, including those without a training sample.
    coef_ : ndarray of shape (C, D), float32
        Text embeddings divided by tau: the class probabilities are the softmax of ``transform(X) @ coef_.T``.
    saved_with_ : dict of {str: str}
        After `load`, the versions of Python and of the packages that wrote the file.

    See Also
    --------
    DualPromptClassifier : Train prompts, which are a few thousand numbers.
    WeightAverage : The average along training.

    Notes
    -----
    A saved file holds the trained blocks: 28 MB for the last block of ViT-B/16, 345 MB for the whole tower.

    References
    ----------
    .. [1] Shu et al., "CLIPood: Generalizing CLIP to Out-of-Distributions", ICML 2023,
       arXiv:2302.00864.

    Examples
    --------
    >>> from modal_clip_dual import FineTunedClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clf = FineTunedClassifier(
    ...     class_names, model_name="demo", pretrained="bundled", lr=1e-4, n_steps=50, random_state=0
    ... )
    >>> clf = clf.fit(X[:60], y[:60])
    >>> bool(clf.score(X[60:300], y[60:300]) > 0.7)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **CLIPClassifier._parameter_constraints,
        "layers": [StrOptions({"last", "all"}), Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "average": [StrOptions({"beta", "gaussian"}), None],
        "beta": [Interval(Real, 0, None, closed="neither")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": BATCH_SIZE,
        "augment": [callable, None],
        "random_state": ["random_state"],
    }
    _fit_only = (*CLIPClassifier._fit_only, "_tuned_embeddings")
    _Head = FittedTower

    _head: FittedTower
    _tuned_embeddings: MemoryStore  # of images, by the tower of this fit

    def __init__(
        self,
        class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None = None,
        *,
        layers: int | str = "last",
        model_name: str = "ViT-B-16",
        pretrained: str | os.PathLike[str] | None = "openai",
        margin: float = 0.3,
        average: str | None = "beta",
        beta: float = 0.5,
        lr: float = 5e-6,
        weight_decay: float = 0.1,
        n_steps: int = 500,
        batch_size: int = 36,
        augment: Callable[..., Any] | None = None,
        template: Template = "a photo of a {}.",
        encode_batch_size: int = 256,
        n_jobs: int | str | None = "auto",
        cache: str | os.PathLike[str] | None = "memory",
        device: str = "auto",
        precision: str = "auto",
        verbose: int = 1,
        random_state: int | np.random.RandomState | None = None,
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
        self.layers = layers
        self.margin = margin
        self.average = average
        self.beta = beta
        self.lr = lr
        self.weight_decay = weight_decay
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.augment = augment
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FineTunedClassifier:
        """Train the last blocks, or all, from the pre-trained weights.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths.
        y : array-like of shape (n,)
            Labels.  A class may have no sample.
        sample_weight : array-like of shape (n,), default=None
            Weight of each sample's loss, relative to the others; 0 leaves a sample out.  Batches are those of the
            samples that there are, so a weight of 2 is a sample that comes twice only where a batch holds all of
            them; otherwise it is so on average.

        Returns
        -------
        self : FineTunedClassifier

        Raises
        ------
        ValueError
            If a parameter or an argument does not fit, before any training; an earlier fit is kept.
        FileNotFoundError
            If X names a file that does not exist.
        FloatingPointError
            If the loss of a step is not finite; an earlier fit is kept.
        torch.cuda.OutOfMemoryError
            If memory runs out; the message says what to change, and an earlier fit is kept.
        """
        return self._fit_samples(X, y, sample_weight)

    def _head_of(
        self, array: Any, target: np.ndarray, text: np.ndarray, backbone: Backbone, *weight: np.ndarray
    ) -> FittedTower:
        import torch

        from .clip.embedding import pixel_source
        from .nn.averaging import WeightAverage
        from .nn.fine_tuning import FineTunedTower, fine_tune

        module = FineTunedTower(backbone, torch.from_numpy(text), self.layers)
        source = pixel_source(backbone, array, self.augment, self.cache, self.n_jobs)
        source.check(seed=0)  # unreadable files raise an error before any training
        if self.augment is not None:  # and so does what the callable of the user's raises
            next(source.read([np.arange(1)], seed=0))
        fine_tune(
            module,
            source,
            target,
            margin=self.margin,
            average=None if self.average is None else WeightAverage(self.average, beta=self.beta),
            lr=self.lr,
            weight_decay=self.weight_decay,
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            seed=int(generator_of(self.random_state).integers(2**31)),
            verbose=int(self.verbose),
            sample_weight=weight[0] if weight else None,
        )
        return FittedTower({}, text, self.layers, module.eval())

    def _moving(self, fitted: bool) -> str:
        return "fine-tuning"

    def _embed(self, array: Any, backbone: Backbone) -> Any:
        if "_head" not in self.__dict__:
            return self._encode(array, backbone)
        from .clip.embedding import pixel_source
        from .nn.inference import embed_by

        if "_tuned_embeddings" not in self.__dict__:  # a fit's own, never pickled
            self._tuned_embeddings = MemoryStore(EMBEDDING_BYTES)
        source = pixel_source(backbone, array, None, self.cache, self.n_jobs)
        module = self._head.module(backbone)
        return embed_by(module, source, self._tuned_embeddings, self.encode_batch_size, int(self.verbose))

    def _embed_pixels(self, normalized: torch.Tensor, backbone: Backbone) -> torch.Tensor:
        if "_head" not in self.__dict__:
            return super()._embed_pixels(normalized, backbone)
        from .nn.inference import embed_images

        (embeddings,) = embed_images(self._head.module(backbone), [normalized])
        return embeddings

    def _logits(self, embeddings: np.ndarray) -> np.ndarray:
        logits: np.ndarray = embeddings @ self.coef_.T
        return logits

    @property
    def coef_(self) -> np.ndarray:
        """Weights (C, D) of this classifier, which is linear in its own embeddings."""
        if "_head" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: it has no coef_")
        scaled: np.ndarray = self._head.text * np.float32(self._fitted_backbone().logit_scale)
        return scaled

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_tuned_embeddings", None)
        return state
