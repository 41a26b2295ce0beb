"""Checks of X and of what is kept of it, shared by the classifier and the image encoder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from ..data.cache import DiskCache, default_cache_folder
from ..data.images import as_array, check_files, kind_of
from ..utils.arrays import ROWS, blocks, is_mapped
from ..utils.validation import PRECISIONS

if TYPE_CHECKING:
    from .backbone import Backbone

# Constraints of the parameters that say which model reads images, and how.
READING_CONSTRAINTS: dict[str, Any] = {
    "model_name": [str],
    "pretrained": [str, os.PathLike, None],
    "n_jobs": [Integral, StrOptions({"auto"}), None],
    "cache": [str, os.PathLike, None],
    "device": [str],
    "precision": [StrOptions(set(PRECISIONS))],
    "verbose": ["verbose"],
}
# Lengths of which float32 can square the parts: beyond these, rows would be scaled to zero or
# to infinity.  Those of a CLIP's embeddings are around 1 to 100.
SHORTEST, LONGEST = 1e-12, 1e18
BATCH_SIZE = [Interval(Integral, 1, None, closed="left")]


def check_input(X: Any, estimator: Any, name: str = "X") -> np.ndarray:
    """Return X as embeddings, images or paths of files that exist.

    Embeddings are float32, unless they lie in a file (`numpy.memmap`): these are left there as
    they are, and turned to float32 wherever a part of them is used.
    """
    array: np.ndarray = as_array(X, name)
    if kind_of(array) == "paths":
        check_files(array, name)
    if kind_of(array) == "embeddings":
        check = partial(check_array, dtype=np.float32, estimator=estimator, input_name=name)
        # Too large for float32: check_array refuses it, without NumPy's warnings before.
        with np.errstate(over="ignore", invalid="ignore"):
            if not is_mapped(array):
                checked: np.ndarray = check(array)
                for rows in blocks(len(array), ROWS):
                    _check_lengths(checked[rows], array[rows], rows.start, name)
                return checked
            for rows in blocks(len(array), ROWS):
                part = array[rows]
                _check_lengths(check(part), part, rows.start, name)
    return array


def _check_lengths(part: np.ndarray, given: np.ndarray, first: int, name: str) -> None:
    """Refuse embeddings, float32, whose length float32 cannot tell; a row of zeros has none."""
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", part, part)
    wrong = ~((squares >= SHORTEST**2) & (squares <= LONGEST**2))
    for row in np.flatnonzero(wrong):
        largest = np.abs(given[row].astype(np.float64)).max()  # maybe 0 in float32 only
        if largest > 0:
            raise ValueError(
                f"{name}[{first + row}] has values up to {largest:.3g}, too far from 1 for float32 to "
                f"scale the row to length 1; expected embeddings of a length from {SHORTEST:g} to "
                f"{LONGEST:g}"
            )


def named_columns(X: Any) -> Any:
    """Return embeddings as the table that they came in, whose columns may have names.

    A single column, which holds a list or an array in every row, has no names for what is in it.
    """
    shape: Any = getattr(X, "shape", ())
    return as_array(X) if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1) else X


def column_names(X: Any) -> np.ndarray | None:
    """Return the names of the columns of a table of embeddings (D,); None if there are none."""
    reader = BaseEstimator()
    validate_data(reader, named_columns(X), reset=True, skip_check_array=True)
    return getattr(reader, "feature_names_in_", None)


def check_same_columns(names: np.ndarray | None, other: np.ndarray | None, name: str, beside: str = "X") -> None:
    """Refuse a table of embeddings whose columns have other names than those of another table, or another order.

    Parameters
    ----------
    names, other : ndarray of shape (D,) or None
        Names of the columns; without names nothing is compared.
    name, beside : str
        The arguments that hold the two tables: ``name`` that of ``names``.

    Raises
    ------
    ValueError
        Says where the names differ first.
    """
    if names is None or other is None or np.array_equal(names, other):
        return
    if len(names) != len(other):
        raise ValueError(f"{name} has {len(names)} named columns, {beside} {len(other)}; expected the same")
    first = int(np.argmax(names != other))
    raise ValueError(
        f"the columns of {name} have other names than those of {beside}, or another order: column {first} is "
        f"{names[first]!r} in {name} and {other[first]!r} in {beside}; expected the same names in the same order"
    )


def join(X: np.ndarray, X_pseudo: np.ndarray) -> np.ndarray:
    """Labeled and pseudo-labeled samples in one array.

    Raises
    ------
    ValueError
        If they are not of the same form.
    """
    if X.shape[1:] != X_pseudo.shape[1:] or kind_of(X) != kind_of(X_pseudo):
        raise ValueError(
            f"X_pseudo holds {kind_of(X_pseudo)} of shape {X_pseudo.shape}, X {kind_of(X)} of shape "
            f"{X.shape}; expected the same form, as from one pool"
        )
    return np.concatenate([X, X_pseudo])


def check_width(array: np.ndarray, backbone: Backbone, estimator: Any, name: str = "X") -> None:
    """Refuse embeddings of another width than the model's."""
    if array.shape[1] != backbone.embed_dim:
        raise ValueError(
            f"{name} has {array.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{backbone.embed_dim} features as input: the width of the image embeddings of "
            f"{backbone.name}"
        )


