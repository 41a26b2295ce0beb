"""Arguments that several commands have, and the types of arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from traceback import walk_tb
from typing import Any

from ..scores import SCORES
from ..strategies.registry import available_strategies
from ..utils.notes import notes_of
from ..utils.text_files import read_text

LINEAR, PROMPTS = "DualLinear", "DualPrompt"  # what the output calls the learners
LEARNERS = {"dual-linear": LINEAR, "prompts": PROMPTS}

# What the types are called in argparse's messages is the name of the function.


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value


def jobs(text: str) -> int:
    """Parse a number of workers, as joblib counts them."""
    value = int(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 workers do nothing; expected 1 or more, or -1 for one per core")
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


def learner(text: str) -> str:
    """Parse the name of a learner."""
    if text not in LEARNERS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LEARNERS)}")
    return text


def listed(one: Callable[[str], str]) -> type[argparse.Action]:
    """Return the action of an argument of several values, with commas or spaces between them."""

    class Listed(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
            try:
                parts = [one(part.strip()) for value in values for part in value.split(",") if part.strip()]
            except argparse.ArgumentTypeError as error:
                raise argparse.ArgumentError(self, str(error)) from error
            if not parts:
                raise argparse.ArgumentError(self, f"{' '.join(values)!r} has no name; expected at least one")
            setattr(namespace, self.dest, parts)

    return Listed


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the demo and the benchmark both let one choose of classifier and score."""
    add = parser.add_argument
    add("--score", choices=tuple(SCORES), default="clean",
        help="what negative-prompt ranks by (default: clean, the paper's)")  # fmt: skip
    add("--complement", choices=("uniform", "all", "hard"), default="uniform",
        help="wrong labels that train the negative prompt (default: uniform, the paper's)")  # fmt: skip
    add("--negative-weight", type=weight, default=1.0, metavar="LAMBDA",
        help="weight of the negative prompt's loss; 0 is plain CoOp (default: 1)")  # fmt: skip
    add("--visual-prompts", choices=("vpt-deep", "vpt-shallow", "maple", "ivlp"), default=None,
        help="also train tokens in the image tower (default: text prompts alone)")  # fmt: skip
    add("--device", default="auto", help='torch device (default: auto: "cuda" if there is one)')


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how classes and prompts are worded, where the data does not say it well."""
    add = parser.add_argument
    add("--template", action="append", metavar="TEXT",
        help='hand-written prompt with {} for the class name, such as "a satellite photo of {}."; may be given '
             "several times (default: the data set's)")  # fmt: skip
    add("--class-names", nargs="+", action=listed(str), metavar="A,B,...",
        help="what the classes are called in prompts, in the order of the class folders; or a text file with "
             "one name per line (default: the data set's)")  # fmt: skip


def names_in(names: list[str]) -> list[str]:
    """Return class names as they are, or those in a text file with one per line, if the only one is such a file.

    Raises
    ------
    ValueError
        If the only one is the name of a text file that does not exist, or is in another encoding than UTF-8 without
        a mark.
    """
    if len(names) != 1:
        return names
    (name,) = names
    if not Path(name).is_file():
        if name.lower().endswith(".txt"):
            raise ValueError(f"class names: there is no file {name!r}; expected names, or a file with one per line")
        return names
    try:
        lines = read_text(name).splitlines()
    except ValueError as error:
        raise ValueError(f"class names: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def reword(data: Any, args: argparse.Namespace) -> None:
    """Put the template and the class names of the command line into a data set.

    Raises
    ------
    ValueError
        If a template takes no class name, or the names are not as many as the classes.
    """
    from ..clip.inputs import check_template

    if args.template:
        check_template(args.template)
        data.template = args.template
    if args.class_names:
        names = names_in(args.class_names)
        if len(names) != len(data.class_names):
            raise ValueError(
                f"--class-names has {len(names)} names; expected one for each of the {len(data.class_names)} classes "
                f"{', '.join(data.class_names[:5])}{', ...' if len(data.class_names) > 5 else ''}"
            )
        data.class_names = names


def find_own_strategies(names: Iterable[str]) -> None:
    """Let strategies of the user's own be imported from the current folder."""
    if any(":" in name for name in names):
        sys.path.insert(0, str(Path.cwd()))


def check_output(path: Path, argument: str) -> None:
    """Refuse a file that cannot be written, before anything is computed for it.

    Raises
    ------
    ValueError
        Names the argument and the place.
    """
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{argument} {path}: there is no folder {path.absolute().parent} to write to")
    if path.is_dir():
        raise ValueError(f"{argument} {path} is a folder; expected the name of a file")
    check_file(path, f"; {argument} FILE writes elsewhere")


def check_file(path: Path, hint: str) -> None:
    """Refuse a file that cannot be written to, or whose folder cannot.

    Raises
    ------
    ValueError
        Names the place; ``hint`` is the end of the sentence.
    """
    from ..utils.persistence import check_writable

    check_writable(path.absolute().parent, hint)
    if path.exists():
        check_writable(path, hint)


def check_output_folder(path: Path, argument: str) -> None:
    """Refuse a folder that cannot be made or written to, before anything is computed for it.

    Raises
    ------
    ValueError
        Names the argument and the place.
    """
    from ..utils.persistence import check_writable

    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"{argument} {path} is no folder, {there} is a file")
    check_writable(there, f"; {argument} DIR writes elsewhere")


def refuse(error: object, has_traceback: bool = False) -> int:
    """Say what is wrong, with the notes of an error; return the exit status.

    ``has_traceback`` where the option --traceback would show it: this is said of errors that come from elsewhere.
    """
    print("\n".join([f"error: {error}", *notes_of(error)]), file=sys.stderr)
    if has_traceback and isinstance(error, BaseException) and _comes_from_elsewhere(error):
        print("modal-clip-dual --traceback COMMAND ... shows where in the code this came from", file=sys.stderr)
    return 2


def _comes_from_elsewhere(error: BaseException) -> bool:
    """Tell whether another package raised an error, or what failed in a run; of another process nothing is known."""
    if isinstance(error, RuntimeError):
        from ..evaluation import FailedRunsError

        error = error.errors[0] if isinstance(error, FailedRunsError) else error
    frames = [frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)]
    return not frames or frames[-1].partition(".")[0] != __package__.partition(".")[0]
