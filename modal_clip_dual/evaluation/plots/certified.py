"""Figure of certified accuracy over the radius."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..robustness import certified_accuracy
from ._style import LINES, MANY, add_legend, literal, new_axes, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 200  # radii of a curve


def plot_certified_accuracy(certified: Mapping[str, tuple[Any, Any]], y: Any, ax: Axes | None = None) -> Axes:
    """Draw certified accuracy over the radius, a curve per smoothed classifier.

    Parameters
    ----------
    certified : dict of name -> pair of array-like of shape (n,)
        Labels and radii, as `SmoothedClassifier.certify` returns them.
    y : array-like of shape (n,)
        True labels.
    ax : matplotlib.axes.Axes, default=None
        Axes to draw into; None makes a new figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        Axes whose legend has the share of samples on which each classifier abstains.

    Raises
    ------
    ValueError
        If there is no classifier or no sample, or the lengths differ.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import plot_certified_accuracy
    >>> ax = plot_certified_accuracy({"sigma 0.25": ([1, 0], [0.3, float("nan")])}, [1, 0])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['sigma 0.25 (abstains on 50%)']
    """
    if not certified:
        raise ValueError("certified is an empty dict; expected labels and radii of at least one classifier")
    largest = max(np.nanmax(np.append(np.asarray(radii, dtype=np.float64), 0)) for _, radii in certified.values())
    at = np.linspace(0, 1.05 * largest or 1, POINTS)
    curves = {
        name: [certified_accuracy(labels, radii, y, radius) for radius in at]
        for name, (labels, radii) in certified.items()
    }
    ax = new_axes((6, 4) if len(curves) <= MANY else (8, 4.5)) if ax is None else ax
    for k, (name, curve) in enumerate(curves.items()):
        abstains = np.isnan(np.asarray(certified[name][1], dtype=np.float64)).mean()
        style = style_of(k) | {"ls": LINES[k % len(LINES)], "markevery": (5 * k % 20, POINTS // 10)}
        ax.plot(at, curve, label=literal(f"{name} (abstains on {abstains:.0%})"), **style)
    ax.set(xlim=(0, at[-1]), ylim=(-0.02, 1.02))
    ax.set_xlabel("radius: L2 length of the change, in the model's input of 0 to 1")
    ax.set_ylabel("share that is right and certified")
    ax.grid(alpha=0.3)
    add_legend(ax, len(curves))
    return ax
