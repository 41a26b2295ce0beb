"""Leaving out files that cannot be read."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .files import look_at
from .images import SHOWN, as_array, kind_of
from .reading import ImageSource


def drop_unreadable(paths: Any, *arrays: Any, n_jobs: int | str | None = "auto") -> list[Any]:
    """Leave out files that are missing or cannot be read as images, and their labels.

    Every file is read once, by the workers that also read them for a model.  A warning says how
    many were left out, and names the first ones.

    Parameters
    ----------
    paths : array-like of n paths
        Files.
    *arrays : array-like of n rows
        Labels, for instance; the same rows are left out of each.
    n_jobs : int, "auto" or None, default="auto"
        Worker processes; see `CLIPImageEncoder`.

    Returns
    -------
    paths : ndarray of str
        Those that can be read.
    *arrays : array-like
        Their rows of the other arguments.
    left_out : ndarray of int
        The rows that were left out, ascending.

    Raises
    ------
    TypeError, ValueError
        If ``paths`` holds no paths, an array has another length, or no file can be read.

    Examples
    --------
    >>> import tempfile, warnings
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from modal_clip_dual.data import drop_unreadable
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     good, broken = Path(folder, "good.png"), Path(folder, "broken.png")
    ...     Image.new("RGB", (4, 4)).save(good)
    ...     _ = broken.write_bytes(b"no image")
    ...     with warnings.catch_warnings():
    ...         warnings.simplefilter("ignore")
    ...         paths, y, left_out = drop_unreadable([broken, good], ["cat", "dog"])
    >>> [Path(path).name for path in paths], y, left_out.tolist()
    (['good.png'], ['dog'], [0])
    """
    from sklearn.utils import _safe_indexing
    from sklearn.utils.validation import _num_samples

    files = as_array(paths, "paths")
    if kind_of(files) != "paths":
        raise ValueError(f"paths has shape {files.shape}; expected a 1-d array of file paths")
    for k, array in enumerate(arrays):
        if array is None or isinstance(array, (str, bytes)) or not hasattr(array, "__len__"):
            raise TypeError(f"arrays[{k}], behind paths, is {array!r}; expected {len(files)} labels or other rows")
        if _num_samples(array) != len(files):
            raise ValueError(
                f"arrays[{k}], behind paths, has {_num_samples(array)} rows, paths {len(files)}; expected as many"
            )
    found = _what_is_wrong(files, n_jobs)
    left_out = np.array(sorted(found), dtype=np.intp)
    kept = np.setdiff1d(np.arange(len(files)), left_out)
    if not len(kept):
        raise ValueError(f"none of {len(files)} files can be read as an image; paths[0]: {found[0]}")
    if len(left_out):
        shown = "; ".join(f"paths[{row}]: {found[row]}" for row in left_out[:SHOWN])
        more = f"; and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
        warnings.warn(f"{len(left_out)} of {len(files)} files are left out: {shown}{more}", UserWarning, stacklevel=2)
    return [files[kept], *(_safe_indexing(array, kept) for array in arrays), left_out]


def _what_is_wrong(files: np.ndarray, n_jobs: int | str | None) -> dict[int, str]:
    """Reasons by row."""
    missing = [row for row, look in enumerate(look_at(files)) if look is None]
    there = np.setdiff1d(np.arange(len(files)), missing)
    found = ImageSource(files, None, n_jobs=n_jobs).unreadable(there) if len(there) else {}
    return found | {row: f"there is no file {str(files[row])!r}" for row in missing}
