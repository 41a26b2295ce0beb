"""Digits on backgrounds that go with their class: a small stand-in for Waterbirds."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..utils.validation import check_number
from .digits import load_digits_images

SIDE = 16  # pixels of an image; the digit has 8 x 8 in the middle


def load_spurious_digits(correlation: float = 0.95, contrast: float = 0.15, random_state: Any = None) -> Any:
    """Paste scikit-learn's digits on stripes whose direction goes with the digit.

    Digits 0 to 4 usually lie on horizontal stripes, 5 to 9 on vertical ones.  A classifier that learns from few such
    images may look at the stripes; its accuracy on the rare combinations tells.  The data set is made after
    the pattern of Waterbirds (Sagawa et al., "Distributionally Robust Neural Networks", ICLR 2020).

    Parameters
    ----------
    correlation : float, default=0.95
        Share of images on the usual background, 0 to 1; 0.5 for test sets.
    contrast : float, default=0.15
        Brightness of the light stripes, from 0, which is black, to 1, which is as white as ink.
    random_state : int, Generator, RandomState or None, default=None
        Controls which images have the other background, and where stripes begin.

    Returns
    -------
    data : `sklearn.utils.Bunch`
        ``images``: uint8 array of shape (1797, 16, 16); the digit is pasted 8 x 8 in the middle, and its ink is
        added. ``target``: int array of shape (1797,), the digit.
        ``background``: int array of shape (1797,), 0 for horizontal and 1 for vertical stripes.
        ``group``: int array of shape (1797,), 2 * (digit > 4) + background; groups 1 and 2 are the rare ones.
        ``class_names``: the ten names.

    Raises
    ------
    TypeError, ValueError
        If correlation or contrast is not a number from 0 to 1.

    See Also
    --------
    modal_clip_dual.evaluation.worst_group_accuracy : Measure the accuracy on the group where it is least.

    Examples
    --------
    >>> from modal_clip_dual.data import load_spurious_digits
    >>> data = load_spurious_digits(random_state=0)
    >>> data.images.shape, data.images.dtype.name
    ((1797, 16, 16), 'uint8')
    >>> bool(0.94 < (data.background == (data.target > 4)).mean() < 0.96)
    True
    """
    from sklearn.utils import Bunch

    from ..utils.selection import generator_of

    check_number("correlation", correlation, 0, 1, ends="low high")
    check_number("contrast", contrast, 0, 1, ends="low high")
    rng = generator_of(random_state)
    digits = load_digits_images()
    n = len(digits.target)
    high = (digits.target > 4).astype(int)
    background = np.where(rng.random(n) < correlation, high, 1 - high)
    light = ((np.arange(SIDE)[None] + rng.integers(4, size=n)[:, None]) % 4 < 2) * 255.0 * contrast
    canvas = np.repeat(light[:, :, None], SIDE, axis=2)  # (n, rows, columns): horizontal stripes
    canvas[background == 1] = canvas[background == 1].transpose(0, 2, 1)
    middle = slice((SIDE - 8) // 2, (SIDE + 8) // 2)
    canvas[:, middle, middle] = np.minimum(canvas[:, middle, middle] + digits.images, 255)
    return Bunch(
        images=canvas.round().astype(np.uint8),
        target=digits.target,
        background=background,
        group=2 * high + background,
        class_names=digits.class_names,
    )
