"""Reading images, and the data sets of benchmarks and demos."""

import lazy_loader

# At first use: the workers that read images import this package, and need none of it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
