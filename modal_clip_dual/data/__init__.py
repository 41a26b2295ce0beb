"""Reading images, and the data sets of benchmarks and demos."""

from .._lazy import public_names
from .digits import load_digits_images
from .folders import load_image_folder

# At first use: the workers that read images import this package, and need none of it.
_PUBLIC = {"available_benchmarks": "benchmarks", "load_benchmark": "benchmarks"}

__all__ = [
    "available_benchmarks",
    "load_benchmark",
    "load_digits_images",
    "load_image_folder",
]

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
