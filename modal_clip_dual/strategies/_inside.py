"""The objects inside a classifier, and the samples as each of them sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np


class Samples:
    """Samples that are made when they are first looked at, and once."""

    def __init__(self, make: Callable[[], Any]):
        self._make = make

    @cached_property
    def X(self) -> Any:
        """The samples."""
        return self._make()


class Inside:
    """An object inside a classifier, and the samples as that object sees them.

    modAL's learners and fitted searches hand X on, a Pipeline transforms it: when the object behind
    its steps is first asked about X, and once.  scikit-learn's other meta-estimators hold a template
    of the estimators that they fit, which is looked into last.
    """

    def __init__(self, inner: Any, samples: Samples):
        self.object = inner
        self._samples = samples

    @property
    def X(self) -> Any:
        """The samples as the object sees them."""
        return self._samples.X

    @cached_property
    def behind(self) -> Inside | None:
        """What this object hands on to; None if it is the innermost one."""
        inner, samples = self.object, self._samples
        if _is_learner(inner) or self.is_template_holder:
            return Inside(inner.estimator, samples)
        if hasattr(inner, "best_estimator_"):
            return Inside(inner.best_estimator_, samples)
        if hasattr(inner, "steps"):
            if len(inner.steps) > 1:
                # Refers to no Inside, which refers to it: so they go as soon as the query is over.
                samples = Samples(partial(_transformed, inner, samples))
            return Inside(inner.steps[-1][1], samples)
        return None

    @property
    def is_template_holder(self) -> bool:
        """Whether what is behind it is an estimator that it has copied, not the one that it uses."""
        hands_on = any(hasattr(self.object, name) for name in ("best_estimator_", "steps", "cv_results_"))
        return hasattr(self.object, "estimator") and not hands_on and not _is_learner(self.object)

    def hands_on(self, method: str) -> bool:
        """Whether asking what is behind it is the same as asking it.

        modAL's learners have methods that their estimator may lack; a Pipeline or a search of
        somebody's own may have a method that does more than scikit-learn's.
        """
        if _is_learner(self.object):
            return True
        if not hasattr(self.object, "best_estimator_") and not hasattr(self.object, "steps"):
            return False
        function = getattr(type(self.object), method, None)
        return not callable(function) or function.__module__.startswith(("sklearn.", "imblearn."))

    def find(self, method: str, through_templates: bool = True) -> Inside:
        """The first object from here inwards that has the method; the innermost if none has."""
        at = self
        while not hasattr(at.object, method) or at.hands_on(method):
            if at.behind is None or (at.is_template_holder and not through_templates):
                break
            at = at.behind
        return at

    def has(self, method: str) -> bool:
        """Whether the object has the method."""
        return hasattr(self.object, method)

    def ask(self, method: str) -> np.ndarray:
        """What the method says of the samples."""
        answer: np.ndarray = getattr(self.object, method)(self.X)
        return answer


def _transformed(pipeline: Any, samples: Samples) -> Any:
    """What reaches a Pipeline's last step."""
    return pipeline[:-1].transform(samples.X)


def _is_learner(inner: Any) -> bool:
    return hasattr(inner, "query") and hasattr(inner, "estimator")
