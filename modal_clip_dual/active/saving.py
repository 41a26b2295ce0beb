"""The state of a loop in a file: which pool, which estimator, which query strategy."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..base import class_of, class_path
from ..data.images import image_key, kind_of
from ..utils.persistence import plain, read_state, write_state
from .protocols import FIRST_QUERIES


def _keys_of(pool: np.ndarray) -> np.ndarray:
    """Identity of each sample of a pool, (n, 16) uint8."""
    from hashlib import blake2b

    if kind_of(pool) == "embeddings":
        rows = (np.ascontiguousarray(row).tobytes() for row in pool)
        keys = [blake2b(row, digest_size=16).digest() for row in rows]
    else:
        keys = [image_key(pool, row) for row in range(len(pool))]
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)


def _compare_pools(saved: np.ndarray, given: np.ndarray) -> None:
    """Refuse a pool that differs from the saved one; says in which rows."""
    if len(saved) != len(given):
        raise ValueError(f"X_pool has {len(given)} rows, the saved learner's had {len(saved)}")
    differ = np.flatnonzero((saved != given).any(axis=1))
    if len(differ):
        raise ValueError(
            f"X_pool differs from the saved learner's in {len(differ)} of {len(given)} rows, the first "
            f"of them {differ[:5].tolist()} (files are compared by path, size and time of change)"
        )


class Resuming:
    """The part of `DualPromptLearner` that saves its state and goes on from it."""

    path: Any

    def _save(self) -> None:
        if self.path is not None:
            write_learner(self, self.path)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        X_pool: Any = None,
        *,
        estimator: Any = None,
        query_strategy: Callable[..., Any] | None = None,
        stopping: Sequence[Callable[[list[dict[str, Any]]], str | None]] = (),
        y_pool: Any = None,
    ) -> Any:
        """Go on from a saved state, to exactly what an uninterrupted run would give.

        Labels that had come before an interruption are there; a training that was
        interrupted is done now.

        Parameters
        ----------
        path : str or path-like
            The ``path`` of the learner; it goes on saving there.
        X_pool : array-like, default=None
            The same pool; not needed if it consists of paths.
        estimator : CLIPClassifier, default=None
            Needed only if a parameter of the saved one was no plain value, and for the folder of
            its ``cache``, which is not saved.
        query_strategy : callable, default=None
            Needed only if the saved one was no function of this package or of modAL.
        stopping : sequence of callable, default=()
            As in the constructor; not saved.
        y_pool : array-like of shape (n_pool,), default=None
            As in the constructor; not saved.

        Returns
        -------
        learner : DualPromptLearner

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no saved state, something is needed that it does not hold, or the pool
            is not the same; says what differs.
        """
        settings, arrays = read_learner(path)
        if estimator is None:
            estimator = estimator_of(settings)
        if query_strategy is None:
            query_strategy = strategy_of(settings["query_strategy"])
        if X_pool is None:
            if "pool_paths" not in arrays:
                raise ValueError("X_pool is not in the saved state, since it holds no paths; pass it")
            X_pool = arrays["pool_paths"].tolist()
        names = ("n_per_class", "first_query", "budget", "random_state")
        make: Any = cls  # the learner, whose constructor has these arguments
        learner = make(
            estimator, X_pool, query_strategy=query_strategy, stopping=stopping, y_pool=y_pool,
            path=path, **{name: settings[name] for name in names},
        )  # fmt: skip
        learner._check()
        restore(learner, settings, arrays)
        if learner._pending is not None:
            learner._train_round()
        return learner


def write_learner(learner: Any, path: str | os.PathLike[str]) -> None:
    """Write all that `restore` needs, replacing what was there at once."""
    estimator = learner.estimator
    fit, arrays = estimator.fitted_state() if hasattr(estimator, "classes_") else (None, {})
    settings = {
        "class": class_path(type(estimator)),
        "estimator": estimator.saved_params(without=("random_state",)),
        "fit": fit,
        "query_strategy": name_of(learner.query_strategy),
        "n_per_class": int(learner.n_per_class),
        "first_query": learner.first_query,
        "budget": None if learner.budget is None else int(learner.budget),
        "random_state": int(learner.random_state),
        "log": learner.log_,
        "query": learner._query,
    }
    arrays |= {"rows": learner.rows_, "labels": plain(learner.labels_)}
    arrays |= {"pseudo_rows": learner.pseudo_rows_, "pseudo_labels": plain(learner.pseudo_labels_)}
    if learner._pending is not None:
        arrays["pending_rows"] = learner._pending["rows"]
        arrays["pending_labels"] = plain(learner._pending["labels"])
    if learner._predictions is not None:
        arrays["predictions"] = plain(learner._predictions)
    arrays["pool_keys"] = _pool_keys(learner)
    if kind_of(learner._pool) == "paths":
        arrays["pool_paths"] = np.array([os.path.abspath(path) for path in learner._pool], dtype=str)
    write_state(path, "learner", settings, arrays)


def read_learner(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return settings and arrays of a file of `write_learner`, named as this version names them."""
    settings, arrays = read_state(path, "learner")
    if "n_pseudo" in settings:  # version 0.1.0
        settings["n_per_class"] = settings.pop("n_pseudo")
        settings["first_query"] = FIRST_QUERIES[bool(settings.pop("random_first_query"))]
        settings["fit"] = settings.pop("prompts")
    return settings, arrays


