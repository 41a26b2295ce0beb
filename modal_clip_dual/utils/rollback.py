"""Changes that happen completely or not at all, even if interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unchanged_on_error(*objects: Any) -> Iterator[None]:
    """Restore the objects' attributes if the block raises an error, including Ctrl-C.

    Lists get their items back; objects in other attributes must be replaced, not changed in place.
    """
    before = [dict(vars(thing)) for thing in objects]
    lists = [(a, list(a)) for attributes in before for a in attributes.values() if type(a) is list]
    try:
        yield
    except BaseException:
        for thing, attributes in zip(objects, before):
            thing.__dict__ = attributes  # one step, which no second Ctrl-C can cut in two
        for now, then in lists:
            now[:] = then
        raise
