"""Importing the package costs little, and it exports what it says."""

import re
import subprocess
import sys
from importlib import import_module
from importlib.resources import files

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
        ("from modal_clip_dual.cli import build_parser; build_parser()", HEAVY),
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
    with pytest.raises(AttributeError, match="attribute DualPrompt$"):
        modal_clip_dual.DualPrompt  # the access is the test


def test_the_registry_of_strategies_is_whole_and_light():
    """What lists, gives and takes strategies by name is imported from one place, without anything heavy."""
    code = (
        "from modal_clip_dual import available_strategies, get_strategy, register_strategy; available_strategies()\n"
        f"import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == "[]"
    assert modal_clip_dual.available_strategies is import_module("modal_clip_dual.strategies").available_strategies
    every = import_module("modal_clip_dual.strategies").__all__
    assert {name for name in every if name.endswith("_sampling")} <= set(modal_clip_dual.__all__)


def test_type_checkers_see_what_is_imported():
    """Stubs name everything once, each where it is; the marker of PEP 561 is installed with them."""
    root = files("modal_clip_dual")
    assert (root / "py.typed").is_file()
    for package in ("", ".data", ".evaluation", ".evaluation.plots", ".strategies"):
        module = import_module(f"modal_clip_dual{package}")
        stub = (root.joinpath(*package.split(".")[1:]) / "__init__.pyi").read_text(encoding="utf-8")
        names = re.findall(r"(\w+) as \1\b", stub)
        assert sorted(names) == sorted(set(names)) == sorted(module.__all__)
        for name in names:
            value = getattr(module, name)
            assert getattr(value, "__name__", name) == name  # data such as PAPER_SETTINGS has none
