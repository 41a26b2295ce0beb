"""Figures of how well a confidence tells right predictions from wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import area_under_risk_coverage, as_correct, calibration_bins, risk_coverage
from ._style import COLORS, LINES, MANY, add_legend, literal, new_axes, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_reliability(
    confidence: Any, correct: Any, n_bins: int = 15, ax: Axes | None = None, *, binning: str = "mass"
) -> Axes:
    """Draw a reliability diagram: how often predictions are right, over how confident they are.

    There is a point per bin of `expected_calibration_error`; a line from the point to the diagonal is the
    bin's calibration error. Points below the diagonal are overconfident.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Stated probability of being right, in [0, 1].
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.
    n_bins : int, default=15
        Largest number of bins.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw into; None makes a new figure.
    binning : {"mass", "width"}, default="mass"
        Bins of equal numbers of samples, or of equal width.

    Returns
    -------
    ax : matplotlib.axes.Axes
        Axes whose title has the error and the numbers of samples and bins.

    Raises
    ------
    ValueError
        If the confidence has not one axis, the lengths differ, there is no sample, a confidence is outside [0, 1],
        ``correct`` is neither of booleans nor of 0 and 1, n_bins is less than 1, or binning is unknown.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import plot_reliability
    >>> ax = plot_reliability([0.6, 0.6, 0.9, 0.9], [1, 0, 1, 1], n_bins=2)
    >>> ax.get_title()
    'ECE 0.100, 4 predictions, 2 bins of 2'
    """
    accuracy, stated, counts = calibration_bins(confidence, correct, n_bins, binning=binning)
    ece = (counts * np.abs(accuracy - stated)).sum() / counts.sum()
    ax = new_axes((4.5, 4.5)) if ax is None else ax
    ax.plot([0, 1], [0, 1], color="0.4", ls="--", lw=1, label="calibrated")
    ax.vlines(stated, accuracy, stated, color=COLORS[1], lw=1.5)
    ax.plot(stated, accuracy, color=COLORS[0], marker="o", ls="-", lw=1, label="bins")
    smallest, largest = counts.min(), counts.max()
    sizes = str(smallest) + (f" {'or' if binning == 'mass' else 'to'} {largest}" if largest > smallest else "")
    bins = f"{len(counts)} bin{'s' if len(counts) > 1 else ''} of {sizes}"
    ax.set_title(f"ECE {ece:.3f}, {counts.sum()} predictions, {bins}", fontsize="medium")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    ax.set_xlabel("stated probability of being right")
    ax.set_ylabel("share that is right")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="best")
    return ax


def plot_risk_coverage(score: Any, correct: Any, ax: Axes | None = None) -> Axes:
    """Draw risk-coverage curves: errors among the predictions that are kept, over how many are kept.

    Parameters
    ----------
    score : array-like of shape (n,), or dict of name -> array-like of shape (n,)
        Confidence on any scale; higher is more confident. A dict holds several scores of the same predictions.
    correct : array-like of bool, shape (n,)
        Whether each prediction is right.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw into; None makes a new figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        Axes whose legend has the area under each curve (`area_under_risk_coverage`) and the risk of a
        random order, which is the error rate.

    Raises
    ------
    ValueError
        If there is no score or no sample, a score has not one axis, the lengths differ, a score is nan, or
        ``correct`` is neither of booleans nor of 0 and 1.

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
    ax = new_axes((6, 4) if len(scores) < MANY else (8, 4.5)) if ax is None else ax
    for k, (name, (coverage, risk)) in enumerate(curves.items()):
        area = area_under_risk_coverage(scores[name], correct)
        every = max(1, len(risk) // 10)
        style = style_of(k) | {"ls": LINES[k % len(LINES)], "markevery": (every - 1, every)}
        ax.plot(coverage, risk, label=literal(f"{name} (AURC {area:.3f})"), **style)
    error = 1 - as_correct(correct).mean()
    ax.axhline(error, color="0.4", ls=(0, (1, 3)), label=f"random order ({error:.3f})")
    ax.set_xlim(0, 1.02)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("coverage: share of predictions kept, the surest first")
    ax.set_ylabel("risk: share of these that is wrong")
    ax.grid(alpha=0.3)
    add_legend(ax, len(scores) + 1)
    return ax
