"""The command ``modal-clip-dual export``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

EXPORT = """\
Write the labels of a loop for other programs: a table (.csv), a folder per class, COCO-style JSON,
or tasks of Label Studio with the model's predictions.  STATE is the learner's path=; another process
may go on working with it.
"""

FORMATS = ("csv", "folders", "coco", "label-studio")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    export = commands.add_parser("export", help="write labels of a loop for other programs", description=EXPORT)
    add = export.add_argument
    add("state", type=Path, metavar="STATE", help="state file of the loop")
    add("out", type=Path, metavar="OUT", help="file or folder to write")
    add_format(export)
    add("--predictions", action="store_true", help="also write the model's predictions, and P(correct)")
    add("--overwrite", action="store_true",
        help="replace OUT, if it is a file, or an exported folder in which nothing else lies")  # fmt: skip
    add("--link", action="store_true", help="with folders: symbolic links in place of copies")
    add("--root", type=Path, metavar="DIR",
        help="with label-studio: its LOCAL_FILES_DOCUMENT_ROOT (default: the folder of all images)")  # fmt: skip
    export.set_defaults(run=run_export)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a format."""
    parser.add_argument("--format", choices=FORMATS, help="what it is (default: by the name of the file)")


def run_export(args: argparse.Namespace) -> int:
    """Write the labels; return the exit status."""
    from ..exchange import export_labels

    options: dict[str, Any] = {"link": True} if args.link else {}
    if args.root is not None:
        options["root"] = args.root
    late = n_late(args.state)
    n = export_labels(
        args.state, args.out, format=args.format, predictions=args.predictions, overwrite=args.overwrite, **options
    )
    print(f"{n} labels written: {args.out}")
    if late:
        print(
            f"warning: answers of the labeling page that are not in {args.state} yet, and may be missing in "
            f"{args.out}: {late}.  To take them in, end modal-clip-dual label, or start it again if it was killed; "
            "then export anew",
            file=sys.stderr,
        )
    return 0


def n_late(state: Path) -> int:
    """Return the number of answers of the labeling page that its journal has, and the state file has not.

    Raises
    ------
    OSError, ValueError
        If the state file cannot be read.
    """
    from ..active.saved import read_loop
    from ..exchange.exporting import table_of
    from ..label.answers import FORGET
    from ..label.journal import Journal, journal_of

    if not os.path.isfile(journal_of(state)):
        return 0
    journal = Journal(journal_of(state))
    if not journal.waiting(None):
        return 0
    loop = read_loop(state)
    said = journal.waiting(loop.paths)  # before the state is read for the export, so that none is passed over
    held = {entry.row: (entry.what or FORGET, entry.label) for entry in table_of(loop, predictions=False).entries}
    return sum(held.get(row) != answer for row, answer in said.items() if row in held)
