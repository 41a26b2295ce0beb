"""P(correct) and estimated accuracy of the loop, calibrated on its labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from ..base import CLIPClassifier
from ..correctness.calibrated import Calibration, Odds, answers_out_of_fold, calibrate
from ..utils.pool import pool_argument
from .abilities import fit_labeled, predictions_of, seed
from .pseudo_labels import transductive

CALIBRATIONS = ("auto", "judge", "own", "transductive", None)
JUDGED = ("judge", "transductive")  # those with a second classifier
N_FOLDS = 5
SECOND = 2  # third number of the seeds that are drawn here


def kind_of_calibration(estimator: Any, calibration: str | None) -> str | None:
    """Return what ``calibration`` comes to: ``"auto"`` judges what is said on a CLIP without looking at the pool."""
    if calibration != "auto":
        return calibration
    can = isinstance(estimator, CLIPClassifier) and hasattr(estimator, "predict_proba")
    return "judge" if can and not pool_argument(estimator, True) else None


def _calibrated(learner: Any) -> bool:
    if kind_of_calibration(learner.estimator, learner.calibration) is None:
        raise AttributeError(
            f"this learner has calibration={learner.calibration!r}, which leaves P(correct) to the "
            f"{type(learner.estimator).__name__}; 'own' or 'transductive' calibrate it"
        )
    return True


class Calibrating:
    """The part of `DualPromptLearner` that says how often the model is right."""

    estimator: Any
    random_state: int
    start: Callable[[], Any]
    unlabeled_: Any
    pseudo_rows_: np.ndarray
    pseudo_labels_: np.ndarray
    X_training: Any
    y_training: Any
    _pool: Any
    _present: Any
    _predictions: tuple[np.ndarray, np.ndarray] | None
    _as_labels: Callable[..., np.ndarray]
    calibration: str | None = "auto"
    _calibration: Calibration | None = None
    _judge: Any = None  # after `resume` it is fitted anew, at first use

    def _calibrate(self, rows: np.ndarray, labels: np.ndarray, pool: Any, round_: int, transducer: Any) -> None:
        """Learn from labeled rows, out of fold, how often the estimator that was just trained is right.

        A judge alone learns nothing from them but to judge: the prior says how far to trust it.  If a
        ``transducer`` gave pseudo-labels, it is the judge.
        """
        self._calibration, self._judge = None, None
        if self._kind is None or not hasattr(self.estimator, "classes_"):
            return
        X = self._pool[rows] if len(rows) else None
        ready = transducer is not None and self._kind in JUDGED
        self._judge = transducer if ready else self._judge_of(X, labels, pool)
        answers = []
        if len(rows) and self._kind != "judge":
            rng = np.random.default_rng([self.random_state, round_, SECOND])
            answers = list(answers_out_of_fold(self._fit_of(X, labels, pool, round_), X, labels, N_FOLDS, rng))
        self._calibration, _, _ = calibrate(answers, self._odds(), pool, "domain")

    def _judge_of(self, X: Any, labels: Any, pool: Any) -> Any:
        return transductive(self.estimator, X, labels, pool) if self._kind in JUDGED else None

    def _fit_of(self, X: Any, labels: np.ndarray, pool: Any, round_: int) -> Callable[[np.ndarray], Odds]:
        """Return what trains copies on some of the labeled samples, and on the pseudo-labels of this round."""
        pseudo = None
        if len(self.pseudo_rows_):
            pseudo = self._pool[self.pseudo_rows_], self._as_labels(self.pseudo_labels_, labels)

        def fit(train: np.ndarray) -> Odds:
            copy = clone(self.estimator)
            seed(copy, self.random_state, round_)
            fit_labeled(copy, X[train], labels[train], pool, pseudo)
            return Odds(copy, self._judge_of(X[train], labels[train], pool), self._confidence)

        return fit

    @property
    def _kind(self) -> str | None:
        return kind_of_calibration(self.estimator, self.calibration)

    @property
    def _confidence(self) -> str:
        """What the estimator says itself: with a negative prompt the largest probability ranks better."""
        negative = hasattr(self.estimator, "negative_weight")
        return "correct" if hasattr(self.estimator, "predict_correct_proba") and not negative else "proba"

    def _odds(self) -> Odds:
        if self._judge is None and self._kind in JUDGED:
            # Of the pool as it was at the last training; rows may have been dropped or added since.
            present = self._present if self._predictions is None else self._predictions[0]
            self._judge = self._judge_of(self.X_training, self.y_training, self._pool[present])
        return Odds(self.estimator, self._judge, self._confidence)

    def _predictions_of(self, X: Any) -> tuple[Any, Any, Any]:
        """Predicted labels, P(correct) and log-odds of being right; None for what is not known."""
        if self._calibration is None:
            return *predictions_of(self.estimator, X), None
        labels, odds = self._odds().of(X)
        return labels, self._calibration.proba(odds), odds

    def _interval(self, odds: Any, X: Callable[[], Any]) -> list[float] | None:
        """Ends of the interval of the accuracy, by the log-odds or by the estimator itself."""
        if odds is not None and self._calibration is not None:
            return list(self._calibration.accuracy(odds)[1:]) if len(odds) else None
        own = getattr(self.estimator, "accuracy_interval", None)
        return list(own(X())[1:]) if own is not None and hasattr(self.estimator, "classes_") else None

    @available_if(_calibrated)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def predict_correct_proba(self, X: Any) -> np.ndarray:
        """Return the calibrated probability that the predicted label is right; see ``calibration``.

        Parameters
        ----------
        X : array-like of n samples
            Samples as those of the pool.

        Returns
        -------
        correct : ndarray of shape (n,)
            Values in [0, 1].
        """
        self.start()
        correct: np.ndarray = self._predictions_of(X)[1]
        return correct

    @available_if(_calibrated)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def accuracy_interval(self, X: Any = None, level: float = 0.9) -> tuple[float, float, float]:
        """Estimate the accuracy of the predictions; see ``calibration``.

        Parameters
        ----------
        X : array-like of n samples, default=None
            Samples as those of the pool; None is the unlabeled pool.
        level : float, default=0.9
            Level of the interval.

        Returns
        -------
        estimate, low, high : float
            The mean of P(correct), and the ends of a credible interval; see `CalibratedCorrectness`.
        """
        self.start()
        if self._calibration is None:
            raise ValueError("nothing is trained yet, so there is no accuracy to estimate; teach labels first")
        _, odds = self._odds().of(self._pool[self.unlabeled_] if X is None else X)
        return self._calibration.accuracy(odds, level)
