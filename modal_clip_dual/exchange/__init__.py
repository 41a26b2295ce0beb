"""Labels out of the loop and into it: tables, class folders, COCO-style JSON, Label Studio's tasks."""

from .exporting import export_labels
from .importing import ImportReport, import_labels
from .registry import available_formats

__all__ = ["ImportReport", "available_formats", "export_labels", "import_labels"]
