"""Seconds in a classifier, by sleeping ones."""

import time

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modal_clip_dual.evaluation.costs import scoring_clock
from modal_clip_dual.strategies.view import View

X, Y = np.zeros((20, 2)), np.arange(20) % 2


class Slow(DummyClassifier):
    def predict_proba(self, X):
        time.sleep(0.05)
        return super().predict_proba(X)


def search(clf):
    return GridSearchCV(clf, {"constant": [None]} if isinstance(clf, Slow) else {"slow__constant": [None]}, cv=2)


@pytest.mark.parametrize(
    "wrap", [lambda clf: clf, lambda clf: make_pipeline(FunctionTransformer(), clf), search,
             lambda clf: search(make_pipeline(FunctionTransformer(), clf))]
)  # fmt: skip
@pytest.mark.parametrize("ask", [lambda clf: clf.predict_proba(X), lambda clf: View(clf, X).proba])
def test_whatever_is_asked_is_timed_once(wrap, ask):
    """Strategies ask the innermost classifier, others the outermost one."""
    clf = wrap(Slow()).fit(X, Y)
    began = time.perf_counter()
    with scoring_clock(clf) as seconds:
        ask(clf)
    assert 0.045 <= seconds[0] <= time.perf_counter() - began
    ask(clf)
    assert seconds[0] < time.perf_counter() - began - 0.04  # no longer timed
    for owner in (clf, *(step for _, step in getattr(clf, "steps", []))):
        assert "predict_proba" not in vars(owner)
