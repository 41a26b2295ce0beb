"""What was computed with the parameters of a module, kept as long as they are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class Kept:
    """A value that was computed with the parameters of a module.

    It goes by the values of the parameters, of which it holds copies: whoever sets them, and how (training,
    ``load_state_dict``, a callback, ``parameter.data``), nobody has to say so.

    Parameters
    ----------
    module : torch.nn.Module
        The module whose parameters the value depends on, as they are now.
    """

    value: Any

    def __init__(self, module: nn.Module):
        self._parameters = [parameter.detach().clone() for parameter in module.parameters()]

    def holds_for(self, module: nn.Module) -> bool:
        """Return whether the module has the same parameters, on the same device, as when the value was computed."""
        import torch

        now = list(module.parameters())
        return len(now) == len(self._parameters) and all(
            one.device == other.device and one.dtype == other.dtype and torch.equal(one, other)
            for one, other in zip(now, self._parameters)
        )
