"""What is said, and let go of, when a device has no memory left."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch found no memory, on a GPU or for the CPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    # The driver's own failures, other devices' and the CPU's are plain RuntimeErrors.
    marks = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in marks)


@contextmanager
def memory_advice(doing: str, advice: str) -> Iterator[None]:
    """Say what to change if the device runs out of memory inside; keep nothing of the attempt.

    A traceback holds the variables of all its functions, so the tensors that filled the memory
    would stay for as long as somebody keeps the error, as notebooks do with the last one.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        In place of torch's own error, which it quotes.
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
    """Half precision as a remedy, where the towers do not have it yet."""
    return ", or precision='bf16'" if precision == "fp32" else ""
