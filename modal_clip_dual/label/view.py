"""The session as the page sees it: plain values for JSON, without paths of the machine beyond file names."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .answers import DROP, LABEL, SKIP, Said
from .grids import Grid, agreement
from .model import holds_paths, shown
from .session import LabelSession

RECENT = 5  # grids over which agreement is told
SHOWN = 20  # unreadable files that are named


def state_of(session: LabelSession) -> dict[str, Any]:
    """Return all that the page shows, but for the pictures and what is looked through."""
    with session.lock:
        status = dict(session.status)
        if status.get("message") is not None:
            status["message"] = shown(status["message"])
        since = status.pop("since", time.time())
        counts = Counter(said.what for said in session.said.values())
        per_class = Counter(said.name for said in session.said.values() if said.what == LABEL)
        return {
            "version": session.version,
            "status": status | {"elapsed": round(time.time() - since, 2)},
            "classes": list(session.class_names),
            "grid": _grid(session, session.grid),
            "pool": session.n_pool if session.log else 0,
            "labeled": counts[LABEL],
            "skipped": counts[SKIP],
            "dropped": counts[DROP],
            "per_class": [per_class[name] for name in session.class_names],
            "budget": session.learner.budget,
            "rounds": [_round(record) for record in session.log],
            "checks": [vars(check) for check in session.checks],
            "recent": agreement(session.checks[-RECENT:]),
            "all": agreement(session.checks),
            "stop_reason": session.stop_reason,
            "disagreements": session.n_disagreements,
            "agreements": session.agreements,
            "unreadable": {
                "n": len(session.unreadable),
                "files": [[shown(os.path.basename(path)), shown(why)] for path, why in session.unreadable[:SHOWN]],
            },
            "can_undo": session.can_undo,
            "state_file": None if session.learner.path is None else shown(os.path.basename(session.learner.path)),
        }


def tiles_of(session: LabelSession, tiles: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tiles with what was said of them by now and the names of their files."""
    with session.lock:
        paths, files = session.paths, holds_paths(session.paths)
        return [
            tile | {"said": _said(session.said.get(tile["row"])), "file": file_name(paths, tile["row"], files)}
            for tile in tiles
        ]


def file_name(paths: Any, row: int, files: bool) -> str:
    """Return how the page calls an image: the last two parts of its path, or its row."""
    return shown("/".join(str(paths[row]).replace("\\", "/").split("/")[-2:])) if files else f"image {row}"


def _grid(session: LabelSession, grid: Grid | None) -> dict[str, Any] | None:
    if grid is None:
        return None
    columns = zip(grid.rows, grid.names, grid.correct, grid.guesses)
    tiles = [{"row": row, "name": name, "correct": c, "guesses": g} for row, name, c, g in columns]
    return {"number": grid.number, "round": grid.round, "tiles": tiles_of(session, tiles)}


def _said(said: Said | None) -> dict[str, Any] | None:
    return None if said is None else {"what": said.what, "name": said.name}


def _round(record: dict[str, Any]) -> dict[str, Any]:
    names = ("round", "n_labels", "estimated_accuracy", "accuracy_interval", "kappa")
    return {name: record.get(name) for name in names}
