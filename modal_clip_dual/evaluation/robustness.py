"""How much of an accuracy is left: under changes of the image, and in the group where it is least."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length

from ..utils.validation import check_number


def certified_accuracy(labels: Any, radii: Any, y: Any, radius: float = 0.0) -> float:
    """Compute the share of samples whose label is right and certified at a radius.

    No change of the image whose L2 length is less than the radius can lower it, with the probability that
    the certificates have.

    Parameters
    ----------
    labels : array-like of shape (n,)
        Labels from `SmoothedClassifier.certify`.
    radii : array-like of shape (n,)
        Certified radii; NaN where nothing is certified.
    y : array-like of shape (n,)
        True labels.
    radius : float, default=0.0
        Radius, at least 0; at 0 all counts that are right and not abstained from.

    Returns
    -------
    accuracy : float
        Share in [0, 1].

    Raises
    ------
    ValueError
        If an array has not one axis, the lengths differ, there is no sample, or the radius is negative.
    TypeError
        If the radius is not a number.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import certified_accuracy
    >>> certified_accuracy([1, 0, 1, 1], [0.4, 0.6, float("nan"), 0.1], [1, 0, 1, 0], radius=0.25)
    0.5
    """
    check_number("radius", radius, 0, np.inf, ends="low")
    labels, radii, y = np.asarray(labels), np.asarray(radii, dtype=np.float64), np.asarray(y)
    _check_samples(labels=labels, radii=radii, y=y)
    return float(np.mean((labels == y) & (radii >= radius)))


def worst_group_accuracy(y: Any, predicted: Any, group: Any) -> float:
    """Compute the accuracy in the group of samples where it is least.

    Parameters
    ----------
    y, predicted : array-like of shape (n,)
        True and predicted labels.
    group : array-like of shape (n,)
        Group of each sample, such as class and background together.

    Returns
    -------
    accuracy : float
        Share in [0, 1].

    Raises
    ------
    ValueError
        If an array has not one axis, the lengths differ, or there is no sample.

    References
    ----------
    .. [1] Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020, arXiv:1911.08731.

    Examples
    --------
    >>> from modal_clip_dual.evaluation import worst_group_accuracy
    >>> worst_group_accuracy([0, 0, 1, 1], [0, 0, 1, 0], ["land", "land", "water", "water"])
    0.5
    """
    y, predicted, group = np.asarray(y), np.asarray(predicted), np.asarray(group)
    _check_samples(y=y, predicted=predicted, group=group)
    right = y == predicted
    return float(min(right[group == one].mean() for one in np.unique(group)))


def _check_samples(**arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        if array.ndim != 1:
            raise ValueError(f"{name} has shape {array.shape}; expected (n,), one per sample")
    check_consistent_length(*arrays.values())
    if not len(next(iter(arrays.values()))):
        raise ValueError("there are no samples; expected at least one")
