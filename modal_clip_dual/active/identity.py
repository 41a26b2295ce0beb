"""Samples of a pool are known by their content: which are the same, where they lie now, which are gone."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import Any

import numpy as np

from ..clip.inputs import digest_cache
from ..data.files import digests_of, look_at
from ..data.images import image_key, kind_of
from .places import places_of

SHOWN = 5  # rows that messages name


def absolute(array: Any, folder: str) -> Any:
    """Paths that mean the same wherever the process goes; relative ones began in ``folder``."""
    if kind_of(array) != "paths" or all(map(os.path.isabs, array)):
        return array
    return np.array([os.path.normpath(os.path.join(folder, path)) for path in array], dtype=object)


def keys_of(pool: Any, cache: Any) -> np.ndarray:
    """Identity of each sample, (n, 16) uint8: its numbers as float32, its pixels, or the bytes of its file."""
    if kind_of(pool) == "embeddings":
        with np.errstate(over="ignore"):
            keys = [_key_of_numbers(row, np.float32) for row in pool]
    elif kind_of(pool) == "paths":
        keys = digests_of(pool, digest_cache(cache))
    else:
        keys = [image_key(pool, row) for row in range(len(pool))]
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)


def _key_of_numbers(row: np.ndarray, dtype: Any) -> bytes:
    return blake2b(np.ascontiguousarray(row, dtype=dtype).tobytes(), digest_size=16).digest()


def as_now(saved: np.ndarray, pool: Any, keys: np.ndarray) -> np.ndarray:
    """Saved keys (m, 16), those of a pool's embeddings as they are made now; ``keys`` (n, 16) has the pool's.

    Versions before hashed the numbers in the type of the pool, which a list or float64 changed.
    """
    known = {bytes(key) for key in keys}
    if kind_of(pool) != "embeddings" or all(bytes(key) in known for key in saved):
        return saved
    types = {np.dtype(np.float64), pool.dtype}
    now = {_key_of_numbers(row, dtype): bytes(key) for row, key in zip(pool, keys) for dtype in types}
    renewed = b"".join(now.get(bytes(key), bytes(key)) for key in saved)
    return np.frombuffer(renewed, dtype=np.uint8).reshape(-1, 16)


def keys_of_old_files(pool: Any, rows: np.ndarray) -> np.ndarray:
    """Identity of files as version 0.1.0 wrote it: path, size and time of change."""
    keys = []
    for row, look in zip(rows, look_at(pool[rows])):
        identity = f"{os.path.abspath(pool[row])}\0{look.size if look else 0}\0{look.changed if look else 0}"
        keys.append(blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=16).digest())
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)


def looks_of(paths: Any) -> np.ndarray:
    """Size and time of change of each file, (n, 2) int64; -1 where there is no file."""
    numbers = (number for look in look_at(paths) for number in look or (-1, -1))
    return np.fromiter(numbers, dtype=np.int64, count=2 * len(paths)).reshape(-1, 2)


def missing_rows(pool: Any, rows: np.ndarray) -> np.ndarray:
    """Those rows whose file is not there."""
    if kind_of(pool) != "paths":
        return rows[:0]
    missing: np.ndarray = rows[np.array([look is None for look in look_at(pool[rows])], dtype=bool)]
    return missing


def numbered(rows: np.ndarray) -> str:
    """How messages show rows."""
    return f"rows {rows[:SHOWN].tolist()}" + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def named_rows(rows: np.ndarray, pool: Any) -> str:
    """How messages show rows and the file of the first."""
    return f"{numbered(rows)} ({str(pool[rows[0]])!r}{', ...' if len(rows) > 1 else ''})"


def compare(saved: np.ndarray, given: np.ndarray, rows: np.ndarray) -> None:
    """Refuse samples that are not the saved ones; says in which rows.  Both keys are those of ``rows``.

    Raises
    ------
    ValueError
        If they differ.
    """
    differ = rows[(saved != given).any(axis=1)]
    if not len(differ):
        return
    raise ValueError(
        f"X_pool differs from the saved learner's in {len(differ)} of {len(rows)} rows, the first of them "
        f"{differ[:SHOWN].tolist()}; samples are known by their content. New ones go to the end; "
        f"drop={differ[:SHOWN].tolist()} leaves rows out whose image is another by now"
    )


def changed_rows(saved: np.ndarray, paths: list[str], without: Any, cache: Any) -> list[int]:
    """Rows of a saved pool whose files hold other bytes by now; none where all only stand at other rows."""
    there = [row for row, look in enumerate(look_at(paths)) if look is not None and row not in without]
    found = keys_of(np.array(paths, dtype=object)[there], cache) if there else saved[:0]
    differ = [row for row, key in zip(there, found) if not np.array_equal(key, saved[row])]
    return [] if differ and len(there) == len(paths) and places_of(saved, found) is not None else differ


def where_now(
    paths: list[str], keys: np.ndarray, folders: tuple[str | None, str], relocate: Any, cache: Any
) -> list[str]:
    """Where the files of a saved pool lie now; one that is found nowhere keeps its path.

    They are looked for in ``relocate``, at the same place below it and then by content; without it where they
    were, and then beside the state file, if it moved from the first of ``folders`` to the second.
    """
    if relocate is not None:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
        folder = os.path.abspath(relocate)
        if not os.path.isdir(folder):
            raise ValueError(f"relocate={str(relocate)!r} is no folder; expected where the files lie now")
        moved = [os.path.join(folder, os.path.relpath(path, root)) for path in paths]
        return _by_content(paths, moved, keys, folder, cache)
    before, now = folders
    if before is None or before == now:
        return paths
    inside = [path.startswith(os.path.join(before, "")) for path in paths]
    moved = [os.path.join(now, os.path.relpath(p, before)) if i else p for p, i in zip(paths, inside)]
    looks = zip(paths, look_at(paths), moved, look_at(moved))
    return [new if look is None and there is not None else path for path, look, new, there in looks]


def _by_content(paths: list[str], moved: list[str], keys: np.ndarray, folder: str, cache: Any) -> list[str]:
    """The moved paths; of those that do not hold the same bytes, any file of the folder that does."""
    disk = digest_cache(cache)
    wanted = [bytes(key) for key in keys]
    there = [path for path, look in zip(moved, look_at(moved)) if look is not None]
    found = dict(zip(there, digests_of(there, disk)))
    lost = [row for row, path in enumerate(moved) if found.get(path) != wanted[row]]
    if not lost:
        return moved
    files = sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)
    files = [path for path, look in zip(files, look_at(files)) if look is not None]  # links may lead nowhere
    by_content = dict(zip(digests_of(files, disk), files))
    for row in lost:
        moved[row] = by_content.get(wanted[row], moved[row] if moved[row] in found else paths[row])
    return moved
