"""Records of runs in files: written round by round, read as one table."""

from __future__ import annotations

import csv
import glob
import os
import platform
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from ..utils.persistence import named, replacing
from ..utils.spreadsheet import as_text, from_text
from ._checks import GROUP, named as named_run

TEXT = ("data", "estimator", "loop", "strategy")
SETTINGS = "settings"  # column of files: a digest of a run's settings without the seed; a number, for older versions


def read_results(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read all finished runs of a folder of results.

    Parameters
    ----------
    path : str or path-like
        The ``path`` of `compare_strategies`.

    Returns
    -------
    frame : pandas.DataFrame
        Table like that of `compare_strategies`, with all stored data sets and settings.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or has no finished run.
    ValueError
        If a file is damaged, two files hold one run, or the runs of one name differ in their settings, data or code;
        names the files, the older first.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual.active import Protocol
    >>> from modal_clip_dual.evaluation import compare_strategies, read_results
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     frame = compare_strategies(
    ...         LogisticRegression(max_iter=500), ["random"], X, y, seeds=1, verbose=0,
    ...         protocol=Protocol(n_rounds=2, per_class=5), path=folder,
    ...     )
    ...     read_results(folder).equals(frame)
    True
    """
    return read_folders([path])


def read_folders(paths: Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """Read all finished runs of some folders as one table; raises what `read_results` does."""
    rows: dict[Path, list[dict[str, Any]]] = {}
    frames = []
    for path in dict.fromkeys(map(Path, paths)):
        files = sorted((path / "runs").glob("*.csv"))
        if not files:
            raise FileNotFoundError(f"path={str(path)!r}: there is no folder with finished runs of a comparison")
        found = {file: _rows_of(file) for file in files}
        frames.append(_table_of(found.values()))
        rows |= found
    _check_one_setting(rows)
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def folder_of_runs(path: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder for the files of runs, creating it if it is missing; None without a path."""
    if path is None:
        return None
    folder = Path(path) / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class RoundFile:
    """The file of a run, to which rows are appended; it gets its final name when it is complete."""

    def __init__(self, path: Path, settings: int | None = None):
        self.path = path
        self.settings = {} if settings is None else {SETTINGS: settings}
        self.n_rows = 0
        # Another process that does the same run has a file of its own.
        machine = re.sub(r"[^A-Za-z0-9]+", "_", platform.node())
        self.stem = f"{path.name}.{machine}-"
        self.partial = path.with_name(f"{self.stem}{os.getpid()}-{time.time_ns()}.partial")

    def write(self, row: dict[str, Any]) -> None:
        """Append a row, and write it to disk at once."""
        row = row | self.settings
        try:  # "r+": a file that has vanished must not start again in the middle
            mode = "r+" if self.n_rows else "x"
            with open(self.partial, mode, newline="", encoding="utf-8") as stream:
                stream.seek(0, os.SEEK_END)
                writer = csv.writer(stream)
                if not self.n_rows:
                    writer.writerow(row)
                writer.writerow(
                    "" if value is None else as_text(value) if name in TEXT else value
                    for name, value in row.items()
                )
                stream.flush()
            self.n_rows += 1
        except OSError as error:
            raise named(error, self.partial, "finished runs are whole, and not repeated") from error

    def discard(self) -> None:
        """Delete the unfinished file."""
        self.partial.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the complete file its name, and delete files that stopped processes left of this run."""
        with open(self.partial, "rb+") as stream:
            os.fsync(stream.fileno())
        if self.path.exists():  # another process finished first
            self.partial.unlink()
        else:
            os.replace(self.partial, self.path)
        for stopped in self.path.parent.glob(f"{glob.escape(self.stem)}*.partial"):
            if not _is_alive(stopped.name[len(self.stem) :].partition("-")[0]):
                stopped.unlink(missing_ok=True)


def _is_alive(process: str) -> bool:
    import psutil

    return process.isdecimal() and psutil.pid_exists(int(process))


def read_runs(files: Iterable[Path]) -> pd.DataFrame:
    """Read the rows of some runs as one table."""
    return _table_of(map(_rows_of, files))


def _rows_of(file: Path) -> list[dict[str, Any]]:
    try:
        with open(file, newline="", encoding="utf-8") as stream:
            found = [_row_of(row) for row in csv.DictReader(stream)]
        frame_of(found)
    except (csv.Error, ValueError, TypeError) as error:
        raise ValueError(f"{str(file)!r} is not a file of results, or damaged ({error})") from error
    return found


def _table_of(runs: Iterable[list[dict[str, Any]]]) -> pd.DataFrame:
    """Make a frame of the rows of runs, without what only tells runs apart."""
    return frame_of([{k: v for k, v in row.items() if k != SETTINGS} for rows in runs for row in rows])


def _check_one_setting(rows: dict[Path, list[dict[str, Any]]]) -> None:
    """Refuse files of one run, and files of runs of one name and other settings; names two of them.

    Files of versions before do not tell their settings; of these the former are found, not the latter.
    """
    of_run: dict[tuple[Any, ...], Path] = {}
    of_name: dict[tuple[Any, ...], tuple[Any, Path]] = {}
    twice, mixed = [], []
    for file in sorted(rows, key=lambda file: (file.stat().st_mtime_ns, str(file))):
        for row in rows[file][:1]:  # a file is one run
            name, settings = tuple(row.get(key) for key in GROUP), row.get(SETTINGS)
            run = {key: row[key] for key in GROUP if key in row}
            older = of_run.setdefault((*name, row.get("seed")), file)
            if older != file:
                twice.append(({**run, "seed": int(float(row["seed"]))} if row.get("seed") else run, older, file))
            if settings is not None:
                before, older = of_name.setdefault(name, (settings, file))
                if before != settings:
                    mixed.append((run, older, file))
    found = twice or mixed
    if not found:
        return
    run, older, newer = found[0]
    what = "two files hold one run" if twice else "runs of one name have other settings, data or code"
    why = "settings, data or code changed, or one is a copy" if twice else "another name keeps both"
    others = f"; so it is with {len(found) - 1} more files" if len(found) > 1 else ""
    raise ValueError(
        f"{what} ({named_run(run, list(run))}): the older {_dated(older)} and the newer {_dated(newer)}; {why}. "
        f"Delete the file that does not count any more, or move it to another folder{others}"
    )


def _dated(file: Path) -> str:
    """Name a file with the time of its last change."""
    return f"{str(file)!r} of {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(file.stat().st_mtime))}"


def check_whole(files: Iterable[Path], n_rounds: int) -> None:
    """Refuse files that lack rounds; the message names the file."""
    for file in files:
        found = len(read_runs([file]))
        if found != n_rounds:
            raise ValueError(
                f"{str(file)!r} has {found} of {n_rounds} rounds, so it is damaged; delete it, and the run is "
                "done anew"
            )


def _row_of(row: dict[Any, Any]) -> dict[str, Any]:
    if None in row or None in row.values():
        raise ValueError("a line is longer or shorter than the first")
    row = {"loop" if name == "learner" else name: value for name, value in row.items()}  # as 0.1.0 called it
    return {name: from_text(value) if name in TEXT else value or None for name, value in row.items()}


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make a frame of rows, with the same types for rows of this process and rows from files."""
    frame = pd.DataFrame(rows)
    whole = ("seed", "round", "n_labels", "n_pseudo")
    for name in frame.columns:
        if name not in TEXT:
            numbers = frame[name].astype("float64")  # texts, of files, become what repr was taken of
            frame[name] = numbers.astype("int64") if name in whole else numbers
    return frame


def write_csv(frame: pd.DataFrame, file: str | os.PathLike[str]) -> None:
    """Write a frame as CSV whose names no spreadsheet takes for formulas."""
    names = [name for name in TEXT if name in frame.columns]
    frame.assign(**{name: frame[name].map(as_text) for name in names}).to_csv(file, index=False)


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str]) -> list[Path]:
    """Write a frame as CSV, and as Parquet if pandas can; return the files.

    In the CSV a quote stands before names that a spreadsheet would take for formulas.

    Parameters
    ----------
    frame : pandas.DataFrame
    path : str or path-like
        Folder.

    Returns
    -------
    files : list of Path
    """
    folder = Path(path)
    files = [folder / "results.csv"]
    with replacing(files[0]) as temporary:
        write_csv(frame, temporary)
    try:
        with replacing(folder / "results.parquet") as temporary:
            frame.to_parquet(temporary, index=False)
        files.append(folder / "results.parquet")
    except ImportError:  # neither pyarrow nor fastparquet
        pass
    return files
