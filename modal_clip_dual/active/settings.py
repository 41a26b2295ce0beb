"""Settings of a `DualPromptLearner` that may also be changed while the loop runs."""

from __future__ import annotations

from typing import Any

from ..utils.persistence import check_path
from ..utils.validation import check_integer, check_option
from .abilities import check_abilities, check_calibration, check_n_per_class, check_pseudo_labels
from .annotations import DISAGREEMENTS
from .calibration import CALIBRATIONS
from .protocols import FIRST_QUERIES
from .stopping import check_stopping


def check_settings(learner: Any) -> None:
    """Refuse settings of a `DualPromptLearner` that do not fit; those of pool and file are checked at the start.

    Raises
    ------
    TypeError, ValueError
        If a setting does not fit; the message names it.
    """
    check_abilities(learner.estimator, learner.path)
    if learner.path is not None:
        check_path(learner.path)
    strategy = learner.query_strategy
    if not callable(strategy) or isinstance(strategy, type):
        hint = f", such as get_strategy({strategy!r})" if isinstance(strategy, str) else ""
        raise TypeError(f"query_strategy={strategy!r} cannot be called as a strategy; expected a function{hint}")
    check_n_per_class(learner.n_per_class, least=0)
    check_pseudo_labels(learner.estimator, learner.pseudo_labels)
    check_option("calibration", learner.calibration, CALIBRATIONS)
    check_calibration(learner.estimator, learner.calibration)
    check_option("first_query", learner.first_query, FIRST_QUERIES)
    check_stopping(learner.stopping)
    check_option("disagreement", learner.disagreement, DISAGREEMENTS)
    check_integer("random_state", learner.random_state, least=0)
    if learner.budget is not None:
        check_integer("budget", learner.budget, least=1)
