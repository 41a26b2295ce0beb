"""Figures as text: means with their deviations, and tables in Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def mean_std(mean: float, std: float = math.nan, digits: int = 1, sign: str = "+-") -> str:
    """Write a mean and its deviation; the mean alone where the deviation is nan.

    Examples
    --------
    >>> from modal_clip_dual.evaluation.text import mean_std
    >>> mean_std(82.04, 1.41), mean_std(82.04)
    ('82.0 +- 1.4', '82.0')
    """
    spread = "" if math.isnan(std) else f" {sign} {std:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def plain(values: pd.Series, digits: int = 2) -> str:
    """Write the mean of a column and the standard deviation; the mean alone of one value."""
    values = values.dropna()
    return mean_std(values.mean(), values.std(), digits) if len(values) else ""


def percent(values: pd.Series) -> str:
    """Write mean and standard deviation of fractions, in percent."""
    return plain(100 * values, digits=1)


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    r"""Lay out a table in Markdown, its columns padded; what Markdown would read as markup is escaped.

    Examples
    --------
    >>> from modal_clip_dual.evaluation.text import markdown_table
    >>> print(markdown_table(["strategy", "accuracy"], [["my_own", "82.0 +- 1.4"]]))
    | strategy | accuracy    |
    | ---      | ---         |
    | my\_own  | 82.0 +- 1.4 |
    """
    rows = [[in_markdown(cell) for cell in row] for row in (header, *lines)]
    rows.insert(1, ["---"] * len(header))
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    padded = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows)
    return "\n".join(f"| {row} |" for row in padded)


def in_markdown(text: str) -> str:
    """Escape what Markdown would read as markup; one line."""
    special = "\\`*_[]<>|&~$#"
    return " ".join("".join(f"\\{c}" if c in special else c for c in str(text)).split())


def latex_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Lay out a table in LaTeX that needs no package; header and first column are escaped."""
    rows = [" & ".join(map(in_latex, header)), "\\hline"]
    rows[0] += " \\\\"
    rows += [" & ".join([in_latex(name), *cells]) + " \\\\" for name, *cells in lines]
    begin = f"\\begin{{tabular}}{{l{'c' * (len(header) - 1)}}}"
    return "\n".join([begin, "\\hline", *rows, "\\hline", "\\end{tabular}"])


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def in_latex(text: str) -> str:
    """Escape what LaTeX would read as commands; one line."""
    return " ".join("".join(_LATEX.get(c, c) for c in str(text)).split())
