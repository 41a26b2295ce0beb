"""Figures of learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ...utils.validation import check_option
from .._checks import check_runs
from ..curves import summarize
from ._style import COLORS, LINES, MANY, add_legend, literal, new_axes, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BANDS = 7  # curves in a figure whose bands can be told apart


def plot_learning_curves(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "accuracy",
    band: str | None = "std",
    confidence_level: float = 0.95,
) -> Axes:
    """Draw a metric over the number of labels: mean over seeds, and a band.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``strategy``, ``seed``, ``n_labels`` and the metric; if there are several,
        ``estimator``. It must have one data set, such as ``frame[frame["data"] == name]``.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw into; None makes a new figure.
    metric : str, default="accuracy"
        Column to draw.
    band : {"std", "interval", None}, default="std"
        Kind of band: one standard deviation of the seeds around the mean; the interval of the mean from
        `summarize` (none with one seed); or no band.
    confidence_level : float, default=0.95
        Level of the interval.

    Returns
    -------
    ax : matplotlib.axes.Axes
        Axes in which a strategy has the same color and marker whatever the estimator, and an estimator its own
        kind of line. With one estimator the kind of line changes with every 7 strategies.

    Raises
    ------
    TypeError
        If frame is not a DataFrame.
    ValueError
        If frame is empty, lacks a column, has a run twice or several data sets; or an argument
        is not one of its choices.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation.plots import plot_learning_curves
    >>> frame = pd.DataFrame({"strategy": "random", "seed": [0, 0], "n_labels": [12, 24],
    ...                       "accuracy": [0.5, 0.6]})
    >>> plot_learning_curves(frame).get_xlabel()
    'labeled images'
    """
    check_option("band", band, ("std", "interval", None))
    keys = check_runs(frame, metric)
    if "data" in keys and frame["data"].nunique() > 1:
        raise ValueError(
            f"frame has {frame['data'].nunique()} data sets, {frame['data'].unique().tolist()}; "
            "expected one, such as frame[frame['data'] == name]: their labels do not add up"
        )
    summary = summarize(frame, metric, confidence_level)
    strategies = frame["strategy"].unique().tolist()
    estimators = frame["estimator"].unique().tolist() if "estimator" in keys else [None]
    several = len(estimators) > 1
    n_curves = len(frame[keys].drop_duplicates())
    if ax is None:  # beside many curves the legend is as high as its lines
        ax = new_axes((6, 4) if n_curves <= MANY else (8, max(4.5, 0.25 * n_curves)))
    for j, estimator in enumerate(estimators):
        for k, strategy in enumerate(strategies):
            rows = summary[summary["strategy"] == strategy]
            if several:
                rows = rows[rows["estimator"] == estimator]
            if rows.empty:
                continue
            rows = rows.sort_values("n_labels")
            style = style_of(k)
            line = LINES[(j if several else k // len(COLORS)) % len(LINES)]
            label = literal(f"{strategy} ({estimator})" if several else strategy)
            ax.plot(rows["n_labels"], rows["mean"], ls=line, label=label, **style)
            low, high = _band(rows, band)
            if band is not None:
                ax.fill_between(rows["n_labels"], low, high, alpha=0.15, lw=0, color=style["color"])
    ax.set_xlabel("labeled images")
    ax.set_ylabel("test accuracy" if metric == "accuracy" else metric.replace("_", " "))
    ax.grid(alpha=0.3)
    add_legend(ax, n_curves)
    return ax


def _band(rows: pd.DataFrame, band: str | None) -> tuple[pd.Series, pd.Series]:
    if band == "interval":
        return rows["low"], rows["high"]
    spread = rows["std"].fillna(0)
    return rows["mean"] - spread, rows["mean"] + spread


def drawn_together(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split rows of one data set into those of one figure: all, or if the curves are many by estimator."""
    if len(rows.groupby(["estimator", "strategy"])) <= MOST_BANDS:
        return [("all", rows)]
    return [(str(name), part) for name, part in rows.groupby("estimator", sort=False)]
