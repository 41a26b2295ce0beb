"""Figures and tables as text."""

import math

import numpy as np
import pandas as pd
import pytest

from modal_clip_dual.evaluation.text import latex_table, markdown_table, mean_std, percent, plain


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [
        ([], 2, ""),
        ([np.nan], 2, ""),
        ([1.234], 2, "1.23"),
        ([1.234, np.nan], 1, "1.2"),
        ([1.0, 3.0], 2, "2.00 +- 1.41"),
    ],
)
def test_mean_and_deviation(values, digits, text):
    assert plain(pd.Series(values, dtype=float), digits) == text


def test_percent_is_of_fractions():
    assert percent(pd.Series([0.5, 0.6])) == f"55.0 +- {100 * math.sqrt(0.005):.1f}"
    assert mean_std(55, 7.07, sign="$\\pm$") == "55.0 $\\pm$ 7.1"


def test_markdown_has_columns_of_one_width():
    lines = markdown_table(["a", "b|c"], [["long name", 1], ["x\ny", "<b>"]]).splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")] for line in lines]
    assert cells == [["a", "b/c"], ["---", "---"], ["long name", "1"], ["x y", "\\<b\\>"]]


def test_latex_escapes_names_and_leaves_figures():
    text = latex_table(["a", "b_c"], [["50% & more", "1.0 $\\pm$ 0.1"]])
    assert text.splitlines() == [
        "\\begin{tabular}{lc}", "\\hline", "a & b\\_c \\\\", "\\hline",
        "50\\% \\& more & 1.0 $\\pm$ 0.1 \\\\", "\\hline", "\\end{tabular}",
    ]  # fmt: skip
