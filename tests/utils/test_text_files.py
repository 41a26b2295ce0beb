"""Text files in the encodings that people's programs write."""

import codecs
import os

import pytest

from modal_clip_dual.utils.text_files import check_read, foreign_byte, read_text

TEXT = "pfad\tname\r\n1\tGrün, 犬 \U0001f436\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode("utf-8"),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),  # Excel's "Unicode text"
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    ],
)
@pytest.mark.parametrize("foreign_bytes", [False, True])
def test_marks_say_the_encoding(tmp_path, data, foreign_bytes):
    (tmp_path / "a.csv").write_bytes(data)
    assert read_text(tmp_path / "a.csv", foreign_bytes=foreign_bytes) == TEXT


@pytest.mark.parametrize("data", [b"", codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_an_empty_file(tmp_path, data):
    (tmp_path / "a.csv").write_bytes(data)
    assert read_text(str(tmp_path / "a.csv")) == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a\nrot\ngrün".encode("latin-1"), "a.txt' is no text in UTF-8: line 3 has the byte 0xfc; expected UTF-8,"),
        ("abc".encode("utf-16-le"), "a.txt' is no text in UTF-8: it has bytes of zero, as UTF-16 without a byte"),
        ("abc".encode("utf-16-be"), "as UTF-16 without a byte-order mark has; expected UTF-8, or UTF-16 with"),
        ("grün".encode("utf-16")[:-1], "a.txt' is no text in UTF-16: line 1 has"),
        ("grün".encode("utf-8-sig")[:-2], "a.txt' is no text in UTF-8: line 1 has the byte 0xc3"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is no text in UTF-8: line 1 has the byte 0x89; .* iconv -f WINDOWS-1252"),
    ],
)
def test_other_encodings_are_named_with_the_way_out(tmp_path, data, message):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_text(tmp_path / "a.txt")


def test_foreign_bytes_are_those_of_paths(tmp_path):
    name = b"gr\xfcn.png"
    (tmp_path / "a.csv").write_bytes(name)
    text = read_text(tmp_path / "a.csv", foreign_bytes=True)
    assert text.encode("utf-8", "surrogateescape") == name and foreign_byte(text) == 0xFC
    assert os.name == "nt" or os.fsencode(text) == name
    with pytest.raises(ValueError, match=r"a.csv' is no text in UTF-8: line 4 has the byte 0xfc"):
        check_read(text, tmp_path / "a.csv", "line 4")
    assert check_read("grün", "a.csv", "line 4") == "grün" and foreign_byte("grün") is None
