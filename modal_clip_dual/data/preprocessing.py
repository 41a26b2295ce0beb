"""What open_clip does to an image before it is a tensor, without importing torch.

Worker processes read images by it: without torch such a process starts at once and takes
50 MB, with torchvision it takes seconds and 700 MB (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from PIL import Image

FORMAT = 1  # to be raised when the same settings come to give other pixels


@dataclass(frozen=True)
class Preprocessing:
    """Resizing and cropping as torchvision's `Resize` and `CenterCrop` do on PIL images.

    Parameters
    ----------
    size : tuple of (int, int)
        Height and width of the result.
    squash : bool
        Resize to the size whatever the shape; otherwise the shorter side is resized and
        the middle cropped, which takes a square size.
    interpolation : int
        Pillow's filter.
    mean, std : tuple of float
        Per channel, for values from 0 to 1; applied by `clip.backbone.Backbone.to_input`.
    """

    size: tuple[int, int]
    squash: bool
    interpolation: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def fingerprint(self) -> str:
        """Text that is the same for the same preprocessing, in every process."""
        return repr((FORMAT, *astuple(self)))

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image -> pixels (h, w, 3), uint8."""
        height, width = self.size
        if self.squash:
            return np.array(image.resize((width, height), self.interpolation))
        short, long = sorted(image.size)
        longer = int(height * long / short)
        is_upright = image.width <= image.height
        resized = (height, longer) if is_upright else (longer, height)
        if resized != image.size:
            image = image.resize(resized, self.interpolation)
        left, upper = round((image.width - width) / 2), round((image.height - height) / 2)
        return np.array(image.crop((left, upper, left + width, upper + height)))


@dataclass(frozen=True)
class OpenClipPreprocessing:
    """The same by open_clip's own transforms, for settings that `Preprocessing` lacks."""

    size: tuple[int, int]
    transforms: tuple[Any, ...] = field(repr=False)
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def fingerprint(self) -> str:
        """Text that is the same for the same preprocessing, in every process."""
        settings = [
            (type(transform).__name__, sorted((k, str(v)) for k, v in vars(transform).items()))
            for transform in self.transforms
            if hasattr(transform, "__dict__")
        ]
        return repr((FORMAT, self.size, settings, self.mean, self.std))

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image -> pixels (h, w, 3), uint8."""
        for transform in self.transforms:
            image = transform(image)
        return np.array(image)


def preprocessing_of(transform: Any) -> Preprocessing | OpenClipPreprocessing:
    """Take open_clip's evaluation transform apart, up to the tensor.

    Parameters
    ----------
    transform : torchvision.transforms.Compose
        As `open_clip.create_model_and_transforms` returns it.

    Returns
    -------
    preprocessing : Preprocessing or OpenClipPreprocessing

    Raises
    ------
    ValueError
        If it does not end in a conversion to a tensor and a normalization.
    """
    from torchvision import transforms as T

    steps = list(getattr(transform, "transforms", []))
    if len(steps) < 3 or not isinstance(steps[-1], T.Normalize) or not _to_tensor(steps[-2]):
        raise ValueError(
            f"the model's preprocessing {transform} is not understood; expected transforms of a PIL "
            "image, then ToTensor and Normalize, as open_clip makes them"
        )
    mean, std = (tuple(float(v) for v in values) for values in (steps[-1].mean, steps[-1].std))
    before = [step for step in steps[:-2] if not _to_rgb(step)]
    resize = before[0]
    if isinstance(resize, T.Resize) and resize.max_size is None:
        filter_ = _pillow_filter(resize.interpolation)
        shorter = resize.size if isinstance(resize.size, int) else None
        if len(before) == 1 and shorter is None and len(resize.size) == 2:
            return Preprocessing(tuple(resize.size), True, filter_, mean, std)
        crops = len(before) == 2 and isinstance(before[1], T.CenterCrop)
        if shorter is not None and crops and tuple(before[1].size) == (shorter, shorter):
            return Preprocessing((shorter, shorter), False, filter_, mean, std)
    probe = np.array(_apply(before, Image.new("RGB", (64, 48))))
    return OpenClipPreprocessing(probe.shape[:2], tuple(before), mean, std)


def _apply(transforms: Iterable[Any], image: Image.Image) -> Any:
    for transform in transforms:
        image = transform(image)
    return image


def _to_tensor(step: Any) -> bool:
    return type(step).__name__ in ("ToTensor", "MaybeToTensor")


def _to_rgb(step: Any) -> bool:
    # A function or a class, by open_clip's version.
    name = getattr(step, "__name__", type(step).__name__)
    return name in ("_convert_to_rgb", "MaybeConvertMode")


def _pillow_filter(interpolation: Any) -> int:
    return int(Image.Resampling[interpolation.name])
