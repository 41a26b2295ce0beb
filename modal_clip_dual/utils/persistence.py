"""Files of arrays and settings: written whole or not at all, read without pickle."""

from __future__ import annotations

import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

LEFTOVER_SECONDS = 60  # after which an unfinished file of a process that is gone is taken for one of a kill
SCHEMA = 2  # what is written
KNOWN_SCHEMAS = (1, 2)  # what is read; 1 is that of version 0.1.0
# What a file may hold, and what reads it.
READERS = {"learner": "DualPromptLearner.resume", "classifier": "DualPromptClassifier.load"}
PACKAGES = ("torch", "open_clip_torch", "numpy", "scikit-learn", "skorch")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, which replaces it once the block has written it.

    Raises
    ------
    OSError
        If the block raises it, for example on a full disk; the path is added.  The old file stays intact.
    """
    path = Path(path)
    _remove_leftovers(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise named(error, path, "the old content of the file is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed while they wrote to this path have left beside it."""
    start = f"{path.name}."
    for file in path.parent.glob("*.tmp"):
        number = file.name.removeprefix(start).removesuffix(".tmp")
        # Another machine's processes cannot be asked, so on a shared drive young files are left alone.
        if file.name.startswith(start) and number.isdigit() and _is_old(file) and not _is_alive(int(number)):
            file.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    import psutil

    alive: bool = psutil.pid_exists(process)
    return alive


