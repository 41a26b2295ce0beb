"""Conversion between arrays and torch tensors without needless copies, and large arrays in parts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .validation import check_device

if TYPE_CHECKING:
    import torch

ROWS = 16384  # of embeddings that are looked at at a time
CACHED = 256  # of them for what passes over the same rows more than once: so few stay in a processor's cache


class Rows:
    """Some rows of a large array, gathered only when they are read.

    It has what code needs to read an array of embeddings in parts: length, shape, type, and slices.
    ``numpy.asarray`` gathers all rows.
    """

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self.array = array
        self.rows = np.asarray(rows, dtype=np.intp)
        self.shape = (len(self.rows), *array.shape[1:])
        self.dtype = array.dtype
        self.ndim = array.ndim

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        part: np.ndarray = self.array[self.rows[rows]]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the rows are gathered from another array; expected copy=None or True")
        return np.asarray(self[:], dtype=dtype)


class Stacked:
    """Two tables of the same width and type, one above the other, that are joined only in the parts that are read.

    ``numpy.asarray`` joins them.
    """

    def __init__(self, upper: np.ndarray, lower: np.ndarray):
        self.upper, self.lower = upper, lower

    def __len__(self) -> int:
        return len(self.upper) + len(self.lower)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return rows from one to another, or those at ascending positions."""
        n = len(self.upper)
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            if stop <= n:
                return self.upper[start:stop]  # without a copy
            return np.concatenate([self.upper[start:stop], self.lower[max(start - n, 0) : stop - n]])
        split = np.searchsorted(rows, n)
        return np.concatenate([self.upper[rows[:split]], self.lower[rows[split:] - n]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the rows are joined from two arrays; expected copy=None or True")
        return np.asarray(self[:], dtype=dtype)


def is_mapped(array: Any) -> bool:
    """Return whether an array is mapped from a file, so that it must not be read or copied as a whole."""
    return isinstance(array, (np.memmap, Rows))


def blocks(n: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` rows that cover n rows."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def as_tensor(
    array: np.ndarray | torch.Tensor, device: str | torch.device | None = None
) -> torch.Tensor:
    """Return a float32 tensor; it may share the array's memory, so it must not be written to.

    It is on ``device``, or else where the values are.

    Raises
    ------
    ValueError
        If the device does not exist.
    """
    import torch

    if isinstance(array, torch.Tensor):
        tensor = array.detach().float()
    else:
        with warnings.catch_warnings():  # of arrays that may not be written, such as mapped files
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return tensor if device is None else tensor.to(check_device(device))


def as_array(values: Any) -> np.ndarray:
    """Return a tensor of any device as an array; convert other values by `numpy.asarray`."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def unit_rows(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings as float32, scaled to length 1; rows of zeros stay zero.

    The result is the same to the last bit in any memory order: sums of rows are rounded as they lie in memory.
    """
    unit = np.empty(embeddings.shape, dtype=np.float32)
    for rows in blocks(len(embeddings), CACHED):
        part = np.ascontiguousarray(embeddings[rows], dtype=np.float32)
        length = np.linalg.norm(part, axis=1, keepdims=True)
        np.divide(part, np.maximum(length, np.finfo(np.float32).tiny), out=unit[rows])
    return unit


def as_sequence(X: Any, name: str, expected: str) -> Any:
    """Refuse what NumPy would ask for items without end: data sets, loaders, iterators.

    Sequences of other kinds than lists and tuples, such as columns of Hugging Face's data sets, come
    back as lists.

    Raises
    ------
    TypeError
        If X is one of these; no item was asked for.
    """
    if isinstance(X, (list, tuple, np.ndarray, str, bytes)) or any(hasattr(X, attribute) for attribute in _ARRAYS):
        return X
    if isinstance(X, Sequence):
        return [X[row] for row in range(len(X))]
    if not hasattr(X, "__getitem__") or isinstance(X, dict):
        if hasattr(X, "__iter__") and not isinstance(X, (dict, set, frozenset)):
            raise TypeError(f"{name} is a {type(X).__name__}, which is read item by item; {expected}")
        return X  # a number, say: NumPy makes a single thing of it
    kind = type(X).__name__
    if hasattr(X, "collect"):
        raise TypeError(f"{name} is a {kind}, which computes its rows when it is asked: {name}.collect(); {expected}")
    torch_set = any(base.__module__.startswith("torch.utils.data") for base in type(X).__mro__)
    what = f"a torch Dataset ({kind})" if torch_set else f"a {kind}, which can only be asked for items"
    raise TypeError(
        f"{name} is {what}; {expected}. The paths or images that it reads go in themselves, for example "
        f"[{name}[k][0] for k in range(len({name}))] if its items are pairs of PIL images and labels"
    )


def n_samples(X: Any, name: str, expected: str) -> int:
    """Return the number of samples of X, without a look at them.

    Raises
    ------
    TypeError
        If X has no length; names X.
    """
    from sklearn.utils.validation import _num_samples

    try:
        n: int = _num_samples(X)
    except TypeError as error:
        as_sequence(X, name, expected)  # which says more of data sets and iterators
        raise TypeError(f"{name} is {X!r:.60} ({type(X).__name__}); {expected}") from error
    return n


_ARRAYS = ("__array__", "__array_interface__", "__cuda_array_interface__", "__dlpack__", "__dataframe__")
