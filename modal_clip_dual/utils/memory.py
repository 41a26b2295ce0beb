"""Out-of-memory errors: advice in the message, and tensors that are released."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that torch ran out of memory, on a GPU or the CPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    # The driver's own failures, other devices' and the CPU's are plain RuntimeErrors.
    marks = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in marks)


@contextmanager
def memory_advice(doing: str, advice: str) -> Iterator[None]:
    """Add advice to an out-of-memory error in the block, and release the block's tensors.

    A traceback holds the variables of all its functions, so the tensors that filled the memory
    would stay for as long as the error is kept; notebooks keep the last one.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        If the device runs out of memory; it replaces torch's own error, which it quotes.
    """
    try:
        yield
        return
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        message = str(error)
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise torch.cuda.OutOfMemoryError(f"there is no memory left for {doing}; {advice} (torch: {message})")


def precision_advice(precision: str) -> str:
    """Return the advice to use half precision, if the towers do not use it yet."""
    return ", or precision='bf16'" if precision == "fp32" else ""
