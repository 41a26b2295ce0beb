"""Paired tests between strategies: which differences are more than chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..utils.validation import check_option
from ._checks import check_level, check_runs, groups_of, named
from ._intervals import mean_interval
from .curves import area_under_learning_curve

MOST_EXACT = 16  # pairs; with more, sign changes are drawn instead of enumerating all 2 ** n
_BLOCK = 4_000_000  # numbers in memory at once


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
    """Test differences between strategies pair by pair, over seeds and data sets.

    A pair is one seed on one data set, run with both strategies: both had the same split and
    first round, so that only their difference counts.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round, as for `summarize`. Strategies are compared within each
        estimator, and must have the same seeds and data sets there.
    metric : str, default="accuracy"
        Column to compare.
    statistic : "area" or int, default="area"
        Statistic of a run: its `area_under_learning_curve`, or the metric after this round (column ``round``).
    test : {"permutation", "wilcoxon"}, default="permutation"
        Kind of test: random sign changes of the differences, exact up to 16 pairs; or Wilcoxon's
        signed-rank test by `scipy.stats.wilcoxon`.
    correction : {"holm", None}, default="holm"
        Correction of the p-values for the number of rows of the table.
    reference : str or None, default=None
        Strategy to compare all others with; None compares every two.
    confidence_level : float, default=0.95
        Level of the interval of the mean difference (`summarize`'s default method).
    n_resamples : int, default=9999
        Number of resamples of the interval, and of drawn sign changes with more than 16 pairs.
    random_state : int, default=0
        Seed of resamples and sign changes.

    Returns
    -------
    comparison : pandas.DataFrame
        One row per ``estimator`` (if frame has it), ``strategy`` and ``other``: ``mean_difference``
        (strategy less other, in the metric's unit), ``low`` and ``high`` of its interval (nan with
        one pair), ``effect_size`` (Cohen's d of pairs: the mean difference in standard deviations of the
        differences; nan with one pair or where all are 0), ``p_value``, ``p_corrected``, ``n_pairs``, and
        ``min_p_value`` and ``min_p_corrected``, the smallest values that these could have had.

    Raises
    ------
    TypeError
        If frame is not a DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice; an argument is not one of its choices;
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

    The interval is not a test: it assumes more (see `summarize`), and may exclude zero where the
    test cannot show anything yet. Results over several data sets hold for these data sets
    only, and a metric that spreads widely on one of them outweighs the rest.

    References
    ----------
    .. [1] Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.
    .. [2] Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd edition, 1988, section 2.3.5.

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
    check_option("test", test, ("permutation", "wilcoxon"))
    check_option("correction", correction, ("holm", None))
    check_level(confidence_level, n_resamples)
    rows, differences = [], []
    for key, matrix in paired_values(frame, metric, statistic):
        names = list(matrix.columns)
        if reference is not None:
            check_option("reference", reference, names)
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
    table["effect_size"] = [_effect_size(d) for d in differences]

    def p_values(d: np.ndarray) -> np.ndarray:
        if test == "permutation":
            return sign_flip_p_values(d, n_resamples, random_state)
        return wilcoxon_p_values(d)

    correct = holm if correction == "holm" else np.asarray
    table["p_value"] = _by_size(p_values, differences)
    table["p_corrected"] = correct(table["p_value"])
    table["n_pairs"] = [len(d) for d in differences]
    # The most extreme case is that all pairs differ in the same direction; and Holm's
    # corrected p-values only grow with any of the p-values.
    table["min_p_value"] = _by_size(p_values, [np.abs(d) for d in differences])
    table["min_p_corrected"] = correct(table["min_p_value"])
    return table


def _effect_size(differences: np.ndarray) -> float:
    """Compute Cohen's d of pairs, the mean in standard deviations: infinite where all differ by the same."""
    if len(differences) < 2:
        return np.nan
    if np.ptp(differences) == 0:
        return float(np.sign(differences[0]) * np.inf) if differences[0] else np.nan
    return float(differences.mean() / differences.std(ddof=1))


def _by_size(function: Callable[[np.ndarray], np.ndarray], columns: list[np.ndarray]) -> np.ndarray:
    """Apply a function of a matrix to columns, which several estimators may have of two lengths."""
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
        As for `compare_pairs`.
    """
    area = isinstance(statistic, str)
    if area:
        check_option("statistic", statistic, ("area",))
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
    """Refuse areas over different numbers of labels, which cannot be compared."""
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


def sign_flip_p_values(differences: np.ndarray, n_resamples: int = 9999, random_state: Any = 0) -> np.ndarray:
    """Compute two-sided p-values of paired differences under random changes of sign, (tests,).

    Under the null hypothesis the two members of a pair could be exchanged.  Up to `MOST_EXACT` pairs
    the p-value is exact: the share of all 2 ** n sign changes whose mean is at least as far from
    zero.  With more pairs it is (1 + number of such among the drawn) / (1 + number of drawn).

    Parameters
    ----------
    differences : ndarray of shape (n, tests)
    n_resamples : int, default=9999
        Number of sign changes to draw if there are too many to enumerate.
    random_state : int, default=0
        Seed of the drawn sign changes.

    Returns
    -------
    p_values : ndarray of shape (tests,)

    Examples
    --------
    >>> import numpy as np
    >>> from modal_clip_dual.evaluation.significance import sign_flip_p_values
    >>> float(sign_flip_p_values(np.array([[1.0], [2.0], [3.0]]))[0])
    0.25
    """
    differences = np.asarray(differences, dtype=np.float64)
    n = len(differences)
    exact = n <= MOST_EXACT
    if exact:
        # Changing all signs does not change the distance from zero, so the last sign stays fixed.
        signs = 1.0 - 2.0 * (np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1)
    else:
        rng = np.random.default_rng(random_state)
        signs = 1.0 - 2.0 * rng.integers(2, size=(n_resamples, n))
    # Sums that are equal but for rounding count as equal.
    least = np.abs(differences.sum(axis=0)) - 1e-9 * np.abs(differences).sum(axis=0)
    width = max(1, _BLOCK // len(signs))
    far = np.concatenate(
        [
            (np.abs(signs @ differences[:, k : k + width]) >= least[k : k + width]).sum(axis=0)
            for k in range(0, differences.shape[1], width)
        ]
    )
    return far / len(signs) if exact else (1 + far) / (1 + n_resamples)


def wilcoxon_p_values(differences: np.ndarray) -> np.ndarray:
    """Compute two-sided p-values of Wilcoxon's signed-rank test, (tests,); pairs without difference drop out.

    Parameters
    ----------
    differences : ndarray of shape (n, tests)

    Returns
    -------
    p_values : ndarray of shape (tests,)
        Values in [0, 1]; 1 if no pair differs.
    """
    p_values = []
    for column in np.asarray(differences, dtype=np.float64).T:
        column = column[column != 0]
        # scipy enumerates where it can, also with ties, and approximates with many pairs.
        p_values.append(stats.wilcoxon(column).pvalue if len(column) else 1.0)
    return np.array(p_values, dtype=np.float64)


def holm(p_values: Any) -> np.ndarray:
    """Return p-values corrected for their number by Holm's step-down rule, in the same order.

    The smallest of m is multiplied by m, the next by m - 1, and so on; no value becomes smaller
    than the one before it, or larger than 1.

    Parameters
    ----------
    p_values : array-like of shape (m,)

    Returns
    -------
    corrected : ndarray of shape (m,)

    References
    ----------
    .. [1] Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
       of Statistics 6, 1979.

    Examples
    --------
    >>> from modal_clip_dual.evaluation.significance import holm
    >>> [round(p, 6) for p in holm([0.04, 0.01, 0.03]).tolist()]
    [0.06, 0.03, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected
