"""Meta-estimators that change a prediction when it is made, and never the classifier that they wrap."""

import lazy_loader

# Names are resolved at first use, so that importing the package imports neither torch nor scikit-learn.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
