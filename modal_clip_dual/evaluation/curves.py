"""Statistics of learning curves: means and intervals, areas, labels to reach a target.

All functions take the table of runs: one row per run and round, with the columns ``strategy``, ``seed`` and
``n_labels``, if there are several ``data`` and ``estimator``, and one column per metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..utils.validation import check_option
from ._checks import LOWER_IS_BETTER, check_level, check_runs, groups_of, named
from ._intervals import METHODS, mean_interval


def summarize(
    frame: pd.DataFrame,
    metric: str = "accuracy",
    confidence_level: float = 0.95,
    n_resamples: int = 9999,
    random_state: Any = 0,
    method: str = "studentized",
) -> pd.DataFrame:
    """Compute mean, spread and confidence interval over seeds, per strategy and round.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round: ``strategy``, ``seed``, ``n_labels``, the metric, and if there
        are several ``data``, ``estimator`` and ``round``.
    metric : str, default="accuracy"
        Column to summarize.
    confidence_level : float, default=0.95
        Level of the interval, between 0 and 1.
    n_resamples : int, default=9999
        Number of bootstrap samples.
    random_state : int, default=0
        Seed of the resampling. An interval depends only on this seed and on the values of its own runs.
    method : {"studentized", "t", "percentile", "bca"}, default="studentized"
        Kind of interval: from the bootstrap's own t statistics, but Student's t with up to 3 seeds; always
        Student's t; the bootstrap's percentiles; or these corrected for bias and skewness. See Notes.

    Returns
    -------
    summary : pandas.DataFrame
        One row per ``data``, ``estimator``, ``strategy``, ``round`` (those that frame has) and
        ``n_labels``: ``mean``, ``std`` (ddof=1), ``low`` and ``high`` of the interval of the mean,
        all in the metric's unit, and ``n_seeds``. Seeds without a value are left out. ``std``,
        ``low`` and ``high`` are nan with fewer than two seeds.

    Raises
    ------
    TypeError
        If frame is not a DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice; or an argument is not one of its choices.

    See Also
    --------
    compare_pairs : Test whether two strategies differ, which overlapping intervals do not tell.

    Notes
    -----
    The interval is about the mean of more seeds of the same experiment, not about one more run or
    another data set. Bounds can lie outside of the metric's range.

    With few seeds an interval covers the mean less often than its level. This is the share of 95%
    intervals that covered the true mean in 10,000 simulated experiments (1,999 resamples), first of a
    normal metric, then of a skewed one (one minus an exponential):

    ===========  =============  =============  =============  =============
    seeds        3              5              10             20
    ===========  =============  =============  =============  =============
    studentized  0.949  0.885   0.946  0.921   0.951  0.936   0.950  0.943
    t            0.949  0.885   0.953  0.874   0.954  0.897   0.952  0.916
    percentile   0.752  0.703   0.840  0.777   0.909  0.859   0.928  0.900
    bca          0.696  0.655   0.838  0.791   0.907  0.874   0.928  0.911
    ===========  =============  =============  =============  =============

    So the default is the studentized bootstrap: it is closest to 0.95 in both, for intervals that are wider
    than Student's t, by a fifth to a quarter with 5 seeds and by a twentieth to a sixth with 10
    (medians). Two exceptions make it usable: with up to 3 seeds the resamples say too little of the
    tails (0.84 for the normal metric), and Student's t is taken; and no bound lies farther from the
    mean than twice Student's, since resamples of seeds that nearly agree would give bounds without
    limit. Percentiles cannot leave the range of the seeds, which for 3 seeds of a symmetric metric
    holds its mean 3 times in 4. Where 15% of runs collapse (by 5 standard deviations) no method held
    more than 0.92 with 3 to 10 seeds; the default held 0.92, 0.89, 0.89 and with 20 seeds 0.94.
    ``tests/benchmarks/interval_coverage.py`` measured this.

    References
    ----------
    .. [1] Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 12 to 14.
    .. [2] Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician
       69(4), 2015.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation import summarize
    >>> frame = pd.DataFrame({"strategy": "random", "seed": [0, 1, 2], "n_labels": 12,
    ...                       "accuracy": [0.7, 0.8, 0.9]})
    >>> summarize(frame).round(3).to_dict("records")
    [{'strategy': 'random', 'n_labels': 12, 'mean': 0.8, 'std': 0.1, 'low': 0.552,
      'high': 1.048, 'n_seeds': 3}]
    """
    check_level(confidence_level, n_resamples)
    check_option("method", method, METHODS)
    keys = check_runs(frame, metric)
    keys += [name for name in ("round", "n_labels") if name in frame.columns]
    rows, values = [], []
    for key, runs in groups_of(frame, keys):
        rows.append(key)
        values.append(runs[metric].dropna().to_numpy(dtype=np.float64))
    sizes = np.array([len(v) for v in values])
    figures = np.full((4, len(rows)), np.nan)  # mean, std, low, high
    for n in np.unique(sizes[sizes > 0]):  # seeds differ in number only where runs are missing
        (of_size,) = np.nonzero(sizes == n)
        stacked = np.stack([values[k] for k in of_size])
        figures[0, of_size] = stacked.mean(axis=1)
        if n > 1:
            figures[1, of_size] = stacked.std(axis=1, ddof=1)
        figures[2:, of_size] = mean_interval(
            stacked, confidence_level, n_resamples, random_state, method
        )
    summary = pd.DataFrame(rows, columns=keys)
    for name, column in zip(("mean", "std", "low", "high"), figures):
        summary[name] = column
    return summary.assign(n_seeds=sizes)


def area_under_learning_curve(frame: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Compute the area under each run's learning curve, divided by its width: a mean in the metric's unit.

    The curve is taken as straight between rounds (trapezoids over the number of labels). The area
    of a run with one round is its metric.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round, as for `summarize`.
    metric : str, default="accuracy"
        Column to integrate.

    Returns
    -------
    areas : pandas.DataFrame
        One row per ``data``, ``estimator``, ``strategy`` (those that frame has) and ``seed``:
        ``area``, nan if the metric is missing in a round; ``first_labels`` and ``last_labels``, the
        range of the area. Areas over different ranges cannot be compared.

    Raises
    ------
    TypeError
        If frame is not a DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation import area_under_learning_curve
    >>> frame = pd.DataFrame({"strategy": "random", "seed": 0, "n_labels": [10, 20, 40],
    ...                       "accuracy": [0.5, 0.7, 0.8]})
    >>> area_under_learning_curve(frame)["area"].round(6).tolist()  # (10 * 0.6 + 20 * 0.75) / 30
    [0.7]
    """
    keys = [*check_runs(frame, metric), "seed"]
    rows = []
    for key, run in groups_of(frame, keys):
        run = run.sort_values("n_labels")
        labels = run["n_labels"].to_numpy(dtype=np.float64)
        values = run[metric].to_numpy(dtype=np.float64, na_value=np.nan)
        area = values[0]
        if len(run) > 1:
            heights = (values[1:] + values[:-1]) / 2
            area = (np.diff(labels) * heights).sum() / (labels[-1] - labels[0])
        ends = run["n_labels"].iloc[[0, -1]].tolist()
        rows.append({**key, "area": float(area), "first_labels": ends[0], "last_labels": ends[1]})
    return pd.DataFrame(rows)


