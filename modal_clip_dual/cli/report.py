"""The command ``modal-clip-dual report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .parsing import check_output, refuse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    report = commands.add_parser(
        "report",
        help="one HTML page of the results of benchmarks",
        description="Make one HTML page of tables and figures from stored results, self-contained.",
    )
    report.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="folders of benchmark --out")
    report.add_argument("--out", type=Path, help="the page (default: report.html in the first folder)")
    report.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Write the page; return the exit status."""
    from ..evaluation import write_report
    from ..evaluation.results import read_folders

    out = args.out or args.results[0] / "report.html"
    try:
        if args.out is not None:
            check_output(out, "--out")
        frame = read_folders(args.results)
        file = write_report(frame, out)
    except (OSError, ValueError) as error:
        return refuse(error)
    print(f"written: {file}")
    return 0
