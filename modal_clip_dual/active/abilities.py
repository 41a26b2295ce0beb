"""What the loop asks of an estimator: abilities, whatever its class."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone

from ..base import CLIPClassifier
from ..nn.criteria import criterion_of
from ..strategies import auto_sampling, negative_prompt_sampling
from ..utils.pool import pool_argument
from ..utils.seeding import seed_parts
from ..utils.validation import check_integer, check_option

PSEUDO_LABELS = ("auto", "own", "transductive", "collaborative")
MOST_TRANSDUCED = 2000  # pseudo-labels by a `DualLinearClassifier`, where nobody says how many
PER_CLASS = 16  # pseudo-labels (K and k of arXiv 2602.04340)


def check_abilities(estimator: Any, path: Any = None) -> None:
    """Refuse what cannot be trained round by round, or with a ``path`` what cannot be saved.

    Raises
    ------
    TypeError
        Names what the estimator lacks.
    """
    if isinstance(estimator, type):
        name = estimator.__name__
        raise TypeError(f"estimator is the class {name}; expected an instance, {name}(...)")
    missing = [name for name in ("fit", "predict", "get_params", "set_params") if not hasattr(estimator, name)]
    if missing:
        raise TypeError(
            f"estimator is a {type(estimator).__name__} without {', '.join(missing)}; expected a "
            "classifier, such as DualPromptClassifier"
        )
    if path is not None and not hasattr(estimator, "fitted_state"):
        raise TypeError(
            f"estimator is a {type(estimator).__name__} without fitted_state, so path={str(path)!r} cannot "
            "hold it; expected a classifier of this package, or path=None"
        )


def kind_of_pseudo_labels(estimator: Any, pseudo_labels: str) -> str:
    """Return what ``pseudo_labels`` comes to: ``"auto"`` lets a classifier on a CLIP learn from the pool.

    With the paper's criterion it is the paper's way.
    """
    if pseudo_labels != "auto":
        return pseudo_labels
    can = isinstance(estimator, CLIPClassifier) and takes_pseudo_labels(estimator)
    return "transductive" if can and not literal(estimator) and not pool_argument(estimator, True) else "own"


def literal(estimator: Any) -> bool:
    """Tell whether a classifier is trained by the paper's own criterion, given by its name or as its class."""
    criterion = getattr(estimator, "criterion", None)
    return criterion == "dual" or (isinstance(criterion, type) and criterion is criterion_of("dual"))


def default_strategy(estimator: Any) -> Callable[..., Any]:
    """Return the query strategy of a loop for which nobody chose one: the paper's with its criterion."""
    return negative_prompt_sampling if literal(estimator) else auto_sampling


def number_of_pseudo_labels(n_per_class: int | str | None, kind: str) -> int | str | None:
    """Return what ``n_per_class`` comes to: ``"auto"`` is the paper's number, unless a transducer gives them."""
    return PER_CLASS if n_per_class == "auto" and kind != "transductive" else n_per_class


def check_n_per_class(n_per_class: Any, least: int) -> None:
    """Refuse a number of pseudo-labels that is none.

    Raises
    ------
    TypeError, ValueError
        Says what is expected.
    """
    if isinstance(n_per_class, str) and n_per_class != "auto":
        raise ValueError(f"n_per_class={n_per_class!r}; expected an integer of at least {least}, None or 'auto'")
    if n_per_class is not None and n_per_class != "auto":
        check_integer("n_per_class", n_per_class, least=least)


def check_pseudo_labels(estimator: Any, pseudo_labels: Any) -> None:
    """Refuse a way to get pseudo-labels that does not exist, or that an estimator is not made for.

    Raises
    ------
    TypeError, ValueError
        Says what is expected.
    """
    check_option("pseudo_labels", pseudo_labels, PSEUDO_LABELS)
    takes = takes_pseudo_labels(estimator)
    if pseudo_labels == "transductive" and not (isinstance(estimator, CLIPClassifier) and takes):
        raise TypeError(
            f"pseudo_labels='transductive' with a {type(estimator).__name__}; expected a classifier on a CLIP that "
            "takes pseudo-labels, such as DualPromptClassifier"
        )
    # Two copies must not be the same, and one has to judge the other's labels.
    draws = "random_state" in estimator.get_params(deep=False)
    if pseudo_labels == "collaborative" and not (draws and takes and hasattr(estimator, "clean_logits")):
        raise TypeError(
            f"pseudo_labels='collaborative' with a {type(estimator).__name__}; expected a classifier with "
            "random_state, clean_logits and pseudo-labels in fit, such as DualPromptClassifier"
        )