def check_cache(cache: str | os.PathLike[str] | None, n_jobs: int | str | None) -> None:
    """Refuse a cache that is neither a kind nor a folder, and 0 workers."""
    if n_jobs == 0:
        raise ValueError("n_jobs=0; expected 'auto', None, or a number of workers other than 0")
    if cache is None or cache in ("memory", "disk"):
        return
    if not os.fspath(cache):
        raise ValueError("cache='' is empty; expected 'memory', 'disk', None or a folder")
    home = os.path.expanduser(cache)
    if home != os.fspath(cache):
        raise ValueError(f"cache={str(cache)!r}: ~ is the shell's; expected {str(home)!r}")
    folder = Path(cache)
    if folder.is_file():
        raise ValueError(f"cache={str(cache)!r} is a file; expected 'memory', 'disk', None or a folder")
    is_name = isinstance(cache, str) and not {os.sep, "/"} & set(cache)
    if is_name and not folder.is_dir():
        raise ValueError(  # more likely a slip of the pen than a new folder
            f"cache={cache!r}; expected 'memory', 'disk', None, or a folder: one that exists, or a path with "
            f"a separator such as './{cache}'"
        )


def disk_cache(cache: str | os.PathLike[str] | None, kind: str, fingerprint: str, dtype: Any) -> DiskCache | None:
    """The file of a kind of array in the folder of a cache; None where nothing is kept on disk."""
    if cache is None or cache == "memory":
        return None
    return DiskCache(default_cache_folder() if cache == "disk" else cache, kind, fingerprint, dtype)


def digest_cache(cache: str | os.PathLike[str] | None) -> DiskCache | None:
    """Where checksums of files are kept on disk, for `data.files.digests_of`; None where nothing is."""
    return disk_cache(cache, "digests", "1", np.uint8)


Prompt: TypeAlias = "str | Callable[[str], str]"
Template: TypeAlias = "Prompt | Sequence[Prompt] | Mapping[str, Sequence[str]]"


def check_template(template: Template) -> list[Any] | dict[str, list[str]]:
    """Return the templates as a list, each of which takes a class name, or as texts by class name.

    Raises
    ------
    ValueError
        Names the entry that takes none.
    """
    if isinstance(template, Mapping):
        return _check_texts(template)
    templates = [template] if isinstance(template, str) or callable(template) else list(template)
    for entry in templates:
        try:
            first, second = (filled(entry, name) for name in "ab")
            takes_name = isinstance(first, str) and first != second
        except Exception:  # whatever a function of the user's raises
            takes_name = False
        if not takes_name:
            raise ValueError(
                f"template={entry!r}; expected a string with one {{}} for the class name, or a function that puts "
                "the name into a text"
            )
    if not templates:
        raise ValueError("template is an empty list; expected at least one template")
    return templates


def _check_texts(template: Mapping[Any, Any]) -> dict[str, list[str]]:
    texts: dict[str, list[Any]] = {}
    for name, entry in template.items():
        texts[name] = [entry] if isinstance(entry, str) else list(entry) if isinstance(entry, Iterable) else [None]
        wrong = [text for text in texts[name] if not isinstance(text, str) or not text.strip() or "{}" in text]
        if wrong or not texts[name]:
            raise ValueError(
                f"template[{name!r}]={entry!r}; expected a list of whole texts about the class, without {{}}"
            )
    if not texts:
        raise ValueError("template is an empty dict; expected texts for every class")
    return texts


def filled(template: Any, name: str) -> str:
    """A text of a template, a string or a function, and a class name."""
    text: str = template.format(name) if isinstance(template, str) else template(name)
    return text


def clean_name(name: str) -> str:
    """Return a class name as it enters a prompt: underscores are spaces."""
    return " ".join(name.replace("_", " ").split())


def texts_of(names: Sequence[str], templates: list[Any] | dict[str, list[str]]) -> list[list[str]]:
    """Texts of every class, of what `check_template` returned.

    Raises
    ------
    ValueError
        If a class has no texts in a dict.
    """
    if not isinstance(templates, dict):
        return [[filled(template, clean_name(name)) for template in templates] for name in names]
    by_clean_name = {clean_name(name): texts for name, texts in templates.items()}
    found = [templates.get(name, by_clean_name.get(clean_name(name))) for name in names]
    missing = [name for name, texts in zip(names, found) if texts is None]
    if missing:
        raise ValueError(
            f"template is a dict without texts for {len(missing)} of {len(names)} classes: {missing[:3]!r}; expected "
            f"a list of texts for every class name. It has {list(templates)[:3]!r} and so on"
        )
    return [texts for texts in found if texts is not None]
