"""Query strategies for modAL's learners, one per file."""

import lazy_loader

# Resolved on first use: the list of strategies (`registry`) is to be had without importing
# scikit-learn.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
