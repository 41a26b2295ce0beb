"""What the page asks of the model: embeddings of all images, predictions, and what it doubts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.files import look_at
from ..data.images import UnreadableImagesError, as_array, kind_of
from .answers import LABEL, Names, Said

CHUNK = 256  # images that are encoded between two looks at the time
SHARE = 100  # and at least this share of all of them
NO_FILE = "there is no file: it is gone, a link that leads nowhere, or no plain file"
OTHERS = 50  # files that are looked for, to tell a file that is gone from a disk that is
GUESSES = 9  # likeliest classes that are told of each image


def holds_paths(pool: Any) -> bool:
    """Whether a pool consists of files; told by its first sample, since there may be very many."""
    return kind_of(as_array(pool[:1])) == "paths"


def shown(text: str) -> str:
    """Return a text as UTF-8 can hold it; names of files may have bytes that are none."""
    return text.encode("utf-8", "surrogateescape" if _is_of_bytes(text) else "replace").decode("utf-8", "replace")


def _is_of_bytes(text: str) -> bool:
    """Whether a text has no halves of characters but those that stand for bytes."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def is_lost(paths: Sequence[str], row: int) -> bool:
    """Whether a file that cannot be read is broken or gone, while others of the pool are there."""
    if os.path.exists(paths[row]):
        return True
    return any(os.path.exists(path) for path in paths[:OTHERS])


def part_of(pool: Any, rows: Sequence[int]) -> Any:
    """Return some rows of a pool, without a look at the others."""
    return pool[list(rows)] if isinstance(pool, np.ndarray) else [pool[row] for row in rows]


def encode(
    estimator: Any, pool: Any, progress: Callable[[int, int, float], None]
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Encode all images of a pool into the estimator's cache; return the rows kept, and what is wrong with others."""
    array = as_array(pool)
    began, wrong = time.perf_counter(), dict[int, str]()
    step = max(CHUNK, len(array) // SHARE)
    for start in range(0, len(array), step):
        progress(start, len(array), time.perf_counter() - began)
        rows = np.arange(start, min(start + step, len(array)))
        while len(rows):
            if holds_paths(array):
                looks = zip(rows.tolist(), look_at(array[rows]))
                wrong |= {row: NO_FILE for row, look in looks if look is None}
                rows = np.setdiff1d(rows, list(wrong))
            try:
                if len(rows):
                    estimator.transform(array[rows])
                break
            except FileNotFoundError:
                if all(look_at(array[rows])):
                    raise
            except UnreadableImagesError as error:
                wrong |= {int(rows[row]): reason for row, reason in zip(error.rows, error.reasons)}
                rows = np.setdiff1d(rows, list(wrong))
    progress(len(array), len(array), time.perf_counter() - began)
    kept = np.setdiff1d(np.arange(len(array)), list(wrong))
    return kept, sorted(wrong.items())


def predictions(learner: Any, pool: Any, rows: Sequence[int], names: Names) -> dict[str, list[Any]]:
    """Return predicted names, P(correct) and the likeliest classes of some rows, as a `Grid` takes them."""
    estimator = learner.estimator
    if not hasattr(estimator, "classes_") or not len(rows):
        return {"names": [None] * len(rows), "correct": [None] * len(rows), "guesses": [[]] * len(rows)}
    X = part_of(pool, rows)
    predicted = [names.name(label) for label in np.asarray(estimator.predict(X)).tolist()]
    calibrated = hasattr(learner, "predict_correct_proba")
    ask = getattr(learner if calibrated else estimator, "predict_correct_proba", None)
    correct = [None] * len(rows) if ask is None else np.asarray(ask(X), dtype=float).tolist()
    guesses: list[list[str]] = [[] for _ in rows]
    if hasattr(estimator, "predict_proba"):
        classes = [names.name(label) for label in np.asarray(estimator.classes_).tolist()]
        order = np.argsort(-estimator.predict_proba(X), axis=1, kind="stable")[:, :GUESSES]
        guesses = [[classes[k] for k in likeliest] for likeliest in order]
    return {"names": predicted, "correct": correct, "guesses": guesses}


def doubtful_labels(estimator: Any, pool: Any, said: Mapping[int, Said], names: Names) -> list[dict[str, Any]]:
    """Return labels by the probability that the model gives them, the smallest first."""
    rows = [row for row, answer in said.items() if answer.what == LABEL]
    if not rows or not hasattr(estimator, "predict_proba") or not hasattr(estimator, "classes_"):
        return []
    probability = estimator.predict_proba(part_of(pool, rows))
    classes = {names.name(label): k for k, label in enumerate(np.asarray(estimator.classes_).tolist())}
    called = list(classes)
    tiles = []
    for row, shares in zip(rows, probability):
        given = said[row].name
        share = float(shares[classes[given]]) if given in classes else 0.0
        tiles.append({"row": row, "name": called[int(shares.argmax())], "correct": share, "said": given})
    return sorted(tiles, key=lambda tile: tile["correct"])


def doubtful_predictions(learner: Any, pool: Any, rows: Sequence[int], names: Names) -> list[dict[str, Any]]:
    """Return predictions for unlabeled rows by P(correct), the smallest first."""
    found = predictions(learner, pool, rows, names)
    tiles = [
        {"row": row, "name": name, "correct": correct, "said": None}
        for row, name, correct in zip(rows, found["names"], found["correct"])
        if name is not None and correct is not None
    ]
    return sorted(tiles, key=lambda tile: tile["correct"])
