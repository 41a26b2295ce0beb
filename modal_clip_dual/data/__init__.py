"""Reading images, and the data sets of the demos."""

from .digits import load_digits_images

__all__ = ["load_digits_images"]
