"""What all functions on tables of runs refuse."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from frames import many

from modal_clip_dual.evaluation import (
    area_under_learning_curve,
    compare_pairs,
    labels_to_reach,
    paper_table,
    summarize,
)

FUNCTIONS = [
    summarize,
    area_under_learning_curve,
    lambda frame, **kw: labels_to_reach(frame, 0.5, **kw),
    compare_pairs,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_frames(function):
    frame = many()
    with pytest.raises(ValueError, match="metric='acuracy' is not a measured column.*'accuracy'"):
        function(frame, metric="acuracy")
    with pytest.raises(ValueError, match="metric='seed' is not a measured column"):
        function(frame, metric="seed")
    with pytest.raises(ValueError, match="no rows"):
        function(frame.iloc[:0])
    with pytest.raises(ValueError, match="no column 'seed'"):
        function(frame.drop(columns="seed"))
    with pytest.raises(TypeError, match="frame is a list"):
        function([1])
    twice = "a run twice.*data='A', estimator='selection', strategy='random', seed=0, n_labels 10"
    with pytest.raises(ValueError, match=twice):
        function(pd.concat([frame, frame.iloc[:1]]))
    # Other settings under the same names, whose labels are others, so that they could pass for one run.
    mixed = pd.concat([frame, frame.assign(n_labels=frame["n_labels"] + 3)])
    with pytest.raises(ValueError, match=r"other settings or data: .*, round 1;"):
        function(mixed.assign(round=mixed.groupby(mixed["n_labels"] % 10)["n_labels"].rank("dense").astype(int)))
    with pytest.raises(ValueError, match=r"frame\['n_labels'\] has type .*; expected numbers"):
        function(frame.assign(n_labels=frame["n_labels"].astype(str)))
    with pytest.raises(ValueError, match="1 rows without 'strategy'"):
        function(frame.assign(strategy=[None, *frame["strategy"][1:]]))
    with pytest.raises(ValueError, match="infinite"):
        function(frame.assign(accuracy=np.inf))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: summarize(f, confidence_level=95), "confidence_level=95; expected a number between"),
        (lambda f: summarize(f, method="bayes"), r"method='bayes'; expected one of \('studentized'"),
        (lambda f: summarize(f, n_resamples=0), "n_resamples=0; expected at least 1"),
        (lambda f: labels_to_reach(f, np.nan), "target=nan; expected a finite"),
        (lambda f: labels_to_reach(f, 0.5, by="seed"), "by='seed'; expected one of"),
        (lambda f: labels_to_reach(f, 0.5, reference="no"), r"reference='no'; expected one of \['random'"),
        (lambda f: compare_pairs(f, test="t"), r"test='t'; expected one of \('permutation'"),
        (lambda f: compare_pairs(f, correction="fdr"), "correction='fdr'; expected"),
        (lambda f: compare_pairs(f, statistic="mean"), r"statistic='mean'; expected one of \('area'"),
        (lambda f: compare_pairs(f, statistic=9), r"statistic=9: .*\[1, 2, 3\]"),
        (lambda f: compare_pairs(f, reference="no"), "reference='no'; expected one of"),
        (lambda f: compare_pairs(f[f["strategy"] == "random"]), "one strategy for each estimator"),
        (lambda f: paper_table(f, format="html"), r"format='html'; expected one of \('markdown'"),
        (lambda f: paper_table(f, rounds=()), r"rounds=\(\); expected percentages"),
        (lambda f: paper_table(f, with_paper={"x": "y"}), r"with_paper\['x'\]='y'; expected one of"),
        (lambda f: paper_table(f.drop(columns="budget")), "no column 'budget'"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(many())


def test_importing_the_evaluation_waits_for_its_use():
    code = "import modal_clip_dual.evaluation, sys; print([m for m in {!r} if m in sys.modules])"
    heavy = ("matplotlib", "pandas", "sklearn", "scipy", "numpy", "torch")
    done = subprocess.run([sys.executable, "-c", code.format(heavy)], capture_output=True, text=True,
                          check=True, timeout=300)  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_public_names():
    from modal_clip_dual import evaluation

    for name in evaluation.__all__:
        assert callable(getattr(evaluation, name))
        assert name in dir(evaluation)
