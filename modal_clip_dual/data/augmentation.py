"""Random changes of training images, decided by a seed and by nothing else."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from .preprocessing import OpenClipPreprocessing, Preprocessing

SCALE = (0.08, 1.0)  # share of the image's area that a crop shows
RATIO = (3 / 4, 4 / 3)  # width to height of a crop


class RandomResizedCropFlip:
    """A random crop resized to the model's input, mirrored every second time.

    The crops are drawn as torchvision's `RandomResizedCrop` draws them, with its default
    scale and ratio, as CoOp's training does; from a generator of its own instead of
    torch's, so that reading ahead in a thread leaves the global one alone.

    Parameters
    ----------
    size : tuple of (int, int)
        Height and width of the result.
    interpolation : int
        Pillow's filter.
    flip : bool, default=True
        Whether every second crop is mirrored.
    """

    def __init__(self, size: tuple[int, int], interpolation: int = Image.Resampling.BICUBIC, flip: bool = True):
        self.size = size
        self.interpolation = interpolation
        self.flip = flip

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Return the changed copy of an RGB image."""
        image = image.crop(self.box(image.size, rng))
        image = image.resize(self.size[::-1], self.interpolation)
        flipped = self.flip and rng.random() < 0.5
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else image

    @staticmethod
    def box(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw left, upper, right and lower edge of a crop of a (width, height) image."""
        width, height = size
        for _ in range(10):
            area = width * height * rng.uniform(*SCALE)
            ratio = math.exp(rng.uniform(*np.log(RATIO)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                return left, upper, left + w, upper + h
        # Too elongated an image for the draws: its middle, of an allowed ratio.
        w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
        left, upper = (width - w) // 2, (height - h) // 2
        return left, upper, left + w, upper + h


def augmented(
    augment: Callable[..., Any],
    image: Image.Image,
    seed: tuple[int, ...],
    preprocessing: Preprocessing | OpenClipPreprocessing,
) -> np.ndarray:
    """Apply an augmentation and the model's preprocessing to an RGB image.

    Returns
    -------
    pixels : ndarray of shape (h, w, 3), uint8
        Or, where the callable returns a tensor as open_clip's training transforms do,
        that tensor as an array, (3, h, w) float32.

    Raises
    ------
    TypeError, ValueError
        If the callable returns something else.
    """
    if isinstance(augment, RandomResizedCropFlip):
        return preprocessing(augment(image, np.random.default_rng(seed)))
    with seeded_generators(seed):
        result = augment(image)
    if isinstance(result, Image.Image):
        return preprocessing(result.convert("RGB"))
    expected = (3, *preprocessing.size)
    if not hasattr(result, "numpy"):
        raise TypeError(
            f"augment returned {type(result).__name__} for an image; expected a PIL image, or a "
            f"preprocessed float tensor {expected}"
        )
    if tuple(result.shape) != expected or not result.is_floating_point():
        raise ValueError(
            f"augment returned a tensor of shape {tuple(result.shape)} and {result.dtype} for an "
            f"image; expected floats of shape {expected}, or a PIL image"
        )
    pixels: np.ndarray = result.detach().float().cpu().numpy()
    return pixels


@contextmanager
def seeded_generators(seed: tuple[int, ...]) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch; afterwards they are as before.

    Transforms that people write or get from a library draw from one of these.
    """
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    word = int(np.random.SeedSequence(seed).generate_state(1)[0])
    random.seed(word)
    np.random.seed(word)
    if torch:  # torch.manual_seed would reseed the GPUs as well
        torch.default_generator.manual_seed(word)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(states[2])
