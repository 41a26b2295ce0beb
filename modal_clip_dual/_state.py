"""Files of arrays and settings: written whole or not at all, read without pickle."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

SCHEMA = 1


@contextmanager
def replacing(path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block has written it.

    Raises
    ------
    OSError
        As the block raises it, with the path: of a full disk, say.  The old file is whole.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise named(error, path, "what the file held before is whole") from error
    finally:
        temporary.unlink(missing_ok=True)


def named(error: OSError, path, note: str) -> OSError:
    """The same error with the path, which those of a full disk lack, and a note."""
    if error.errno is None:
        return error
    return OSError(error.errno, f"{error.strerror or error} ({note})", str(path))


def write_state(path, settings: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write settings (as JSON) and arrays to an .npz file, replacing what was there at once.

    Whatever happens meanwhile, the path holds either the old file or the new one.
    """
    buffer = io.BytesIO()
    text = json.dumps({"schema": SCHEMA, **settings})
    np.savez(buffer, settings=np.array(text), **arrays)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(buffer.getbuffer())


def read_state(path) -> tuple[dict, dict[str, np.ndarray]]:
    """Return settings and arrays of a file of `write_state`.

    Raises
    ------
    ValueError
        If it is none, is damaged, holds pickled objects, or has another schema.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        settings = json.loads(str(arrays.pop("settings")))
        schema = settings.pop("schema")
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"path={str(path)!r} is no saved state of a learner ({error})") from error
    if schema != SCHEMA:
        raise ValueError(
            f"path={str(path)!r} has schema {schema}; this version of modal-clip-dual reads {SCHEMA}"
        )
    return settings, arrays
