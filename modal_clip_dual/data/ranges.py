"""Numbers of images that do not fill their type: what is warned of, and how to make 0 to 255 of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

# Images whose largest number is below this are black to the eye: digits of 0 to 16, or values from 0
# to 1 that were turned to integers.
DARK = 32
FULL_RANGE = 1 << 14  # of 16 bits; images whose numbers all stay below this have fewer bits, or are dark
BITS = (10, 12, 14, 16)  # of cameras and scanners
MANY = 20  # images; fewer that are black may be what they are
NEARLY_ONE = 1.01  # what resizing makes of values up to 1


def warn_of_range(highest: Sequence[int], what: str = "files") -> None:
    """Warn of images of 16 bits whose numbers fill only a part of them: they come out dark.

    ``highest`` has the largest number of each; ``what`` is what messages call them.
    """
    if not highest or not 0 < max(highest) < FULL_RANGE:
        return
    high = max(highest)
    bits = max(8, int(high).bit_length())
    how = f"Stretch them to uint8, image by image: (values / {2**bits - 1} * 255).astype('uint8')"
    if bits == 8:
        how = "Make 8 bits of them, image by image: values.astype('uint8')"
    warnings.warn(
        f"{len(highest)} {what} have 16 bits per channel, but no number in them is above {high}: they look "
        f"like {bits}-bit data and are read as if 65535 were white, so they are dark (at most {high // 257} of "
        f"255). {how}",
        UserWarning,
        stacklevel=4,
    )


def warn_of_dark_files(n_files: int, high: int) -> None:
    """Warn of many files of 8 bits of which no pixel, as the model sees it, is brighter than black."""
    if n_files >= MANY and high < DARK:
        warnings.warn(
            f"no pixel of {n_files} files is above {high} of 255: they are black to CLIP. Masks and maps of classes "
            "hold numbers that are no brightness; if the largest number is white, stretch them, image by image: "
            "(255 / highest * values).round().astype('uint8')",
            UserWarning,
            stacklevel=4,
        )


def warn_if_dark(array: np.ndarray, name: str) -> None:
    """Warn of numbers that fill so little of 0 to 255 that every image is black."""
    if array[:16].max(initial=0) >= DARK or (len(array) > 16 and array.max(initial=0) >= DARK):
        return
    high = int(array.max(initial=0))
    if high:
        warnings.warn(
            f"the images of {name} have values up to {high} only, of 255 that uint8 has: they are black to CLIP. "
            f"If {high} is white, stretch them: (255 / {high} * {name}).astype('uint8')",
            UserWarning,
            stacklevel=2,
        )
    elif len(array) >= MANY:
        warnings.warn(
            f"all {len(array)} images of {name} are black: every value is 0. Values from 0 to 1 become 0 when they "
            "are turned to uint8 without a factor: (255 * values).round().astype('uint8') makes images of them",
            UserWarning,
            stacklevel=2,
        )


def as_uint8(array: np.ndarray, name: str, given: Any = None) -> str:
    """How to make images of 0 to 255 of numbers of another range: the end of a message.

    ``given`` is what the user passed as this array, if that was another type.
    """
    plain = name
    if type(given).__module__.partition(".")[0] == "torch":
        plain = f"{name}.cpu().numpy()"
    elif given is not None and not isinstance(given, np.ndarray):
        plain = f"numpy.asarray({name})"
    if not array.size or array.dtype.kind not in "iufb":
        return f"for example {plain}.astype('uint8'){_channels_last(array)}"
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return "and no number that is not finite"
    if low < 0:
        return (
            "and these look normalized: take the values from before, undo it (times the standard deviation, plus the "
            "mean), or stretch them to the full range: "
            f"(255.0 * ({plain} - {plain}.min()) / ({plain}.max() - {plain}.min())).round().astype('uint8')"
            f"{_channels_last(array)}"
        )
    return f"for example {_stretched(array, plain, high)}{_channels_last(array)}"


def _stretched(array: np.ndarray, plain: str, high: Any) -> str:
    kind = array.dtype.kind
    if kind == "b":
        return f"(255 * {plain}).astype('uint8')"
    if kind == "f" and high <= 1:
        return f"(255 * {plain}).round().astype('uint8')"
    if kind == "f" and high <= NEARLY_ONE:
        return f"(255 * {plain}).round().clip(0, 255).astype('uint8')"
    if 0 < high < DARK:  # digits of 0 to 16, masks of 0 and 1
        return f"(255 / {high:g} * {plain}).round().astype('uint8')"
    if high <= 255:
        return f"{plain}.round().astype('uint8')" if kind == "f" else f"{plain}.astype('uint8')"
    bits = next((bits for bits in BITS if high < 2**bits), None)
    if kind in "iu" and bits is not None and high > 2**bits // 2:  # one factor, whatever other images hold
        return f"({plain} / {2**bits - 1} * 255).round().astype('uint8')"
    return f"({plain} / {plain}.max() * 255).round().astype('uint8')"


def _channels_last(array: np.ndarray) -> str:
    first = array.ndim == 4 and array.shape[1] in (1, 3, 4) and array.shape[3] not in (1, 3, 4)
    return ".transpose(0, 2, 3, 1)" if first else ""
