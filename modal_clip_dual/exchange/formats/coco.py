"""JSON in the style of COCO: images, categories, and an annotation per label that covers the whole image."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from ...utils.text_files import read_text
from ..table import LABEL, Format, Said, Table, text_or_none


def write(table: Table, path: Path) -> None:
    """Write ``images``, ``categories``, ``annotations`` (people's labels) and ``predictions`` (with scores)."""
    numbers = {name: number for number, name in enumerate(table.class_names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for entry in table.entries:
        images.append({"id": entry.row, "file_name": entry.path})
        if entry.what == LABEL and entry.label is not None:
            label = {"id": len(annotations) + 1, "image_id": entry.row, "category_id": numbers[entry.label]}
            annotations.append(label | {"annotator": entry.annotator, "time": entry.time})
        if entry.predicted is not None:
            prediction = {"image_id": entry.row, "category_id": numbers[entry.predicted], "score": entry.sure}
            predictions.append(prediction)
    content = {
        "info": {"description": "image labels, one per image"},
        "images": images,
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": annotations,
        "predictions": predictions,
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def read(path: Path) -> list[Said]:
    """Read labels of images; boxes and outlines are not looked at, but all of an image's must be of one category."""
    content = json.loads(read_text(path))
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), list) for part in ("images", "categories", "annotations")
    ):
        raise ValueError("expected an object with the lists 'images', 'categories' and 'annotations'")
    names = {
        _of(c, "id", "category"): text_or_none(_of(c, "name", "category"), "name") for c in content["categories"]
    }
    files = {_of(image, "id", "image"): image for image in content["images"]}
    found: dict[Any, dict[str, str | None]] = defaultdict(dict)
    for annotation in content["annotations"]:
        image, category = _of(annotation, "image_id", "annotation"), _of(annotation, "category_id", "annotation")
        if image not in files or category not in names:
            raise ValueError(f"an annotation has image_id {image!r} and category_id {category!r}, which do not exist")
        found[image][str(names[category])] = text_or_none(annotation.get("annotator"), "annotator")
    said = []
    for image, labels in found.items():
        name = text_or_none(files[image].get("file_name"), "file_name")
        if len(labels) > 1:
            raise ValueError(f"image {name!r} has the categories {sorted(labels)}; expected one label per image")
        ((label, annotator),) = labels.items()
        said.append(Said(path=name and name.replace("/", os.sep), label=label, annotator=annotator))
    return said


def _of(entry: Any, key: str, what: str) -> Any:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, (str, int)):
        raise ValueError(f"an {what} has no {key}" if what[0] in "aei" else f"a {what} has no {key}")
    return value


FORMAT = Format("COCO-style JSON", write, read)
