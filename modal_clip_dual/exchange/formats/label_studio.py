"""Tasks of Label Studio: pre-annotations with scores out, annotations in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from ...utils.text_files import read_text
from ..table import LABEL, SKIP, Entry, Format, Said, Table, text_or_none

NAME, IMAGE = "label", "image"  # of the two tags in `labeling_config`, and the key of the image in a task
MODEL = "modal-clip-dual"


def labeling_config(class_names: Sequence[str]) -> str:
    """Return the labeling interface of a project: an image, and one choice of a class.

    Parameters
    ----------
    class_names : sequence of str

    Returns
    -------
    config : str
        XML, for "Labeling Interface / Code" or ``label_config`` of the API.

    Examples
    --------
    >>> from modal_clip_dual.exchange.formats.label_studio import labeling_config
    >>> print(labeling_config(["cat", "dog"]))
    <View>
      <Image name="image" value="$image"/>
      <Choices name="label" toName="image" choice="single" showInline="true">
        <Choice value="cat"/>
        <Choice value="dog"/>
      </Choices>
    </View>
    """
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in class_names)
    return (
        f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n'
        f'  <Choices name="{NAME}" toName="{IMAGE}" choice="single" showInline="true">\n{choices}\n'
        "  </Choices>\n</View>"
    )


def write(table: Table, path: Path, root: str | os.PathLike[str] | None = None) -> None:
    """Write a task per sample; ``root`` is Label Studio's LOCAL_FILES_DOCUMENT_ROOT, by default the files' folder."""
    paths = [entry.path for entry in table.entries if entry.path is not None]
    if root is None:
        root = os.path.commonpath([os.path.dirname(file) for file in paths]) if paths else os.getcwd()
    tasks = [_task(entry, os.path.abspath(root)) for entry in table.entries]
    path.write_text(json.dumps(tasks, indent=1), encoding="utf-8")


def _task(entry: Entry, root: str) -> dict[str, Any]:
    file = str(entry.path)
    inside = os.path.relpath(file, root)
    if inside.startswith(os.pardir + os.sep) or os.path.isabs(inside):
        raise ValueError(f"root={root!r} does not hold {file!r}; expected a folder with all files of the pool")
    url = f"/data/local-files/?d={quote(inside.replace(os.sep, '/'), errors='surrogateescape')}"
    task: dict[str, Any] = {"data": {IMAGE: url, "path": file, "row": entry.row}}
    if entry.predicted is not None:
        prediction: dict[str, Any] = {"model_version": MODEL, "result": [_choice(entry.predicted)]}
        task["predictions"] = [prediction if entry.sure is None else {**prediction, "score": entry.sure}]
    if entry.what == LABEL and entry.label is not None:
        task["annotations"] = [{"result": [_choice(entry.label)]}]
    elif entry.what == SKIP:
        task["annotations"] = [{"result": [], "was_cancelled": True}]
    return task


def _choice(name: str) -> dict[str, Any]:
    return {"from_name": NAME, "to_name": IMAGE, "type": "choices", "value": {"choices": [name]}}


def read(path: Path) -> list[Said]:
    """Read an export of Label Studio in its format JSON; of an annotator's answers for a task the last one counts."""
    tasks = json.loads(read_text(path))
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError("expected a list of tasks, Label Studio's export format JSON")
    return [said for task in tasks for said in _answers(task)]


def _answers(task: dict[str, Any]) -> list[Said]:
    data = task.get("data")
    if not isinstance(data, dict) or not isinstance(task.get("annotations", []), list):
        raise ValueError("a task has no 'data', or 'annotations' that are no list; expected the export format JSON")
    where = text_or_none(data.get("path"), "path") or _path_of(text_or_none(data.get(IMAGE), IMAGE))
    row = data.get("row")
    row = row if isinstance(row, int) and not isinstance(row, bool) and row >= 0 else None
    latest: dict[str | None, Said] = {}
    for annotation in sorted(task.get("annotations", []), key=lambda a: str(a.get("updated_at") or "")):
        annotator = _annotator(annotation.get("completed_by"))
        if annotation.get("was_cancelled"):
            latest[annotator] = Said(where, row, SKIP, annotator=annotator)
            continue
        choices = [name for result in annotation.get("result") or [] for name in _choices(result)]
        if len(set(choices)) > 1:
            raise ValueError(f"task {task.get('id')} ({where!r}) has the labels {choices}; expected one per image")
        if choices:
            latest[annotator] = Said(where, row, LABEL, choices[0], annotator)
    return list(latest.values())


def _choices(result: Any) -> list[str]:
    if not isinstance(result, dict) or result.get("type") != "choices":
        return []
    value = result.get("value")
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or not all(isinstance(name, str) for name in choices):
        raise ValueError(f"a result holds {value!r}; expected {{'choices': [name]}}")
    return choices


def _annotator(completed_by: Any) -> str | None:
    """Return the name of who completed an annotation: an e-mail address, or the number of a user."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return None if completed_by is None else str(completed_by)


def _path_of(url: str | None) -> str | None:
    """Return the path behind the address of an image."""
    if url is None:
        return None
    parts = urlsplit(url)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path) or None


FORMAT = Format("Label Studio's tasks", write, read, options=("root",))
