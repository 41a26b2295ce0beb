"""Figures of active-learning runs."""

from __future__ import annotations

# Okabe and Ito's palette, which colour-blind readers can tell apart; and markers, for print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"


def plot_learning_curves(frame, ax=None):
    """Accuracy over the number of labels: mean over seeds, band of one standard deviation.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``strategy``, ``seed``, ``n_labels`` and ``accuracy`` (0 to 1).
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    ax : matplotlib.axes.Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation.plots import plot_learning_curves
    >>> frame = pd.DataFrame({"strategy": "random", "seed": [0, 0], "n_labels": [12, 24],
    ...                       "accuracy": [0.5, 0.6]})
    >>> plot_learning_curves(frame).get_xlabel()
    'labelled images'
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(6, 4), layout="constrained").add_subplot()
    for k, (strategy, runs) in enumerate(frame.groupby("strategy", sort=False)):
        accuracy = runs.groupby("n_labels")["accuracy"]
        mean = accuracy.mean()
        spread = accuracy.std().fillna(0)
        style = {"color": COLORS[k % len(COLORS)]}
        ax.plot(mean.index, mean, marker=MARKERS[k % len(MARKERS)], label=strategy, **style)
        ax.fill_between(mean.index, mean - spread, mean + spread, alpha=0.15, lw=0, **style)
    ax.set_xlabel("labelled images")
    ax.set_ylabel("test accuracy")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax
