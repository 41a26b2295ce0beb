"""CLIPClassifier: the base of every classifier on a CLIP."""

from ._classifier import CLIPClassifier
from ._names import check_names as check_names
from ._saving import class_of as class_of, class_path as class_path

__all__ = ["CLIPClassifier"]  # the others are for other modules of this package
