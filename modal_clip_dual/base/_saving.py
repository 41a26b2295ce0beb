"""Saving and loading: a fitted estimator as plain settings and arrays, and as a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..utils.persistence import check_target, params_of, plain_params, read_state, write_state
from ..utils.rollback import unchanged_on_error

Self = TypeVar("Self", bound="Saving")

CACHES = ("memory", "disk", None)  # kinds of cache that a saved file may name; folders stay where they are
# The key of the part of a saved fit that differs between kinds of classifiers.
HEAD = "head"
SHARED = ("classes", "classes_dtype", "names", "clip", "clip_identity")


class Saving(BaseEstimator):
    """The methods of `CLIPClassifier` that save and load the fitted state."""

    cache: Any
    classes_: np.ndarray
    _Head: type
    _fit_only: tuple[str, ...]
    _names: list[str]
    _clip: tuple[str, str | None]
    _check_params: Callable[[], None]
    _fitted_backbone: Callable[[], Any]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__().copy()
        state.pop("_backbone", None)  # loaded again by name
        return state

    def fitted_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the fitted state as plain settings and arrays; the inverse of `restore_state`.

        Returns
        -------
        settings : dict
            Values that JSON can hold.
        arrays : dict of {str: ndarray}
            Arrays that need no pickle.

        Raises
        ------
        NotFittedError
            If the estimator was never fitted.
        """
        check_is_fitted(self, "classes_")
        clip = self.__dict__.get("_saved_clip")  # not loaded yet, or found to be the same
        head, arrays = _head_state(self._head)
        settings = {
            "classes": self.classes_.tolist(),
            "classes_dtype": self.classes_.dtype.str,
            "names": self._names,
            "clip": list(self._clip),
            "clip_identity": clip or self._fitted_backbone().identity(),
            HEAD: head,
        }
        return settings, {f"{HEAD}.{name}": value for name, value in arrays.items()}

    def restore_state(self: Self, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore the fitted state that `fitted_state` returned.

        Parameters
        ----------
        settings : mapping
            Settings as `fitted_state` returned them.
        arrays : mapping of {str: ndarray}
            Arrays as `fitted_state` returned them; arrays of other names are ignored.

        Returns
        -------
        self : CLIPClassifier

        Raises
        ------
        KeyError, TypeError, ValueError
            If something is missing or does not fit; the estimator is then unchanged.
        """
        if HEAD not in settings:  # version 0.1.0
            head = {name: value for name, value in settings.items() if name not in SHARED}
            settings = {name: value for name, value in settings.items() if name in SHARED} | {HEAD: head}
            arrays = {name.replace("prompt.", f"{HEAD}.", 1): value for name, value in arrays.items()}
        own = {k.removeprefix(f"{HEAD}."): v for k, v in arrays.items() if k.startswith(f"{HEAD}.")}
        dtype = settings.get("classes_dtype", "")
        known = re.fullmatch(r"[<>|=]([biuf][1248]|O)", dtype)  # texts are as wide as they are
        classes = np.array(settings["classes"], dtype=dtype if known else None)
        names = settings["names"]
        if classes.shape != (len(names),) or not all(isinstance(name, str) for name in names):
            raise ValueError("classes and names do not match")
        identity = settings.get("clip_identity")
        if identity is not None and {type(identity[k]) for k in ("precision", "weights", "preprocessing")} != {str}:
            raise ValueError("no checksum")
        name, tag = settings["clip"]
        head = _head_from_state(self._Head, settings[HEAD], own)
        with unchanged_on_error(self):
            for attribute in (*self._fit_only, "_backbone"):
                self.__dict__.pop(attribute, None)
            self.classes_, self._names, self._clip, self._head = classes, names, (name, tag), head
            if identity is not None:
                self._saved_clip = dict(identity)
        return self

    def _extra_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the values that `save` keeps in addition to the fitted state."""
        settings = {
            "n_features_in": getattr(self, "n_features_in_", None),
            "feature_names_in": list(getattr(self, "feature_names_in_", [])),
        }
        return settings, {}

    def _restore_extra(self, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Restore the values of `_extra_state`."""
        if settings["n_features_in"] is not None:
            self.n_features_in_ = int(settings["n_features_in"])
        if settings["feature_names_in"]:
            self.feature_names_in_ = np.array(settings["feature_names_in"], dtype=object)

    def saved_params(self, without: Sequence[str] = ()) -> dict[str, Any]:
        """Return the parameters in the form of a saved file; see `params_from`.

        Parameters
        ----------
        without : sequence of str, default=()
            Names of parameters to leave out.

        Returns
        -------
        saved : dict
            ``"params"`` holds the parameters that JSON can store, ``"missing"`` the names of the others.  A cache
            folder exists on one machine only, so ``cache="disk"`` replaces it.
        """
        saved = plain_params(self, without=without)
        if self.cache not in CACHES:
            saved["params"]["cache"] = "disk"
        return saved

    @classmethod
    def params_from(cls, saved: dict[str, Any]) -> dict[str, Any]:
        """Return the constructor arguments in the result of `saved_params`.

        Parameters
        ----------
        saved : dict
            Parameters of a file, which may come from a stranger.

        Returns
        -------
        params : dict

        Raises
        ------
        ValueError
            If a parameter does not exist, or the file chooses a cache folder.
        """
        params = params_of(saved)
        unknown = {*params, *saved["missing"]} - set(cls._get_param_names())
        if unknown:
            raise ValueError(f"parameters that do not exist here: {sorted(map(str, unknown))}")
        if params.get("cache") not in CACHES:
            raise ValueError(f"cache={params['cache']!r}; a file may not choose a folder")
        return params

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to a file that holds no code and no weights of the CLIP.

        The file is an .npz of plain arrays and a JSON text with the learned arrays, classes, parameters,
        versions of packages, and a checksum of the CLIP's weights, which `load` compares.  An
        existing file is replaced atomically.  The folder of ``cache`` is not saved.

        Parameters
        ----------
        path : str or path-like
            File to write; the name is used as it is, whatever its suffix.

        Raises
        ------
        NotFittedError
            If the estimator was never fitted.
        ValueError
            If a parameter has become invalid since the fit, or the folder does not exist.

        See Also
        --------
        load : Read the file.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from modal_clip_dual import DualPromptClassifier
        >>> from modal_clip_dual.data import load_digits_images
        >>> X, y, class_names = load_digits_images().values()
        >>> clf = DualPromptClassifier(
        ...     class_names, model_name="demo", pretrained="bundled", max_epochs=2
        ... ).fit(X[:60], y[:60])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.save(Path(folder, "digits.npz"))
        ...     loaded = DualPromptClassifier.load(Path(folder, "digits.npz"))
        >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
        True
        """
        check_is_fitted(self, "classes_")
        self._check_params()
        path = check_target(path)
        fit, arrays = self.fitted_state()
        extra, more = self._extra_state()
        settings = {"class": class_path(type(self)), "estimator": self.saved_params(), "fit": fit, **extra}
        write_state(path, "classifier", settings, arrays | more)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str], **params: Any) -> Self:
        """Read an estimator that `save` wrote; its predictions equal the saved one's, bit for bit.

        The CLIP is loaded at first use, by name.  If its weights are not those of the
        fit, that first use raises ValueError.

        Parameters
        ----------
        path : str or path-like
            A file of `save`.  It may come from a stranger: it can choose the parameters, including
            the CLIP to load, but no code in it is run.
        **params
            Parameters that replace saved ones, such as ``device="cpu"``, or ``model_name`` where
            a CLIP has moved to another folder.  Parameters that are not plain values, such as a
            callable ``augment`` or classes in ``net_params``, are not in the file and must be passed.

        Returns
        -------
        estimator : CLIPClassifier

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If `save` did not write the file, it is damaged or newer than this version of the package,
            or a parameter is missing or does not fit.

        See Also
        --------
        save : Write the file, with an example.
        """
        settings, arrays = read_state(path, "classifier")
        try:
            found = class_of(settings.get("class"))
            missing = set(settings["estimator"]["missing"]) - set(params)
            if not issubclass(found, cls):
                raise ValueError(f"it holds a {found.__name__}, for {found.__name__}.load")
            saved = found.params_from(settings["estimator"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _damaged(path, error) from error
        if missing:
            example = ", ".join(f"{name}=..." for name in sorted(missing))
            raise ValueError(
                f"path={str(path)!r} cannot hold the saved {', '.join(sorted(missing))}, no plain "
                f"value; pass what it was: {found.__name__}.load(path, {example})"
            )
        try:
            estimator = found(**saved | params)
        except ValueError as error:  # TypeError: load was given an argument that does not exist
            raise _damaged(path, error) from error
        estimator._check_params()
        try:
            if "clip_identity" not in settings["fit"]:
                raise ValueError("no checksum")
            estimator.restore_state(settings["fit"], arrays)
            estimator._note_meaning()  # class_names are those of the file
            name, tag = estimator._clip
            estimator._clip = (params.get("model_name", name), params.get("pretrained", tag))
            estimator._restore_extra(settings, arrays)
            estimator.saved_with_ = dict(settings["versions"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error) from error
        return estimator


def class_path(cls: type) -> str:
    """Return ``module:name`` of a class, by which `class_of` finds classes of this package."""
    return f"{cls.__module__}:{cls.__qualname__}"


def class_of(path: Any) -> type[Any]:
    """Return the class of this package that a file names; files of version 0.1.0 have no name.

    Raises
    ------
    ValueError
        If it is not a classifier of this package: the file may come from a stranger.
    """
    module, _, name = (path or "modal_clip_dual.classifier:DualPromptClassifier").partition(":")
    if module.partition(".")[0] != __package__.partition(".")[0] or not name.isidentifier():
        raise ValueError(f"class {path!r}; expected a classifier of this package")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise ValueError(f"class {path!r} does not exist here") from error
    if not isinstance(found, type) or not issubclass(found, Saving) or found.__module__ != module:
        raise ValueError(f"class {path!r}; expected a classifier of this package")
    return found


def _head_state(head: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return settings and arrays of a head: a dataclass's fields, or the result of its own method."""
    if hasattr(head, "to_state"):
        settings, arrays = head.to_state()
        return settings, arrays
    values = {field.name: getattr(head, field.name) for field in fields(head)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    return {name: value for name, value in values.items() if name not in arrays}, arrays


def _head_from_state(kind: type, settings: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    if hasattr(kind, "from_state"):
        return kind.from_state(settings, arrays)
    known = fields(kind) if is_dataclass(kind) else ()
    needed = {field.name for field in known if field.default is MISSING}  # older files lack what has a default
    if not known or not needed <= {*settings, *arrays} <= {field.name for field in known}:
        raise ValueError(f"it does not hold what a {kind.__name__} has")
    return kind(**settings, **arrays)


def _damaged(path: Any, error: Exception) -> ValueError:
    return ValueError(f"path={str(path)!r} is not a saved classifier, or damaged ({error!r})")
