"""Cells that a spreadsheet would take for formulas."""

from __future__ import annotations

import re
from typing import Any

# Texts that a spreadsheet takes for formulas, and, behind quotes, texts that look like escaped ones.
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def as_text(cell: Any) -> Any:
    """Put a quote before a text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def from_text(cell: str) -> str:
    """Take the quote of `as_text` away."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
