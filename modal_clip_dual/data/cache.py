"""Arrays on disk by key, in a file that several processes may use at a time."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
BUSY_SECONDS = 60  # that one process waits for another to finish writing
KEYS_PER_QUERY = 500  # SQLite limits the variables of a statement


def default_cache_folder() -> Path:
    """``modal_clip_dual`` in the user's cache folder: $XDG_CACHE_HOME, or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modal_clip_dual"


class DiskCache:
    """Arrays of one type by key, in one SQLite file.

    A call is one transaction on a connection of its own: threads, forks and several
    processes may use the file at the same time, and a process that is killed leaves it as
    it was before the transaction.

    Parameters
    ----------
    folder : str or path-like
        Created if missing.
    kind : str
        What the arrays are; a part of the file's name.
    fingerprint : str
        What made them; a part of the file's name.
    dtype : numpy dtype
        Of all arrays; their shapes may differ.

    Raises
    ------
    ValueError
        If the folder cannot be written to, or the file is damaged, or was written with
        other settings.  Calls `cache` what the user calls it.
    """

    def __init__(self, folder: str | os.PathLike[str], kind: str, fingerprint: str, dtype: Any):
        folder = Path(folder)
        self.path = folder / f"{kind}-{fingerprint}.sqlite"
        self.dtype = np.dtype(dtype)
        self._meta = {"format": str(FORMAT), "fingerprint": fingerprint, "dtype": self.dtype.str}
        self._warned = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(folder, os.W_OK)
        except OSError as error:
            raise ValueError(f"cache={str(folder)!r} cannot be created ({error})") from error
        if not writable:
            raise ValueError(f"cache={str(folder)!r} cannot be written to")
        try:
            with self._connection(write=True) as connection:
                self._set_up(connection)
        except sqlite3.OperationalError as error:
            raise ValueError(
                f"cache: {str(self.path)!r} cannot be opened for writing ({error})"
            ) from error

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT)")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS arrays (key BLOB PRIMARY KEY, shape TEXT, data BLOB)"
        )
        connection.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", self._meta.items())
        found = dict(connection.execute("SELECT name, value FROM meta"))
        if found != self._meta:
            raise ValueError(
                f"cache: {str(self.path)!r} was written with {found}, expected {self._meta}; "
                "delete the file or use another folder"
            )

    @contextmanager
    def _connection(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            if write:  # taking the lock at once: two that upgrade from reading would not wait
                connection.execute("BEGIN IMMEDIATE")
            yield connection
            if write:
                connection.execute("COMMIT")
        except sqlite3.OperationalError:  # full, read-only, locked: not the file's fault
            raise
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"cache: {str(self.path)!r} is damaged or no cache of this package "
                f"({error}); delete the file or use another folder"
            ) from error
        finally:
            connection.close()  # rolls back what was not committed

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return those that are there.

        If the file cannot be read for the moment, a warning says so once and nothing is
        there.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        keys = list(keys)
        found: dict[bytes, np.ndarray] = {}
        if not keys:
            return found
        try:
            with self._connection() as connection:
                for start in range(0, len(keys), KEYS_PER_QUERY):
                    some = keys[start : start + KEYS_PER_QUERY]
                    marks = ",".join("?" * len(some))
                    query = f"SELECT key, shape, data FROM arrays WHERE key IN ({marks})"
                    for key, shape, data in connection.execute(query, some):
                        array = self._array(shape, data)
                        if array is not None:
                            found[key] = array
        except sqlite3.OperationalError as error:
            self._warn(f"{str(self.path)!r} cannot be read ({error}): images are read again")
        return found

    def _array(self, shape: str, data: bytes) -> np.ndarray | None:
        """The array of a row; None if the row is not whole."""
        try:
            sides = tuple(int(side) for side in shape.split())
        except (AttributeError, ValueError):
            return None
        if min(sides, default=0) < 0 or not isinstance(data, bytes):
            return None
        if len(data) != prod(sides) * self.dtype.itemsize:
            return None
        try:
            array: np.ndarray = np.frombuffer(data, self.dtype).reshape(sides).copy()
            return array
        except (ValueError, OverflowError):  # more axes, or longer ones, than NumPy has
            return None

    def put(self, items: Mapping[bytes, np.ndarray]) -> None:
        """Keep arrays; keys that are there already keep what they have.

        If the disk is full or can no longer be written to, a warning says so once and the
        work goes on without the cache.
        """
        if not items:
            return
        rows = [
            (key, " ".join(map(str, array.shape)), np.ascontiguousarray(array, self.dtype).tobytes())
            for key, array in items.items()
        ]
        try:
            with self._connection(write=True) as connection:
                # A row that is not whole counts as missing, so it is replaced.
                statement = (
                    "INSERT INTO arrays VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                    "shape = excluded.shape, data = excluded.data "
                    "WHERE length(arrays.data) != length(excluded.data)"
                )
                connection.executemany(statement, rows)
        except sqlite3.OperationalError as error:
            self._warn(
                f"{str(self.path)!r} cannot be written to ({error}): what is not in the cache yet "
                "will be computed again by the next process"
            )

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(message, UserWarning, stacklevel=3)

    def __repr__(self) -> str:
        return f"DiskCache({str(self.path)!r}, {self.dtype})"
