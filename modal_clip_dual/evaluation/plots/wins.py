"""Figure that shows which strategy beats which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._checks import LOWER_IS_BETTER
from ..significance import compare_pairs, paired_values
from ._style import COLORS, literal, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_win_matrix(
    frame: pd.DataFrame,
    metric: str = "accuracy",
    alpha: float = 0.05,
    ax: Axes | None = None,
    *,
    statistic: str | int = "area",
) -> Axes:
    """Draw how often each strategy beats each other one, over seeds and data sets.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round, as for `compare_pairs`: the same seeds and data sets for every
        strategy, and one estimator.
    metric : str, default="accuracy"
        Column to compare. Lower is better for calibration errors, ``nll``, seconds and memory.
    alpha : float, default=0.05
        Level of the marks, after Holm's correction for all pairs of strategies.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw into; None makes a new figure.
    statistic : "area" or int, default="area"
        Statistic to compare, as in `compare_pairs`.

    Returns
    -------
    ax : matplotlib.axes.Axes
        Axes in which a cell is the percentage of seeds and data sets where its row is better than its
        column; ties count half. A star marks a mean difference that a permutation test finds. If there
        are too few seeds for any star, the title says so, and a missing star means nothing.

    Raises
    ------
    TypeError
        If frame is not a DataFrame.
    ValueError
        As for `compare_pairs`; or if frame has several estimators.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation import plot_win_matrix
    >>> frame = pd.DataFrame({"strategy": ["random"] * 2 + ["margin"] * 2, "seed": [0, 1] * 2,
    ...                       "n_labels": 60, "accuracy": [0.5, 0.7, 0.6, 0.7]})
    >>> [text.get_text() for text in plot_win_matrix(frame).texts]
    ['25', '75']
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha!r}; expected a number between 0 and 1, such as 0.05")
    estimators = frame["estimator"].unique().tolist() if "estimator" in frame else []
    if len(estimators) > 1:
        raise ValueError(
            f"frame has {len(estimators)} estimators, {estimators}; expected one, such as "
            "frame[frame['estimator'] == name]"
        )
    comparison = compare_pairs(frame, metric, statistic)
    ((_, matrix),) = paired_values(frame, metric, statistic)
    names = list(matrix.columns)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    # Rounded as in `compare_pairs`, so that ties are the same in both.
    values = sign * matrix.to_numpy().T
    lead = np.round(values[:, None] - values[None], 12)  # (row, column, seed and data set)
    wins = 100 * ((lead > 0) + 0.5 * (lead == 0)).mean(axis=2)
    np.fill_diagonal(wins, np.nan)
    pairs = zip(comparison["strategy"], comparison["other"], comparison["p_corrected"] <= alpha)
    starred = {frozenset(pair) for *pair, significant in pairs if significant}
    side = max(4, 1.5 + 0.48 * len(names))
    ax = new_axes((side + 1, side)) if ax is None else ax
    # Orange to blue over white can be told apart with all kinds of color vision; in print the text helps.
    from matplotlib.colors import LinearSegmentedColormap

    wheel = LinearSegmentedColormap.from_list("wins", [COLORS[4], "white", COLORS[5]])
    cmap = wheel.with_extremes(bad="0.9")  # the diagonal
    image = ax.imshow(wins, cmap=cmap, vmin=0, vmax=100)
    for i, j in zip(*np.nonzero(~np.isnan(wins))):
        star = "*" if frozenset((names[i], names[j])) in starred else ""
        ax.text(j, i, f"{wins[i, j]:.0f}{star}", ha="center", va="center", fontsize=8)
    labels = [literal(name) for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), labels)
    ax.figure.colorbar(image, ax=ax, label="row beats column, %")
    ax.set_title(_win_title(comparison, alpha), fontsize=9)
    return ax


def _win_title(comparison: pd.DataFrame, alpha: float) -> str:
    n, least = comparison["n_pairs"].iloc[0], comparison["min_p_corrected"].min()
    unit = f"{n} pair{'s' if n > 1 else ''} of runs"
    if least > alpha:
        return f"{unit}: too few for any star\n(corrected p at least {least:.2g})"
    return f"{unit}; * p $\\leq$ {alpha:g}\n(permutation test, Holm)"
