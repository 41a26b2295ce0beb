"""Arrays as torch tensors and back, without copies where none is needed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def as_tensor(array: np.ndarray | torch.Tensor, device: str | None = None) -> torch.Tensor:
    """A float32 tensor that must not be written to, as it may share the array's memory.

    On the device where the values are, or on ``device``.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    import torch

    if isinstance(array, torch.Tensor):
        tensor = array.detach().float()
    else:
        with warnings.catch_warnings():  # of arrays that may not be written, such as mapped files
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return tensor if device is None else tensor.to(check_device(device))


def as_array(values) -> np.ndarray:
    """Tensors from whatever device as arrays; everything else as `numpy.asarray` has it."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def check_device(device: str | None):
    """Refuse a device that torch does not know or this machine does not have.

    Raises
    ------
    ValueError
        Names the argument ``device``.
    """
    import torch

    if device is None:
        return None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here ({error}); expected None (where the embeddings "
            'are), "cpu", or a device of this machine such as "cuda"'
        ) from error
    return torch.device(device)
