"""Tables of accuracies: the paper's Table 1, and one of every round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..utils.validation import check_option
from ._checks import check_runs, groups_of
from ._published import paper_accuracy
from .curves import area_under_learning_curve
from .text import latex_table, markdown_table, mean_std, percent

if TYPE_CHECKING:
    _Figures = list[tuple[float, float] | None]  # mean and deviation at each budget


def paper_table(
    frame: pd.DataFrame,
    rounds: Iterable[float] = (1, 2, 5),
    format: str = "markdown",
    with_paper: bool | Mapping[str, str] = True,
) -> str | pd.DataFrame:
    """Lay out accuracies in percent at given budgets as Table 1 of the paper.

    The table has a row per data set and estimator, and a column per strategy; a cell holds mean +- standard deviation
    over seeds at each budget, separated by slashes. With ``with_paper`` a second row has the paper's
    own means, only where ours has a figure and the budget is the paper's.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round: ``data``, ``strategy``, ``seed``, ``round``, ``n_labels``, ``budget``
        (labels / pool), ``accuracy`` (0 to 1) and, if there are several, ``estimator``.
    rounds : tuple of float, default=(1, 2, 5)
        Budgets in percent of the pool.
    format : {"markdown", "latex", "frame"}, default="markdown"
        Form of the table: text to paste, or a DataFrame with a row per figure.
    with_paper : bool or dict, default=True
        Whether to show the paper's figures, which are ViT-B/16's with the CoOp learner. A dict says to which
        estimators they belong: {estimator: "selection" or "full"}. True is
        ``{"selection": "selection", "full": "full"}``; a frame without ``estimator`` is "selection".

    Returns
    -------
    table : str or pandas.DataFrame
        With "frame": ``data``, ``estimator`` (if frame has it), ``strategy``, ``percent``,
        ``n_labels`` (mean), ``mean``, ``std`` and ``paper`` (in percent; nan if the paper has none), and
        ``n_seeds``.

    Raises
    ------
    TypeError
        If frame is not a DataFrame.
    ValueError
        If frame is empty, lacks a column or has a run twice; an argument is not one of its choices; or
        no run has any of the budgets.

    Notes
    -----
    A round has the budget of p percent if it lies within half a percent of it and its labels are off
    by less than one per round, which is what rounding the labels of each round can add up to. The
    paper has 6 rounds of 1%.

    "core-gcn" and "uncertain-gcn" both stand beside the paper's GCNAL, which does not say which of
    the two it is. The LaTeX code needs no package.

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
    check_option("format", format, ("markdown", "latex", "frame"))
    loops = _loops(with_paper)
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
        paper_accuracy(row["data"], row["strategy"], row["percent"], loop) if loop else np.nan
        for _, row in cells.iterrows()
        for loop in [loops.get(row.get("estimator", "selection"))]
    ]
    if format == "frame":
        return cells
    table, sign = (markdown_table, "+-") if format == "markdown" else (latex_table, "$\\pm$")
    strategies, rows = _layout(frame, cells, keys, rounds)
    budgets = " / ".join(f"{percent:g}" for percent in rounds)
    return table(
        [f"data (accuracy in % at {budgets}% of the pool)", *strategies],
        [[name, *(_cell(figures, sign) for figures in row)] for name, row in rows],
    )


def _loops(with_paper: bool | Mapping[str, str]) -> dict[str, str]:
    if isinstance(with_paper, bool):
        return {"selection": "selection", "full": "full"} if with_paper else {}
    for estimator, loop in with_paper.items():
        check_option(f"with_paper[{estimator!r}]", loop, ("selection", "full"))
    return dict(with_paper)


def _budget_cells(frame: pd.DataFrame, keys: Sequence[str], rounds: Sequence[float]) -> pd.DataFrame:
    """Return one row per curve and percentage: figures in percent over the runs that have that budget."""
    rows = []
    for key, runs in groups_of(frame, keys):
        for share in rounds:
            found: list[Any] = [_round_at(run, share) for _, run in groups_of(runs, ["seed"])]
            found = [row for row in found if row is not None and not np.isnan(row["accuracy"])]
            if found:
                accuracy = 100 * np.array([row["accuracy"] for row in found])
                rows.append({
                    **key,
                    "percent": share,
                    "n_labels": float(np.mean([row["n_labels"] for row in found])),
                    "mean": accuracy.mean(),
                    "std": accuracy.std(ddof=1) if len(found) > 1 else np.nan,
                    "n_seeds": len(found),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _round_at(run: pd.DataFrame, percent: float) -> pd.Series | None:
    """Return the round of a run whose budget is a percentage but for rounding, or None."""
    run = run.reset_index(drop=True)
    off = (100 * run["budget"] - percent).abs()
    pool = run["n_labels"] / run["budget"].where(run["budget"] > 0)
    labels_off = (run["n_labels"] - percent / 100 * pool).abs()
    fits = (off < 0.5) & (labels_off < (1 - 1e-9) * run["round"].clip(lower=1)) | (off == 0)
    return run.loc[off[fits].idxmin()] if fits.any() else None


def _layout(
    frame: pd.DataFrame, cells: pd.DataFrame, keys: Sequence[str], rounds: Sequence[float]
) -> tuple[list[str], list[tuple[str, list[_Figures]]]]:
    """Return strategies, and the rows of the table: a name, then a list of figures per cell."""
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
    return strategies, rows


def _cell(figures: _Figures, sign: str) -> str:
    if not any(figures):
        return "-"
    return " / ".join("-" if figure is None else mean_std(*figure, sign=sign) for figure in figures)


def label_table(frame: pd.DataFrame) -> str:
    """Lay out accuracies after every round in Markdown: mean +- standard deviation over seeds, in percent."""
    parts = []
    for data, rows in frame.groupby("data", sort=False):
        text = markdown_table(*round_table(rows))
        parts.append(text if frame["data"].nunique() == 1 else f"{data}\n\n{text}")
    return "\n\n".join(parts)


def round_table(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return header and lines of one data set's accuracies after every round, in percent over seeds."""
    labels = sorted(rows["n_labels"].unique())
    areas = area_under_learning_curve(rows).groupby(["estimator", "strategy"])["area"]
    lines = []
    for key, runs in rows.groupby(["estimator", "strategy"], sort=False):
        cells = [percent(runs.loc[runs["n_labels"] == n, "accuracy"]) for n in labels]
        lines.append([*map(str, key), *cells, percent(areas.get_group(key))])
    return ["estimator", "strategy", *(f"{n} labels" for n in labels), "area"], lines
