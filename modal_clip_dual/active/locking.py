"""One state file, one process: a second one is told who has it, and nothing is overwritten unseen."""

from __future__ import annotations

import json
import os
import socket
import weakref
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout


class Mark(NamedTuple):
    """By what a file is known to be the one that was read or written last; None: there was none."""

    inode: int
    size: int
    changed: int


class _Held(NamedTuple):
    """A lock of this process, and how many learners use it."""

    pid: int
    lock: FileLock
    users: list[int]


_held: dict[str, _Held] = {}


def mark_of(path: str) -> Mark | None:
    """What the file at a path is known by; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return Mark(found.st_ino, found.st_size, found.st_mtime_ns)


def claim(path: str, owner: object) -> weakref.finalize[[str, _Held, int], object]:
    """Take a state file for this process until the owner is gone, or what is returned is called.

    A lock belongs to a process and ends with it, however it ends; two learners of one process share it, and
    `check_unchanged` keeps them apart.

    Raises
    ------
    RuntimeError
        If another process has it; says which one.
    OSError
        If no file can be written there.
    """
    held = _held.get(path)
    if held is None or held.pid != os.getpid():  # a forked process has nothing
        held = _held[path] = _Held(os.getpid(), _lock(path), [])
    held.users.append(id(owner))
    return weakref.finalize(owner, _release, path, held, id(owner))


def check_free(path: str) -> None:
    """Refuse a state file that another process has, without taking it.

    Raises
    ------
    RuntimeError, OSError
        As `claim`.
    """

    class Asker:
        pass

    asker = Asker()
    claim(os.path.realpath(path), asker)()


def _lock(path: str) -> FileLock:
    lock = FileLock(f"{path}.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not os.path.exists(lock.lock_file):  # which the package takes for one that comes and goes
            raise OSError(f"path={path!r}: no file can be written to its folder") from error
        raise RuntimeError(
            f"path={path!r} is in use by {_holder(path)}; end that one (or call its learner's close()) to go on "
            "here, or copy the file and use the copy"
        ) from error
    note = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
    Path(f"{path}.holder").write_text(json.dumps(note), encoding="utf-8")
    return lock


def _holder(path: str) -> str:
    try:
        note = json.loads(Path(f"{path}.holder").read_text(encoding="utf-8"))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _release(path: str, held: _Held, user: int) -> None:
    if held.pid != os.getpid():
        return
    held.users.remove(user)
    if not held.users:
        _held.pop(path, None)
        for name in (f"{path}.holder", f"{path}.lock"):
            with suppress(OSError):  # the folder may be gone, and Windows keeps files that are open
                os.unlink(name)
        held.lock.release()


def check_unchanged(path: str, mark: Mark | None) -> None:
    """Refuse to overwrite a file that is not the one that was read or written last.

    Raises
    ------
    RuntimeError
        If somebody else wrote it meanwhile: another learner, or a process on another machine.
    """
    if mark_of(path) not in (mark, None):
        raise RuntimeError(
            f"path={path!r} was written by another learner since this one read it, so it is not overwritten, and "
            "what was just said is not kept; go on with that learner, or with DualPromptLearner.resume(path)"
        )
