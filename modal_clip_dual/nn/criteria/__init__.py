"""The criteria that training minimizes: one per file, found by its name.

A file defines ``CRITERION``, a subclass of `PromptCriterion`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...utils.catalog import module_in, names_in

if TYPE_CHECKING:
    from ._base import PromptCriterion as PromptCriterion

CRITERIA = names_in(__path__[0])


def __getattr__(name: str) -> Any:
    if name == "PromptCriterion":  # the base class, which needs torch
        return module_in(__name__, "_base").PromptCriterion
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def criterion_of(criterion: str | type[PromptCriterion]) -> type[PromptCriterion]:
    """Return the class for a name in `CRITERIA`; a class is returned unchanged."""
    if not isinstance(criterion, str):
        return criterion
    found: type[PromptCriterion] = module_in(__name__, criterion).CRITERION
    return found
