"""The result of a fit: the prompts, and the settings that their module is built with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..clip.backbone import Backbone
    from .module import DualPromptModule

CONTEXTS = ("context_positive", "context_negative")
OFFSETS = ("offsets_positive", "offsets_negative")
VISUAL_SETTINGS = ("visual_prompts", "n_visual_tokens", "prompt_depth")


class FittedPrompts:
    """Trained prompts as plain arrays, from which the module is rebuilt when it is needed.

    Copies and pickles hold the arrays alone.

    Parameters
    ----------
    prompts : mapping of {str: ndarray}
        State dict of the module.
    complement : str
        Wrong labels that the negative prompt was trained on.
    visual : mapping
        ``visual_prompts``, ``n_visual_tokens`` and ``prompt_depth``.
    module : DualPromptModule or None, default=None
        The module itself, if it is built already.
    """

    def __init__(
        self,
        prompts: Mapping[str, np.ndarray],
        complement: str,
        visual: Mapping[str, Any],
        module: DualPromptModule | None = None,
    ):
        self._prompts = dict(prompts)
        self.complement = complement
        self.visual = dict(visual)
        self._module = module

    @classmethod
    def of(cls, module: DualPromptModule, complement: str, visual: Mapping[str, Any]) -> FittedPrompts:
        """Return the fitted prompts of a trained module."""
        return cls({}, complement, visual, module)

    @property
    def prompts(self) -> dict[str, np.ndarray]:
        """The prompts as arrays."""
        if self._module is None:
            return self._prompts
        return {name: value.detach().cpu().numpy() for name, value in self._module.state_dict().items()}

    def module(self, backbone: Backbone, names: list[str], **settings: Any) -> DualPromptModule:
        """Return the module, built at the first call.

        Parameters
        ----------
        backbone : Backbone
            The CLIP that the prompts were trained with.
        names : list of str
            Names of the classes.
        **settings
            Other arguments of `DualPromptModule`.
        """
        if self._module is None:
            import torch

            from .module import DualPromptModule

            own = {**self.of_module, "context_init": None}
            module = DualPromptModule(backbone, names, **{**settings, **self.visual, **own})
            prompts = {name: torch.from_numpy(value) for name, value in self._prompts.items()}
            module.load_state_dict(prompts)
            self._module = module.to(backbone.device).eval()
        return self._module

    @property
    def of_module(self) -> dict[str, Any]:
        """Arguments of `DualPromptModule` that follow from the prompts."""
        prompts = self.prompts
        return {
            "n_context": int(prompts[CONTEXTS[0]].shape[-2]),
            "class_specific_context": bool(prompts[CONTEXTS[0]].ndim == 3),
            "name_offsets": OFFSETS[0] in prompts,
        }

    @property
    def is_built(self) -> bool:
        """Whether the module has been built."""
        return self._module is not None

    def to_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return plain settings and arrays, which `from_state` takes."""
        visual = {k: v.item() if isinstance(v, np.generic) else v for k, v in self.visual.items()}
        return {"complement": self.complement, "visual": visual}, self.prompts

    @classmethod
    def from_state(cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FittedPrompts:
        """Return the fitted prompts of `to_state`.

        Raises
        ------
        KeyError, ValueError
            If something is missing or has another shape.
        """
        if {arrays[name].ndim for name in CONTEXTS} not in ({2}, {3}):
            raise ValueError("contexts are not matrices, nor a matrix for each class")
        if set(OFFSETS) & set(arrays) and {arrays[name].ndim for name in OFFSETS} != {3}:
            raise ValueError("offsets of names are not a matrix for each class")
        visual = settings["visual"]
        if not set(VISUAL_SETTINGS) <= set(visual):
            raise ValueError("no settings of visual prompts")
        return cls(_renamed(arrays), settings["complement"], {name: visual[name] for name in VISUAL_SETTINGS})

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_prompts": self.prompts, "_module": None}


def _renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename arrays of version 0.1.0, where MaPLe's deep contexts stood outside of the visual prompts."""
    deep = ("deep_positive", "deep_negative")
    return {f"visual.{name}" if name in deep else name: value for name, value in arrays.items()}
