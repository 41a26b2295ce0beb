"""Named scores of a prediction: how sure a classifier is that the label it predicts is right.

All code that ranks by such a score or measures it reads this table: query strategies, mining of
pseudo-labels, measurements, reports and the command line.  A new score is an entry here and a test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

# NumPy and SciPy are imported where they are used: the command line lists the names without them.
if TYPE_CHECKING:
    import numpy as np

ROWS = 16384  # of logits that are turned to float64 at a time


class Score(NamedTuple):
    """One entry: its name in reports, the method it needs and its function."""

    label: str  # in reports
    column: str  # its AUROC is measured as "auroc_" and this
    method: str  # what the classifier needs beside predict_proba
    # From clean logits (n, C) and predicted columns (n,): the confidence (n,), which does not
    # saturate, and the uncertainty (n,), 0 to 1.  None: `method` gives the confidence itself, a
    # probability.
    of_logits: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None


def clean(logits: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the clean logit itself; its sigmoid is inflated by C - 1 wrong labels (docs/method.md)."""
    import numpy as np
    from scipy.special import expit

    confidence = _at(logits, predicted)
    return confidence, expit(np.log(max(logits.shape[1] - 1, 1)) - confidence)


def _normalized(logits: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the log odds of softmax(z): they rank like softmax(z), which rounds to 1 from odds of e^37 on."""
    from scipy.special import expit, logsumexp

    confidence = _less_others(logits, predicted, logsumexp)
    return confidence, expit(-confidence)


def _margin(logits: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np
    from scipy.special import expit

    confidence = _less_others(logits, predicted, np.max)
    return confidence, expit(-confidence)


def _at(logits: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    import numpy as np

    taken: np.ndarray = np.take_along_axis(logits, predicted[:, None], axis=1)[:, 0].astype(np.float64)
    return taken


def _less_others(
    logits: np.ndarray, predicted: np.ndarray, reduce: Callable[..., np.ndarray]
) -> np.ndarray:
    """Return the logit (n,) of the prediction minus the reduced logits of the other classes."""
    import numpy as np

    confidence = _at(logits, predicted)
    for start in range(0, len(logits), ROWS):
        rows = slice(start, start + ROWS)
        others = logits[rows].astype(np.float64)
        others[np.arange(len(others)), predicted[rows]] = -np.inf
        confidence[rows] -= reduce(others, axis=1)
    return confidence


SCORES = {
    "clean": Score("z", "clean", "clean_logits", clean),
    "normalized": Score("softmax(z)", "normalized", "clean_logits", _normalized),
    "margin": Score("margin of z", "clean_margin", "clean_logits", _margin),
    "correct": Score("P(correct)", "correct", "predict_correct_proba", None),
}
