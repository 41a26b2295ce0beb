"""What classifiers predict: the likeliest class, or another one."""

from __future__ import annotations

from typing import Any


def predicts_the_likeliest(estimator: Any) -> bool:
    """Tell whether ``predict`` is the class of the largest probability by the way it is made.

    Classifiers of this package need not be asked, which for images is a second pass.  One that hands on the
    predictions of a classifier inside says what that one says; what has no ``predict`` has no other label.
    """
    kind = type(estimator)
    if not hasattr(kind, "predict"):
        return True
    if getattr(estimator, "hands_on_predictions", False):
        return predicts_the_likeliest(getattr(estimator, "estimator_", estimator.estimator))
    methods = [getattr(kind, name) for name in ("predict", "predict_proba", "predict_logits") if hasattr(kind, name)]
    where = {str(getattr(method, "__module__", "")).partition(".")[0] for method in methods}
    return where == {__package__.partition(".")[0]}
