"""Running active-learning loops, measuring them, and comparing what was measured."""

import lazy_loader

# Names are resolved on first use: matplotlib, pandas and scikit-learn are imported only when
# needed.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
