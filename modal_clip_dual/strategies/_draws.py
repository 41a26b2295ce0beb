"""Draws of class probabilities, by models with a posterior and by the members of Committees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..utils.arrays import Rows, blocks
from . import _ranking
from ._inside import Inside

Reduce = Callable[[np.ndarray, np.ndarray], np.ndarray]


def sources_of(members: list[Inside], check_has: Callable[[Inside, str], None]) -> list[Inside]:
    """Return the source of each member's draws: ``sample_proba``, or else ``predict_proba``."""
    sources = []
    for member in members:
        inside = member.find("sample_proba")
        if not inside.has("sample_proba"):
            inside = member.find("predict_proba")
            check_has(inside, "predict_proba")
        sources.append(inside)
    return sources


def reduce_draws(sources: list[Inside], reduce: Reduce) -> np.ndarray:
    """Apply ``reduce`` to the draws (S, rows, C) and their weights (S,), for large tables in parts."""
    return np.concatenate([reduce(*_draws(sources, samples)) for samples in _parts([s.X for s in sources])])


def _draws(sources: list[Inside], samples: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the draws of all sources side by side, and weights by which each source counts the same."""
    each = []
    for source, X in zip(sources, samples):
        sampled = source.has("sample_proba")
        each.append(source.object.sample_proba(X) if sampled else source.object.predict_proba(X)[None])
    weights = [np.full(len(draws), 1 / (len(draws) * len(each))) for draws in each]
    return np.concatenate(each).astype(np.float64), np.concatenate(weights)


def _parts(views: list[Any]) -> Iterator[list[Any]]:
    """Yield the samples as each source sees them, in parts if all are large tables."""
    size = max(1, _ranking.POOL_ROWS // 8)  # draws take many times the memory of one answer
    tables = all(isinstance(X, (np.ndarray, Rows)) and X.ndim == 2 for X in views)
    if not tables or len(views[0]) <= size:
        yield views
        return
    for rows in blocks(len(views[0]), size):
        yield [X[rows] for X in views]
