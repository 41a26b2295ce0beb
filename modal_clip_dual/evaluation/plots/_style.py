"""Colors, markers and legends that all figures share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which color-blind readers can tell apart; and markers, for print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"
LINES = ("-", "--", ":", "-.")
MANY = 7  # more curves than this have their legend beside the axes


def style_of(k: int) -> dict[str, Any]:
    """Return color and marker of the k-th of up to 49 curves, no two of which share both."""
    again = k // len(COLORS)
    return {
        "color": COLORS[k % len(COLORS)],
        "marker": MARKERS[(k + again) % len(MARKERS)],
        "markersize": 5,
    }


def literal(text: Any) -> str:
    """Escape a text, so that matplotlib neither reads it as mathematics nor leaves it out of a legend."""
    plain = str(text).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def new_axes(figsize: tuple[float, float]) -> Axes:
    """Return the axes of a new figure that no window shows."""
    # pyplot would keep every figure for the life of the process.
    from matplotlib.figure import Figure

    return Figure(figsize=figsize, layout="constrained").add_subplot()


def add_legend(ax: Axes, n_curves: int) -> None:
    """Add a legend, beside the axes where there are many curves."""
    if n_curves <= MANY:
        ax.legend(frameon=False, handlelength=3)
    else:
        place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        ax.legend(frameon=False, handlelength=3, fontsize="small", **place)
