"""CLIPClassifier: what every classifier on a CLIP shares."""

from ._classifier import CLIPClassifier
from ._prediction import log_odds
from ._saving import class_of, class_path

__all__ = ["CLIPClassifier", "class_of", "class_path", "log_odds"]
