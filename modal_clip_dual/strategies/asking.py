"""Which strategies a classifier can be asked by: what a strategy needs is compared before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from ..scores import SCORES
from ._inside import OWN, Inside, Samples

# Needs of modAL's modules; a file of this package has its own, NEEDS.
_OF_MODAL = {"modAL.uncertainty": "predict_proba"}


def lacking(classifier: Any, strategy: Callable[..., Any], score: Any = None) -> str | None:
    """Return the method that a strategy asks for and a classifier does not have, nor what is inside of it.

    ``coef_`` is no method, and there after a fit only: here it is the class of the classifier that tells.

    Parameters
    ----------
    classifier : estimator
        It need not be fitted.
    strategy : callable
        Query strategy; of one that is neither this package's nor modAL's nothing is known.
    score : str, optional
        The score that the strategy will be called with.

    Returns
    -------
    method : str or None

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import negative_prompt_sampling
    >>> from modal_clip_dual.strategies.asking import lacking
    >>> lacking(LogisticRegression(), negative_prompt_sampling)
    'clean_logits'
    >>> lacking(LogisticRegression(), negative_prompt_sampling, score="correct")
    'predict_correct_proba'
    """
    while isinstance(strategy, partial):
        score = strategy.keywords.get("score") if score is None else score
        strategy = strategy.func
    module = getattr(strategy, "__module__", None) or ""
    needed: str | None = _OF_MODAL.get(module)
    if module.startswith(f"{__package__}."):
        needed = getattr(import_module(module), "NEEDS", None)
        if needed is not None and isinstance(score, str) and score in SCORES:
            needed = SCORES[score].method
    if needed == "coef_":
        return None if _may_be_linear(classifier) else needed
    if needed is None or Inside(classifier, Samples(lambda: None)).find(needed).has(needed):
        return None
    return needed


def _may_be_linear(classifier: Any) -> bool:
    """Whether a classifier will have ``coef_`` once it is fitted, as far as its class tells.

    Of classes that are neither this package's nor scikit-learn's nothing is known, so they may.
    """
    from sklearn.linear_model._base import LinearClassifierMixin
    from sklearn.model_selection._search import BaseSearchCV

    inner = Inside(classifier, Samples(lambda: None)).find("coef_", through_templates=False).object
    if isinstance(inner, BaseSearchCV) and not hasattr(inner, "best_estimator_"):
        return _may_be_linear(inner.estimator)
    if type(inner).__module__.partition(".")[0] not in (__package__.partition(".")[0], "sklearn"):
        return True
    if getattr(inner, "kernel", "linear") != "linear":  # classes of support vector machines have the attribute
        return False
    return isinstance(inner, LinearClassifierMixin) or hasattr(type(inner), "coef_") or hasattr(inner, "coef_")


def check_can_ask(
    classifier: Any, strategy: Any, name: str = "query_strategy", shown: str = "estimator", score: Any = None
) -> None:
    """Refuse a strategy that asks for a method which the classifier does not have.

    Messages call the strategy by ``name`` and the classifier by ``shown``.

    Raises
    ------
    TypeError
        Names the strategy, the classifier and the method.
    """
    needed = lacking(classifier, strategy, score)
    if needed is not None:
        asked = needed if needed.endswith("_") else f"{needed}(X)"
        raise TypeError(
            f"{name} asks the classifier for {asked}, which {shown}, a {type(classifier).__name__}, does not "
            f"have; expected a classifier that has it, such as {OWN.get(needed, 'DualPromptClassifier')}, or one of "
            "the strategies that available_strategies(classifier) lists"
        )
