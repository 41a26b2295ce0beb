"""Changes that happen as a whole or not at all, whatever interrupts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unchanged_on_error(*objects: Any) -> Iterator[None]:
    """If anything is raised inside, Ctrl-C included, the objects' attributes are as before.

    Lists get back what they held; what other attributes refer to must be replaced, not changed.
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
