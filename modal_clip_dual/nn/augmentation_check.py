"""A question to the frozen CLIP before training: whether it still sees the classes in augmented images."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import binom

if TYPE_CHECKING:
    from ..clip.backbone import Backbone
    from ..data.reading import ImageSource

MOST_IMAGES = 256  # that are asked about
BATCH = 64
LEAST_AGREEMENT = 0.75  # a change that leaves this share of the answers as they were is mild
LEVEL = 0.01  # chance of a warning where exactly that share stays


def rows_to_ask(n: int) -> np.ndarray:
    """Return rows, at most `MOST_IMAGES`, spread over n images."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_IMAGES)).round().astype(np.intp))


def warn_of_augmentation(
    before: np.ndarray,
    target: np.ndarray,
    source: ImageSource,
    backbone: Backbone,
    text: torch.Tensor,
    augment: Any,
    seed: int = 0,
) -> None:
    """Warn if the frozen CLIP answers otherwise once the images are augmented.

    Its answers are compared with its own for the unchanged images rather than with the labels: that works where CLIP
    is often wrong and for pseudo-labels, and every image counts.  The warning comes if the share of answers that stay
    is below `LEAST_AGREEMENT` by more than chance explains (a binomial test at `LEVEL`).

    Parameters
    ----------
    before : ndarray of shape (n,), int
        What CLIP answered for the unchanged images: positions of classes.
    target : ndarray of shape (n,), int
        Their labels or pseudo-labels.
    source : ImageSource
        These images, with the augmentation.
    backbone : Backbone
    text : torch.Tensor of shape (C, D)
        Unit text embeddings of zero-shot CLIP.
    augment : object
        The argument of the classifier, for the message.
    seed : int, default=0
        Decides the one draw.
    """
    n = len(before)
    batches = np.array_split(np.arange(n), -(-n // BATCH))
    answers = [(backbone.encode_images(pixels) @ text.T).argmax(1) for pixels in source.read(batches, seed)]
    after = torch.cat(answers).cpu().numpy()
    n_same = int((after == before).sum())
    if binom.cdf(n_same, n, LEAST_AGREEMENT) >= LEVEL:
        return
    right = [f"{(answer == target).mean():.0%}" for answer in (before, after)]
    milder = "augment='auto', which shows at least 80% of an image and mirrors none, or " if augment != "auto" else ""
    warnings.warn(
        f"augment={augment!r} hides from the frozen CLIP what the training images show: of {n} images, {n_same} "
        f"({n_same / n:.0%}) get the same class after the change as before it; {right[0]} of its answers agree with "
        f"the labels before, {right[1]} after. Training on such images can ruin the classifier: try {milder}"
        "augment=None",
        UserWarning,
        stacklevel=2,
    )
