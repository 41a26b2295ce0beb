"""Figures of active-learning runs.

Each function draws into the Axes that it is given, or into a new figure that no window shows: save it with
``ax.figure.savefig("curves.png")``, or end a notebook's cell with ``ax.figure``.
"""

import lazy_loader

# Names are resolved at first use: a figure needs only its own file.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
