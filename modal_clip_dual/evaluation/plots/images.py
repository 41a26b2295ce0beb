"""Figure of queried images with their predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.images import as_array, check_files, kind_of, read_image
from ._style import COLORS, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

TITLE = 24  # characters that fit over an image


def plot_queried_images(
    images: Any,
    predicted: Any,
    true: Any,
    correct_proba: Any,
    class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None = None,
    n_columns: int = 5,
    figure: Figure | SubFigure | None = None,
) -> np.ndarray:
    """Draw a grid of queried images with predicted label, true label and P(correct).

    A wrong prediction has a thick dashed frame and "WRONG" before its label, so that it can be
    seen without color and without reading both labels.

    Parameters
    ----------
    images : array-like of paths, shape (n,), or ndarray of uint8, shape (n, H, W) or (n, H, W, 3)
        Queried images, in the order of the query.
    predicted, true : array-like of shape (n,)
        Predicted and true labels.
    correct_proba : array-like of shape (n,)
        Probability that the prediction is right, for example from
        `DualPromptClassifier.predict_correct_proba`.
    class_names : list of str or dict of label -> str, default=None
        Names of the labels; a list is for integer labels from 0. None shows the labels.
    n_columns : int, default=5
        Number of images in a row.
    figure : matplotlib.figure.Figure or SubFigure, default=None
        Figure to draw into; None makes a new one.

    Returns
    -------
    axes : ndarray of matplotlib.axes.Axes, shape (n,)

    Raises
    ------
    ValueError
        If there are no images, they are embeddings, the lengths differ, a label has no name or
        n_columns is less than 1.
    FileNotFoundError
        If a file is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from modal_clip_dual.evaluation import plot_queried_images
    >>> images = np.zeros((2, 8, 8), dtype="uint8")
    >>> axes = plot_queried_images(images, [0, 1], [0, 0], [0.9, 0.4], class_names=["cat", "dog"])
    >>> print(axes[1].get_title())
    WRONG: dog
    true: cat
    P(correct) 0.40
    """
    array = as_array(images, "images")
    if kind_of(array) == "embeddings":
        raise ValueError(
            f"images has shape {array.shape}, so it holds embeddings; expected paths or pixels"
        )
    for name, values in {"predicted": predicted, "true": true, "correct_proba": correct_proba}.items():
        if np.shape(values) != (len(array),):
            raise ValueError(
                f"{name} has shape {np.shape(values)}; expected ({len(array)},), one per image"
            )
    if n_columns < 1:
        raise ValueError(f"n_columns={n_columns!r}; expected at least 1")
    texts = [
        _called(values, class_names, name)
        for name, values in {"predicted": predicted, "true": true}.items()
    ]
    if kind_of(array) == "paths":
        check_files(array, "images")
    probabilities = np.asarray(correct_proba, dtype=np.float64)
    n_columns = min(n_columns, len(array))
    n_rows = math.ceil(len(array) / n_columns)
    if figure is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1.7 * n_columns, 2.3 * n_rows), layout="constrained")
    axes = np.empty(len(array), dtype=object)
    for k, (guess, truth) in enumerate(zip(*texts)):
        axes[k] = ax = figure.add_subplot(n_rows, n_columns, k + 1)
        ax.imshow(np.asarray(read_image(array, k, "images")))
        right = np.asarray(predicted)[k] == np.asarray(true)[k]
        said = guess if right else f"WRONG: {guess}"
        lines = [*wrap(said, TITLE), *wrap(f"true: {truth}", TITLE)]
        ax.set_title("\n".join([*lines, f"P(correct) {probabilities[k]:.2f}"]), fontsize=8)
        _frame(ax, COLORS[0] if right else COLORS[1], "-" if right else "--", 1 if right else 3)
    return axes


def _called(
    labels: Any, class_names: Sequence[str] | np.ndarray | Mapping[Any, str] | None, argument: str
) -> list[str]:
    labels = np.asarray(labels).tolist()
    if class_names is None:
        return [literal(label) for label in labels]
    names = class_names if isinstance(class_names, Mapping) else dict(enumerate(class_names))
    if not isinstance(class_names, Mapping) and all(isinstance(label, str) for label in labels):
        names = {name: name for name in class_names}  # as DualPromptClassifier takes strings
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise ValueError(
            f"class_names has no name for {unknown[0]!r} of {argument}; it has {list(names)[:10]!r}"
        )
    return [literal(names[label]) for label in labels]


def _frame(ax: Axes, color: str, line: str, width: float) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(edgecolor=color, linestyle=line, linewidth=width)
