"""Active CLIP adaptation with dual prompt tuning, as a plugin for modAL."""

import lazy_loader

from ._compat import mend_modal

__version__ = "0.1.0"

# The names are in __init__.pyi.  They are resolved on first use, so that importing the package does not
# import torch, open_clip, skorch, scikit-learn or modAL.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

mend_modal()
