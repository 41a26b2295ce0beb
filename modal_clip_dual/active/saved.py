"""What a saved loop holds, read without taking the file from the process that works with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..utils.persistence import params_of
from .annotations import Annotations
from .annotators import table_of_answers
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
