"""Rows of a saved state in a pool that holds its samples in another order."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = ("answers.row", "skipped.row", "dropped.row", "rows", "trained_rows", "pseudo_rows", "predicted_rows")


def places_of(saved: np.ndarray, given: np.ndarray) -> np.ndarray | None:
    """Return the row of each saved sample in a pool, or None if one is missing.

    ``saved`` (n, 16) and ``given`` (N, 16) are keys; copies of one sample keep their order.

    Examples
    --------
    >>> import numpy as np
    >>> from modal_clip_dual.active.places import places_of
    >>> saved, given = np.array([[1], [2], [2]], np.uint8), np.array([[2], [3], [1], [2]], np.uint8)
    >>> places_of(saved, given)
    array([2, 0, 3])
    >>> places_of(given, saved) is None
    True
    """
    free: dict[bytes, list[int]] = {}
    for row in range(len(given) - 1, -1, -1):
        free.setdefault(bytes(given[row]), []).append(row)
    places = []
    for key in saved:
        rows = free.get(bytes(key))
        if not rows:
            return None
        places.append(rows.pop())
    return np.array(places, dtype=np.intp)


def at_places(
    settings: dict[str, Any], arrays: dict[str, np.ndarray], places: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return settings and arrays of a saved learner whose rows are those of the new order."""
    moved = {name: places[arrays[name]] for name in ROWS if name in arrays}
    query = settings["query"]
    changed = {
        "query": None if query is None else _noted(query, places),
        "changes": [_noted(change, places) for change in settings["changes"]],
        "log": [
            _noted(record, places) | {"changes": [_noted(change, places) for change in record["changes"]]}
            for record in settings["log"]
        ],
    }
    return settings | changed, arrays | moved


def _noted(note: dict[str, Any], places: np.ndarray) -> dict[str, Any]:
    """Return a note with its rows, if it has some, in the new order."""
    rows = note.get("rows")
    return note if rows is None else note | {"rows": places[np.asarray(rows, dtype=np.intp)].tolist()}