def check_calibration(estimator: Any, calibration: str | None) -> None:
    """Refuse an estimator whose P(correct) cannot be calibrated in this way.

    Raises
    ------
    TypeError
        Says what is expected.
    """
    if calibration not in ("auto", None) and not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"calibration={calibration!r} with a {type(estimator).__name__}; expected a classifier with predict_proba"
        )
    if calibration in ("judge", "transductive") and not isinstance(estimator, CLIPClassifier):
        raise TypeError(
            f"calibration={calibration!r} with a {type(estimator).__name__}; expected a classifier on a CLIP, such "
            "as DualPromptClassifier, or calibration='own'"
        )


def seed(estimator: Any, random_state: int, *numbers: int) -> None:
    """Set the ``random_state`` of an estimator that has one, by the learner's and numbers, the round first.

    Those inside of it that are None follow from the learner's alone, and so stay what they are in later rounds.
    """
    if "random_state" in estimator.get_params(deep=False):
        sequence = np.random.SeedSequence([random_state, *numbers])
        estimator.set_params(random_state=int(sequence.generate_state(1)[0] >> 1))
    seed_parts(estimator, random_state)


def fit_without_labels(estimator: Any, pool: Any, n_per_class: int | None) -> bool:
    """Run round 0, if the estimator has ``fit_unlabeled``; return whether it was run.

    One that trains on ``n_per_class`` pseudo-labels is not asked if there are to be none.
    """
    fit_unlabeled = getattr(estimator, "fit_unlabeled", None)
    if fit_unlabeled is None:
        return False
    if trains_without_labels(estimator, full=False):
        fit_unlabeled(pool)
        return True
    n_per_class = len(pool) if n_per_class is None else n_per_class
    if n_per_class:
        fit_unlabeled(pool, n_per_class=n_per_class)
    return bool(n_per_class)


def trains_without_labels(estimator: Any, full: bool) -> bool:
    """Tell whether a loop calls ``fit_unlabeled``: the ``full`` one, or any where this needs no pseudo-labels."""
    fit_unlabeled = getattr(estimator, "fit_unlabeled", None)
    return fit_unlabeled is not None and (full or "n_per_class" not in signature(fit_unlabeled).parameters)


def unfit(estimator: Any) -> None:
    """Make an estimator what it was before any fit, in place."""
    estimator.__dict__ = vars(clone(estimator))


def takes_pseudo_labels(estimator: Any) -> bool:
    """Whether ``fit`` takes samples with pseudo-labels."""
    return "X_pseudo" in signature(estimator.fit).parameters


def fit_labeled(
    estimator: Any, X: Any, y: np.ndarray, pool: Any, pseudo_labeled: tuple[Any, np.ndarray] | None
) -> None:
    """Fit on labeled samples, and on pseudo-labeled ones and the pool where the estimator takes them."""
    extra: dict[str, Any] = {}
    if pseudo_labeled is not None:
        extra["X_pseudo"], extra["y_pseudo"] = pseudo_labeled
    estimator.fit(X, y, **extra, **pool_argument(estimator, pool))


def predictions_of(estimator: Any, X: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Predicted labels and P(correct), both (n,); None for what the estimator does not say yet, or never."""
    if not hasattr(estimator, "classes_"):
        return None, None
    if hasattr(estimator, "predict_with_confidence"):
        predicted, correct = estimator.predict_with_confidence(X)
        return predicted, correct
    ask = getattr(estimator, "predict_correct_proba", None)
    return estimator.predict(X), None if ask is None else ask(X)
