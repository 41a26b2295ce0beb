"""A table of labels, one line per sample, for pandas and spreadsheets."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from ...utils.spreadsheet import as_text, from_text
from ...utils.text_files import check_read, read_text
from ..table import DROP, LABEL, SKIP, Format, Said, Table

SEPARATORS = (",", ";", "\t")
FIRST_LINE = re.compile(r'"?sep=([^"\r\n])"?[ ,;\t]*\r?\n', re.IGNORECASE)  # by which Excel is told the separator
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

    Between cells are commas, semicolons or tabs: spreadsheets write one or the other; or what a first line such as
    ``sep=;`` says.  Columns may have blanks around their names, and capitals.
    """
    text = read_text(path, foreign_bytes=True)  # which paths may hold
    told = FIRST_LINE.match(text)
    text, first = (text[told.end() :], 2) if told else (text, 1)
    check_read(text.partition("\n")[0], path, f"line {first}")
    names, reader, padded = _opened(text, (told[1],) if told else SEPARATORS)
    said = []
    lines = (line for line in reader if line)
    for number, line in enumerate(lines, start=first + 1):
        if len(line) != len(names):
            raise ValueError(f"line {number} is longer or shorter than the first")
        for name, cell in zip(names, line):
            if name != "path":
                check_read(cell, path, f"line {number}")
        cells = (cell.strip(" ") if padded else cell for cell in line)
        one = _said({name: from_text(cell) for name, cell in zip(names, cells)}, number)
        said += [] if one is None else [one]
    return said


def _opened(text: str, separators: Sequence[str]) -> tuple[list[str], Iterator[list[str]], bool]:
    """Return the columns, a reader of the other lines, and whether blanks around cells are no part of them.

    They are none where the first line has them, too.
    """
    for separator in separators:
        columns = next(csv.reader(StringIO(text, newline=""), delimiter=separator), [])
        padded = any(column != column.strip(" ") for column in columns)
        reader = csv.reader(StringIO(text, newline=""), delimiter=separator, skipinitialspace=padded)
        names = _names(next(reader, []))
        if "label" in names and {"path", "row"} & set(names):
            return names, reader, padded
    columns = next(csv.reader(StringIO(text, newline=""), delimiter=separators[0]), [])
    raise ValueError(
        f"it has the columns {columns}; expected 'label', and 'path' or 'row' (which is for pools without files)"
    )


def _names(columns: Sequence[str]) -> list[str]:
    """Columns without blanks around them, and those that are known in small letters.

    A column that is called exactly so comes before one with capitals.
    """
    plain = [column.strip(" ") for column in columns]
    names = []
    for name in plain:
        known = name.casefold()
        names.append(known if known in COLUMNS and known not in plain else name)
        if names.count(known) > 1 and known not in plain:
            raise ValueError(f"it has the columns {plain}; expected one {known!r}")
    return names


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
