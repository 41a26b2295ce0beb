"""What a saved loop holds, read without taking the file from the process that works with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.files import look_at
from ..utils.persistence import params_of
from .annotations import Annotations
from .annotators import table_of_answers
from .identity import changed_rows, where_now
from .saving import estimator_of, read_learner

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SavedLoop:
    """Pool, answers and classifier of a loop.

    Attributes
    ----------
    n_pool : int
        Samples of the pool.
    paths : list of str or None
        Their files, as they were when the state was saved; None for a pool without files.
    annotations : pandas.DataFrame
        All that people said; see `DualPromptLearner.annotations`.
    class_names : list of str, dict or None
        Names of the classes.
    classifier : callable
        Returns the fitted classifier, or None if nothing was trained.
    """

    n_pool: int
    paths: list[str] | None
    annotations: pd.DataFrame
    class_names: Any
    classifier: Callable[[], Any]


def read_loop(path: str | os.PathLike[str]) -> SavedLoop:
    """Read a state file of `DualPromptLearner`; another process may go on working with it.

    Parameters
    ----------
    path : str or path-like
        The ``path`` of the learner.

    Returns
    -------
    loop : SavedLoop

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no saved state of a learner.
    """
    settings, arrays = read_learner(path)

    def classifier() -> Any:
        if settings["fit"] is None:
            return None
        estimator = estimator_of(settings)
        estimator.restore_state(settings["fit"], arrays)
        return estimator

    paths = arrays["pool_paths"].tolist() if "pool_paths" in arrays else None
    said = table_of_answers(Annotations.from_arrays(arrays), settings["disagreement"])
    names = params_of(settings["estimator"]).get("class_names")
    return SavedLoop(len(arrays["pool_keys"]), paths, said, names, classifier)


@dataclass(frozen=True)
class FilesNow:
    """Where the files of a saved pool are by now, and which hold another image.

    Attributes
    ----------
    before : list of str
        Their places when the state was saved, or beside the state file if both moved together.
    paths : list of str
        Their places now; one that is found nowhere keeps its place before.
    moved : bool
        Whether none was where it was, so that the folder was searched: `DualPromptLearner.resume` needs it then.
    changed : dict of int to str
        Row and path of those that hold another image by now.
    all_changed : bool
        Whether that is all that people did not drop.
    """

    before: list[str]
    paths: list[str]
    moved: bool
    changed: dict[int, str]
    all_changed: bool

    def any_there(self) -> bool:
        """Say whether one of them exists."""
        return any(look_at(self.paths))


def files_now(path: str | os.PathLike[str], folder: str | os.PathLike[str], cache: Any) -> FilesNow | None:
    """Look for the files of a saved loop where they were, and if none is there, in a folder.

    Parameters
    ----------
    path : str or path-like
        The ``path`` of the learner.
    folder : str or path-like
        Where they are looked for if they are not where they were.
    cache : str or None
        Keeps checksums; see the parameter of the classifiers.

    Returns
    -------
    now : FilesNow or None
        None for a pool without files, or one of a version that did not know files by their content.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such state, or it is none.
    """
    settings, arrays = read_learner(path)
    if "pool_paths" not in arrays or settings["keys"] != "content":
        return None
    saved, folders = arrays["pool_keys"], (settings["folder"], str(Path(path).resolve().parent))
    before = where_now(arrays["pool_paths"].tolist(), saved, folders, None, cache)
    moved = not any(look_at(before))
    paths = where_now(before, saved, folders, folder, cache) if moved else before
    dropped = Annotations.from_arrays(arrays).dropped
    changed = {row: paths[row] for row in changed_rows(saved, paths, dropped, cache)}
    all_changed = len(changed) > 0 and len(changed) == len(paths) - len(dropped)
    return FilesNow(before, paths, moved, changed, all_changed)
