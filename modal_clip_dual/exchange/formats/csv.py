"""A table of labels, one line per sample, for pandas and spreadsheets."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from ...utils.spreadsheet import as_text, from_text
from ...utils.text_files import check_read, read_text
from ..table import DROP, LABEL, SKIP, Format, Said, Table

SEPARATORS = (",", ";", "\t")
COLUMNS = ("row", "path", "what", "label", "annotator", "time", "predicted", "sure")


def write(table: Table, path: Path) -> None:
    """Write a line per sample; a quote stands before texts that a spreadsheet would take for formulas."""
    # Paths of Linux may hold bytes that are no text.
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for entry in table.entries:
            cells = (getattr(entry, name) for name in COLUMNS)
            writer.writerow("" if cell is None else as_text(cell) for cell in cells)


def read(path: Path) -> list[Said]:
    """Read a table with the columns "path" or "row", and "label"; "what" and "annotator" are optional.

    Between cells are commas, semicolons or tabs: spreadsheets write one or the other.
    """
    text = read_text(path, foreign_bytes=True)  # which paths may hold
    check_read(text.partition("\n")[0], path, "line 1")
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=_separator(text))
    said = []
    for number, line in enumerate(reader, start=2):
        if None in line or None in line.values():
            raise ValueError(f"line {number} is longer or shorter than the first")
        for name, cell in line.items():
            if name != "path":
                check_read(cell or "", path, f"line {number}")
        one = _said({name: from_text(cell or "") for name, cell in line.items()}, number)
        said += [] if one is None else [one]
    return said


def _separator(text: str) -> str:
    for separator in SEPARATORS:
        columns = next(csv.reader(StringIO(text, newline=""), delimiter=separator), [])
        if "label" in columns and {"path", "row"} & set(columns):
            return separator
    columns = next(csv.reader(StringIO(text, newline="")), [])
    raise ValueError(f"it has the columns {columns}; expected 'label', and 'path' or 'row'")


def _said(cells: dict[str, str], number: int) -> Said | None:
    what = cells.get("what") or (LABEL if cells["label"] else "")
    if not what:
        return None
    if what not in (LABEL, SKIP, DROP) or (what == LABEL and not cells["label"]):
        raise ValueError(
            f"line {number}: what={what!r}, label={cells['label']!r}; expected a label, 'skip' or 'drop'"
        )
    row = cells.get("row", "")
    if row and not row.isdecimal():
        raise ValueError(f"line {number}: row={row!r}; expected a position in the pool")
    return Said(
        path=cells.get("path") or None,
        row=int(row) if row else None,
        what=what,
        label=cells["label"] if what == LABEL else None,
        annotator=cells.get("annotator") or None,
    )


FORMAT = Format("a table", write, read, paths=False)
