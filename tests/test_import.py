"""Importing the package costs little, and it exports what it says."""

import subprocess
import sys

import pytest

import modal_clip_dual

HEAVY = ("torch", "open_clip", "skorch", "modAL", "sklearn", "pandas", "numpy", "matplotlib")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import modal_clip_dual", HEAVY),
        (
            "from modal_clip_dual import DualPromptClassifier; DualPromptClassifier(['a', 'b'])",
            ("torch", "open_clip", "skorch", "modAL", "matplotlib"),
        ),
        (
            "from modal_clip_dual import negative_prompt_sampling",
            ("torch", "open_clip", "skorch", "modAL", "matplotlib"),
        ),
        ("from modal_clip_dual.__main__ import build_parser; build_parser()", HEAVY),
    ],
)
def test_imports_wait_for_their_use(statement, absent):
    code = f"{statement}\nimport sys; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.strip() == "[]"


def test_public_names():
    for name in modal_clip_dual.__all__:
        assert getattr(modal_clip_dual, name) is not None
        assert name in dir(modal_clip_dual)
    with pytest.raises(AttributeError, match="no attribute 'DualPrompt'"):
        modal_clip_dual.DualPrompt  # the access is the test