def labels_to_reach(
    frame: pd.DataFrame,
    target: float,
    metric: str = "accuracy",
    reference: str | None = "random",
    by: str = "strategy",
) -> pd.DataFrame:
    """Find the labels that each strategy needs to reach a target, and the saving against a reference.

    Between the last round below the target and the first one at it or beyond, the curve is taken
    as straight. A curve that begins at or beyond the target needed at most the labels of its first
    round, which are returned then; falling back below it later changes nothing.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round, as for `summarize`.
    target : float
        Value to reach, in the metric's unit: accuracy from 0 to 1.
    metric : str, default="accuracy"
        Column that has to reach it. Calibration errors, ``nll``, seconds and memory reach it
        from above, every other column from below.
    reference : str or None, default="random"
        Strategy that the saving is measured against; None computes no saving.
    by : {"strategy", "run"}, default="strategy"
        Kind of rows: one per strategy, from its mean curve (over the rounds that all of its seeds have),
        or one per run.

    Returns
    -------
    needed : pandas.DataFrame
        One row per ``data``, ``estimator``, ``strategy`` (those that frame has), with ``by="run"``
        and ``seed``: ``labels``, nan if the target is never reached; ``saving``, the share of the
        reference's labels (with ``by="run"`` those of the same seed) that was not needed, negative if
        more were, nan unless both reach it. With ``by="strategy"`` also ``n_seeds``, and
        ``n_reached``, how many of these reach the target on their own.

    Raises
    ------
    TypeError
        If frame is not a DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice, target is not a finite number, the
        reference is missing for one of the data sets, estimators or (``by="run"``) seeds, or the
        seeds of a strategy have no round in common.

    Notes
    -----
    A strategy that reaches the target where the reference does not has no saving that could be
    measured; a longer run of the reference gives it.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation import labels_to_reach
    >>> frame = pd.DataFrame({"strategy": ["random"] * 2 + ["margin"] * 2, "seed": 0,
    ...                       "n_labels": [10, 30] * 2, "accuracy": [0.5, 0.7, 0.5, 0.9]})
    >>> labels_to_reach(frame, 0.6)[["strategy", "labels", "saving"]].to_dict("records")
    [{'strategy': 'random', 'labels': 20.0, 'saving': 0.0},
     {'strategy': 'margin', 'labels': 15.0, 'saving': 0.25}]
    """
    if not np.isfinite(target):
        raise ValueError(f"target={target!r}; expected a finite number")
    check_option("by", by, ("strategy", "run"))
    keys = check_runs(frame, metric)
    strategies = frame["strategy"].unique().tolist()
    if reference is not None:
        check_option("reference", reference, strategies)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    rows = []
    for key, runs in groups_of(frame, keys if by == "strategy" else [*keys, "seed"]):
        needed = _reach(runs["n_labels"], sign * runs[metric], sign * target)
        if by == "strategy":
            own = [
                _reach(run["n_labels"], sign * run[metric], sign * target)
                for _, run in groups_of(runs, ["seed"])
            ]
            labels, mean = _mean_curve(runs, metric, key)
            needed = _reach(labels, sign * mean, sign * target)
        rows.append({**key, "labels": needed})
        if by == "strategy":
            rows[-1] |= {"n_seeds": len(own), "n_reached": int(np.isfinite(own).sum())}
    table = pd.DataFrame(rows)
    table.insert(len(table.columns) if by == "run" else len(keys) + 1, "saving", np.nan)
    if reference is not None:
        table["saving"] = _saving(table, reference, [k for k in (*keys, "seed") if k in table])
    return table


