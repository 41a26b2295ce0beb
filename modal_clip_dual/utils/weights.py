"""Weights of samples in a fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils import check_array

from .arrays import as_sequence

Function = TypeVar("Function", bound=Callable[..., Any])


def without_weights(method: Function) -> Function:
    """Let a method ``(X, y, X_pool)`` that takes no weights of samples say so, where it is given some.

    The signature stays what it was, so that others do not take it for a method with weights.
    """

    @wraps(method)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        name = f"{type(self).__name__}.{method.__name__}"
        if "sample_weight" in kwargs:
            raise TypeError(f"{name} takes no sample_weight; expected X, y and, by name, X_pool")
        if len(args) > 2:
            raise TypeError(
                f"{name} got {len(args)} arguments by position; expected X and y. An unlabeled pool is passed as "
                "X_pool=..., and sample_weight is not taken"
            )
        return method(self, *args, **kwargs)

    return cast(Function, checked)


def weighted_rows(sample_weight: Any, n: int) -> tuple[Any, np.ndarray | None]:
    """Return the rows that count in a fit of n samples, and their weights; all rows and None without weights.

    Rows of weight 0 do not count.  A single number weighs all samples alike.

    Raises
    ------
    TypeError, ValueError
        If the weights are no n finite numbers of at least 0, or all of them are 0.
    """
    if sample_weight is None:
        return slice(None), None
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n, sample_weight)
    sample_weight = as_sequence(sample_weight, "sample_weight", "expected a weight for each sample")
    weight = check_array(sample_weight, ensure_2d=False, allow_nd=True, dtype=np.float64, input_name="sample_weight")
    if weight.shape != (n,):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(n,)}: a weight for each sample")
    if weight.min() < 0:
        row = int(weight.argmin())
        raise ValueError(f"sample_weight[{row}]={weight[row]:g}; expected weights of at least 0")
    rows = np.flatnonzero(weight)
    if not len(rows):
        raise ValueError("sample_weight: all weights are zero; expected at least one sample that counts")
    return rows, weight[rows]
