"""What is said on the page, line by line in a file: each answer is on the disk before it is confirmed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..utils.persistence import replacing
from .answers import FORGET


def journal_of(state: str | os.PathLike[str]) -> str:
    """Return the path of the journal that belongs to a state file."""
    return f"{os.fspath(state)}.page"


def identity_of(paths: Sequence[str]) -> list[Any]:
    """Number and checksum of file names, in order: by it a journal knows the pool that its rows are positions in."""
    digest = blake2b(digest_size=16)
    for path in paths:
        digest.update(os.path.basename(path).encode("utf-8", "surrogateescape") + b"\0")
    return [len(paths), digest.hexdigest()]


def n_folded(events: Sequence[dict[str, Any]]) -> int:
    """Return the number of the last event that is in the learner's state, too; 0 if none is."""
    return max((event.get("folded", 0) for event in events), default=0)


class Journal:
    """Events as lines of JSON, each flushed to the disk before `append` returns.

    A line that a kill cut off is passed over when the file is read.

    Parameters
    ----------
    path : str, path-like or None
        The file; None keeps nothing.
    """

    def __init__(self, path: str | os.PathLike[str] | None):
        self.path = None if path is None else Path(path)

    def read(self, paths: Sequence[str] | None) -> list[dict[str, Any]]:
        """Return the events of the file, if they are about this pool or about its first rows; else none.

        None as ``paths`` takes those of any pool.
        """
        if self.path is None or not self.path.is_file():
            return []
        events = []
        for line in self.path.read_bytes().split(b"\n"):
            try:
                event = json.loads(line)
            except ValueError:  # cut off
                continue
            if isinstance(event, dict):
                events.append(event)
        pool = events[0].get("pool") if events else None
        if not isinstance(pool, list) or (paths is not None and pool != identity_of(paths[: pool[0]])):
            return []
        return events[1:]

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def waiting(self, paths: Sequence[str] | None) -> dict[int, tuple[str, str | None]]:
        """Return the answers by row that may not be in the learner's state yet: what was said last, and the class."""
        events = self.read(paths)
        folded = n_folded(events)
        late: dict[int, tuple[str, str | None]] = {}
        for event in events:
            if event.get("n", 0) > folded:
                states = event.get("states", ())
                late |= {row: tuple(said[-1][:2]) if said else (FORGET, None) for row, said in states}
                late |= {row: (what, name) for row, what, name, *_ in event.get("say", ())}  # of a version before
        return late

    def start(self, paths: Sequence[str], events: Sequence[dict[str, Any]] = ()) -> None:
        """Begin anew with some events, in place of what the file held."""
        if self.path is None:
            return
        lines = [json.dumps(event) for event in ({"pool": identity_of(paths)}, *events)]
        with replacing(self.path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def append(self, event: dict[str, Any]) -> None:
        """Write one event, and return when it is on the disk."""
        if self.path is None:
            return
        # A newline before as well: the line before may have been cut off.
        with open(self.path, "ab") as file:
            file.write(b"\n" + json.dumps(event).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
