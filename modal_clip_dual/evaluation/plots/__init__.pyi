# The public names and where they are: lazy_loader resolves them at first use, type checkers read them.
from .certified import plot_certified_accuracy as plot_certified_accuracy
from .correctness import (
    plot_reliability as plot_reliability,
    plot_risk_coverage as plot_risk_coverage,
)
from .images import plot_queried_images as plot_queried_images
from .learning_curves import plot_learning_curves as plot_learning_curves
from .wins import plot_win_matrix as plot_win_matrix
