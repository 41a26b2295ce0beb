"""Tables that compare strategies over seeds and data sets.

All take the table of runs: one row per run and round, with the columns ``strategy``, ``seed`` and
``n_labels``, if there are several ``data`` and ``estimator``, and one column per metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._frames import (
    LOWER_IS_BETTER,
    check_choice,
    check_level,
    check_runs,
    groups_of,
    named,
)
from ._inference import METHODS, holm, mean_interval, sign_flip_p_values, wilcoxon_p_values
from ._paper import paper_accuracy

if TYPE_CHECKING:
    _Figures = list[tuple[float, float] | None]  # mean and deviation at each budget


def summarize(
    frame: pd.DataFrame,
    metric: str = "accuracy",
    confidence_level: float = 0.95,
    n_resamples: int = 9999,
    random_state: Any = 0,
    method: str = "studentized",
) -> pd.DataFrame:
    """Mean, spread and confidence interval over seeds, per strategy and round.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round: ``strategy``, ``seed``, ``n_labels``, the metric, and if there
        are several ``data``, ``estimator`` and ``round``.
    metric : str, default="accuracy"
        Column to summarise.
    confidence_level : float, default=0.95
        Of the interval, between 0 and 1.
    n_resamples : int, default=9999
        Bootstrap samples.
    random_state : int, default=0
        Seed of the resampling. An interval depends on nothing but its own seeds' values and this.
    method : {"studentized", "t", "percentile", "bca"}, default="studentized"
        Interval: from the bootstrap's own t statistics, with up to 3 seeds Student's t; always
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
        If frame is no DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice; or an argument is none of its choices.

    See Also
    --------
    compare_pairs : Whether two strategies differ, which overlapping intervals do not tell.

    Notes
    -----
    The interval is about the mean of more seeds of the same experiment, not about one more run or
    another data set. Bounds can lie outside of the metric's range.

    With few seeds an interval holds less than it says. Share of 95% intervals that held the true
    mean in 10,000 simulated experiments (1,999 resamples), first of a normal metric, then of a
    skewed one (one minus an exponential):

    ===========  =============  =============  =============  =============
    seeds        3              5              10             20
    ===========  =============  =============  =============  =============
    studentized  0.949  0.885   0.946  0.921   0.951  0.936   0.950  0.943
    t            0.949  0.885   0.953  0.874   0.954  0.897   0.952  0.916
    percentile   0.752  0.703   0.840  0.777   0.909  0.859   0.928  0.900
    bca          0.696  0.655   0.838  0.791   0.907  0.874   0.928  0.911
    ===========  =============  =============  =============  =============

    So the default is the studentised bootstrap: closest to 0.95 in both, for intervals that are wider
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
    check_choice("method", method, METHODS)
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
    """Area under each run's learning curve, divided by its width: a mean in the metric's unit.

    The curve is taken as straight between rounds (trapezoids over the number of labels). A run of
    one round has the metric there.

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
        range it is over. Areas over different ranges do not compare.

    Raises
    ------
    TypeError
        If frame is no DataFrame.
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
    """Labels that each strategy needs to reach a target, and the saving against a reference.

    Between the last round below the target and the first one at it or beyond, the curve is taken
    as straight. A curve that begins at or beyond the target needed at most the labels of its first
    round, which are given then; falling back below it later changes nothing.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round, as for `summarize`.
    target : float
        Value to reach, in the metric's unit: accuracy from 0 to 1.
    metric : str, default="accuracy"
        Column that is to reach it. Calibration errors, ``nll``, seconds and memory reach it
        from above, every other column from below.
    reference : str or None, default="random"
        Strategy that the saving is against; None for no saving.
    by : {"strategy", "run"}, default="strategy"
        One row per strategy, from its mean curve (over the rounds that all of its seeds have),
        or per run.

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
        If frame is no DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice, target is no finite number, the
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
    check_choice("by", by, ("strategy", "run"))
    keys = check_runs(frame, metric)
    strategies = frame["strategy"].unique().tolist()
    if reference is not None:
        check_choice("reference", reference, strategies)
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
    """Labels at which a curve first is at the target or above; nan if it never is."""
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
    """Labels and mean over seeds, of the rounds that every seed has a value of."""
    rounds = runs.groupby("n_labels")[metric].agg(["mean", "count"])
    rounds = rounds[rounds["count"] == runs["seed"].nunique()]
    if rounds.empty:
        raise ValueError(
            f"{named(key, key)}: its {runs['seed'].nunique()} seeds have a value of {metric!r} at no "
            "common n_labels, so they have no mean curve; expected the same rounds, or by='run'"
        )
    return rounds.index.to_numpy(), rounds["mean"].to_numpy()


