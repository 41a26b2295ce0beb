"""A stand-in for a CLIP whose embeddings were computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np


class ExternalEncoder:
    """What classifiers ask of a CLIP, where the embeddings come from another library.

    Parameters
    ----------
    embed_dim : int
        Width D of the embeddings.
    logit_scale : float, default=100.0
        1 over the temperature, by which cosines become logits.
    text : mapping of {str: ndarray} or None, default=None
        Unit text embedding (D,) of every class name; None where there are none.
    """

    model_name = ""
    pretrained = None
    precision = "fp32"
    device = "cpu"

    def __init__(self, embed_dim: int, logit_scale: float = 100.0, text: Mapping[str, np.ndarray] | None = None):
        self.embed_dim = embed_dim
        self.logit_scale = logit_scale
        self.text = text

    @property
    def name(self) -> str:
        """How messages call it."""
        return "an encoder outside of this package, of which only embeddings are known"

    def identity(self) -> dict[str, str]:
        """What tells it from another: the text embeddings, where there are some."""
        digest = blake2b(str(self.embed_dim).encode(), digest_size=16)
        for name, embedding in sorted((self.text or {}).items()):
            digest.update(name.encode() + np.ascontiguousarray(embedding, dtype=np.float32).tobytes())
        return {"precision": self.precision, "weights": digest.hexdigest(), "preprocessing": "None"}

    def check_identity(self, expected: Mapping[str, str], saved_with: str = "") -> None:
        """Refuse to stand for another encoder than the one whose `identity` is expected.

        Raises
        ------
        ValueError
            If the text embeddings are others.
        """
        if self.identity()["weights"] != expected["weights"]:
            raise ValueError(
                "text_embeddings are not those that the saved classifier was fitted with"
                f"{saved_with}; expected the same, or a new fit"
            )
