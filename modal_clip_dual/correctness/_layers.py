"""What a classifier's models of correctness look at: its embeddings, or the blocks of its image tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..strategies.view import View
from ..utils.arrays import as_array, unit_rows


def embeddings_of(estimator: Any, X: Any) -> np.ndarray:
    """Return the embeddings (n, D), float32: from ``transform``, or X as it reaches the estimator inside.

    Raises
    ------
    TypeError
        If neither is a table of numbers.
    """
    inside = View(estimator, X, "X").find("transform", required=False)
    table = as_array(inside.ask("transform") if inside.has("transform") else inside.X)
    try:
        numbers = np.asarray(table, dtype=np.float32)
    except (TypeError, ValueError):
        numbers = np.empty(0, dtype=np.float32)
    if numbers.ndim != 2:
        raise TypeError(
            f"the embeddings of X were asked of {type(inside.object).__name__}, which has no transform(X), and X has "
            f"shape {table.shape} and type {table.dtype}; expected embeddings (n, D) as X, or a classifier with "
            "transform(X), such as those of this package"
        )
    return numbers


def block_features_of(estimator: Any, X: Any, kind: str) -> np.ndarray:
    """Return the features of the blocks of the estimator's CLIP, or of the first step of a Pipeline.

    Raises
    ------
    TypeError
        If neither has ``block_features``.
    """
    holder = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
    if not hasattr(holder, "block_features"):
        raise TypeError(
            f"the blocks of an image tower were asked of {type(holder).__name__}, which has no block_features(X); "
            "expected a classifier of this package, or a Pipeline that begins with CLIPImageEncoder"
        )
    features: np.ndarray = holder.block_features(X, kind)
    return features


def layers_of(estimator: Any, X: Any, layers: str | Sequence[int]) -> list[np.ndarray]:
    """Return the layers as tables (n, width): the embedding, or CLS tokens of all or some blocks, of unit length.

    Raises
    ------
    ValueError
        If there is no such block.
    """
    if isinstance(layers, str) and layers == "embedding":
        return [embeddings_of(estimator, X)]
    tokens = block_features_of(estimator, X, "tokens")
    n_blocks = tokens.shape[1]
    chosen = range(n_blocks) if isinstance(layers, str) else layers
    wrong = [block for block in chosen if not -n_blocks <= block < n_blocks]
    if wrong:
        raise ValueError(f"layers has the block {wrong[0]}; expected numbers from 0 to {n_blocks - 1}")
    return [unit_rows(tokens[:, block]) for block in chosen]
