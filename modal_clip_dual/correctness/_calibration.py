"""From a score to the probability that a label is right, by answers out of fold."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

METHODS = ("sigmoid", "isotonic")
LEAST_SLOPE = 0.1  # of the sigmoid, per standard deviation of the score


@dataclass(frozen=True)
class Sigmoid:
    """The probability sigmoid(intercept + slope * score)."""

    slope: float
    intercept: float

    def __call__(self, score: np.ndarray) -> np.ndarray:
        proba: np.ndarray = expit(self.intercept + self.slope * np.asarray(score, dtype=np.float64))
        return proba


@dataclass(frozen=True)
class Isotonic:
    """A step function that does not fall, by `sklearn.isotonic.IsotonicRegression`."""

    regression: IsotonicRegression

    def __call__(self, score: np.ndarray) -> np.ndarray:
        proba: np.ndarray = self.regression.predict(np.asarray(score, dtype=np.float64))
        return proba


@dataclass(frozen=True)
class Identity:
    """The score itself, cut to [0, 1]."""

    def __call__(self, score: np.ndarray) -> np.ndarray:
        return np.clip(np.asarray(score, dtype=np.float64), 0, 1)


Calibrator = Any  # one of the three


def fit_calibrator(score: np.ndarray, right: np.ndarray, method: str, what: str) -> Calibrator:
    """Learn the probability of being right from scores (n,) and whether these labels were right (n,).

    If all labels were right or all wrong, only their share can be learned, and a warning that names ``what`` says so.
    Where none was right every score has that share: better scores of the final model are no sign that it is right.
    Where all were right the sigmoid keeps the order of the scores, which still ranks well.
    """
    right = np.asarray(right, dtype=bool)
    nothing = says_nothing(right, what, stacklevel=6, ordered=bool(right.any()))
    if nothing and not right.any():
        return constant(right)
    if nothing or method == "sigmoid":
        return fit_sigmoid(score, right)
    return Isotonic(IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, right))


def constant(right: np.ndarray) -> Sigmoid:
    """Return the share of right answers (n,) by Laplace's rule, whatever the score."""
    mean = smooth_mean(right)
    return Sigmoid(0.0, float(np.log(mean / (1 - mean))))


def says_nothing(right: np.ndarray, what: str, stacklevel: int, ordered: bool = False) -> bool:
    """Return whether all answers (n,) are right or all wrong; warn if so, in the name of ``what``.

    ``ordered`` is whether P(correct) follows the scores nevertheless.
    """
    n, n_right = len(right), int(np.sum(right))
    if 0 < n_right < n:
        return False
    found = f"{'all' if n_right else 'none'} of the {n} answers out of fold are right" if n else "there is no fold"
    warnings.warn(
        f"{what}: {found}, so nothing tells right from wrong ones; P(correct) is {smooth_mean(right):.3g} "
        + ("for a score like theirs, and how fast it falls below is a guess" if ordered else "for every sample"),
        UserWarning,
        stacklevel=stacklevel,
    )
    return True


def smooth_mean(right: np.ndarray) -> float:
    """Return the share of right answers by Laplace's rule, (right + 1) / (n + 2)."""
    return float((np.sum(right) + 1) / (len(right) + 2))


def fit_sigmoid(score: np.ndarray, right: np.ndarray) -> Sigmoid:
    """Fit Platt's sigmoid, with his targets, which lie inside of (0, 1).

    The slope per standard deviation of the score has a normal prior around 1, and is at least `LEAST_SLOPE`, so
    that few answers keep the order of the scores.  See Platt, "Probabilistic outputs for support vector
    machines", 1999.
    """
    score = np.asarray(score, dtype=np.float64)
    n_right, n_wrong = right.sum(), (~right).sum()
    target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    center, spread = score.mean(), score.std() or 1.0
    z = (score - center) / spread

    def objective(b: np.ndarray) -> tuple[float, np.ndarray]:
        margin = b[0] * z + b[1]
        off = expit(margin) - target
        loss = np.logaddexp(0, margin).sum() - target @ margin + 0.5 * (b[0] - 1) ** 2
        return float(loss), np.array([off @ z + b[0] - 1, off.sum()])

    start = np.array([1.0, np.log((n_right + 1) / (n_wrong + 1))])
    bounds = [(LEAST_SLOPE, None), (None, None)]
    slope, intercept = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Sigmoid(float(slope / spread), float(intercept - slope * center / spread))
