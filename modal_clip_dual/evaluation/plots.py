"""Figures of active-learning runs.

Each draws into the Axes that it is given, or into a new figure that no window shows: save it with
``ax.figure.savefig("curves.png")``, or end a notebook's cell with ``ax.figure``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ._frames import LOWER_IS_BETTER, check_choice, check_runs
from .metrics import area_under_risk_coverage, calibration_bins, risk_coverage

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's palette, which colour-blind readers can tell apart; and markers, for print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
LINES = ("-", "--", ":", "-.")
_TITLE = 24  # characters that fit over an image
_MANY = 7  # more curves than this have their legend beside the axes


def _style(k: int) -> dict[str, Any]:
    """Colour and marker of the k-th of up to 49 curves, no two of which share both."""
    again = k // len(COLORS)
    return {
        "color": COLORS[k % len(COLORS)],
        "marker": MARKERS[(k + again) % len(MARKERS)],
        "markersize": 5,
    }


def _plain(text: Any) -> str:
    """Without what matplotlib would read as mathematics, or leave out of a legend."""
    plain = str(text).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def _new_axes(figsize: tuple[float, float]) -> Axes:
    # Not through pyplot, which would keep every figure for the life of the process.
    from matplotlib.figure import Figure

    return Figure(figsize=figsize, layout="constrained").add_subplot()


def plot_learning_curves(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    metric: str = "accuracy",
    band: str | None = "std",
    confidence_level: float = 0.95,
) -> Axes:
    """A metric over the number of labels: mean over seeds, and a band.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``strategy``, ``seed``, ``n_labels`` and the metric; if there are several,
        ``estimator``. One data set: draw ``frame[frame["data"] == name]``.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    metric : str, default="accuracy"
        Column to draw.
    band : {"std", "interval", None}, default="std"
        One standard deviation of the seeds around the mean; the interval of the mean that
        `summarize` gives (nothing with one seed); or no band.
    confidence_level : float, default=0.95
        Of the interval.

    Returns
    -------
    ax : matplotlib.axes.Axes
        A strategy has the same colour and marker whatever the estimator, and an estimator its own
        kind of line. With one estimator the kind of line changes with every 7 strategies.

    Raises
    ------
    TypeError
        If frame is no DataFrame.
    ValueError
        If frame is empty, lacks a column, has a run twice or several data sets; or an argument
        is none of its choices.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation.plots import plot_learning_curves
    >>> frame = pd.DataFrame({"strategy": "random", "seed": [0, 0], "n_labels": [12, 24],
    ...                       "accuracy": [0.5, 0.6]})
    >>> plot_learning_curves(frame).get_xlabel()
    'labelled images'
    """
    from .summary import summarize

    check_choice("band", band, ("std", "interval", None))
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
        ax = _new_axes((6, 4) if n_curves <= _MANY else (8, max(4.5, 0.25 * n_curves)))
    for j, estimator in enumerate(estimators):
        for k, strategy in enumerate(strategies):
            rows = summary[summary["strategy"] == strategy]
            if several:
                rows = rows[rows["estimator"] == estimator]
            if rows.empty:
                continue
            rows = rows.sort_values("n_labels")
            style = _style(k)
            line = LINES[(j if several else k // len(COLORS)) % len(LINES)]
            label = _plain(f"{strategy} ({estimator})" if several else strategy)
            ax.plot(rows["n_labels"], rows["mean"], ls=line, label=label, **style)
            low, high = _band(rows, band)
            if band is not None:
                ax.fill_between(rows["n_labels"], low, high, alpha=0.15, lw=0, color=style["color"])
    ax.set_xlabel("labelled images")
    ax.set_ylabel("test accuracy" if metric == "accuracy" else metric.replace("_", " "))
    ax.grid(alpha=0.3)
    _legend(ax, n_curves)
    return ax


def _band(rows: pd.DataFrame, band: str | None) -> tuple[pd.Series, pd.Series]:
    if band == "interval":
        return rows["low"], rows["high"]
    spread = rows["std"].fillna(0)
    return rows["mean"] - spread, rows["mean"] + spread


def _legend(ax: Axes, n_curves: int) -> None:
    if n_curves <= _MANY:
        ax.legend(frameon=False, handlelength=3)
    else:
        place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        ax.legend(frameon=False, handlelength=3, fontsize="small", **place)


def plot_reliability(
    confidence: Any, correct: Any, n_bins: int = 15, ax: Axes | None = None
) -> Axes:
    """Reliability diagram: how often predictions are right, over how sure they say they are.

    A point per bin of equal mass, the bins of `expected_calibration_error`; a line from the point to
    the diagonal is the bin's calibration error. Points below the diagonal are too sure.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Stated probability of being right, in [0, 1].
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.
    n_bins : int, default=15
        At most n bins are used.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        The title has the error and the numbers of samples and bins.

    Raises
    ------
    ValueError
        If the lengths differ, there is no sample, a confidence is outside [0, 1], or n_bins is less
        than 1.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import plot_reliability
    >>> ax = plot_reliability([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], n_bins=2)
    >>> ax.get_title()
    'ECE 0.100, 4 predictions, 2 bins of 2'
    """
    accuracy, stated, counts = calibration_bins(confidence, correct, n_bins)
    ece = (counts * np.abs(accuracy - stated)).sum() / counts.sum()
    ax = _new_axes((4.5, 4.5)) if ax is None else ax
    ax.plot([0, 1], [0, 1], color="0.4", ls="--", lw=1, label="calibrated")
    ax.vlines(stated, accuracy, stated, color=COLORS[1], lw=1.5)
    ax.plot(stated, accuracy, color=COLORS[0], marker="o", ls="-", lw=1, label="bins")
    sizes = " or ".join(str(size) for size in sorted(set(counts.tolist())))
    bins = f"{len(counts)} bin{'s' if len(counts) > 1 else ''} of {sizes}"
    ax.set_title(f"ECE {ece:.3f}, {counts.sum()} predictions, {bins}", fontsize="medium")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ax.set_xlabel("stated probability of being right")
    ax.set_ylabel("share that is right")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="best")
    return ax


def plot_risk_coverage(score: Any, correct: Any, ax: Axes | None = None) -> Axes:
    """Risk-coverage curves: errors among the predictions that are kept, over how many are kept.

    Parameters
    ----------
    score : array-like of shape (n,), or dict of name -> array-like of shape (n,)
        Confidence, higher is surer; any scale. Several scores of the same predictions as a dict.
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        The legend has the area under each curve (`area_under_risk_coverage`) and the risk of a
        random order, which is the error rate.

    Raises
    ------
    ValueError
        If there is no score or no sample, the lengths differ, or a score is nan.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import plot_risk_coverage
    >>> ax = plot_risk_coverage({"margin": [0.9, 0.8, 0.3]}, [True, True, False])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['margin (AURC 0.111)', 'random order (0.333)']
    """
    scores = dict(score) if isinstance(score, Mapping) else {"score": score}
    if not scores:
        raise ValueError("score is an empty dict; expected at least one score")
    curves = {name: risk_coverage(values, correct) for name, values in scores.items()}
    ax = _new_axes((6, 4) if len(scores) < _MANY else (8, 4.5)) if ax is None else ax
    for k, (name, (coverage, risk)) in enumerate(curves.items()):
        area = area_under_risk_coverage(scores[name], correct)
        every = max(1, len(risk) // 10)
        style = _style(k) | {"ls": LINES[k % len(LINES)], "markevery": (every - 1, every)}
        ax.plot(coverage, risk, label=_plain(f"{name} (AURC {area:.3f})"), **style)
    error = 1 - np.asarray(correct, dtype=bool).mean()
    ax.axhline(error, color="0.4", ls=(0, (1, 3)), label=f"random order ({error:.3f})")
    ax.set_xlim(0, 1.02)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("coverage: share of predictions kept, the surest first")
    ax.set_ylabel("risk: share of these that is wrong")
    ax.grid(alpha=0.3)
    _legend(ax, len(scores) + 1)
    return ax


def plot_win_matrix(
    frame: pd.DataFrame,
    metric: str = "accuracy",
    alpha: float = 0.05,
    ax: Axes | None = None,
    *,
    statistic: str | int = "area",
) -> Axes:
    """How often each strategy beats each other one, over seeds and data sets.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per run and round, as for `compare_pairs`: the same seeds and data sets for every
        strategy. One estimator.
    metric : str, default="accuracy"
        Column to compare. Of calibration errors, ``nll``, seconds and memory less is better.
    alpha : float, default=0.05
        Level of the marks, after Holm's correction for all pairs of strategies.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    statistic : "area" or int, default="area"
        What is compared, as in `compare_pairs`.

    Returns
    -------
    ax : matplotlib.axes.Axes
        A cell is the percentage of seeds and data sets in which its row is better than its column, a
        tie counting half; a star marks a mean difference that a permutation test tells from zero.
        The title says so where there are too few seeds for any star, which then means nothing.

    Raises
    ------
    TypeError
        If frame is no DataFrame.
    ValueError
        As `compare_pairs`; or if frame has several estimators.

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation import plot_win_matrix
    >>> frame = pd.DataFrame({"strategy": ["random"] * 2 + ["margin"] * 2, "seed": [0, 1] * 2,
    ...                       "n_labels": 60, "accuracy": [0.5, 0.7, 0.6, 0.7]})
    >>> [text.get_text() for text in plot_win_matrix(frame).texts]
    ['25', '75']
    """
    from .summary import compare_pairs, paired_values

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
    # Rounded as in `compare_pairs`, so that a tie here is no difference there.
    values = sign * matrix.to_numpy().T
    lead = np.round(values[:, None] - values[None], 12)  # (row, column, seed and data set)
    wins = 100 * ((lead > 0) + 0.5 * (lead == 0)).mean(axis=2)
    np.fill_diagonal(wins, np.nan)
    pairs = zip(comparison["strategy"], comparison["other"], comparison["p_corrected"] <= alpha)
    starred = {frozenset(pair) for *pair, significant in pairs if significant}
    side = max(4, 1.5 + 0.48 * len(names))
    ax = _new_axes((side + 1, side)) if ax is None else ax
    # From orange to blue over white: apart for all kinds of colour vision, and in print by the text.
    from matplotlib.colors import LinearSegmentedColormap

    wheel = LinearSegmentedColormap.from_list("wins", [COLORS[4], "white", COLORS[5]])
    cmap = wheel.with_extremes(bad="0.9")  # the diagonal
    image = ax.imshow(wins, cmap=cmap, vmin=0, vmax=100)
    for i, j in zip(*np.nonzero(~np.isnan(wins))):
        star = "*" if frozenset((names[i], names[j])) in starred else ""
        ax.text(j, i, f"{wins[i, j]:.0f}{star}", ha="center", va="center", fontsize=8)
    labels = [_plain(name) for name in names]
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


def plot_queried_images(
    images: Any,
    predicted: Any,
    true: Any,
    correct_proba: Any,
    class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None = None,
    n_columns: int = 5,
    figure: Figure | SubFigure | None = None,
) -> np.ndarray:
    """Grid of queried images with predicted label, true label and P(correct).

    A wrong prediction has a thick dashed frame and "WRONG" before its label, so that neither colour
    nor reading both labels is needed to see it.

    Parameters
    ----------
    images : array-like of paths, shape (n,), or ndarray of uint8, shape (n, H, W) or (n, H, W, 3)
        What was queried, in the order of the query.
    predicted, true : array-like of shape (n,)
        Labels.
    correct_proba : array-like of shape (n,)
        Probability of the prediction being right, as of
        `DualPromptClassifier.predict_correct_proba`.
    class_names : list of str or dict of label -> str, default=None
        What the labels are called: a list for integer labels from 0. None shows the labels.
    n_columns : int, default=5
        Images in a row.
    figure : matplotlib.figure.Figure or SubFigure, default=None
        Where to draw; None makes a new one.

    Returns
    -------
    axes : ndarray of matplotlib.axes.Axes, shape (n,)

    Raises
    ------
    ValueError
        If there are no images, they are embeddings, the lengths differ, a label has no name or
        n_columns is less than 1.
    FileNotFoundError
        If a file is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from modal_clip_dual.evaluation import plot_queried_images
    >>> images = np.zeros((2, 8, 8), dtype="uint8")
    >>> axes = plot_queried_images(images, [0, 1], [0, 0], [0.9, 0.4], class_names=["cat", "dog"])
    >>> print(axes[1].get_title())
    WRONG: dog
    true: cat
    P(correct) 0.40
    """
    from ..data.images import as_array, check_files, kind_of, read_image

    array = as_array(images, "images")
    if kind_of(array) == "embeddings":
        raise ValueError(
            f"images has shape {array.shape}, so it holds embeddings; expected paths or pixels"
        )
    for name, values in {"predicted": predicted, "true": true, "correct_proba": correct_proba}.items():
        if np.shape(values) != (len(array),):
            raise ValueError(
                f"{name} has shape {np.shape(values)}; expected ({len(array)},), one per image"
            )
    if n_columns < 1:
        raise ValueError(f"n_columns={n_columns!r}; expected at least 1")
    texts = [
        _called(values, class_names, name)
        for name, values in {"predicted": predicted, "true": true}.items()
    ]
    if kind_of(array) == "paths":
        check_files(array, "images")
    probabilities = np.asarray(correct_proba, dtype=np.float64)
    n_columns = min(n_columns, len(array))
    n_rows = math.ceil(len(array) / n_columns)
    if figure is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1.7 * n_columns, 2.3 * n_rows), layout="constrained")
    axes = np.empty(len(array), dtype=object)
    for k, (guess, truth) in enumerate(zip(*texts)):
        axes[k] = ax = figure.add_subplot(n_rows, n_columns, k + 1)
        ax.imshow(np.asarray(read_image(array, k, "images")))
        right = np.asarray(predicted)[k] == np.asarray(true)[k]
        said = guess if right else f"WRONG: {guess}"
        lines = [*wrap(said, _TITLE), *wrap(f"true: {truth}", _TITLE)]
        ax.set_title("\n".join([*lines, f"P(correct) {probabilities[k]:.2f}"]), fontsize=8)
        _frame(ax, COLORS[0] if right else COLORS[1], "-" if right else "--", 1 if right else 3)
    return axes


def _called(
    labels: Any, class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None, argument: str
) -> list[str]:
    labels = np.asarray(labels).tolist()
    if class_names is None:
        return [_plain(label) for label in labels]
    names = class_names if isinstance(class_names, Mapping) else dict(enumerate(class_names))
    if not isinstance(class_names, Mapping) and all(isinstance(label, str) for label in labels):
        names = {name: name for name in class_names}  # as DualPromptClassifier takes strings
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise ValueError(
            f"class_names has no name for {unknown[0]!r} of {argument}; it has {list(names)[:10]!r}"
        )
    return [_plain(names[label]) for label in labels]


def _frame(ax: Axes, color: str, line: str, width: float) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(edgecolor=color, linestyle=line, linewidth=width)
