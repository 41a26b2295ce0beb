"""The table of scores: each against its formula in plain loops; nobody keeps a second list."""

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, softmax

import modal_clip_dual
from modal_clip_dual.cli import build_parser
from modal_clip_dual.evaluation.report import AUROCS
from modal_clip_dual.scores import SCORES

ROOT = Path(modal_clip_dual.__file__).parent
OF_LOGITS = [name for name, score in SCORES.items() if score.of_logits is not None]


def literal(name, z, y):
    """What the score ranks by and its uncertainty, of one row of logits."""
    others = [value for k, value in enumerate(z) if k != y]
    if name == "clean":
        return z[y], 1 - expit(z[y] - np.log(len(others)))
    if name == "normalized":
        return z[y] - np.log(np.sum(np.exp(others))), 1 - softmax(z)[y]
    return z[y] - max(others), 1 - expit(z[y] - max(others))


@pytest.mark.parametrize("name", OF_LOGITS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_logits(name, dtype, monkeypatch):
    monkeypatch.setattr("modal_clip_dual.scores.ROWS", 7)
    rng = np.random.default_rng(0)
    z = rng.normal(scale=4, size=(40, 5)).astype(dtype)
    predicted = rng.integers(0, 5, 40)
    confidence, uncertainty = SCORES[name].of_logits(z, predicted)
    expected = [literal(name, row.astype(np.float64), y) for row, y in zip(z, predicted)]
    assert confidence.dtype == np.float64
    np.testing.assert_allclose(confidence, [pair[0] for pair in expected], atol=1e-12)
    np.testing.assert_allclose(uncertainty, [pair[1] for pair in expected], atol=1e-12)


def test_names_are_told_apart():
    for field in ("label", "column"):
        assert len({getattr(score, field) for score in SCORES.values()}) == len(SCORES)
    assert [title for name, title in AUROCS][: len(SCORES)] == [score.label for score in SCORES.values()]


def test_command_lines_offer_all_of_them():
    commands = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name in ("demo", "benchmark"):
        action = next(a for a in commands.choices[name]._actions if a.dest == "score")
        assert list(action.choices) == list(SCORES)


def test_no_second_list():
    """Two of the names side by side in code, outside the table and docstrings, would be one."""
    pair = re.compile(r'"(clean|normalized|margin|correct)",\s*"(clean|normalized|margin|correct)"')
    for path in ROOT.rglob("*.py"):
        code = re.sub(r'"""[\s\S]*?"""', "", path.read_text(encoding="utf-8"))
        assert path.name == "scores.py" or not pair.search(code), path