def restore(learner: Any, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Make a new learner of the same pool what the saved one was."""
    _compare_pools(arrays["pool_keys"], _pool_keys(learner))
    if settings["fit"] is not None:
        learner.estimator.restore_state(settings["fit"], arrays)
    learner.rows_, learner.labels_ = arrays["rows"], arrays["labels"]
    learner.pseudo_rows_ = arrays["pseudo_rows"]
    learner.pseudo_labels_ = arrays["pseudo_labels"]
    learner.log_, learner._query = settings["log"], settings["query"]
    learner._predictions = arrays.get("predictions")
    learner._pending = None
    if len(learner.rows_):
        learner.X_training = learner._pool[learner.rows_]
        learner.y_training = learner.labels_
    if "pending_rows" in arrays:
        learner._pending = {"rows": arrays["pending_rows"], "labels": arrays["pending_labels"]}


def _pool_keys(learner: Any) -> np.ndarray:
    """Identity of each sample of the learner's pool, computed once."""
    if learner._keys is None:
        learner._keys = _keys_of(learner._pool)
    keys: np.ndarray = learner._keys
    return keys


def estimator_of(settings: dict[str, Any]) -> Any:
    """The estimator of the saved class and parameters, not fitted."""
    saved = settings["estimator"]
    missing = [name for name in saved["missing"] if name != "cache_folder"]
    if missing:
        raise ValueError(
            f"estimator: the saved state cannot hold its {', '.join(missing)}; pass an "
            "estimator with the same parameters"
        )
    kind = class_of(settings.get("class"))
    return kind(**kind.params_from(saved))


def name_of(strategy: Any) -> str | None:
    """``module:name`` of a function that `strategy_of` finds again."""
    module, name = getattr(strategy, "__module__", ""), getattr(strategy, "__qualname__", "")
    known = (module or "").partition(".")[0] in ("modal_clip_dual", "modAL")
    return f"{module}:{name}" if known and name.isidentifier() else None


def strategy_of(name: str | None) -> Any:
    """The query strategy of this package or of modAL that a file names."""
    module, _, function = (name or "").partition(":")
    # The file may come from a stranger: it names functions of two packages and no others.
    if module.partition(".")[0] not in ("modal_clip_dual", "modAL") or not function.isidentifier():
        raise ValueError(
            "query_strategy: the saved one was no function of modal_clip_dual or modAL; pass it"
        )
    strategy = getattr(importlib.import_module(module), function, None)
    if not callable(strategy) or getattr(strategy, "__module__", None) != module:
        raise ValueError(f"query_strategy: the saved {name!r} does not exist here; pass it")
    return strategy
