"""Kinds of prompts beside the two text contexts: one per file, found by its name.

A file defines ``PROMPTS``, a subclass of `VisualPrompts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...utils.catalog import module_in, names_in

if TYPE_CHECKING:
    from ._base import VisualPrompts

VISUAL_PROMPTS = names_in(__path__[0])


def visual_prompts_of(name: str) -> type[VisualPrompts]:
    """Return the class of a name in `VISUAL_PROMPTS`."""
    prompts: type[VisualPrompts] = module_in(__name__, name).PROMPTS
    return prompts
