"""Running active-learning loops, measuring them, and comparing what was measured."""

import lazy_loader

# Resolved on first use: none of matplotlib, pandas and scikit-learn is imported before something
# needs it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
