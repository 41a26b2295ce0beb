"""The command line: ``modal-clip-dual`` and ``python -m modal_clip_dual``."""

from __future__ import annotations

import argparse
import os
import sys

from .. import __version__
from . import benchmark, demo, export, import_, label, report
from .parsing import refuse

# What files, downloads, memory, devices and arguments bring about; other errors are the code's own.
FAILURES = (OSError, ValueError, TypeError, ImportError, ArithmeticError, MemoryError, RuntimeError)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="modal-clip-dual",
        description="Active learning for CLIP with dual prompt tuning, as a plugin for modAL.",
    )
    parser.add_argument("--version", action="version", version=f"modal-clip-dual {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (benchmark, report, demo, label, export, import_):
        command.add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status."""
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
        return status
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except FAILURES as error:
        if args.traceback:
            raise
        return refuse(error, has_traceback=True)
