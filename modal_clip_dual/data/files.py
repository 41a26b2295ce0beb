"""Files of images: looked at once per piece of work, and known by their bytes."""

from __future__ import annotations

import os
import re
import stat
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import numpy as np
from joblib import cpu_count

if TYPE_CHECKING:
    from .cache import DiskCache

    Paths: TypeAlias = Sequence[str] | np.ndarray

Result = TypeVar("Result")

DIGEST_BYTES = 16
READ_BYTES = 1 << 20  # of a file that are in memory at a time
MOST_THREADS = 8  # that ask a file system at a time; network drives answer late
CHUNK = 256  # files per task of a thread
MOST_DIGESTS = 1 << 20  # that a process remembers, some 250 bytes each


class Look(NamedTuple):
    """What the file system says of a file."""

    size: int
    changed: int  # nanoseconds


_seen: ContextVar[dict[str, Look | None] | None] = ContextVar("seen", default=None)
_digests: dict[str, tuple[Look, bytes]] = {}


@contextmanager
def looking_once() -> Iterator[None]:
    """Inside, a file that was looked at is taken to stay as it is, and not looked at again."""
    if _seen.get() is not None:
        yield
        return
    token = _seen.set({})
    try:
        yield
    finally:
        _seen.reset(token)


def look_at(paths: Paths) -> list[Look | None]:
    """Return size and time of change of each file; None where there is no file."""
    places = [os.path.abspath(path) for path in paths]
    seen = _seen.get()
    seen = {} if seen is None else seen
    new = list(dict.fromkeys(place for place in places if place not in seen))
    seen.update(zip(new, _in_threads(_look, new)))
    return [seen[place] for place in places]


def _look(place: str) -> Look | None:
    try:
        found = os.stat(place)
    except (OSError, ValueError):  # ValueError: a null byte
        return None
    return Look(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def other_than_binary(path: str) -> str | None:
    """What a file is whose first bytes are text, or that has none: the rest of a sentence; None of other files.

    People get these in place of images and weights, and libraries say of them only that they cannot be read.
    """
    with open(path, "rb") as opened:
        start = opened.read(200)
    if not start:
        return "is empty (0 bytes)"
    try:
        text = getincrementaldecoder("utf-8")().decode(start)  # the last character may be cut in two
    except UnicodeDecodeError:
        return None
    if not all(char.isprintable() or char.isspace() for char in text):
        return None
    if text.startswith("version https://git-lfs"):
        return "is a pointer of Git LFS, not the file itself: git lfs pull fetches it"
    if re.match(r"\s*<(!doctype|html|\?xml)", text, re.IGNORECASE):
        return "is a web page: its address may need a login, or be that of a page about the file"
    return f"is text that begins with {text[:40]!r}"


def digests_of(paths: Paths, disk: DiskCache | None = None) -> list[bytes]:
    """Return a checksum of the bytes of each file: the same wherever the file lies.

    A file is read once.  As long as its path, size and time of change stay the same, the
    checksum is remembered, by this process and in ``disk``.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    """
    places = [os.path.abspath(path) for path in paths]
    known: dict[str, bytes] = {}
    todo: dict[str, Look] = {}
    for path, place, look in zip(paths, places, look_at(paths)):
        if look is None:
            raise FileNotFoundError(f"there is no file {path!r}")
        remembered = _digests.get(place)
        if remembered is not None and remembered[0] == look:
            known[place] = remembered[1]
        else:
            todo[place] = look
    if todo:
        found = _from_disk(todo, disk)
        unread = [place for place in todo if place not in found]
        fresh = dict(zip(unread, _in_threads(_digest, unread)))
        _to_disk({place: todo[place] for place in unread if fresh[place] is not None}, fresh, disk)
        found |= {place: fresh[place] or _unread(place, todo[place]) for place in unread}
        _remember(todo, found)
        known |= found
    return [known[place] for place in places]


def _remember(looks: dict[str, Look], found: dict[str, bytes]) -> None:
    if len(_digests) + len(found) > MOST_DIGESTS:
        _digests.clear()
    _digests.update({place: (looks[place], digest) for place, digest in found.items()})


def _digest(place: str) -> bytes | None:
    """Checksum of a file's bytes; None if it cannot be read, which those say who need its image."""
    digest = blake2b(digest_size=DIGEST_BYTES)
    try:
        with open(place, "rb") as file:
            while part := file.read(READ_BYTES):
                digest.update(part)
    except OSError:
        return None
    return digest.digest()


def _unread(place: str, look: Look) -> bytes:
    """What stands for the checksum of a file that cannot be read; also its key on disk."""
    identity = f"{place}\0{look.size}\0{look.changed}".encode("utf-8", "surrogateescape")
    return blake2b(identity, digest_size=DIGEST_BYTES).digest()


def _from_disk(looks: dict[str, Look], disk: DiskCache | None) -> dict[str, bytes]:
    if disk is None:
        return {}
    keys = {_unread(place, look): place for place, look in looks.items()}
    found = {keys[key]: array.tobytes() for key, array in disk.get(keys).items()}
    return {place: digest for place, digest in found.items() if len(digest) == DIGEST_BYTES}


def _to_disk(looks: dict[str, Look], fresh: dict[str, bytes | None], disk: DiskCache | None) -> None:
    if disk is not None:
        disk.put(
            {_unread(p, look): np.frombuffer(fresh[p] or b"", dtype=np.uint8) for p, look in looks.items()}
        )


def _in_threads(task: Callable[[str], Result], places: Sequence[str]) -> list[Result]:
    """Results of a task for each file; asking a file system and hashing let other threads run."""
    if len(places) <= CHUNK:
        return [task(place) for place in places]
    chunks = [places[start : start + CHUNK] for start in range(0, len(places), CHUNK)]
    with ThreadPoolExecutor(min(max(cpu_count(), 2), MOST_THREADS)) as threads:
        return [result for part in threads.map(lambda chunk: [task(p) for p in chunk], chunks) for result in part]
