"""Seeds of what an estimator holds: steps of a Pipeline, estimators inside of a meta-estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def seed_parts(estimator: Any, seed: int) -> None:
    """Set each ``random_state`` inside of an estimator that is None, in place; the estimator's own is left alone.

    A part's seed follows from ``seed`` and its name alone.  Some meta-estimators seed copies of their parts
    themselves: parts that are named in a class's ``seeds_copies_of`` are left to it.

    Parameters
    ----------
    estimator : estimator
    seed : int
        At least 0.

    Examples
    --------
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from modal_clip_dual.utils.seeding import seed_parts
    >>> pipeline = make_pipeline(SGDClassifier())
    >>> seed_parts(pipeline, 0)
    >>> pipeline[-1].random_state is None
    False
    """
    params = estimator.get_params(deep=True)
    unset = [name for name, value in params.items() if name.endswith("__random_state") and value is None]
    seeds = {name: _seed_of(name, seed) for name in unset if not _is_left_alone(estimator, name, params)}
    if seeds:
        estimator.set_params(**seeds)


def _seed_of(name: str, seed: int) -> int:
    return int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1)[0] >> 1)


def _is_left_alone(estimator: Any, name: str, params: Mapping[str, Any]) -> bool:
    """Tell whether one of the objects around a parameter seeds copies of the part that it is in."""
    *parts, _ = name.split("__")
    owner = estimator
    for depth, part in enumerate(parts, start=1):
        if part in getattr(owner, "seeds_copies_of", ()):
            return True
        owner = params.get("__".join(parts[:depth]))
    return False
