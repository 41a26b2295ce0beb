"""scikit-learn's handwritten digits, as images."""

from __future__ import annotations

from typing import Any

import numpy as np

DIGIT_NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def load_digits_images() -> Any:
    """Load the 1,797 handwritten digits of scikit-learn as 8-bit gray images.

    The scans ship with scikit-learn; nothing is downloaded.

    Returns
    -------
    data : `sklearn.utils.Bunch`
        ``images``: uint8 array of shape (1797, 8, 8), white ink (255) on black (0).
        ``target``: int array of shape (1797,), the digit.
        ``class_names``: the ten names, ``class_names[k]`` is what digit k is called.

    See Also
    --------
    sklearn.datasets.load_digits : The same scans with values from 0 to 16.

    Examples
    --------
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> digits.images.shape, digits.images.dtype.name, digits.class_names[3]
    ((1797, 8, 8), 'uint8', 'three')
    """
    from sklearn.datasets import load_digits  # not at the top: workers import this package
    from sklearn.utils import Bunch

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return Bunch(images=images, target=digits.target, class_names=list(DIGIT_NAMES))
