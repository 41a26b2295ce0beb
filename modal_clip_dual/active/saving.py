"""The state of a loop in a file: which pool, what people said, which estimator, which query strategy."""

from __future__ import annotations

import importlib
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..base import class_of, class_path
from ..correctness.calibrated import Calibration
from ..data.files import looking_once
from ..data.images import kind_of
from ..utils.persistence import params_of, plain, read_state, write_state
from .annotations import UNKNOWN, Annotations
from .answers import check_rows
from .class_names import kept
from .identity import (
    as_now,
    compare,
    keys_of,
    keys_of_old_files,
    missing_rows,
    named_rows,
    where_now,
)
from .locking import check_unchanged, claim, mark_of
from .places import at_places, places_of
from .protocols import FIRST_QUERIES

PLAIN_SETTINGS = (
    "n_per_class", "first_query", "budget", "disagreement", "random_state", "pseudo_labels", "calibration",
)  # fmt: skip
_one_at_a_time = threading.Lock()  # of the threads of this process


class Resuming:
    """The part of `DualPromptLearner` that saves its state and goes on from it."""

    path: Any
    estimator: Any
    _folder: str
    _keys: np.ndarray | None

    def _target(self) -> str | None:
        """The state file itself, behind links, wherever the process has gone since the learner was made."""
        return None if self.path is None else os.path.realpath(os.path.join(self._folder, self.path))

    def _claim(self) -> None:
        """Take the state file for this process, and remember what is in it."""
        target = self._target()
        if target is not None:
            self.close()
            self._lease = claim(target, self)
            self._mark = mark_of(target)

    def close(self) -> None:
        """Let another process work with the state file; this learner claims it again when it saves.

        A learner that nobody refers to any longer, or whose process ends in whatever way, is closed by itself.
        """
        lease = self.__dict__.pop("_lease", None)
        if lease is not None:
            lease()

    def _save(self) -> None:
        target = self._target()
        if target is None:
            return
        with _one_at_a_time:
            if "_lease" not in self.__dict__:  # closed, or copied
                self._lease = claim(target, self)
            check_unchanged(target, self.__dict__.get("_mark"))
            write_learner(self, target)
            self._mark = mark_of(target)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__().copy()  # type: ignore[misc]  # of BaseEstimator
        state.pop("_lease", None)  # of this process
        return state

    def _fitted_state(self) -> tuple[Any, dict[str, np.ndarray]]:
        """What the estimator learned, as it is saved."""
        if self.path is None or not hasattr(self.estimator, "classes_"):
            return None, {}
        fit, arrays = self.estimator.fitted_state()
        return fit, arrays

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
        relocate: str | os.PathLike[str] | None = None,
        drop: Sequence[int] = (),
    ) -> Any:
        """Go on from a saved state, to exactly what an uninterrupted run would give.

        Labels that had come before an interruption are there; a training that was
        interrupted is done now.

        Parameters
        ----------
        path : str or path-like
            The ``path`` of the learner; it goes on saving there.
        X_pool : array-like, default=None
            The same pool, known by its content: files may have been touched, renamed or moved.  New samples may
            stand behind the saved ones.  In another order, or with new samples in between, everything that is saved
            follows the samples to their rows, with a warning.  Not needed if it consists of paths.
        estimator : CLIPClassifier, default=None
            Of the saved one's class.  Needed only if a parameter of that was no plain value, and for the folder of
            its ``cache``, which is not saved.  Its ``class_names`` must be the saved ones, in their order; new
            ones may follow, and are trained on at once.
        query_strategy : callable, default=None
            Needed only if the saved one was no function of this package or of modAL.
        stopping : sequence of callable, default=()
            As in the constructor; not saved.
        y_pool : array-like of shape (n_pool,), default=None
            As in the constructor; not saved.
        relocate : str or path-like, default=None
            The folder in which a pool of paths lies now.  Files are looked for at their place below it, and
            anywhere in it by their content.  A folder that moved together with the state file is found without.
        drop : sequence of int, default=()
            Rows that are left out before anything is looked at, as by the method `drop`.

        Returns
        -------
        learner : DualPromptLearner

        Raises
        ------
        FileNotFoundError
            If there is no such file, or none of the pool's.
        RuntimeError
            If another process works with the state file; says which one.
        ValueError
            If it is not a saved state, something is needed that it does not hold, or the pool
            is not the same; says what differs.

        Warns
        -----
        UserWarning
            If some files of the pool are gone; names the rows, which are left out as long as they are gone.  If the
            samples stand at other rows than they did.
        """
        settings, arrays = read_learner(path)
        if estimator is None:
            estimator = estimator_of(settings)
        _check_class(estimator, settings)
        if query_strategy is None:
            query_strategy = strategy_of(settings["query_strategy"])
        with looking_once():
            X_pool = _pool_of(path, settings, arrays, X_pool, relocate, getattr(estimator, "cache", None))
            make: Any = cls  # the learner, whose constructor has these arguments
            learner = make(
                estimator, X_pool, query_strategy=query_strategy, stopping=stopping, y_pool=y_pool,
                path=path, **{name: settings[name] for name in PLAIN_SETTINGS},
            )  # fmt: skip
            learner._claim()
            settings, arrays = read_learner(path)  # nobody else writes it from here on
            learner._check()
            restore(learner, settings, arrays, drop)
            if learner._due == "now":
                learner._train_round()
        return learner


