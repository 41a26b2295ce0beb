"""Prompts that are tuned anew for every image, until its background says nothing about the class."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import Interval, StrOptions

from ..data.images import as_array, kind_of, read_image
from ..utils.arrays import blocks
from ..utils.selection import generator_of
from ._wrapper import Wrapper

if TYPE_CHECKING:
    import torch

CELLS = 4  # of "shuffle", along each side


class SpuriousFeatureEraser(Wrapper):
    """Tune the prompt for each image so that its background tells nothing, then classify the image.

    A classifier may have learned from a few labels that a bird on water is a water bird.  For every image, the
    learned prompt of a `DualPromptClassifier` is trained for a few steps, so that the class probabilities of the
    image's *background* become uniform while those of the image stay certain ([1]_).  The image is classified by
    the tuned prompt, which is then thrown away: the wrapped classifier never changes.

    The cost is ``n_steps`` forward and backward passes of the text tower **per image**: a test set of some thousands
    with a small model, not a pool of 100,000.  ``criterion="background"`` of `DualPromptClassifier` is a cheap
    relative for training time.

    Parameters
    ----------
    estimator : DualPromptClassifier
        Classifier with learned prompts.  `fit` trains a clone; without it, a fitted one is used as it is.
    background : {"low-attention", "border", "shuffle"} or callable, default="low-attention"
        Image of the background alone.  ``"low-attention"`` paints those patches black to which the CLS token of the
        frozen tower's last block attends most, half of all.  ``"border"`` paints the middle black, half of each side.
        ``"shuffle"`` moves the 16 cells of a grid around.  A callable, such as a segmenter, takes a PIL image and
        returns one.
    n_steps : int, default=20
        Number of steps of AdamW; 0 is the wrapped classifier.
    lr : float, default=5e-4
        Learning rate.
    keep : {"entropy", "prediction"}, default="entropy"
        Second term of the loss, of the image itself: the entropy of its probabilities, or their
        Kullback-Leibler divergence from those of the untuned prompt.
    batch_size : int, default=32
        Number of images whose prompts are tuned at a time; it changes no result.
    random_state : int, RandomState instance or None, default=None
        Controls ``"shuffle"``.

    Attributes
    ----------
    estimator_ : DualPromptClassifier
        Classifier that `fit` trained.
    classes_ : ndarray of shape (C,)
        Labels of the classifier in use.

    Notes
    -----
    The loss of an image is KL(uniform || p(background)) + H(p(image)), the direction of the authors' code.  The
    paper cuts out object and background with a segmenter; here the background is the function above, and the image
    itself stands for the object.  The authors tune the three words "a photo of"; here the learned context
    is the start.

    References
    ----------
    .. [1] Ma et al., "Spurious Feature Eraser: Stabilizing Test-Time Adaptation for Vision-Language Foundation
       Model", arXiv:2403.00376.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, SpuriousFeatureEraser
    >>> from modal_clip_dual.data import load_spurious_digits
    >>> data = load_spurious_digits(random_state=0)
    >>> clf = DualPromptClassifier(data.class_names, model_name="demo", pretrained="bundled", max_epochs=2)
    >>> erased = SpuriousFeatureEraser(clf.fit(data.images[:60], data.target[:60]), n_steps=2)
    >>> erased.predict_proba(data.images[60:63]).shape
    (3, 10)
    """

    _parameter_constraints: dict[str, Any] = {
        **Wrapper._parameter_constraints,
        "background": [StrOptions({"low-attention", "border", "shuffle"}), callable],
        "n_steps": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "keep": [StrOptions({"entropy", "prediction"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        background: str | Callable[[Any], Any] = "low-attention",
        *,
        n_steps: int = 20,
        lr: float = 5e-4,
        keep: str = "entropy",
        batch_size: int = 32,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.background = background
        self.n_steps = n_steps
        self.lr = lr
        self.keep = keep
        self.batch_size = batch_size
        self.random_state = random_state

    def predict(self, X: Any, X_background: Any = None) -> np.ndarray:
        """Predict the label of each image by its own tuned prompt.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths; embeddings (n, D) with ``X_background``.
        X_background : array-like of shape (n, D), default=None
            Embeddings of the backgrounds, where X holds embeddings.

        Returns
        -------
        labels : ndarray of shape (n,)
            Labels out of ``classes_``.

        Raises
        ------
        ValueError, TypeError, NotFittedError
            As for `erase`.
        """
        proba, _ = self.erase(X, X_background)
        labels: np.ndarray = self._known_classes()[proba.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any, X_background: Any = None) -> np.ndarray:
        """Return class probabilities of each image by its own tuned prompt.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths; embeddings (n, D) with ``X_background``.
        X_background : array-like of shape (n, D), default=None
            Embeddings of the backgrounds, where X holds embeddings.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Probabilities; the columns are in the order of ``classes_``.

        Raises
        ------
        ValueError, TypeError, NotFittedError
            As for `erase`.
        """
        return self.erase(X, X_background)[0]

    def erase(self, X: Any, X_background: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the class probabilities after tuning, and the loss of each step.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths; embeddings (n, D) with ``X_background``.
        X_background : array-like of shape (n, D), default=None
            Embeddings of the backgrounds, where X holds embeddings.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Probabilities of the images by their tuned prompts.
        losses : ndarray of shape (n, n_steps + 1), float32
            Loss in nats before each step and after the last one.

        Raises
        ------
        ValueError
            If X holds embeddings and there is no ``X_background`` of the same shape, or the background is not an
            image.
        TypeError
            If the estimator has no learned prompts.
        NotFittedError
            If it was never fitted.
        """
        self._validate_params()
        model = self._model()
        if not hasattr(type(model), "net_"):
            raise TypeError(
                f"estimator is a {type(model).__name__}, which has no prompts to tune; expected a "
                "DualPromptClassifier"
            )
        if not hasattr(model, "classes_"):
            raise NotFittedError(
                f"This {type(self).__name__} and the {type(model).__name__} that it wraps were never fitted, so "
                "there is no prompt to tune; call fit first"
            )
        array = as_array(X)
        if kind_of(array) == "embeddings":
            X_background = self._check_background(array, X_background)
        elif X_background is not None:
            raise ValueError("X_background was passed with images, whose backgrounds follow from them; expected None")
        given = kind_of(array) == "embeddings"
        behind = np.asarray(model.transform(X_background)) if given else self.background_embeddings(X)
        return self._tuned(model, np.asarray(model.transform(X)), behind)

    def background_embeddings(self, X: Any) -> np.ndarray:
        """Return embeddings of the backgrounds alone; needs no `fit`.

        They may be passed as ``X_background`` later, or to `DualPromptClassifier` with ``criterion="background"``.

        Parameters
        ----------
        X : array-like
            Images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        embeddings : ndarray of shape (n, D), float32
            Embeddings of length 1.

        Raises
        ------
        ValueError
            If X holds embeddings, or the background is not an image.
        """
        self._validate_params()
        model, array = self._model(), as_array(X)
        if kind_of(array) == "embeddings":
            self._check_background(array, None)
        if callable(self.background):
            given = [self._callables_image(array, row) for row in range(len(array))]
            found: np.ndarray = np.asarray(model.transform(given))
            return found
        embeddings: np.ndarray = model.embeddings_of_pixels(self._background_pixels(model, X))
        return embeddings

    def _check_background(self, array: np.ndarray, X_background: Any) -> Any:
        if X_background is None:
            raise ValueError(
                f"X has shape {array.shape}, so it holds embeddings, which show no background; expected images "
                "(n, H, W[, 3]) of uint8 or file paths, or X_background with the embeddings of the backgrounds"
            )
        behind = as_array(X_background, "X_background")
        if behind.shape != array.shape:
            raise ValueError(f"X_background has shape {behind.shape} and X {array.shape}; expected the same")
        return behind

    def _callables_image(self, array: Any, row: int) -> Any:
        from PIL import Image

        assert callable(self.background)
        result = self.background(read_image(array, row))
        if not isinstance(result, Image.Image):
            raise ValueError(f"background returned {type(result).__name__} for X[{row}]; expected a PIL image")
        return result.convert("RGB")

    def _background_pixels(self, model: Any, X: Any) -> np.ndarray:
        pixels: np.ndarray = model.input_pixels(X)
        if self.background == "border":
            return without_middle(pixels)
        if self.background == "shuffle":
            return shuffled(pixels, generator_of(self.random_state))
        attention = model.block_features(X, "attention")[:, -1, :, 1:].mean(axis=1)
        return without_attended(pixels, attention)

    # ---------------------------------------------------------------- tuning

    def _tuned(self, model: Any, image: np.ndarray, behind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from ..nn.module import module_of

        module = module_of(model.net_).eval()
        probas, losses = [], []
        for rows in blocks(len(image), self.batch_size):
            proba, loss = self._tune(module, image[rows], behind[rows])
            probas.append(proba)
            losses.append(loss)
        return np.concatenate(probas), np.concatenate(losses)

    def _tune(self, module: Any, image: np.ndarray, behind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tune a context per image; return probabilities (b, C) and losses (b, n_steps + 1)."""
        import torch

        device, scale = module.backbone.device, module.backbone.logit_scale
        seen, hidden = (torch.from_numpy(np.array(part, np.float32)).to(device) for part in (image, behind))
        learned = module.context_positive.detach()
        contexts = learned.expand(len(image), *learned.shape).clone().requires_grad_()
        deep = None if module.visual is None else module.visual.text_contexts(False)
        if deep is not None:
            deep = deep.detach().expand(len(image), *deep.shape[1:])
        offsets = module.offsets(False)
        if offsets is not None:
            offsets = offsets.detach().expand(len(image), *offsets.shape[1:])
        optimizer = torch.optim.AdamW([contexts], lr=self.lr)
        untuned: torch.Tensor | None = None
        losses = []
        for step in range(self.n_steps + 1):
            with torch.set_grad_enabled(step < self.n_steps):
                text = scale * module.text_encoder(contexts, deep, offsets)  # (b, C, D)
                log_proba, log_background = (
                    torch.einsum("bd,bcd->bc", part, text).log_softmax(dim=1) for part in (seen, hidden)
                )
                if untuned is None:
                    untuned = log_proba.detach()
                kept = entropy(log_proba) if self.keep == "entropy" else divergence(untuned, log_proba)
                loss = divergence_from_uniform(log_background) + kept
            losses.append(loss.detach())
            if step < self.n_steps:
                optimizer.zero_grad()
                # A sum: each context has a gradient of its own, whatever else is in the batch.
                (contexts.grad,) = torch.autograd.grad(loss.sum(), [contexts])
                optimizer.step()
        return log_proba.detach().exp().cpu().numpy(), torch.stack(losses, dim=1).cpu().numpy()


def entropy(log_proba: torch.Tensor) -> torch.Tensor:
    """Return the entropy (n,) of log probabilities (n, C), in nats."""
    return (-log_proba.exp() * log_proba).sum(dim=1)


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q), (n,), of log probabilities (n, C)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def divergence_from_uniform(log_proba: torch.Tensor) -> torch.Tensor:
    """Return KL(uniform || p), (n,), of log probabilities (n, C)."""
    return -math.log(log_proba.shape[1]) - log_proba.mean(dim=1)


def without_middle(pixels: np.ndarray) -> np.ndarray:
    """Return pixels (n, 3, h, w) whose middle is black, half of each side."""
    height, width = pixels.shape[2:]
    top, left = height // 4, width // 4
    changed: np.ndarray = pixels.copy()
    changed[:, :, top : height - top, left : width - left] = 0
    return changed


def shuffled(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return pixels (n, 3, h, w) whose cells of a 4 x 4 grid have changed places; what no cell covers stays."""
    height, width = (side // CELLS for side in pixels.shape[2:])
    changed: np.ndarray = pixels.copy()
    for to, come in enumerate(rng.permutation(CELLS * CELLS)):
        (y, x), (v, u) = divmod(to, CELLS), divmod(int(come), CELLS)
        changed[:, :, y * height : (y + 1) * height, x * width : (x + 1) * width] = pixels[
            :, :, v * height : (v + 1) * height, u * width : (u + 1) * width
        ]
    return changed


def without_attended(pixels: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Return pixels (n, 3, h, w) in which the patches with most attention (n, patches), half of all, are black.

    Patches are numbered row by row, as in open_clip's VisionTransformer.
    """
    n, n_patches = attention.shape
    height, width = pixels.shape[2:]
    down = round(math.sqrt(n_patches * height / width))
    order = np.argsort(np.argsort(-attention, axis=1, kind="stable"), axis=1)
    hidden = (order < n_patches // 2).reshape(n, down, n_patches // down)
    rows = np.arange(height) * down // height
    columns = np.arange(width) * (n_patches // down) // width
    changed: np.ndarray = np.where(hidden[:, rows][:, :, columns][:, None], np.float32(0), pixels)
    return changed
