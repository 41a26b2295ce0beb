"""Annotators beside each other: where they disagree, and how far they agree beyond chance."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import cohen_kappa_score

from .annotations import Annotations, decided

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["row", "what", "label", "annotator", "time", "counts"]
NOBODY = "(not named)"  # what tables call an annotator without a name


def name_of_annotator(annotator: str | None) -> str:
    """What tables call an annotator."""
    return NOBODY if annotator is None else annotator


def table_of_answers(annotations: Annotations, disagreement: str) -> pd.DataFrame:
    """All that was said, a line per answer: row, what, label, annotator, time, and whether it counts."""
    import pandas as pd

    lines: list[dict[str, Any]] = []
    for row, answers in annotations.answers.items():
        label = decided(answers, disagreement)
        for answer in answers:
            counts = answer.label == label and row not in annotations.dropped
            lines.append(dict(zip(COLUMNS, (row, "label", *answer, counts))))
    for what, notes in (("skip", annotations.skipped), ("drop", annotations.dropped)):
        for row, note in notes.items():
            lines.append(dict(zip(COLUMNS, (row, what, None, *note, True))))
    table = pd.DataFrame(lines, columns=COLUMNS)
    table["time"] = pd.to_datetime(table["time"], unit="s", utc=True)
    return table


def table_of_disagreements(annotations: Annotations, disagreement: str) -> pd.DataFrame:
    """Rows with different labels: a line per row, a column per annotator, and the label that counts."""
    import pandas as pd

    lines: dict[int, dict[str, Any]] = {}
    for row, answers in annotations.answers.items():
        if len({answer.label for answer in answers}) > 1:
            said = {name_of_annotator(answer.annotator): answer.label for answer in answers}
            lines[row] = {"counts": decided(answers, disagreement), **said}
    table = pd.DataFrame.from_dict(lines, orient="index")
    return table.rename_axis("row") if lines else pd.DataFrame(columns=["counts"]).rename_axis("row")


def table_of_agreement(annotations: Annotations) -> pd.DataFrame:
    """Cohen's kappa of every two annotators, over the rows that both labeled.

    Kappa is NaN where it is not defined: for no common row, or one and the same label everywhere.
    """
    import pandas as pd

    said: dict[str, dict[int, Any]] = {}
    for row, answers in annotations.answers.items():
        for answer in answers:
            said.setdefault(name_of_annotator(answer.annotator), {})[row] = answer.label
    lines = []
    for first, second in combinations(sorted(said), 2):
        common = [row for row in said[first] if row in said[second]]
        a = np.array([said[first][row] for row in common])
        b = np.array([said[second][row] for row in common])
        line: dict[str, Any] = {"annotator_1": first, "annotator_2": second, "n_both": len(common)}
        line["n_agree"] = int((a == b).sum()) if len(common) else 0
        defined = len(set(a.tolist()) | set(b.tolist())) > 1
        lines.append(line | {"kappa": float(cohen_kappa_score(a, b)) if defined else float("nan")})
    return pd.DataFrame(lines, columns=["annotator_1", "annotator_2", "n_both", "n_agree", "kappa"])
