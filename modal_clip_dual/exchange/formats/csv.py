"""A table of labels, one line per sample, for pandas and spreadsheets."""

from __future__ import annotations

import csv
from pathlib import Path

from ...utils.spreadsheet import as_text, from_text
from ..table import DROP, LABEL, SKIP, Format, Said, Table

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
    """Read a table with the columns "path" or "row", and "label"; "what" and "annotator" are optional."""
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if "label" not in columns or not {"path", "row"} & set(columns):
            raise ValueError(f"it has the columns {list(columns)}; expected 'label', and 'path' or 'row'")
        return [said for number, line in enumerate(reader, start=2) if (said := _said(line, number)) is not None]


def _said(line: dict[str, str | None], number: int) -> Said | None:
    if None in line or None in line.values():
        raise ValueError(f"line {number} is longer or shorter than the first")
    cells = {name: from_text(cell or "") for name, cell in line.items()}
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
