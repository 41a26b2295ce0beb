"""What X may be, and how one row of it becomes an image."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..utils.arrays import Rows
from .files import digests_of, look_at

# What files may be.  Among Pillow's other formats is EPS, for which it starts Ghostscript.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
# Resizing the shorter side to what a model takes would need gigabytes beyond this.
MOST_ELONGATED = 1000

EXPECTED = (
    "expected image embeddings (n, D) of numbers, images (n, H, W) or (n, H, W, 3) of uint8, "
    "or a 1-d array of file paths"
)


def as_array(X: Any, name: str = "X") -> Any:
    """Return X as an array whose kind `kind_of` tells, without copying what is one already.

    A DataFrame or a 2-d array with a single column of strings is a column of paths.

    Raises
    ------
    TypeError
        If X is sparse, or holds something that is no number and no path.
    ValueError
        If X is empty, or its shape or type is none of the three kinds.
    """
    if isinstance(X, Rows):
        return X
    if hasattr(X, "toarray"):
        raise TypeError(f"{name} is a sparse matrix, which is not supported; {EXPECTED}")
    if type(X).__module__.partition(".")[0] == "torch":
        X = X.detach().cpu()
        X = (X.float() if X.is_floating_point() else X).numpy()
    paths = _paths_from(X, name)
    if paths is not None:
        return paths
    try:
        array = X if isinstance(X, np.ndarray) else np.asarray(X)
    except ValueError as error:  # of NumPy, about rows of several lengths
        raise ValueError(
            f"{name} holds things of different shapes; {EXPECTED}. Images of several sizes go in as paths"
        ) from error
    # modAL turns lists of images into nested lists of integers when it adds to them.
    nested = isinstance(X, (list, tuple)) and array.ndim in (3, 4) and array.dtype.kind in "iu"
    if nested and array.size and 0 <= array.min() and array.max() <= 255:
        array = array.astype(np.uint8)
    if np.iscomplexobj(array):
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}; {EXPECTED}")
    if array.dtype.kind in "US" and array.ndim > 1:
        raise ValueError(f"{name} holds text of shape {array.shape}; {EXPECTED}")
    if array.ndim in (3, 4):
        _check_images(array, name)
    elif array.ndim != 2:
        raise ValueError(
            f"{name} has shape {array.shape} and dtype {array.dtype}; {EXPECTED}. Reshape your "
            "data: a single sample needs a leading axis of length 1"
        )
    if len(array) == 0:
        raise ValueError(f"{name} is empty: found array with 0 sample(s), at least 1 is required")
    if array.ndim == 2 and not array.shape[1]:
        raise ValueError(
            f"{name} has no columns: 0 feature(s) (shape={array.shape}) while a minimum of 1 is "
            f"required; {EXPECTED}"
        )
    return array


def kind_of(array: np.ndarray) -> str:
    """Tell "embeddings", "images" or "paths" of what `as_array` returned."""
    return {1: "paths", 2: "embeddings", 3: "images", 4: "images"}[array.ndim]


def _paths_from(X: Any, name: str) -> np.ndarray | None:
    """Return a 1-d object array of str if X is a column of paths, else None."""
    if isinstance(X, (list, tuple)):
        if not X or not isinstance(X[0], (str, os.PathLike)):
            return None
        column = np.asarray(X, dtype=object)
    else:
        column = np.asarray(X)
    if column.dtype.kind not in "OUST":
        return None
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        return None
    is_path = [isinstance(entry, (str, os.PathLike)) for entry in column]
    if all(is_path) and len(column):
        # plain strings, also of NumPy's, whose repr in messages is longer
        return np.array([str(os.fspath(entry)) for entry in column], dtype=object)
    if any(is_path):
        row = is_path.index(False)
        raise TypeError(
            f"{name}[{row}] is {column[row]!r} ({type(column[row]).__name__}); expected a file "
            "path like the other rows"
        )
    return None


def _check_images(array: np.ndarray, name: str) -> None:
    if array.dtype != np.uint8:
        low, high = (array.min(), array.max()) if array.size else (None, None)
        raise ValueError(
            f"{name} has shape {array.shape}, so it holds images, but dtype {array.dtype} with "
            f"values from {low} to {high}; expected uint8 from 0 to 255, for example "
            f"(255 * {name} / {name}.max()).astype('uint8')"
        )
    if 0 in array.shape[1:]:
        raise ValueError(f"{name} has shape {array.shape}: its images have no pixels")
    if max(array.shape[1:3]) > MOST_ELONGATED * min(array.shape[1:3]):
        raise ValueError(
            f"{name} has shape {array.shape}: its images are too elongated; expected a longer side "
            f"of at most {MOST_ELONGATED} times the shorter"
        )
    if array.ndim == 4 and array.shape[3] not in (1, 3, 4):
        hint = "; it looks like channels first" if array.shape[1] in (1, 3, 4) else ""
        raise ValueError(
            f"{name} has shape {array.shape}; expected images (n, H, W) or (n, H, W, 3), "
            f"channels last{hint}"
        )


def check_files(paths: np.ndarray, name: str = "X") -> None:
    """Refuse paths of which one does not exist, before any is read.

    Raises
    ------
    FileNotFoundError
        Naming the first missing file, its row, and how many are missing.
    """
    missing = [row for row, look in enumerate(look_at(paths)) if look is None]
    if missing:
        row = missing[0]
        more = f" ({len(missing)} of {len(paths)} are missing)" if len(missing) > 1 else ""
        raise FileNotFoundError(f"{name}[{row}]: there is no file {str(paths[row])!r}{more}")


def read_image(
    array: np.ndarray, row: int, name: str = "X", number: int | None = None
) -> Image.Image:
    """Return one row of images or paths as an RGB image.

    Transparency is dropped, as open_clip drops it, rotations that a camera noted are
    applied, and of an animation the first picture is taken.

    Parameters
    ----------
    array : ndarray
        As `as_array` returns it.
    row : int
    name : str, default="X"
        What messages call the array.
    number : int, optional
        What messages call the row, where the array is a part of another.

    Raises
    ------
    ValueError
        If a file cannot be read as an image; names it and its row.
    """
    if kind_of(array) == "images":
        pixels = array[row]
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    try:
        with Image.open(array[row], formats=_formats()) as image:
            short, long = sorted(image.size)
            if long > MOST_ELONGATED * short:
                raise ValueError(f"{image.width} x {image.height} pixels: too elongated")
            return _as_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # broken files make Pillow raise nearly anything
        number = row if number is None else number
        hint = ""
        if isinstance(error, UnidentifiedImageError):
            hint = f"; expected one of {', '.join(FORMATS)}"
        raise ValueError(
            f"{name}[{number}]: cannot read {str(array[row])!r} as an image ({error}){hint}"
        ) from error


def _formats() -> list[str]:
    """Those of the formats that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of the direct way
    return _eight_bit(image).convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, which Pillow's own conversion would clip."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"mode {image.mode!r} with values from {values.min()} to {values.max()}")
        return Image.fromarray((values // 257).astype(np.uint8))
    return image


def image_key(array: np.ndarray, row: int) -> bytes:
    """Identity of an image: its pixels, or the bytes of the file, wherever it lies."""
    if kind_of(array) == "images":
        pixels = np.ascontiguousarray(array[row])
        return blake2b(pixels.data, digest_size=16, salt=repr(pixels.shape).encode()[:16]).digest()
    return digests_of(array[row : row + 1])[0]
