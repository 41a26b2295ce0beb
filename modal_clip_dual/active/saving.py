"""The state of a loop in a file: which pool, which estimator, which query strategy."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..classifier import NOT_SAVED, DualPromptClassifier
from ..data.images import image_key, kind_of
from ..utils.persistence import params_of


def keys_of(pool: np.ndarray) -> np.ndarray:
    """Identity of each sample of a pool, (n, 16) uint8."""
    from hashlib import blake2b

    if kind_of(pool) == "embeddings":
        rows = (np.ascontiguousarray(row).tobytes() for row in pool)
        keys = [blake2b(row, digest_size=16).digest() for row in rows]
    else:
        keys = [image_key(pool, row) for row in range(len(pool))]
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)


def compare_pools(saved: np.ndarray, given: np.ndarray) -> None:
    """Refuse a pool that differs from the saved one; says in which rows."""
    if len(saved) != len(given):
        raise ValueError(f"X_pool has {len(given)} rows, the saved learner's had {len(saved)}")
    differ = np.flatnonzero((saved != given).any(axis=1))
    if len(differ):
        raise ValueError(
            f"X_pool differs from the saved learner's in {len(differ)} of {len(given)} rows, the first "
            f"of them {differ[:5].tolist()} (files are compared by path, size and time of change)"
        )


def estimator_of(saved: dict[str, Any]) -> DualPromptClassifier:
    """The estimator of the saved parameters, not fitted."""
    if saved["missing"]:
        raise ValueError(
            f"estimator: the saved state cannot hold its {', '.join(saved['missing'])}; pass an "
            "estimator with the same parameters"
        )
    return DualPromptClassifier(**params_of(saved, without=NOT_SAVED))


def name_of(strategy: Any) -> str | None:
    """``module:name`` of a function that `strategy_of` finds again."""
    module, name = getattr(strategy, "__module__", ""), getattr(strategy, "__qualname__", "")
    known = (module or "").partition(".")[0] in ("modal_clip_dual", "modAL")
    return f"{module}:{name}" if known and name.isidentifier() else None


def strategy_of(name: str | None) -> Any:
    """The query strategy of this package or of modAL that a file names."""
    module, _, function = (name or "").partition(":")
    # The file may come from a stranger: it names functions of two packages and no others.
    if module.partition(".")[0] not in ("modal_clip_dual", "modAL") or not function.isidentifier():
        raise ValueError(
            "query_strategy: the saved one was no function of modal_clip_dual or modAL; pass it"
        )
    strategy = getattr(importlib.import_module(module), function, None)
    if not callable(strategy) or getattr(strategy, "__module__", None) != module:
        raise ValueError(f"query_strategy: the saved {name!r} does not exist here; pass it")
    return strategy
