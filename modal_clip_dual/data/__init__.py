"""Reading images, and the data sets of the demos."""

from .digits import load_digits_images
from .folders import load_image_folder

__all__ = ["load_digits_images", "load_image_folder"]
