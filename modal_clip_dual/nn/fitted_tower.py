"""The result of fine-tuning: the trained weights, and what their module is built with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..clip.backbone import Backbone
    from .fine_tuning import FineTunedTower

WEIGHT = "weights."  # in front of the names of weights


class FittedTower:
    """Trained last blocks of an image tower as plain arrays, from which the module is rebuilt when it is needed.

    Copies and pickles hold the arrays alone.

    Parameters
    ----------
    weights : mapping of {str: ndarray}
        Trained weights by their names in the tower.
    text : ndarray of shape (C, D), float32
        Unit text embeddings of the classes.
    layers : {"last", "all"} or int
        Number of blocks that were trained.
    module : FineTunedTower or None, default=None
        The module itself, if it is built already.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        text: np.ndarray,
        layers: int | str,
        module: FineTunedTower | None = None,
    ):
        self._weights = dict(weights)
        self.text = text
        self.layers = layers
        self._module = module

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The trained weights as arrays."""
        return self._weights if self._module is None else self._module.weights()

    def module(self, backbone: Backbone) -> FineTunedTower:
        """Return the module, built at the first call from the CLIP that the weights were trained with.

        Raises
        ------
        ValueError
            If the weights are not those of this CLIP's last blocks.
        """
        if self._module is None:
            import torch

            from .fine_tuning import FineTunedTower

            module = FineTunedTower(backbone, torch.from_numpy(self.text), self.layers)
            module.load_weights(self._weights)
            self._module = module.eval()
        return self._module

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain settings and arrays, which `from_state` takes."""
        layers = self.layers if isinstance(self.layers, str) else int(self.layers)
        arrays = {f"{WEIGHT}{name}": value for name, value in self.weights.items()}
        return {"layers": layers}, {"text": self.text, **arrays}

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FittedTower:
        """Return the fitted tower of `to_state`.

        Raises
        ------
        KeyError, ValueError
            If something is missing or has another shape.
        """
        layers, text = settings["layers"], arrays["text"]
        if layers not in ("last", "all") and not (isinstance(layers, int) and layers >= 1):
            raise ValueError(f"layers is {layers!r}")
        weights = {k.removeprefix(WEIGHT): v for k, v in arrays.items() if k.startswith(WEIGHT)}
        if text.ndim != 2 or not weights or any(value.dtype != np.float32 for value in (text, *weights.values())):
            raise ValueError("no weights of a tower")
        return cls(weights, text, layers)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_weights": self.weights, "_module": None}
