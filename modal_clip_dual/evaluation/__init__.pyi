# The public names and where they are: lazy_loader resolves them at first use, type checkers read them.
from .compare import compare_strategies as compare_strategies
from .curves import (
    area_under_learning_curve as area_under_learning_curve,
    labels_to_reach as labels_to_reach,
    summarize as summarize,
)
from .failures import FailedRunsError as FailedRunsError
from .metrics import (
    area_under_risk_coverage as area_under_risk_coverage,
    auroc_of_correctness as auroc_of_correctness,
    coverage_at_accuracy as coverage_at_accuracy,
    expected_calibration_error as expected_calibration_error,
    negative_log_likelihood as negative_log_likelihood,
    prediction_rejection_ratio as prediction_rejection_ratio,
)
from .plots import (
    plot_certified_accuracy as plot_certified_accuracy,
    plot_learning_curves as plot_learning_curves,
    plot_queried_images as plot_queried_images,
    plot_reliability as plot_reliability,
    plot_risk_coverage as plot_risk_coverage,
    plot_win_matrix as plot_win_matrix,
)
from .report import write_report as write_report
from .reproduction import reproduction_table as reproduction_table
from .results import read_results as read_results
from .robustness import (
    certified_accuracy as certified_accuracy,
    worst_group_accuracy as worst_group_accuracy,
)
from .run import run_active_learning as run_active_learning
from .significance import compare_pairs as compare_pairs
from .tables import paper_table as paper_table
