"""Threads of torch and NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and NumPy compute with one thread in the block.

    For small models: threads of one sum wait for each other longer than they compute, and another number of them
    adds up in another order, which changes the last digits.
    """
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
