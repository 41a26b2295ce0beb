"""Checks of single arguments; every message names the argument, the value and what is expected."""

from __future__ import annotations

from collections.abc import Callable, Collection
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "pure_bf16", "pure_fp16")  # of a CLIP, in open_clip's words

P = ParamSpec("P")
R = TypeVar("R")


def validated(**constraints: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check a function's arguments before it runs, as scikit-learn's estimators check theirs.

    ``constraints`` holds, by name, lists as in scikit-learn's ``_parameter_constraints``.  Its error
    is a ValueError and a TypeError, and names the argument, the value and what is expected.
    """
    from sklearn.utils._param_validation import validate_params

    decorator: Callable[[Callable[P, R]], Callable[P, R]]
    # Functions that it calls still check their own arguments.
    decorator = validate_params(constraints, prefer_skip_nested_validation=False)
    return decorator


def check_integer(name: str, value: Any, least: int) -> None:
    """Refuse a value that is not an integer, or is too small."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected an integer")
    if value < least:
        raise ValueError(f"{name}={value}; expected at least {least}")


def check_number(name: str, value: Any, low: float, high: float, *, ends: str = "") -> None:
    """Refuse a value that is not a number between low and high; ``ends`` says which ends are allowed."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is a {type(value).__name__}; expected a number")
    number = float(value)
    inside = low <= number if "low" in ends else low < number
    inside &= number <= high if "high" in ends else number < high
    if not inside:
        left, right = "[" if "low" in ends else "(", "]" if "high" in ends else ")"
        raise ValueError(f"{name}={value}; expected a number in {left}{low}, {high}{right}")


def check_option(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Refuse a value that is not allowed."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r}; expected one of {allowed}")


def check_n_instances(n_instances: Any, n_pool: int) -> int:
    """Return n_instances as an int.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If the pool is empty, or n_instances is below 1 or above the size of the pool.
    """
    if n_pool == 0:
        raise ValueError("X_pool is empty; expected at least one unlabeled sample")
    if isinstance(n_instances, bool) or not isinstance(n_instances, Integral):
        raise TypeError(
            f"n_instances={n_instances!r} is a {type(n_instances).__name__}; expected an integer"
        )
    if not 1 <= int(n_instances) <= n_pool:
        raise ValueError(
            f"n_instances={n_instances}; expected 1 to {n_pool}, the number of samples in X_pool"
        )
    return int(n_instances)


def check_device(device: str | torch.device | None) -> torch.device | None:
    """Refuse a device that torch does not know or this machine does not have.

    Raises
    ------
    ValueError
        If the device is unknown or missing; the message names the argument ``device``.
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
