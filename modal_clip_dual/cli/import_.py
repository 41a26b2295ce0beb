"""The command ``modal-clip-dual import``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .export import add_format

IMPORT = """\
Take labels that exist into a loop: a table (.csv), class folders, COCO-style JSON, or an export of
Label Studio (format JSON).  Images are found in the pool by the names of their files, those of class
folders by their content.  STATE is the learner's path=; it is trained anew at the end.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("import", help="take labels that exist into a loop", description=IMPORT)
    add = parser.add_argument
    add("state", type=Path, metavar="STATE", help="state file of the loop")
    add("labels", type=Path, metavar="LABELS", help="file or folder to read")
    add_format(parser)
    add("--annotator", metavar="NAME", help="who gave the labels, where the file does not say it")
    add("--replace", action="store_true", help="let labels of the file take the place of others (default: keep them)")
    add("--add-classes", action="store_true", help="add classes that the loop does not have (default: an error)")
    add("--no-train", action="store_true", help="only save the labels; the next query trains")
    parser.set_defaults(run=run_import)


def run_import(args: argparse.Namespace) -> int:
    """Take in the labels; return the exit status."""
    from ..exchange import import_labels

    report = import_labels(
        args.state,
        args.labels,
        format=args.format,
        annotator=args.annotator,
        conflicts="replace" if args.replace else "keep",
        add_classes=args.add_classes,
        train=not args.no_train,
    )
    print(
        f"{report.n_labels} labels are new, {report.n_changed} changed; {report.n_kept} were kept as they were, "
        f"{report.n_left_out} samples were left out, {len(report.unmatched)} of the file are not in the pool"
    )
    return 0
