"""Checks of the table of runs, from which summaries and figures are made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

GROUP = ("data", "estimator", "strategy")  # these columns identify a learning curve; with a seed, a run
# For these columns lower is better; for all others, higher.
LOWER_IS_BETTER = {
    "ece_correct", "ece_proba", "nll", "peak_memory_mib", "query_seconds", "score_seconds",
    "select_seconds", "train_seconds",
}  # fmt: skip
_NO_METRIC = {*GROUP, "seed", "round", "n_labels", "budget"}


def check_runs(frame: pd.DataFrame, metric: str, *required: str) -> list[str]:
    """Check a table of runs; return which of the columns data, estimator and strategy it has.

    Raises
    ------
    TypeError
        If it is not a DataFrame.
    ValueError
        If it is empty, a column is missing, the metric is not a column of finite or missing
        numbers, a row lacks its strategy or seed, or a run has a round twice.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"frame is a {type(frame).__name__}; expected a pandas DataFrame")
    if frame.empty:
        raise ValueError("frame has no rows; expected one per run and round")
    missing = [c for c in ("strategy", "seed", "n_labels", *required) if c not in frame.columns]
    if missing:
        raise ValueError(
            f"frame has no column {', '.join(map(repr, missing))}; its columns are "
            f"{', '.join(map(repr, frame.columns))}"
        )
    _check_metric(frame, metric)
    keys = [name for name in GROUP if name in frame.columns]
    run = [*keys, "seed"]
    labels = ["n_labels", *(c for c in ("round", "budget") if c in required)]
    for name in [*run, *labels]:
        if frame[name].isna().any():
            raise ValueError(f"frame has {frame[name].isna().sum()} rows without {name!r}")
    for name in labels:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise ValueError(f"frame[{name!r}] has type {frame[name].dtype}; expected numbers")
    for name in ("n_labels", "round"):
        known = frame[frame[name].notna()] if name in frame.columns else frame[:0]
        twice = known.duplicated([*run, name])
        if twice.any():
            raise ValueError(
                f"frame has a run twice, or two runs of one name and other settings or data: "
                f"{named(known[twice].iloc[0], run)}, {name} {known[name][twice].iloc[0]}; expected one row per "
                "run and round, and another name for what differs"
            )
    return keys


def _check_metric(frame: pd.DataFrame, metric: str) -> None:
    numeric = [
        name
        for name in frame.columns
        if name not in _NO_METRIC and pd.api.types.is_numeric_dtype(frame[name])
    ]
    if metric not in numeric:
        raise ValueError(
            f"metric={metric!r} is not a measured column of frame; expected one of "
            f"{', '.join(map(repr, numeric))}"
        )
    if np.isinf(frame[metric].to_numpy(dtype=np.float64, na_value=np.nan)).any():
        raise ValueError(f"frame[{metric!r}] has infinite values; expected finite or missing ones")


def check_level(confidence_level: float, n_resamples: int = 1) -> None:
    """Refuse a confidence level outside of (0, 1), or fewer than one resample."""
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"confidence_level={confidence_level!r}; expected a number between 0 and 1, such as 0.95"
        )
    if not n_resamples >= 1:
        raise ValueError(f"n_resamples={n_resamples!r}; expected at least 1")


def groups_of(frame: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the groups of a table in order of appearance, as pairs of a dict of the keys and the rows."""
    if not keys:
        yield {}, frame
        return
    for values, rows in frame.groupby(list(keys), sort=False, observed=True, dropna=False):
        yield dict(zip(keys, values)), rows


def named(row: Mapping[str, Any] | pd.Series, keys: Collection[str]) -> str:
    """Name a run in a message: ``data='DTD', strategy='random', seed=0``."""
    values = (row[key] for key in keys)
    plain = (v.item() if isinstance(v, np.generic) else v for v in values)
    return ", ".join(f"{key}={value!r}" for key, value in zip(keys, plain))
