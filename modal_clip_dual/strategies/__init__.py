"""Query strategies for modAL's learners, one per file."""

import lazy_loader

# Names are resolved on first use, so that `registry` can list the strategies without importing
# scikit-learn.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
