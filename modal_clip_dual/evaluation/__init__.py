"""Running active-learning loops and measuring them."""

from .metrics import auroc_of_correctness, expected_calibration_error
from .runs import run_active_learning

__all__ = ["auroc_of_correctness", "expected_calibration_error", "run_active_learning"]
