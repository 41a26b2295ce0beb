"""Changes that happen completely or not at all, even if interrupted."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unchanged_on_error(*objects: Any, only: Collection[str] | None = None) -> Iterator[None]:
    """Restore the objects' attributes if the block raises an error, including Ctrl-C.

    Lists get their items back; objects in other attributes must be replaced, not changed in place.
    ``only``: names of attributes, where another thread may set others meanwhile.
    """
    before = [_picked(vars(thing), only) for thing in objects]
    lists = [(a, list(a)) for attributes in before for a in attributes.values() if type(a) is list]
    try:
        yield
    except BaseException:
        for thing, attributes in zip(objects, before):
            others = {} if only is None else {k: v for k, v in vars(thing).items() if k not in only}
            thing.__dict__ = others | attributes  # one step, which no second Ctrl-C can cut in two
        for now, then in lists:
            now[:] = then
        raise


def _picked(attributes: dict[str, Any], only: Collection[str] | None) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if only is None or name in only}