def _saving(table: pd.DataFrame, reference: str, keys: Sequence[str]) -> np.ndarray:
    """1 - labels / the reference's labels, of the reference's row that agrees in all else."""
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


def compare_pairs(
    frame: pd.DataFrame,
    metric: str = "accuracy",
    statistic: str | int = "area",
    test: str = "permutation",
    correction: str | None = "holm",
    reference: str | None = None,
    confidence_level: float = 0.95,
    n_resamples: int = 9999,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Paired tests between strategies, over seeds and data sets.

    A pair is one seed on one data set, run with both strategies: they shared its split and its
    first round, so that only their difference counts.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round, as for `summarize`. Strategies are compared within each
        estimator, and must have the same seeds and data sets there.
    metric : str, default="accuracy"
        Column to compare.
    statistic : "area" or int, default="area"
        `area_under_learning_curve` of each run, or the metric after this round (column ``round``).
    test : {"permutation", "wilcoxon"}, default="permutation"
        Random changes of sign of the differences, exact up to 16 pairs; or Wilcoxon's signed-rank
        test, as `scipy.stats.wilcoxon` does it.
    correction : {"holm", None}, default="holm"
        Correction of the p-values for the number of rows of the table.
    reference : str or None, default=None
        Compare all others with this strategy; None compares every two.
    confidence_level : float, default=0.95
        Of the interval of the mean difference (`summarize`'s default method).
    n_resamples : int, default=9999
        Of the interval, and of the changes of sign beyond 16 pairs.
    random_state : int, default=0
        Seed of both.

    Returns
    -------
    comparison : pandas.DataFrame
        One row per ``estimator`` (if frame has it), ``strategy`` and ``other``: ``mean_difference``
        (strategy less other, in the metric's unit), ``low`` and ``high`` of its interval (nan with
        one pair), ``p_value``, ``p_corrected``, ``n_pairs``, and ``min_p_value`` and
        ``min_p_corrected``, the smallest that these could have been.

    Raises
    ------
    TypeError
        If frame is no DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice; an argument is none of its choices;
        a strategy lacks a seed or a value that another has, which is named; areas are over
        different numbers of labels; or there are no two strategies.

    Notes
    -----
    **Not significant does not mean equal.** With n pairs that differ no p-value can be below 2 / 2^n:
    0.25 with 3 seeds, 0.0625 with 5, 0.002 with 10. With 3 to 5 seeds of one data set no difference,
    however large, reaches 0.05. Holm's correction multiplies the smallest p-value by the number of
    rows. Look at ``min_p_corrected`` first: where it is above your level the test could only have
    said "not significant". ``min_p_value`` takes the pairs that differ as they are and lets all differ
    in one direction; drawn changes of sign can also give no less than 1 / (n_resamples + 1).

    The interval is no test: it assumes more (see `summarize`), and may leave out zero where the
    test cannot say anything yet. Over several data sets the pairs speak of these data sets and
    not of others, and a metric that spreads widely on one of them outweighs the rest.

    References
    ----------
    .. [1] Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation import compare_pairs
    >>> frame = pd.DataFrame({"strategy": ["random"] * 5 + ["margin"] * 5, "seed": [0, 1, 2, 3, 4] * 2,
    ...                       "n_labels": 60, "accuracy": [0.5] * 5 + [0.6, 0.7, 0.8, 0.7, 0.6]})
    >>> row = compare_pairs(frame, reference="random").iloc[0]
    >>> print(f"{row['strategy']} - {row['other']}: {row['mean_difference']:.2f}, "
    ...       f"p = {row['p_value']}, at best {row['min_p_value']}")
    margin - random: 0.18, p = 0.0625, at best 0.0625
    """
    check_choice("test", test, ("permutation", "wilcoxon"))
    check_choice("correction", correction, ("holm", None))
    check_level(confidence_level, n_resamples)
    rows, differences = [], []
    for key, matrix in paired_values(frame, metric, statistic):
        names = list(matrix.columns)
        if reference is not None:
            check_choice("reference", reference, names)
        pairs = combinations(names, 2)
        for one, other in pairs if reference is None else _against(names, reference):
            rows.append({**key, "strategy": one, "other": other})
            # Accuracies of one test set differ by whole samples; what is left is rounding.
            differences.append(np.round((matrix[one] - matrix[other]).to_numpy(), 12))
    if not rows:
        raise ValueError(
            "frame has one strategy for each estimator; expected at least two to compare"
        )
    table = pd.DataFrame(rows)
    table["mean_difference"] = [d.mean() for d in differences]
    table[["low", "high"]] = _by_size(
        lambda d: np.transpose(mean_interval(d.T, confidence_level, n_resamples, random_state)),
        differences,
    )

    def p_values(d: np.ndarray) -> np.ndarray:
        if test == "permutation":
            return sign_flip_p_values(d, n_resamples, random_state)
        return wilcoxon_p_values(d)

    correct = holm if correction == "holm" else np.asarray
    table["p_value"] = _by_size(p_values, differences)
    table["p_corrected"] = correct(table["p_value"])
    table["n_pairs"] = [len(d) for d in differences]
    # Nothing is more extreme than that all pairs differ in the same direction; and Holm's
    # corrected p-values only grow with any of the p-values.
    table["min_p_value"] = _by_size(p_values, [np.abs(d) for d in differences])
    table["min_p_corrected"] = correct(table["min_p_value"])
    return table


def _by_size(function: Callable[[np.ndarray], np.ndarray], columns: list[np.ndarray]) -> np.ndarray:
    """Results of a function of a matrix for columns, which several estimators may have of two lengths."""
    sizes = np.array([len(column) for column in columns])
    results = [None] * len(columns)
    for n in np.unique(sizes):
        (of_size,) = np.nonzero(sizes == n)
        for k, result in zip(of_size, function(np.stack([columns[k] for k in of_size], axis=1))):
            results[k] = result
    return np.array(results)


def _against(names: Iterable[str], reference: str) -> list[tuple[str, str]]:
    return [(name, reference) for name in names if name != reference]


def paired_values(
    frame: pd.DataFrame, metric: str, statistic: str | int
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield for each estimator its key and the table (data and seed) x strategy of a statistic.

    Raises
    ------
    ValueError
        As `compare_pairs`.
    """
    area = isinstance(statistic, str)
    if area:
        check_choice("statistic", statistic, ("area",))
    keys = check_runs(frame, metric, *(() if area else ("round",)))
    if area:
        values = area_under_learning_curve(frame, metric)
        column = "area"
    else:
        values = frame[frame["round"] == statistic]
        column = metric
        if values.empty:
            raise ValueError(
                f"statistic={statistic!r}: frame has no such round; expected 'area' or one of "
                f"{sorted(frame['round'].unique().tolist())}"
            )
    units = [key for key in keys if key == "data"] + ["seed"]
    for key, runs in groups_of(values, [k for k in keys if k == "estimator"]):
        if area:
            _check_ranges(runs, [*key, *units], keys)
        matrix = runs.pivot(index=units, columns="strategy", values=column)
        names = [name for name in frame["strategy"].unique() if name in matrix.columns]
        matrix = matrix[names].astype(np.float64)
        _check_paired(matrix, units, key, column if area else f"{metric} of round {statistic}")
        yield key, matrix


def _check_ranges(runs: pd.DataFrame, units: Sequence[str], keys: Sequence[str]) -> None:
    """Areas over more or other labels are of another curve."""
    for key, same in groups_of(runs, units):
        if (same[["first_labels", "last_labels"]].nunique() > 1).any():
            ranges = {
                row["strategy"]: f"{row['first_labels']} to {row['last_labels']}"
                for _, row in same.iterrows()
            }
            raise ValueError(
                f"areas of {named(key, key)} are over different numbers of labels: {ranges}; "
                "expected the same rounds for all strategies, or a round as statistic"
            )


def _check_paired(matrix: pd.DataFrame, units: Sequence[str], key: dict[str, Any], what: str) -> None:
    missing = [
        named({**key, **dict(zip(units, np.atleast_1d(np.array(unit, dtype=object)))), "strategy": s},
              [*key, *units, "strategy"])
        for unit, row in matrix.iterrows()
        for s in matrix.columns[row.isna()]
    ]  # fmt: skip
    if missing:
        more = f", and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ValueError(
            f"strategies are compared seed by seed, and these have no {what}: "
            f"({'), ('.join(missing[:5])}){more}; expected the same seeds and data sets for all"
        )


def paper_table(
    frame: pd.DataFrame,
    rounds: Iterable[float] = (1, 2, 5),
    format: str = "markdown",
    with_paper: bool | Mapping[str, str] = True,
) -> str | pd.DataFrame:
    """Accuracy in percent at given budgets, laid out as Table 1 of the paper.

    A row per data set and estimator, a column per strategy; a cell holds mean +- standard deviation
    over seeds at each budget, separated by slashes. With ``with_paper`` a second row has the paper's
    own means, only where ours has a figure and the budget is the paper's.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round: ``data``, ``strategy``, ``seed``, ``round``, ``n_labels``, ``budget``
        (labels / pool), ``accuracy`` (0 to 1) and, if there are several, ``estimator``.
    rounds : tuple of float, default=(1, 2, 5)
        Budgets, in percent of the pool.
    format : {"markdown", "latex", "frame"}, default="markdown"
        Text to paste, or the figures as a table with a row for each.
    with_paper : bool or dict, default=True
        Show the paper's figures, which are ViT-B/16's with the CoOp learner. A dict says which
        estimators they are for: {estimator: "selection" or "full"}. True is
        ``{"selection": "selection", "full": "full"}``; a frame without ``estimator`` is "selection".

    Returns
    -------
    table : str or pandas.DataFrame
        With "frame": ``data``, ``estimator`` (if frame has it), ``strategy``, ``percent``,
        ``n_labels`` (mean), ``mean``, ``std`` and ``paper`` (in percent; nan if there is none), and
        ``n_seeds``.

    Raises
    ------
    TypeError
        If frame is no DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice; an argument is none of its choices; or
        no run has any of the budgets.

    Notes
    -----
    A round has the budget of p percent if it lies within half a percent of it and its labels are off
    by less than one per round, which is what rounding the labels of each round can add up to. The
    paper has 6 rounds of 1%.

    "core-gcn" and "uncertain-gcn" both stand beside the paper's GCNAL, which does not say which of
    the two it is. The LaTeX needs no package.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt Tuning",
       arXiv 2602.04340v1, Table 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation import paper_table
    >>> frame = pd.DataFrame({"data": "EuroSAT", "strategy": "random", "seed": [0, 1], "round": 1,
    ...                       "n_labels": 135, "budget": 0.01, "accuracy": [0.81, 0.83]})
    >>> print(paper_table(frame, rounds=(1,)))
    | data (accuracy in % at 1% of the pool) | random       |
    | ---                                    | ---          |
    | EuroSAT                                | 82.0 +- 1.4  |
    | EuroSAT, paper                         | 82.2         |
    """
    check_choice("format", format, ("markdown", "latex", "frame"))
    readings = _readings(with_paper)
    rounds = tuple(rounds)
    if not rounds or not all(0 <= percent <= 100 for percent in rounds):
        raise ValueError(f"rounds={rounds!r}; expected percentages of the pool, such as (1, 2, 5)")
    keys = check_runs(frame, "accuracy", "data", "round", "budget")
    cells = _budget_cells(frame, keys, rounds)
    if cells.empty:
        raise ValueError(
            f"rounds={rounds!r}: no run has a budget of any of these percentages; the budgets are "
            f"{sorted(set((100 * frame['budget']).round(3).tolist()))[:10]} percent"
        )
    cells["paper"] = [
        paper_accuracy(row["data"], row["strategy"], row["percent"], reading) if reading else np.nan
        for _, row in cells.iterrows()
        for reading in [readings.get(row.get("estimator", "selection"))]
    ]
    if format == "frame":
        return cells
    return (_markdown if format == "markdown" else _latex)(*_layout(frame, cells, keys, rounds))


def _readings(with_paper: bool | Mapping[str, str]) -> dict[str, str]:
    if isinstance(with_paper, bool):
        return {"selection": "selection", "full": "full"} if with_paper else {}
    for estimator, reading in with_paper.items():
        check_choice(f"with_paper[{estimator!r}]", reading, ("selection", "full"))
    return dict(with_paper)


def _budget_cells(frame: pd.DataFrame, keys: Sequence[str], rounds: Sequence[float]) -> pd.DataFrame:
    """One row per curve and percentage: figures in percent over the runs that have that budget."""
    rows = []
    for key, runs in groups_of(frame, keys):
        for percent in rounds:
            found: list[Any] = [_round_at(run, percent) for _, run in groups_of(runs, ["seed"])]
            found = [row for row in found if row is not None and not np.isnan(row["accuracy"])]
            if found:
                accuracy = 100 * np.array([row["accuracy"] for row in found])
                rows.append({
                    **key,
                    "percent": percent,
                    "n_labels": float(np.mean([row["n_labels"] for row in found])),
                    "mean": accuracy.mean(),
                    "std": accuracy.std(ddof=1) if len(found) > 1 else np.nan,
                    "n_seeds": len(found),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _round_at(run: pd.DataFrame, percent: float) -> pd.Series | None:
    """The round of a run whose budget is a percentage but for rounding, or None."""
    run = run.reset_index(drop=True)
    off = (100 * run["budget"] - percent).abs()
    pool = run["n_labels"] / run["budget"].where(run["budget"] > 0)
    labels_off = (run["n_labels"] - percent / 100 * pool).abs()
    fits = (off < 0.5) & (labels_off < (1 - 1e-9) * run["round"].clip(lower=1)) | (off == 0)
    return run.loc[off[fits].idxmin()] if fits.any() else None


def _layout(
    frame: pd.DataFrame, cells: pd.DataFrame, keys: Sequence[str], rounds: Sequence[float]
) -> tuple[list[str], Sequence[float], list[tuple[str, list[_Figures]]]]:
    """Strategies, budgets, and the rows of the table: names, then a list of figures per cell."""
    strategies = list(dict.fromkeys(cells["strategy"]))
    estimators = frame["estimator"].nunique() if "estimator" in keys else 1
    rows = []
    for key, group in groups_of(cells, [k for k in keys if k != "strategy"]):
        by_cell = {(row["strategy"], row["percent"]): row for _, row in group.iterrows()}
        name = str(key["data"]) + (f" ({key['estimator']})" if estimators > 1 else "")
        ours, paper = [], []
        for strategy in strategies:
            found = [by_cell.get((strategy, percent)) for percent in rounds]
            ours.append([None if row is None else (row["mean"], row["std"]) for row in found])
            paper.append(
                [None if row is None or np.isnan(row["paper"]) else (row["paper"], np.nan)
                 for row in found]
            )  # fmt: skip
        rows.append((name, ours))
        if any(figure is not None for cell in paper for figure in cell):
            rows.append((f"{name}, paper", paper))
    return strategies, rounds, rows


def _cell(figures: _Figures, plus_minus: str) -> str:
    if not any(figures):
        return "-"
    texts = []
    for figure in figures:
        mean, std = figure or (None, np.nan)
        spread = "" if np.isnan(std) else f" {plus_minus} {std:.1f}"
        texts.append("-" if mean is None else f"{mean:.1f}{spread}")
    return " / ".join(texts)


def _markdown(
    strategies: list[str], rounds: Sequence[float], rows: list[tuple[str, list[_Figures]]]
) -> str:
    percent = " / ".join(f"{p:g}" for p in rounds)
    header = [f"data (accuracy in % at {percent}% of the pool)", *map(_in_markdown, strategies)]
    lines = [header, ["---"] * len(header)]
    lines += [[_in_markdown(name), *(_cell(c, "+-") for c in cells)] for name, cells in rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    padded = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in lines)
    return "\n".join(f"| {line} |" for line in padded)


def _in_markdown(name: str) -> str:
    special = "\\`*_[]<>|&~$#"
    return " ".join("".join(f"\\{c}" if c in special else c for c in str(name)).split())


def _latex(
    strategies: list[str], rounds: Sequence[float], rows: list[tuple[str, list[_Figures]]]
) -> str:
    percent = " / ".join(f"{p:g}" for p in rounds)
    header = [f"data (accuracy in \\% at {percent}\\% of the pool)", *map(_in_latex, strategies)]
    lines = [f"\\begin{{tabular}}{{l{'c' * len(strategies)}}}", "\\hline"]
    lines += [" & ".join(header) + " \\\\", "\\hline"]
    for name, cells in rows:
        texts = [_in_latex(name), *(_cell(cell, "$\\pm$") for cell in cells)]
        lines.append(" & ".join(texts) + " \\\\")
    return "\n".join([*lines, "\\hline", "\\end{tabular}"])


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def _in_latex(name: str) -> str:
    return " ".join("".join(_LATEX.get(c, c) for c in str(name)).split())
