"""What classifiers predict: the likeliest class, or another one."""

from __future__ import annotations

from typing import Any


def predicts_the_likeliest(estimator: Any) -> bool:
    """Tell whether ``predict`` is the class of the largest probability by the way it is made.

    Classifiers of this package need not be asked, which for images is a second pass.  Those of the room
    ``correctness`` hand on what the classifier inside says; what has no ``predict`` has no other label.
    """
    kind = type(estimator)
    if not hasattr(kind, "predict"):
        return True
    methods = [getattr(kind, name) for name in ("predict", "predict_proba", "predict_logits") if hasattr(kind, name)]
    where = [str(getattr(method, "__module__", "")).split(".") for method in methods]
    if any(module[0] != __package__.partition(".")[0] for module in where):
        return False
    inside = getattr(estimator, "estimator_", None)
    return inside is None or "correctness" not in where[0] or predicts_the_likeliest(inside)
