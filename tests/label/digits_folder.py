"""Digits as files, for tests of the page."""

from PIL import Image


def write_digits(folder, digits, n):
    """Write the first n digits as ``0000.png`` and on; return the folder."""
    folder.mkdir()
    for k in range(n):
        Image.fromarray(digits.images[k]).save(folder / f"{k:04}.png")
    return folder