def _reach(labels: Any, values: Any, target: float) -> float:
    """Find the labels at which a curve first is at the target or above; nan if it never is."""
    order = np.argsort(np.asarray(labels), kind="stable")
    labels = np.asarray(labels, dtype=np.float64)[order]
    values = np.asarray(values, dtype=np.float64)[order]
    labels, values = labels[~np.isnan(values)], values[~np.isnan(values)]
    (there,) = np.nonzero(values >= target - 1e-12)  # a mean taken in another order is the same
    if len(there) == 0:
        return float("nan")
    k = there[0]
    if k == 0:
        return float(labels[0])
    share = min(1.0, (target - values[k - 1]) / (values[k] - values[k - 1]))
    return float(labels[k - 1] + share * (labels[k] - labels[k - 1]))


def _mean_curve(runs: pd.DataFrame, metric: str, key: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and mean over seeds, of the rounds that every seed has a value of."""
    rounds = runs.groupby("n_labels")[metric].agg(["mean", "count"])
    rounds = rounds[rounds["count"] == runs["seed"].nunique()]
    if rounds.empty:
        raise ValueError(
            f"{named(key, key)}: its {runs['seed'].nunique()} seeds have a value of {metric!r} at no "
            "common n_labels, so they have no mean curve; expected the same rounds, or by='run'"
        )
    return rounds.index.to_numpy(), rounds["mean"].to_numpy()


def _saving(table: pd.DataFrame, reference: str, keys: Sequence[str]) -> np.ndarray:
    """Return 1 - labels / the reference's labels, of the reference's row that agrees in all else."""
    others = [key for key in keys if key != "strategy"]
    base = {
        tuple(row[key] for key in others): row["labels"]
        for _, row in table[table["strategy"] == reference].iterrows()
    }
    wanted = [tuple(row[key] for key in others) for _, row in table.iterrows()]
    missing = [key for key in wanted if key not in base]
    if missing:
        raise ValueError(
            f"reference={reference!r} has no run with {named(dict(zip(others, missing[0])), others)}; "
            "expected it beside every other strategy, or reference=None"
        )
    needed = np.array([base[key] for key in wanted], dtype=np.float64)
    # No labels at all (a zero-shot row) leave nothing to be saved.
    saving: np.ndarray = 1 - table["labels"].to_numpy() / np.where(needed > 0, needed, np.nan)
    return saving
