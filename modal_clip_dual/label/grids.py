"""The images that are on the page together, what the model says of them, and how often it was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass
class Grid:
    """Images that are asked for together.

    ``random`` are those rows that were drawn at random from the unlabeled images, before the strategy chose the rest:
    on them the model is neither better nor worse than on the images that are left.
    """

    number: int
    round: int
    rows: list[int]
    names: list[str | None]  # predicted; None where there is no model yet
    correct: list[float | None]  # P(correct) of each
    guesses: list[list[str]] = field(default_factory=list)  # the likeliest classes of each
    random: list[int] = field(default_factory=list)

    def without(self, rows: Any) -> Grid:
        """Return the grid without some rows."""
        keep = [k for k, row in enumerate(self.rows) if row not in rows]
        picked = {name: [getattr(self, name)[k] for k in keep] for name in ("rows", "names", "correct", "guesses")}
        return Grid(self.number, self.round, random=[r for r in self.random if r not in rows], **picked)

    def predicted(self) -> dict[int, str | None]:
        """Return the predicted class of each row."""
        return dict(zip(self.rows, self.names))

    def to_json(self) -> dict[str, Any]:
        """Return plain values, of which ``Grid(**values)`` makes the grid again."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """How often the person said what the model had said, in one grid."""

    round: int
    n: int  # chosen by the strategy, with a label
    agree: int
    n_random: int
    random_agree: int


def check_of(grid: Grid, labels: Mapping[int, str]) -> Check:
    """Compare what the model said with what the person said; images without a label do not count."""
    counts = {False: [0, 0], True: [0, 0]}
    for row, name in grid.predicted().items():
        if row in labels and name is not None:
            count = counts[row in grid.random]
            count[0] += 1
            count[1] += labels[row] == name
    return Check(grid.round, *counts[False], *counts[True])


def agreement(checks: Sequence[Check]) -> dict[str, Any]:
    """Return shares of agreement over some grids, with Wilson's 95% interval for the random images."""
    names = ("n", "agree", "n_random", "random_agree")
    total = {name: sum(getattr(check, name) for check in checks) for name in names}
    low = high = None
    if total["n_random"]:
        from scipy.stats import binomtest

        interval = binomtest(total["random_agree"], total["n_random"]).proportion_ci(0.95, method="wilson")
        low, high = float(interval.low), float(interval.high)
    return total | {"low": low, "high": high}


def choose_rows(asked: Sequence[int], random: Sequence[int], taken: Any, n: int) -> list[int]:
    """Return the random rows and the first of those asked for, n in all, none of them taken or twice."""
    kept = [row for row in random if row not in taken]
    more = [row for row in asked if row not in taken and row not in kept]
    return [*kept, *more][:n]


def draw(rows: np.ndarray, n: int, seed: Sequence[int]) -> list[int]:
    """Return n of the rows at random."""
    rng = np.random.default_rng(list(seed))
    drawn: list[int] = rng.choice(rows, size=min(n, len(rows)), replace=False).tolist()
    return drawn
