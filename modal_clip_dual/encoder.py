"""Images to unit embeddings with a frozen CLIP, each image once per process."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from tqdm.auto import tqdm

from .data.images import image_key, read_image
from .nn.backbone import Backbone

# What the embeddings that a process keeps may take.  Beyond it images are encoded again
# at every call, and the user is told what to do instead.
CACHE_BYTES = 1 << 30
BAR_DELAY = 3.0  # seconds that encoding lasts before a progress bar appears


def encode(
    backbone: Backbone, array: np.ndarray, batch_size: int = 256, verbose: int = 1
) -> np.ndarray:
    """Return the unit embeddings of images or files.

    An image that this process has encoded with this backbone before, in whatever array
    or order, is not encoded again.

    Parameters
    ----------
    backbone : Backbone
    array : ndarray
        Images, or paths of files that exist; as `data.images.as_array` returns them.
    batch_size : int, default=256
        Images per forward pass.
    verbose : int, default=1
        0 never shows a progress bar; otherwise one appears after 3 seconds.

    Returns
    -------
    embeddings : ndarray of shape (n, D), float32

    Raises
    ------
    ValueError
        If a file cannot be read as an image.  What was encoded until then is kept.
    """
    cache = backbone.embedding_cache
    keys = [image_key(array, row) for row in range(len(array))]
    first_row: dict[bytes, int] = {}
    for row, key in enumerate(keys):
        if key not in cache:
            first_row.setdefault(key, row)
    fresh: dict[bytes, np.ndarray] = {}
    room = CACHE_BYTES // (4 * backbone.embed_dim) - len(cache)
    todo = list(first_row.items())
    with tqdm(
        total=len(todo), desc="Encoding images", unit="img", delay=BAR_DELAY, disable=not verbose
    ) as bar:
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            pixels = [backbone.preprocess(read_image(array, row)) for _, row in batch]
            encoded = backbone.encode_images(torch.stack(pixels)).cpu().numpy()
            for (key, _), embedding in zip(batch, encoded):
                (cache if room > 0 else fresh)[key] = embedding.copy()
                room -= 1
            bar.update(len(batch))
    if fresh:
        warnings.warn(
            f"{len(fresh)} embeddings do not fit into the {CACHE_BYTES >> 20} MiB that are kept "
            "in memory, so these images will be encoded again at the next call: call "
            "transform(X) once and pass the embeddings instead",
            UserWarning,
            stacklevel=3,
        )
    return np.stack([cache[key] if key in cache else fresh[key] for key in keys])
