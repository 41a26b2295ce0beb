# The public names and where they are: lazy_loader resolves them at first use, type checkers read them.
from .datasets.loading import (
    available_benchmarks as available_benchmarks,
    load_benchmark as load_benchmark,
)
from .digits import load_digits_images as load_digits_images
from .folders import list_images as list_images, load_image_folder as load_image_folder
from .images import UnreadableImagesError as UnreadableImagesError
from .spurious import load_spurious_digits as load_spurious_digits
from .unreadable import drop_unreadable as drop_unreadable
