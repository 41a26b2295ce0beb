"""Arguments that several commands have, and the types of arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from ..scores import SCORES
from ..strategies.registry import available_strategies

# What the types are called in argparse's messages is the name of the function.


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def fraction(text: str) -> float:
    """Parse a number between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def weight(text: str) -> float:
    """Parse a number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def strategy(text: str) -> str:
    """Parse the name of a strategy, or where a function of the user's is."""
    if text not in available_strategies() and ":" not in text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(available_strategies())}, nor package.module:function"
        )
    return text


def listed(one: Callable[[str], str]) -> Callable[[str], list[str]]:
    """Return the type of an argument of several values with commas between them."""

    def parse(text: str) -> list[str]:
        parts = [one(part.strip()) for part in text.split(",") if part.strip()]
        if not parts:
            raise argparse.ArgumentTypeError(f"{text!r} has no name; expected at least one")
        return parts

    parse.__name__ = "list"
    return parse


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the demo and the benchmark both let one choose of classifier and score."""
    add = parser.add_argument
    add("--score", choices=tuple(SCORES), default="clean",
        help="what negative-prompt ranks by (default: clean, the paper's)")  # fmt: skip
    add("--complement", choices=("uniform", "all", "hard"), default="uniform",
        help="wrong labels that train the negative prompt (default: uniform, the paper's)")  # fmt: skip
    add("--negative-weight", type=weight, default=1.0, metavar="LAMBDA",
        help="weight of the negative prompt's loss; 0 is plain CoOp (default: 1)")  # fmt: skip
    add("--visual-prompts", choices=("vpt-deep", "vpt-shallow", "maple"), default=None,
        help="also train tokens in the image tower (default: text prompts alone)")  # fmt: skip
    add("--device", default="auto", help='torch device (default: auto: "cuda" if there is one)')


def find_own_strategies(names: Iterable[str]) -> None:
    """Let strategies of the user's own be imported from the current folder."""
    if any(":" in name for name in names):
        sys.path.insert(0, str(Path.cwd()))


def refuse(error: object) -> int:
    """Say what is wrong; return the exit status."""
    print(f"error: {error}", file=sys.stderr)
    return 2
