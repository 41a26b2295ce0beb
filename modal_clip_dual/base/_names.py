"""Class names that a classifier is to get, checked before anything is changed."""

from __future__ import annotations

import copy
from typing import Any

from ..utils.labels import resolve_classes


def check_names(classifier: Any, class_names: Any) -> None:
    """Refuse class names that a `CLIPClassifier` could not be fitted with; it stays as it is.

    No weights are loaded for it, and no text is encoded.

    Parameters
    ----------
    classifier : CLIPClassifier
        The classifier with its other parameters.
    class_names : list of str or dict of {label: str}
        Names of the classes.

    Raises
    ------
    ImportError
        If a package that reads texts for this CLIP is not installed.
    ValueError
        If a name is empty, comes twice or is too long, if two are the same to the CLIP, or if another parameter does
        not fit them.
    """
    renamed = copy.copy(classifier)
    renamed.class_names = class_names
    renamed._check_params()
    renamed._check_prompts(resolve_classes(class_names, None)[1], classifier.__dict__.get("_backbone"))
