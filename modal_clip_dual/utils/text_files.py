"""Text files that a user hands in: UTF-8, or whatever their byte-order mark says."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

# Those of UTF-32 begin with those of UTF-16.  The codecs without an ending take the mark away.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
EXPECTED = (
    'expected UTF-8, or UTF-16 with a byte-order mark.  Save it anew so (spreadsheets call it "CSV UTF-8", editors '
    '"save with encoding"), or convert it, from the encoding of Windows for example: '
    "iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
)


def read_text(path: str | os.PathLike[str], *, foreign_bytes: bool = False) -> str:
    """Return the text of a file, in UTF-8 or with the byte-order mark of another UTF, which is left out.

    Parameters
    ----------
    path : str or path-like
    foreign_bytes : bool, default=False
        Whether bytes that are no UTF-8 are kept, as Python keeps them in paths (PEP 383), and not refused here;
        see `check_read`.

    Returns
    -------
    text : str
        With the ends of lines as they are.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is in another encoding, or damaged; names the file, the line and what is expected.
    """
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    errors = "surrogateescape" if foreign_bytes and encoding == "utf-8" else "strict"
    try:
        text = data.decode(encoding, errors)
    except UnicodeDecodeError as error:
        shown = encoding.removesuffix("-sig").upper()
        data = error.object  # without a mark of UTF-8
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{str(path)!r} is no text in {shown}: line {line} has the byte 0x{data[error.start]:02x}; {EXPECTED}"
        ) from error
    if "\0" in text:
        raise ValueError(
            f"{str(path)!r} is no text in UTF-8: it has bytes of zero, as UTF-16 without a byte-order mark has; "
            f"{EXPECTED}"
        )
    return text


def check_read(text: str, path: str | os.PathLike[str], where: str) -> str:
    """Return a part of what `read_text` kept foreign bytes in; refuse it if it has some.

    Raises
    ------
    ValueError
        Names the file, the place in it and what is expected.
    """
    foreign = foreign_byte(text)
    if foreign is not None:
        raise ValueError(f"{str(path)!r} is no text in UTF-8: {where} has the byte 0x{foreign:02x}; {EXPECTED}")
    return text


def foreign_byte(text: str) -> int | None:
    """Return the first byte of a text that was no UTF-8; None if there are none."""
    return next((ord(char) - 0xDC00 for char in text if "\udc80" <= char <= "\udcff"), None)
