"""A stand-in for a CLIP whose embeddings were computed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np


class ExternalEncoder:
    """A replacement for `Backbone` where the embeddings come from another library.

    Parameters
    ----------
    embed_dim : int
        Width D of the embeddings.
    logit_scale : float, default=100.0
        Inverse temperature, which scales cosines to logits.
    text : mapping of {str: ndarray} or None, default=None
        Unit text embedding (D,) of every class name; None if the encoder has no text.
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
        """The name of this encoder in messages."""
        return "an encoder outside of this package, of which only embeddings are known"

    def identity(self) -> dict[str, str]:
        """Return a checksum of the text embeddings, if there are any, to tell encoders apart."""
        digest = blake2b(str(self.embed_dim).encode(), digest_size=16)
        for name, embedding in sorted((self.text or {}).items()):
            digest.update(name.encode() + np.ascontiguousarray(embedding, dtype=np.float32).tobytes())
        return {"precision": self.precision, "weights": digest.hexdigest(), "preprocessing": "None"}

    def check_identity(self, expected: Mapping[str, str], saved_with: str = "") -> None:
        """Raise an error if this is not the encoder whose `identity` is expected.

        Raises
        ------
        ValueError
            If the text embeddings differ.
        """
        if self.identity()["weights"] != expected["weights"]:
            raise ValueError(
                "text_embeddings are not those that the saved classifier was fitted with"
                f"{saved_with}; expected the same, or a new fit"
            )