def _pool_of(
    path: Any, settings: dict[str, Any], arrays: dict[str, np.ndarray], X_pool: Any, relocate: Any, cache: Any
) -> Any:
    """The pool that was passed, or the saved paths where they lead now."""
    if X_pool is not None:
        if relocate is not None:
            raise ValueError("relocate is for the saved paths, and X_pool was passed as well; pass one of them")
        return X_pool
    if "pool_paths" not in arrays:
        raise ValueError("X_pool is not in the saved state, since it holds no paths; pass it")
    paths, now = arrays["pool_paths"].tolist(), os.path.dirname(os.path.realpath(path))
    return where_now(paths, arrays["pool_keys"], (settings["folder"], now), relocate, cache)


def write_learner(learner: Any, path: str) -> None:
    """Write all that `restore` needs, replacing what was there at once."""
    estimator, (fit, fitted), k = learner.estimator, learner._fitted, learner.n_per_class
    settings = {
        "class": class_path(type(estimator)),
        "estimator": estimator.saved_params(without=("random_state",)),
        "fit": fit,
        "query_strategy": name_of(learner.query_strategy),
        "n_per_class": k if k is None or k == "auto" else int(k),
        "pseudo_labels": learner.pseudo_labels,
        "calibration": learner.calibration,
        "first_query": learner.first_query,
        "budget": None if learner.budget is None else int(learner.budget),
        "disagreement": learner.disagreement,
        "random_state": int(learner.random_state),
        "log": learner.log_,
        "query": learner._query,
        "due": learner._due,
        "changes": learner._changes,
        "keys": "content",
        "folder": os.path.dirname(path),
    }
    rows, labels = learner._labeled()
    arrays = fitted | learner._annotations.to_arrays()
    arrays |= {"rows": rows, "labels": plain(labels)}
    if learner.y_training is not None:
        arrays["trained_labels"] = plain(learner.y_training)
    arrays["trained_rows"] = learner._trained_rows
    arrays |= {"pseudo_rows": learner.pseudo_rows_, "pseudo_labels": plain(learner.pseudo_labels_)}
    if learner._calibration is not None:
        arrays |= {f"calibration.{name}": values for name, values in vars(learner._calibration).items()}
    if learner._predictions is not None:
        arrays |= {"predicted_rows": learner._predictions[0], "predictions": plain(learner._predictions[1])}
    if learner._keys is None:
        learner._keys = keys_of(learner._pool, getattr(estimator, "cache", None))
    arrays["pool_keys"] = learner._keys
    if kind_of(learner._pool) == "paths":
        arrays["pool_paths_utf8"] = _as_bytes(learner._pool)
    write_state(path, "learner", settings, arrays)


