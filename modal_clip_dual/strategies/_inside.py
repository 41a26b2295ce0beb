"""The objects inside a classifier, each with the samples as it sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np

# Methods that one kind of classifier alone has, for messages.
OWN = {"code_margin": "ClassCodeClassifier", "predict_alpha": "DirichletMetaClassifier"}


class Samples:
    """Samples that are computed once, when they are first needed."""

    def __init__(self, make: Callable[[], Any]):
        self._make = make

    @cached_property
    def X(self) -> Any:
        """The samples."""
        return self._make()


class Inside:
    """An object inside a classifier, and the samples as that object sees them.

    modAL's learners and fitted searches pass X on unchanged.  A Pipeline transforms it once, when the
    object behind its steps is first asked about X.  scikit-learn's other meta-estimators hold a template
    of the estimators that they fit; templates are searched last.  One whose predictions are those of one fitted copy
    says so by ``hands_on_predictions``, and what is behind it is that copy.
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
        """The object that this one passes X on to; None if it is the innermost one."""
        inner, samples = self.object, self._samples
        if self._is_judge:
            copy = getattr(inner, "estimator_", inner.estimator)
            return None if copy is None else Inside(copy, samples)
        if _is_learner(inner) or self.is_template_holder:
            return Inside(inner.estimator, samples)
        if hasattr(inner, "best_estimator_"):
            return Inside(inner.best_estimator_, samples)
        if hasattr(inner, "steps"):
            if len(inner.steps) > 1:
                # This must not refer to an Inside, which refers to it: a cycle would outlive the query.
                samples = Samples(partial(_transformed, inner, samples))
            return Inside(inner.steps[-1][1], samples)
        return None

    @property
    def is_template_holder(self) -> bool:
        """Whether the estimator behind it is a template that it copies, not the one that it uses."""
        hands_on = any(hasattr(self.object, name) for name in ("best_estimator_", "steps", "cv_results_"))
        hands_on |= self._is_judge or _is_learner(self.object)
        return hasattr(self.object, "estimator") and not hands_on

    @property
    def _is_judge(self) -> bool:
        """Whether it judges predictions that it hands on."""
        return bool(getattr(self.object, "hands_on_predictions", False))

    def hands_on(self, method: str) -> bool:
        """Whether the object behind it gives the same answers.

        modAL's learners have methods that their estimator may lack; a subclass of Pipeline or
        of a search may have a method that does more than scikit-learn's.
        """
        if _is_learner(self.object) or (self._is_judge and method == "coef_"):  # its own are of the judgment
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
        """Return the answer of the method for the samples."""
        answer: np.ndarray = getattr(self.object, method)(self.X)
        return answer


def _transformed(pipeline: Any, samples: Samples) -> Any:
    """The samples as they reach a Pipeline's last step."""
    return pipeline[:-1].transform(samples.X)


def _is_learner(inner: Any) -> bool:
    return hasattr(inner, "query") and hasattr(inner, "estimator")
