"""Changes that happen as a whole or not at all, whatever interrupts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unchanged_on_error(*objects) -> Iterator[None]:
    """If anything is raised inside, Ctrl-C included, the objects' attributes are as before.

    What an attribute refers to is not copied, lists aside: replace it rather than change it.
    """
    before = [
        {name: list(value) if type(value) is list else value for name, value in vars(thing).items()}
        for thing in objects
    ]
    try:
        yield
    except BaseException:
        for thing, attributes in zip(objects, before):
            thing.__dict__ = attributes  # one step, which no second Ctrl-C can cut in two
        raise
