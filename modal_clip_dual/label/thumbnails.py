"""Small pictures of a pool, made when they are asked for."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import Any

from PIL import Image

from ..data.files import look_at
from ..data.images import as_array, kind_of, read_image

THUMBNAIL = 256  # pixels of the longer side
LARGE = 2048
CACHE_BYTES = 64 << 20
TINY = 64  # up to this many pixels a picture is sent as it is


class Thumbnails:
    """Pictures by row of a pool, encoded for a browser; the latest ones are kept in memory.

    Parameters
    ----------
    limit : int, default=64 MiB
        Bytes to keep.

    Examples
    --------
    >>> import numpy as np
    >>> from modal_clip_dual.label.thumbnails import Thumbnails
    >>> kind, picture = Thumbnails().get(np.zeros((1, 8, 8), dtype=np.uint8), 0)
    >>> kind, picture[1:4]
    ('image/png', b'PNG')
    """

    def __init__(self, limit: int = CACHE_BYTES):
        self.limit = limit
        self._kept: OrderedDict[tuple[Any, int], tuple[str, bytes]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, pool: Any, row: int, size: int = THUMBNAIL) -> tuple[str, bytes]:
        """Return media type and bytes of a row's picture, ``size`` pixels at most.

        Raises
        ------
        UnreadableImagesError
            If its file cannot be read by now.
        """
        array = as_array(pool[row : row + 1])
        key = ((str(array[0]), *look_at(array)) if kind_of(array) == "paths" else row, size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = _encoded(_small(array, size))
        with self._lock:
            if key not in self._kept and len(made[1]) <= self.limit:
                self._kept[key] = made
                self._bytes += len(made[1])
            while self._bytes > self.limit:
                self._bytes -= len(self._kept.popitem(last=False)[1][1])
        return made


def _small(array: Any, size: int) -> Image.Image:
    image = _draft(array, size) or read_image(array, 0)
    image.thumbnail((size, size))
    return image


def _draft(array: Any, size: int) -> Image.Image | None:
    """A large JPEG file decoded at a fraction of its size, which is several times faster; None for other files."""
    if kind_of(array) != "paths":
        return None
    try:
        with Image.open(str(array[0]), formats=["JPEG"]) as image:
            if image.mode != "RGB" or min(image.size) < 2 * size or image.getexif().get(0x0112, 1) != 1:
                return None
            image.draft("RGB", (2 * size, 2 * size))
            small: Image.Image = image.copy()
            return small
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _encoded(image: Image.Image) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    if max(image.size) <= TINY:
        image.save(buffer, "PNG")
        return "image/png", buffer.getvalue()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return "image/jpeg", buffer.getvalue()
