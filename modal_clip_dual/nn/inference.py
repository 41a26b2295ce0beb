"""Inference with trained prompts: embeddings and logits, computed block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ..clip.embedding import embed, encoding_advice, prefetch
from ..utils.arrays import as_tensor, blocks
from ..utils.memory import memory_advice

if TYPE_CHECKING:
    from ..clip.backbone import Backbone
    from ..data.reading import ImageSource
    from ..data.stores import MemoryStore
    from ..utils.arrays import Rows
    from .module import DualPromptModule


class Embedding(Protocol):
    """What a module has that embeds images by a tower that was trained."""

    @property
    def backbone(self) -> Backbone:
        """The frozen CLIP."""

    def eval(self) -> Any:
        """Set the mode of the module."""

    def image_embeddings(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return unit embeddings (n, D) of images as `Backbone.to_input` takes them."""


PREDICTION_BATCH = 4096  # rows; they fit into the cache of a core


def embed_images(module: Embedding, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Yield the unit embeddings of batches of images by a trained module."""
    module.eval()
    for pixels in batches:
        with torch.no_grad():
            embeddings = module.image_embeddings(pixels)
        yield embeddings


def embed_by(
    module: Embedding, source: ImageSource, store: MemoryStore, batch_size: int, verbose: int
) -> np.ndarray:
    """Return the unit embeddings (n, D) of all images by a tower that a fit has changed; each image once.

    Parameters
    ----------
    module : Embedding
    source : ImageSource
    store : MemoryStore
        Keeps the embeddings of this fit.
    batch_size, verbose
        See `CLIPImageEncoder`.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        If the device has no memory left; the message says what to change.
    """

    def forward(batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        return prefetch(embed_images(module, source.read(batches)))

    with encoding_advice(module.backbone, batch_size, "encode_batch_size"):
        embeddings, _ = embed(source, forward, store, batch_size, verbose, module.backbone.precision)
    return embeddings


@torch.no_grad()
def predict(
    module: DualPromptModule,
    embeddings: np.ndarray | Rows,
    reduce: Callable[..., Sequence[torch.Tensor]],
    negative: bool = True,
) -> list[np.ndarray]:
    """Apply ``reduce`` to the logits of image embeddings (n, D), whose length does not matter.

    ``reduce`` takes s+ / tau and z, both (rows, C), for a block of rows, and returns tensors with a line
    per row.  The logits of all rows are never stored at once.  Without ``negative``, z is None.
    """
    advice = (
        f"try a smaller text_batch_size (now {module.text_encoder.batch_size!r}; it counts from the next "
        "fit on), or free memory that others hold on this device"
    )
    with memory_advice("scoring", advice):
        text = module.eval().text_embeddings() * module.backbone.logit_scale
        if not negative:
            return by_cosine(embeddings, text[0], lambda positive: reduce(positive, None))

        def reduce_both(products: torch.Tensor) -> Sequence[torch.Tensor]:
            positive, negative = products.chunk(2, dim=1)
            return reduce(positive, positive - negative)

        return by_cosine(embeddings, text.flatten(0, 1), reduce_both)


@torch.no_grad()
def by_cosine(
    embeddings: np.ndarray | Rows,
    weights: torch.Tensor,
    reduce: Callable[[torch.Tensor], Sequence[torch.Tensor]],
) -> list[np.ndarray]:
    """Apply ``reduce`` to <x, w> / |x|, block by block, on the device of the weights.

    ``embeddings`` (n, D) are sliced, so that they may lie in a file; ``weights`` are (m, D).
    """
    transposed = weights.T.contiguous()

    def cosines(rows: slice) -> Sequence[torch.Tensor]:
        image = as_tensor(embeddings[rows]).to(weights.device)
        length = image.norm(dim=1, keepdim=True).clamp_(min=torch.finfo().tiny)
        return reduce((image @ transposed).div_(length))

    return by_blocks(len(embeddings), cosines)


def by_blocks(n: int, compute: Callable[[slice], Sequence[torch.Tensor]]) -> list[np.ndarray]:
    """Return arrays of n rows, filled block by block with the results of ``compute`` for slices of rows."""
    outputs: list[np.ndarray] = []
    for rows in blocks(n, PREDICTION_BATCH):
        parts = compute(rows)
        if not outputs:
            sizes = [(n, *part.shape[1:]) for part in parts]
            outputs = [np.empty(size, part.cpu().numpy().dtype) for size, part in zip(sizes, parts)]
        for output, part in zip(outputs, parts):
            torch.from_numpy(output[rows]).copy_(part)
    return outputs
