"""One HTML page of a comparison: tables and figures, self-contained."""

from __future__ import annotations

import base64
import io
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import date
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ..scores import SCORES
from ..utils.persistence import replacing
from ._checks import check_runs
from .curves import labels_to_reach
from .plots.learning_curves import MOST_BANDS, drawn_together, plot_learning_curves
from .plots.wins import plot_win_matrix
from .significance import compare_pairs
from .tables import round_table
from .text import percent, plain

# Columns of the table of measurements after the last round: name, heading, in percent.
MEASURED = (
    ("accuracy", "accuracy", True),
    ("balanced_accuracy", "balanced accuracy", True),
    ("macro_f1", "macro F1", True),
    ("nll", "NLL, nats", False),
    ("ece_proba", "ECE of the class probabilities", True),
    ("ece_correct", "ECE of P(correct)", True),
    ("coverage_correct", "coverage at 95% accuracy by P(correct)", True),
    ("coverage_max_proba", "by the largest probability", True),
    ("class_coverage", "classes with a label", True),
    ("pseudo_accuracy", "pseudo-labels right", True),
)
AUROCS = (
    *((f"auroc_{score.column}", score.label) for score in SCORES.values()),
    ("auroc_max_proba", "largest probability"),
    ("auroc_margin", "margin"),
    ("auroc_entropy", "entropy"),
)
COSTS = (
    ("train_seconds", "training, s"),
    ("score_seconds", "scoring, s"),
    ("select_seconds", "selection, s"),
    ("peak_memory_mib", "memory, MiB"),
)

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.name, th.name { text-align: left; }
img { max-width: 100%; background: #fff; border-radius: 4px; }
p.note { color: GrayText; max-width: 48rem; }
"""


def write_report(
    frame: pd.DataFrame, path: str | os.PathLike[str], *, title: str = "Comparison of query strategies"
) -> Path:
    """Write one HTML page with the tables and figures of a comparison.

    Parameters
    ----------
    frame : pandas.DataFrame
        Results of `compare_strategies` or `read_results`; there may be several data sets.
    path : str or path-like
        File to write; an existing file is replaced.
    title : str, default="Comparison of query strategies"
        Heading of the page.

    Returns
    -------
    path : Path
        File that was written.  It needs no network and no other file; names in it are escaped.

    Raises
    ------
    TypeError, ValueError
        If ``frame`` is not such a table.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from modal_clip_dual.evaluation.report import write_report
    >>> frame = pd.DataFrame({"data": "d", "estimator": "e", "strategy": ["random"] * 2, "seed": 0,
    ...                       "round": [1, 2], "n_labels": [10, 20], "accuracy": [0.5, 0.6]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(frame, f"{folder}/report.html").read_text(encoding="utf-8")
    >>> page.count("<img")
    1
    """
    check_runs(frame, "accuracy", "data", "estimator", "round")
    body = [f"<h1>{escape(title)}</h1>", _about(frame)]
    for data, rows in frame.groupby("data", sort=False):
        body.append(f"<h2>{escape(str(data))}</h2>")
        body.append(_of_data(rows))
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _about(frame: pd.DataFrame) -> str:
    names = ("modal-clip-dual", "torch", "open_clip_torch", "scikit-learn", "modAL-python")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    seeds = frame.groupby(["data", "estimator", "strategy"])["seed"].nunique()
    count = str(seeds.min()) if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    return (
        f'<p class="note">{len(seeds)} learning curves, {count} seeds each. Page made '
        f"{date.today().isoformat()} with Python {platform.python_version()}, {escape(versions)}; "
        "these need not be the versions and the machine that the runs were made with.</p>"
    )


def _of_data(rows: pd.DataFrame) -> str:
    parts = []
    for name, part in drawn_together(rows):
        band = "std" if len(part.groupby(["estimator", "strategy"])) <= MOST_BANDS else None
        parts.append(_image(plot_learning_curves(part, band=band).figure, f"learning curves, {name}"))
    parts.append(
        '<p class="note">Test accuracy, mean over seeds, where there are few curves with a band of one '
        "standard deviation; below with the standard deviation, and the area under the curve (mean "
        "accuracy over the labels).</p>"
    )
    parts.append(_table(*round_table(rows)))
    parts += [_measured(rows), _tests(rows), _labels(rows), _costs(rows)]
    return "\n".join(part for part in parts if part)


def _measured(rows: pd.DataFrame) -> str:
    last = rows[rows["round"] == rows.groupby(["estimator", "strategy", "seed"])["round"].transform("max")]
    shown = [(name, title, True) for name, title in AUROCS]
    parts = []
    for heading, columns in (
        ("Measured after the last round", MEASURED),
        ("AUROC for “the prediction is right”, after the last round", shown),
    ):
        known = [c for c in columns if c[0] in last.columns and last[c[0]].notna().any()]
        if not known:
            continue
        lines = [
            [*key, *(percent(runs[name]) if share else plain(runs[name]) for name, _, share in known)]
            for key, runs in last.groupby(["estimator", "strategy"], sort=False)
        ]
        header = ["estimator", "strategy", *(title for _, title, _ in known)]
        parts.append(f"<h3>{heading}</h3>" + _table(header, lines))
    return "\n".join(parts)


def _tests(rows: pd.DataFrame) -> str:
    if rows["strategy"].nunique() < 2:
        return ""
    parts = [
        "<h3>Differences</h3>",
        (
            '<p class="note">Areas under the learning curves, paired by seed; permutation test, Holm&rsquo;s '
            "correction for the comparisons of a table. “Not significant” is not “equal”: look at the "
            "smallest p that could have come out.</p>"
        ),
    ]
    for estimator, runs in rows.groupby("estimator", sort=False):
        try:
            every = compare_pairs(runs)
        except ValueError as error:  # strategies with different seeds are not compared
            parts.append(f'<p class="note">Not compared: {escape(str(error))}</p>')
            continue
        parts.append(_image(plot_win_matrix(runs).figure, f"wins, {estimator}"))
        if "random" in set(runs["strategy"]):
            parts.append(_differences(compare_pairs(runs, reference="random"), f"{estimator}, against random"))
        parts.append(_differences(every, f"{estimator}, every two"))
    return "\n".join(parts)


def _differences(pairs: pd.DataFrame, which: str) -> str:
    lines = [
        [
            f"{row.strategy} - {row.other}", f"{100 * row.mean_difference:+.1f}",
            "" if row.low != row.low else f"{100 * row.low:+.1f} to {100 * row.high:+.1f}",
            f"{row.p_value:.3g}", f"{row.p_corrected:.3g}",
        ]
        for row in pairs.sort_values("p_value", kind="stable").itertuples()
    ]  # fmt: skip
    header = ["difference", "points", "95% interval", "p", "p corrected"]
    least = pairs["min_p_corrected"].min()
    summary = f"{escape(which)}: {len(lines)} differences, corrected p at least {least:.2g}"
    return f"<details><summary>{summary}</summary>{_table(header, lines)}</details>"


def _labels(rows: pd.DataFrame) -> str:
    parts = []
    for estimator, runs in rows.groupby("estimator", sort=False):
        random = runs[runs["strategy"] == "random"]
        if random.empty or runs["strategy"].nunique() < 2:
            continue
        target = float(random.loc[random["round"] == random["round"].max(), "accuracy"].mean())
        needed = labels_to_reach(runs, target)
        lines = [
            [row.strategy, "not reached" if row.labels != row.labels else f"{row.labels:.0f}",
             "" if row.saving != row.saving else f"{row.saving:.0%}"]
            for row in needed.itertuples()
        ]  # fmt: skip
        parts.append(
            f"<h3>Labels to the accuracy that random ends with ({target:.1%}), {escape(str(estimator))}</h3>"
            + _table(["strategy", "labels", "saved against random"], lines)
        )
    return "\n".join(parts)


def _costs(rows: pd.DataFrame) -> str:
    known = [c for c in COSTS if c[0] in rows.columns]
    if not known:
        return ""
    lines = [
        [*key, *(f"{runs[name].mean():.2f}" if "seconds" in name else f"{runs[name].max():.0f}" for name, _ in known)]
        for key, runs in rows.groupby(["estimator", "strategy"], sort=False)
    ]
    return "<h3>Cost of a round: means, and the largest memory</h3>" + _table(
        ["estimator", "strategy", *(title for _, title in known)], lines
    )


def _table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    def row(cells: Iterable[Any], tag: str) -> str:
        names = sum(name in ("estimator", "strategy", "difference") for name in header)
        return "<tr>" + "".join(
            f"<{tag}{' class=name' if k < names else ''}>{escape(str(cell))}</{tag}>"
            for k, cell in enumerate(cells)
        ) + "</tr>"  # fmt: skip

    body = "".join(row(line, "td") for line in lines)
    return f'<div class="wide"><table><thead>{row(header, "th")}</thead><tbody>{body}</tbody></table></div>'


def _image(figure: Any, name: str) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<p><img alt="{escape(name)}" src="data:image/png;base64,{data}"></p>'