def _is_old(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime > LEFTOVER_SECONDS
    except FileNotFoundError:
        return False


def named(error: OSError, path: str | os.PathLike[str], note: str) -> OSError:
    """Return the same error with a note and the path, which errors of a full disk lack."""
    if error.errno is None:
        return error
    return OSError(error.errno, f"{error.strerror or error} ({note})", str(path))


def check_path(path: Any) -> None:
    """Refuse what is no path of a file: another type, empty text, one that begins with the shell's ``~``.

    Raises
    ------
    TypeError, ValueError
        Names the path, and for ``~`` the one that was meant.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"path={path!r} is a {type(path).__name__}; expected the path of a file, str or path-like")
    text = os.fspath(path)
    if not text:
        raise ValueError("path='' is empty; expected the path of a file")
    if text.startswith("~") and not os.path.exists(Path(text).parts[0]) and os.path.expanduser(text) != text:
        raise ValueError(f"path={text!r}: ~ is the shell's; expected {os.path.expanduser(text)!r}")


def check_target(path: str | os.PathLike[str]) -> Path:
    """Check that a file can be written to a path; return the path.

    Raises
    ------
    TypeError, ValueError
        If it is no path, its folder does not exist, or it is a folder itself.
    """
    check_path(path)
    target = Path(path)
    if not target.absolute().parent.is_dir():
        raise ValueError(f"path={str(path)!r}: there is no such folder to write to")
    if target.is_dir():
        raise ValueError(f"path={str(path)!r} is a folder; expected the name of a file")
    return target


def check_writable(place: str | os.PathLike[str], hint: str = "") -> None:
    """Refuse a folder or a file that cannot be written to.

    Raises
    ------
    ValueError
        Names the place; ``hint`` is the end of the sentence.
    """
    if not os.access(place, os.W_OK):
        raise ValueError(f"{str(place)!r} cannot be written to{hint}")


def write_state(
    path: str | os.PathLike[str], kind: str, settings: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write settings (as JSON) and arrays to an .npz file; an old file is replaced atomically.

    At any moment the path holds either the old file or the new one.  ``kind`` is
    one of `READERS`.
    """
    buffer = io.BytesIO()
    text = json.dumps({"schema": SCHEMA, "kind": kind, "versions": versions(), **settings})
    members: dict[str, Any] = {"settings": np.array(text), **arrays}
    np.savez(buffer, **members)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(buffer.getbuffer())


def read_state(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the settings and arrays of a file that `write_state` wrote.

    The file may come from a stranger: no code in it is run, and it takes no more memory than its
    size on the disk.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is not such a file, is damaged, holds pickled objects or another kind, or has another schema.
    """
    check_path(path)
    where = os.path.abspath(path)
    if not os.path.exists(where):
        raise FileNotFoundError(f"path={str(path)!r}: there is no saved state of a {kind} ({where!r} does not exist)")
    if os.path.isdir(where):
        raise ValueError(f"path={str(path)!r} is not a saved state of a {kind} (it is a folder)")
    try:
        with open(path, "rb") as opened:
            _refuse_compressed(opened)
            with np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        settings = json.loads(str(arrays.pop("settings")))
        schema = settings.pop("schema")
    except FileNotFoundError:
        raise
    except Exception as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        why = why if os.path.getsize(where) else "it is empty"
        raise ValueError(f"path={str(path)!r} is not a saved state of a {kind} ({why})") from error
    if schema not in KNOWN_SCHEMAS:
        raise ValueError(
            f"path={str(path)!r} has schema {schema}; this version of modal-clip-dual reads {SCHEMA}"
            f"{_written_with(settings)}"
        )
    found = settings.pop("kind", "learner")
    if found != kind:
        reader = READERS.get(str(found), "a newer version")
        raise ValueError(f"path={str(path)!r} is not a saved {kind} but a {found}, for {reader}")
    return settings, arrays


def _refuse_compressed(file: BinaryIO) -> None:
    """Refuse a file that is compressed or claims more than its size: it may be a zip bomb; ours are neither."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{member.filename!r} is compressed")
    if sum(member.file_size for member in members) > file.seek(0, os.SEEK_END):
        raise ValueError("it claims to hold more than its size")
    file.seek(0)


def _written_with(settings: Any) -> str:
    saved = settings.get("versions") if isinstance(settings, dict) else None
    return f" (written with {describe_versions(saved)})" if saved else ""


# ---------------------------------------------------------------- versions


@cache
def versions() -> dict[str, str]:
    """Return the versions of this package and of those that predictions depend on."""
    from .. import __version__

    found = {"python": sys.version.partition(" ")[0], "modal-clip-dual": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # installed without metadata
            found[name] = "unknown"
    return found


def describe_versions(saved: Any) -> str:
    """Return versions as text for messages; they may come from a stranger's file."""
    if not isinstance(saved, Mapping):
        return "unknown versions"
    return ", ".join(f"{str(name)[:40]} {str(number)[:40]}" for name, number in list(saved.items())[:20])


# ---------------------------------------------------------------- parameters of an estimator


def plain_params(estimator: Any, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the parameters that JSON can hold, and the names of the others under "missing"."""
    params, missing = {}, []
    for name, value in estimator.get_params(deep=False).items():
        if name in without:
            continue
        try:
            value = _plain_value(name, value)
            if json.loads(json.dumps(value)) != value:
                raise TypeError
            params[name] = value
        except TypeError:
            missing.append(name)
    return {"params": params, "missing": missing}


def _plain_value(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if name == "class_names" and not isinstance(value, (list, Mapping, type(None))):
        return list(value)  # a Series, an index
    if isinstance(value, dict) and name != "class_names":
        return {key: entry.item() if isinstance(entry, np.generic) else entry for key, entry in value.items()}
    if name == "class_names" and isinstance(value, Mapping):
        # JSON's keys are always text
        pairs = zip(np.array(list(value)).tolist(), value.values())
        return {"items": [list(pair) for pair in pairs]}
    return value


def params_of(saved: dict[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """Return constructor arguments from the "params" of `plain_params`."""
    params = {name: value for name, value in saved["params"].items() if name not in without}
    names = params.get("class_names")
    if isinstance(names, dict):
        params["class_names"] = dict(map(tuple, names["items"]))
    return params


def plain(labels: np.ndarray) -> np.ndarray:
    """Return labels as an array that needs no pickle."""
    return np.array(labels.tolist()) if labels.dtype == object else labels
