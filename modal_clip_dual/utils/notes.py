"""Notes at an error, which Python 3.11 has and shows; before, they are kept for who looks for them."""

from __future__ import annotations


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an error, as ``add_note`` of Python 3.11 does."""
    vars(error)["__notes__"] = [*notes_of(error), text]


def notes_of(error: object) -> list[str]:
    """Return the notes of an error."""
    return list(getattr(error, "__notes__", ()))
