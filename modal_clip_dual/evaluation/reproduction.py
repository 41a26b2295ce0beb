"""Measured accuracies beside those of the paper's Table 1, and their differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from ..utils.validation import check_option
from ._checks import check_runs
from ._published import COLUMNS, TABLE_1, column_of, row_of
from .tables import paper_table
from .text import markdown_table, mean_std

ZERO_SHOT = "zero-shot"
FULL, SELECTION = "full", "selection"


def reproduction_table(
    frame: pd.DataFrame, rounds: Iterable[float] = (1, 2, 5), format: str = "markdown"
) -> str | pd.DataFrame:
    """Lay out accuracies as Table 1 of the paper does, with the paper's figures and the differences below ours.

    The table has a column per method, in the paper's order.  For every data set and budget it has up to three rows:
    our mean +- standard deviation over seeds, the paper's mean, and ours minus the paper's, all in percent.

    Parameters
    ----------
    frame : pandas.DataFrame
        Result of `compare_strategies` with the paper's protocol, or several of them in one frame: ``data``, ``loop``,
        ``strategy``, ``seed``, ``round``, ``n_labels``, ``budget`` (labels / pool) and ``accuracy`` (0 to 1).  Round
        0 of the loop ``"selection"`` (``from_zero=True``) is zero-shot CLIP.  Each strategy has
        one estimator per loop.
    rounds : tuple of float, default=(1, 2, 5)
        Budgets in percent of the pool.
    format : {"markdown", "frame"}, default="markdown"
        Form of the table: text, or a DataFrame with a row per figure.

    Returns
    -------
    table : str or pandas.DataFrame
        With "frame": ``data``, ``method`` (the column's name), ``percent``, ``n_labels``, ``mean``, ``std``,
        ``n_seeds``, ``paper`` and ``difference``; nan where the paper has no figure.  Zero-shot CLIP has percent 0.

    Raises
    ------
    TypeError
        If frame is not a DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice; format is not one of its choices; or no run has
        any of the budgets.

    See Also
    --------
    paper_table : Lay out any estimators and strategies, a row per data set.

    Notes
    -----
    "selection only" is the strategy "negative-prompt" in the loop "selection", "full" in the loop "full".  Both
    graph networks, "core-gcn" and "uncertain-gcn", stand beside the paper's GCNAL, of which
    it does not say which one it is.

    References
    ----------
    .. [1] "Explicit Uncertainty Modeling for Active CLIP Adaptation with Dual Prompt Tuning",
       arXiv 2602.04340v1, Table 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation import reproduction_table
    >>> frame = pd.DataFrame({"data": "eurosat", "loop": "selection", "strategy": "random", "seed": [0, 1],
    ...                       "round": 1, "n_labels": 135, "budget": 0.01, "accuracy": [0.81, 0.83]})
    >>> print(reproduction_table(frame, rounds=(1,)))
    | data set | labels | accuracy in % | random      |
    | ---      | ---    | ---           | ---         |
    | EuroSAT  | 1%     | ours          | 82.0 +- 1.4 |
    | EuroSAT  | 1%     | paper         | 82.2        |
    | EuroSAT  | 1%     | ours - paper  | -0.2        |
    """
    check_option("format", format, ("markdown", "frame"))
    rounds = tuple(rounds)
    if isinstance(frame, pd.DataFrame) and "loop" in frame.columns:
        frame = frame.assign(estimator=frame["loop"])
    check_runs(frame, "accuracy", "data", "round", "budget", "loop")
    cells = paper_table(_with_zero_shot(frame), (0, *rounds), format="frame")
    assert isinstance(cells, pd.DataFrame)
    cells["method"] = [_method(*pair) for pair in zip(cells["strategy"], cells["estimator"])]
    cells["difference"] = cells["mean"] - cells["paper"]
    columns = ["data", "method", "percent", "n_labels", "mean", "std", "n_seeds", "paper", "difference"]
    ranks = {"row": _ranks(cells["data"], _rank_of_data), "column": _ranks(cells["method"], _rank_of_method)}
    cells["row"], cells["column"] = cells["data"].map(ranks["row"]), cells["method"].map(ranks["column"])
    cells = cells.sort_values(["row", "percent", "column"])[columns].reset_index(drop=True)
    return cells if format == "frame" else _markdown(cells)


def _with_zero_shot(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rounds with labels, and zero-shot CLIP once per data set: round 0 of a plain loop."""
    frozen = frame[(frame["round"] == 0) & (frame["loop"] == SELECTION)].drop_duplicates("data")
    return pd.concat([frozen.assign(strategy=ZERO_SHOT), frame[frame["round"] > 0]], ignore_index=True)


def _method(strategy: str, loop: str) -> str:
    """Return the name of a column: the paper's for its own method, else the strategy's."""
    column = column_of(strategy, loop)
    if column in ("selection only", FULL):
        return column
    return strategy if loop == SELECTION else f"{strategy} ({loop})"


def _ranks(values: pd.Series, rank: Callable[[str], int]) -> dict[str, int]:
    """Return the place of each value; those of one rank are in the order in which they appear."""
    return {value: place for place, value in enumerate(sorted(dict.fromkeys(values), key=rank))}


def _rank_of_data(data: str) -> int:
    row = row_of(data)
    return len(TABLE_1) if row is None else list(TABLE_1).index(row)


def _rank_of_method(method: str) -> int:
    column = method if method in ("selection only", FULL) else column_of(method)
    return -1 if method == ZERO_SHOT else len(COLUMNS) if column is None else COLUMNS.index(column)


def _markdown(cells: pd.DataFrame) -> str:
    """Lay out the cells: up to three lines per data set and budget, a column per method."""
    methods = sorted(dict.fromkeys(cells["method"]), key=_rank_of_method)
    lines = []
    for (data, percent), found in cells[cells["percent"] > 0].groupby(["data", "percent"], sort=False):
        frozen = cells[(cells["data"] == data) & (cells["percent"] == 0)]
        by_method = pd.concat([frozen, found]).set_index("method")
        texts = {
            "ours": [mean_std(mean, std) for mean, std in zip(by_method["mean"], by_method["std"])],
            "paper": ["" if np.isnan(paper) else f"{paper:.1f}" for paper in by_method["paper"]],
            "ours - paper": ["" if np.isnan(d) else f"{d:+.1f}" for d in by_method["difference"]],
        }
        for who, row in texts.items():
            if any(row):
                told = dict(zip(by_method.index, row))
                lines.append([row_of(data) or data, f"{percent:g}%", who, *(told.get(m) or "-" for m in methods)])
    return markdown_table(["data set", "labels", "accuracy in %", *methods], lines)