def _as_bytes(paths: np.ndarray) -> np.ndarray:
    """Return paths as one text of bytes, a quarter of what NumPy's texts take: it is written at every answer."""
    return np.frombuffer("\0".join(paths).encode("utf-8", "surrogateescape"), dtype=np.uint8)


def read_learner(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return settings and arrays of a file of `write_learner`, named as this version names them."""
    settings, arrays = read_state(path, "learner")
    if "n_pseudo" in settings:  # version 0.1.0
        settings["n_per_class"] = settings.pop("n_pseudo")
        settings["first_query"] = FIRST_QUERIES[bool(settings.pop("random_first_query"))]
        settings["fit"] = settings.pop("prompts")
    if "pool_paths_utf8" in arrays:
        text = arrays.pop("pool_paths_utf8").tobytes().decode("utf-8", "surrogateescape")
        arrays["pool_paths"] = np.array(text.split("\0"), dtype=object)
    if "answers.row" not in arrays:
        _without_annotations(settings, arrays)
    if "calibration" not in settings:  # a version before it
        settings["calibration"] = None
        settings["log"] = [{"accuracy_interval": None} | record for record in settings["log"]]
    return settings, arrays


def _without_annotations(settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Give a file of version 0.1.0 what it lacks, in place: labels had no annotator, samples no content."""
    arrays["trained_rows"], arrays["trained_labels"] = arrays["rows"], arrays["labels"]
    said = Annotations().answered(arrays["rows"].tolist(), arrays["labels"].tolist(), None, UNKNOWN)
    waiting = "pending_rows" in arrays
    if waiting:
        labels = arrays["pending_labels"].tolist()
        said = said.answered(arrays["pending_rows"].tolist(), labels, None, UNKNOWN)
    arrays |= said.to_arrays()
    if "predictions" in arrays:
        arrays["predicted_rows"] = np.arange(len(arrays["predictions"]))
    settings |= {"due": "now" if waiting else None, "changes": [], "disagreement": "last"}
    settings["pseudo_labels"] = "own"
    settings |= {"folder": None, "keys": "files"}
    settings["log"] = [record | {"changes": []} for record in settings["log"]]


def restore(learner: Any, settings: dict[str, Any], arrays: dict[str, np.ndarray], drop: Any = ()) -> None:
    """Make a new learner of the same pool what the saved one was."""
    saved, pool = arrays["pool_keys"], learner._pool
    n_saved = len(saved)
    if len(pool) < n_saved:
        raise ValueError(f"X_pool has {len(pool)} rows, the saved learner's had {n_saved}")
    said = Annotations.from_arrays(arrays)
    if len(drop):
        said = said.drop(check_rows(drop, n_saved).tolist(), None, UNKNOWN)
    rows = np.setdiff1d(np.arange(len(pool)), list(said.dropped))
    gone = missing_rows(pool, rows)
    if len(gone) == len(rows):
        raise FileNotFoundError(
            f"X_pool: none of its files is there, {named_rows(gone, pool)}; relocate=FOLDER says where they lie now"
        )
    if len(gone):
        warnings.warn(
            f"files of the pool are gone: {named_rows(gone, pool)}; they are left out as long as they are "
            "(relocate=FOLDER: they lie elsewhere; drop(rows): they will not come back)", UserWarning, stacklevel=3,
        )  # fmt: skip
    by_content, old = settings["keys"] == "content", np.arange(n_saved)
    try:
        learner._keys = _compared_keys(learner, saved, np.setdiff1d(rows, gone), by_content)
    except ValueError:
        places = None
        if by_content and not len(gone) and not len(drop):
            given = keys_of(pool, getattr(learner.estimator, "cache", None))
            places = places_of(as_now(saved, pool, given), given)
        if places is None:
            raise
        warnings.warn(
            "X_pool holds the saved learner's samples at other rows; labels and log follow them: from here on rows "
            "are positions in the X_pool that was passed", UserWarning, stacklevel=3,
        )  # fmt: skip
        settings, arrays = at_places(settings, arrays, places)
        said, old, learner._keys = Annotations.from_arrays(arrays), places, given
    learner._annotations, learner._gone = said, gone
    learner._know_files(np.setdiff1d(rows, gone))
    if settings["fit"] is not None:
        learner.estimator.restore_state(settings["fit"], arrays)
    learner._fitted = learner._fitted_state()
    learner._query, learner._due = settings["query"], settings["due"]
    learner._changes, learner._trained_rows = settings["changes"], arrays["trained_rows"]
    learner.pseudo_rows_, learner.pseudo_labels_ = arrays["pseudo_rows"], arrays["pseudo_labels"]
    if "calibration.coef" in arrays:
        learner._calibration = Calibration(arrays["calibration.coef"], arrays["calibration.covariance"])
    predicted = arrays.get("predictions")
    learner._predictions = None if predicted is None else (arrays["predicted_rows"], predicted)
    _adopt_names(learner, settings)
    _adopt_new_rows(learner, old)
    trained = learner._trained_rows
    if len(trained):
        learner.X_training, learner.y_training = pool[trained], arrays["trained_labels"]
    learner.log_ = settings["log"]  # from here on it runs
    if len(drop):
        learner._changes = [*learner._changes, {"what": "drop", "rows": list(map(int, drop)), "annotator": None}]
        learner._due = learner._due or "later"


def _compared_keys(learner: Any, saved: np.ndarray, rows: np.ndarray, by_content: bool) -> np.ndarray:
    """Keys of the pool, whose ``rows`` that were saved must be the same; of the others the saved ones."""
    pool, cache = learner._pool, getattr(learner.estimator, "cache", None)
    part = pool if len(rows) == len(pool) else pool[rows]
    found = keys_of(part, cache)
    saved = as_now(saved, part, found)
    old = rows[rows < len(saved)]
    if by_content or kind_of(pool) != "paths":
        compare(saved[old], found[: len(old)], old)
    else:
        compare(saved[old], keys_of_old_files(pool, old), old)
    keys = np.zeros((len(pool), saved.shape[1]), dtype=saved.dtype)
    keys[: len(saved)] = saved
    keys[rows] = found
    return keys


def _adopt_names(learner: Any, settings: dict[str, Any]) -> None:
    """Hold the labels together with the class names by which they were given; new classes may have come."""
    saved, now = settings["estimator"], learner._class_names
    if "class_names" not in saved["missing"]:
        learner._names = params_of(saved).get("class_names")
        if learner._follow_names():
            learner._due = "now"
    learner._names = kept(now)


def _adopt_new_rows(learner: Any, old: np.ndarray) -> None:
    new = np.setdiff1d(np.arange(len(learner._pool)), old).tolist()
    if new:
        learner._changes = [*learner._changes, {"what": "extend", "rows": new}]


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


def _check_class(estimator: Any, settings: dict[str, Any]) -> None:
    """Refuse an estimator of another class than the saved one, whose fit it cannot hold.

    Classes are known by name: a class of one's own may have moved to another module.
    """
    saved = str(settings.get("class") or class_path(class_of(None))).partition(":")[2]
    if settings["fit"] is not None and saved not in [kind.__qualname__ for kind in type(estimator).__mro__]:
        raise ValueError(
            f"estimator is a {type(estimator).__name__}, and the saved loop was trained with a {saved}; expected a "
            f"{saved}, or estimator=None"
        )


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
