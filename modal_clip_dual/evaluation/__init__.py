"""Running active-learning loops, measuring them, and comparing what was measured."""

from .._lazy import public_names

# Name -> module that defines it, resolved on first use: none of matplotlib, pandas and
# scikit-learn is imported before something needs it.
_PUBLIC = {
    "area_under_learning_curve": "summary",
    "area_under_risk_coverage": "metrics",
    "auroc_of_correctness": "metrics",
    "compare_pairs": "summary",
    "compare_strategies": "compare",
    "expected_calibration_error": "metrics",
    "labels_to_reach": "summary",
    "negative_log_likelihood": "metrics",
    "paper_table": "summary",
    "plot_learning_curves": "plots",
    "plot_queried_images": "plots",
    "plot_reliability": "plots",
    "plot_risk_coverage": "plots",
    "plot_win_matrix": "plots",
    "read_results": "compare",
    "run_active_learning": "runs",
    "summarize": "summary",
    "write_report": "report",
}

__all__ = list(_PUBLIC)

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
