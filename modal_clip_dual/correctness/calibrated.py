"""P(correct) from log-odds, calibrated on labeled samples out of fold that stand for the pool."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import expit, logit, ndtri
from sklearn.linear_model import LogisticRegression
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..utils.logistic import fit_logistic
from ..utils.odds import against_rest
from ..utils.pool import width_of
from ..utils.predicted import predicts_the_likeliest
from ..utils.rollback import unchanged_on_error
from ..utils.selection import generator_of
from ._base import CorrectnessClassifier, base_has
from ._out_of_fold import fit_copy, folds_of, seeded_copy

CONFIDENCES = ("proba", "correct")
WEIGHTS = ("domain", "strata")
LIMIT = 8.0  # of log-odds: beyond it, probabilities of float32 say little
LARGEST_WEIGHT = 10.0  # of a labeled sample, and 1 over it is the smallest
N_STRATA = 3  # by the first log-odds
# Priors of the factors of the log-odds and of the constant, mean and standard deviation, without and with a judge.
ALONE = np.array([[1.0, 0.0], [0.5, 1.0]])
JUDGED = np.array([[0.1, 0.8, 0.0], [0.2, 0.2, 0.5]])
JUDGE_ERROR = 0.2  # standard deviation of a constant by which a judge is wrong for the pool, whatever the labels say


@dataclass(frozen=True)
class Calibration:
    """A logistic regression of being right on log-odds, with how far its coefficients are open."""

    coef: np.ndarray  # (m,), the constant last
    covariance: np.ndarray  # (m, m)

    def proba(self, odds: np.ndarray) -> np.ndarray:
        """Return P(correct) (n,) for log-odds (n, m - 1)."""
        proba: np.ndarray = expit(with_constant(odds) @ self.coef)
        return proba

    def accuracy(self, odds: np.ndarray, level: float = 0.9) -> tuple[float, float, float]:
        """Return the mean of P(correct), and the ends of the interval in which the accuracy lies by the model.

        It is a credible interval by Laplace's approximation: the coefficients are normal around the estimate, and
        each of the n samples is right or wrong by itself.  The delta method on the logit gives its ends.
        """
        features = with_constant(odds)
        proba = expit(features @ self.coef)
        spread, mean = proba * (1 - proba), float(proba.mean())
        gradient = spread @ features / len(features)
        variance = gradient @ self.covariance @ gradient + spread.mean() / len(features)
        slope = max(mean * (1 - mean), np.finfo(float).tiny)
        half = ndtri(0.5 + level / 2) * np.sqrt(variance) / slope
        low, high = expit(logit(mean) + np.array([-half, half]))
        return mean, float(low), float(high)


def with_constant(odds: np.ndarray) -> np.ndarray:
    """Return log-odds (n, m - 1) with a column of ones behind them."""
    return np.column_stack([odds, np.ones(len(odds))])


@dataclass(frozen=True)
class Odds:
    """The label of each sample by a classifier, and the log-odds that it is right, by itself and by a judge."""

    estimator: Any
    judge: Any  # None: there is only the classifier
    confidence: str  # of CONFIDENCES

    def of(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (n,) and log-odds (n, 1), or (n, 2) with a judge."""
        if self.confidence == "proba":
            proba, classes = np.asarray(self.estimator.predict_proba(X)), self.estimator.classes_
            likeliest = predicts_the_likeliest(self.estimator)
            labels = classes[proba.argmax(axis=1)] if likeliest else np.asarray(self.estimator.predict(X))
            own = _at(labels, classes, proba)
        else:
            labels = self.estimator.predict(X)
            right = np.asarray(self.estimator.predict_correct_proba(X), dtype=np.float64)
            own = logit(np.clip(right, expit(-LIMIT), expit(LIMIT)))
        columns = [own]
        if self.judge is not None:
            columns.append(_at(labels, self.judge.classes_, np.asarray(self.judge.predict_proba(X))))
        return labels, np.column_stack(columns)


def _at(labels: np.ndarray, classes: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Log-odds (n,) of labels by probabilities (n, C); the least there are for a label without a column."""
    tiny = np.finfo(np.float64).tiny
    odds = np.clip(against_rest(np.log(np.maximum(proba.astype(np.float64), tiny))), -LIMIT, LIMIT)
    column = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    at: np.ndarray = np.where(classes[column] == labels, odds[np.arange(len(odds)), column], -LIMIT)
    return at


def fit_calibration(
    odds: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None
) -> Calibration:
    """Fit a logistic regression of being right (n,) on log-odds (n, 1) or (n, 2), which may be empty.

    Its normal prior leaves the log-odds nearly as they are; with a judge, it trusts the judge more.
    """
    judged = odds.shape[1] > 1
    mean, deviation = JUDGED if judged else ALONE
    coef, covariance = fit_logistic(with_constant(odds), right, mean, deviation, weights)
    if judged:
        covariance[-1, -1] += JUDGE_ERROR**2
    return Calibration(coef, covariance)


def importance_weights(
    odds: np.ndarray, labels: np.ndarray, pool_odds: np.ndarray, pool_labels: np.ndarray, method: str | None
) -> np.ndarray:
    """Return weights (n,) with which labeled samples stand for the pool, by log-odds and predicted labels of both.

    ``"domain"``: a logistic regression tells labeled samples from the pool by their log-odds; the weight is the
    ratio of its probabilities.  ``"strata"``: shares of predicted labels, and of thirds of the first log-odds, are
    made those of the pool.  Their sum is the effective sample size (Kish), so that uneven weights count for less.
    """
    if method is None or not len(odds):
        return np.ones(len(odds))
    if method == "domain":
        both = (np.concatenate([odds, pool_odds]) - pool_odds.mean(axis=0)) / (pool_odds.std(axis=0) + 1e-9)
        domain = LogisticRegression(class_weight="balanced").fit(both, np.arange(len(both)) < len(odds))
        weights = np.exp(-domain.decision_function(both[: len(odds)]))
    else:
        thirds = np.quantile(pool_odds[:, 0], np.arange(1, N_STRATA) / N_STRATA)
        weights = _ratio(labels, pool_labels)
        weights = weights * _ratio(*(np.searchsorted(thirds, table[:, 0]) for table in (odds, pool_odds)))
    weights = np.clip(weights, 1 / LARGEST_WEIGHT, LARGEST_WEIGHT)
    effective: np.ndarray = weights * (weights.sum() / (weights**2).sum())
    return effective


def _ratio(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Share of each sample's group among ``there``, over its share among ``here``, with one sample more in each."""
    n = len(here)
    groups, position = np.unique(np.concatenate([here, there]), return_inverse=True)
    expected = np.bincount(position[n:], minlength=len(groups)) * (n / len(there))
    found = np.bincount(position[:n], minlength=len(groups))
    ratio: np.ndarray = ((expected + 1) / (found + 1))[position[:n]]
    return ratio


# Of one fold: predicted labels, log-odds, whether the labels are right, whether the copy knew the classes.
Answer = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def answers_out_of_fold(
    fit: Callable[[np.ndarray], Odds], X: Any, labels: np.ndarray, cv: Any, rng: np.random.Generator
) -> Iterator[Answer]:
    """Yield the answers for the samples of each fold by what ``fit`` returns for the rows of the others."""
    for train, test in folds_of(labels, cv, rng):
        copy = fit(train)
        predicted, odds = copy.of(_safe_indexing(X, test))
        yield predicted, odds, predicted == labels[test], np.isin(labels[test], copy.estimator.classes_)


def warn_of_unknown(answers: Sequence[Answer], what: str) -> None:
    """Warn in the name of ``what`` if no answer is right, or half of them could not be, for want of labels."""
    if not answers:
        return
    right, known = (np.concatenate([answer[part] for answer in answers]) for part in (2, 3))
    n, unknown = len(right), int((~known).sum())
    if right.any() and 2 * unknown < n:
        return
    found = "" if right.any() else f"none of the {n} answers out of fold are right"
    if unknown:
        found += ", and " if found else ""
        found += f"{unknown} of the {n} labels are of classes that the copy had no label of"
    warnings.warn(
        f"{what}: {found}, so P(correct) may be far too low; expected 2 labels or more of each class, or a "
        "classifier that knows the classes by their names",
        UserWarning,
        stacklevel=5,
    )


def calibrate(
    answers: Sequence[Answer], odds: Odds, pool: Any, weights: str | None
) -> tuple[Calibration, np.ndarray, np.ndarray]:
    """Return the calibration by answers out of fold, which of these were right, and their weights.

    ``answers`` holds an `Answer` by fold.  ``pool`` is what the labeled samples stand for, by the log-odds of
    ``odds``; None weights all the same.
    """
    width = 1 if odds.judge is None else 2
    if not answers:
        nothing = np.empty(0)
        return fit_calibration(np.empty((0, width)), nothing.astype(bool)), nothing.astype(bool), nothing
    labels, table, right, _ = (np.concatenate(parts) for parts in zip(*answers))
    of_pool = (labels, table) if pool is None or weights is None else odds.of(pool)
    given = importance_weights(table, labels, of_pool[1], of_pool[0], None if pool is None else weights)
    return fit_calibration(table, right, given), right, given


def _takes_no_missing_values(estimator: Any) -> bool:
    """Tell whether an estimator says that it takes no NaN; one around others, such as a Pipeline, does not know."""
    inside = any(hasattr(value, "fit") for value in estimator.get_params().values())
    return not inside and not get_tags(estimator).input_tags.allow_nan


def _has_unlabeled(self: Any) -> bool:
    return base_has("fit_unlabeled")(self) and (self.judge is None or hasattr(self.judge, "fit_unlabeled"))


class CalibratedCorrectness(CorrectnessClassifier):
    """Calibrate P(correct) of a classifier on its labeled samples, with a second classifier as a judge.

    Copies of the classifier answer for labeled samples that they did not see.  A logistic regression learns from
    them how the log-odds of a label become the probability that it is right.  Samples that a query strategy chose
    are not like the pool, so they are weighted.  A ``judge`` adds the log-odds that another classifier gives to the
    same label: one that learns from the pool, such as `DualLinearClassifier`, knows more than a few labels say.
    The classifier and its predictions do not change.

    Parameters
    ----------
    estimator : classifier
        Classifier with ``predict_proba`` whose labels are judged.
    judge : classifier or None, default=None
        Another classifier with ``predict_proba``, fitted to the same samples; None does without.
    confidence : {"proba", "correct"}, default="proba"
        What the estimator says itself: its largest class probability, or its ``predict_correct_proba``.  The first
        ranks better for a `DualPromptClassifier`, the second for a `DualLinearClassifier`.
    weights : {"domain", "strata"} or None, default="domain"
        How labeled samples are weighted to stand for ``X_pool``.  ``"domain"`` is the density ratio by a logistic
        regression that tells labeled samples from the pool by their log-odds; ``"strata"`` gives predicted labels
        and thirds of the log-odds their shares of the pool; None, and a fit without a pool, weight all the same.
    cv : int or cross-validation splitter, default=5
        Folds, stratified as far as the labels allow.  With at most twice as many labels, each sample is a fold of its
        own; where all classes have the same number of labels, 2 or more, there are at most so many folds.
    level : float, default=0.9
        Level of `accuracy_interval`.
    random_state : int, RandomState instance or None, default=None
        Controls the folds, and seeds copies whose own ``random_state`` is None.

    Attributes
    ----------
    estimator_ : classifier
        The copy of the estimator that predicts, fitted to all labels.
    judge_ : classifier or None
        The copy of the judge, fitted to all labels.
    coef_ : ndarray of shape (m,)
        Factors of the estimator's log-odds, of the judge's if there is one, and the constant.
    weights_ : ndarray of shape (n,)
        Weights of the labeled samples, in the order of the folds.
    right_ : ndarray of bool, shape (n,)
        Whether the answer out of fold was right, in that order.
    classes_ : ndarray of shape (C,)
        Labels of the columns of `predict_proba`.
    n_features_in_ : int
        Number of columns of X, if the estimator says it.

    See Also
    --------
    CorrectnessRegressor : Learn from more features of a prediction, with more labels.

    Notes
    -----
    The prior of the coefficients is normal: without a judge around 1 for the log-odds, with a judge around 0.1 and
    0.8, and around 0 for the constant, so that few labels change little.  Copies out of fold have seen fewer labels,
    so that their answers are wrong more often than the final ones; a copy that had no label of a class cannot be
    right about it, and a warning says so where that is half of the labels or no answer is right.  Where labels
    are chosen by the log-odds alone, no weight can show what the rest of the pool is like; without a judge the
    estimate may then be far too low.

    References
    ----------
    .. [1] Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    .. [2] Bickel, Brueckner and Scheffer, "Discriminative Learning Under Covariate Shift", JMLR 10, 2009 (the
       density ratio by a classifier).

    Examples
    --------
    >>> from modal_clip_dual import CalibratedCorrectness, DualLinearClassifier, DualPromptClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> clip = {"class_names": class_names, "model_name": "demo", "pretrained": "bundled"}
    >>> prompts = DualPromptClassifier(**clip, max_epochs=5, random_state=0)
    >>> clf = CalibratedCorrectness(prompts, judge=DualLinearClassifier(**clip), random_state=0)
    >>> clf = clf.fit(X[:30], y[:30], X_pool=X[:600])
    >>> estimate, low, high = clf.accuracy_interval(X[600:])
    >>> bool(low < clf.score(X[600:], y[600:]) < high)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": [HasMethods(["fit", "predict", "predict_proba"])],
        "judge": [HasMethods(["fit", "predict_proba"]), None],
        "confidence": [StrOptions(set(CONFIDENCES))],
        "weights": [StrOptions(set(WEIGHTS)), None],
        "cv": CorrectnessClassifier._parameter_constraints["cv"],
        "level": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    judge_: Any
    weights_: np.ndarray
    right_: np.ndarray
    _calibration: Calibration

    def __init__(
        self,
        estimator: Any,
        *,
        judge: Any = None,
        confidence: str = "proba",
        weights: str | None = "domain",
        cv: Any = 5,
        level: float = 0.9,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.judge = judge
        self.confidence = confidence
        self.weights = weights
        self.cv = cv
        self.level = level
        self.random_state = random_state

    @available_if(_has_unlabeled)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def fit_unlabeled(self, X_pool: Any) -> CalibratedCorrectness:
        """Fit copies of the estimator and of the judge without labels; P(correct) is then that of the prior.

        Parameters
        ----------
        X_pool : array-like of n_pool samples
            The unlabeled pool.

        Returns
        -------
        self : CalibratedCorrectness

        Raises
        ------
        ValueError
            If a parameter or X_pool does not fit.
        """
        self._validate_params()
        rng = generator_of(self.random_state)
        seed = int(rng.integers(2**31))
        with unchanged_on_error(self):
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
            self.estimator_, self.judge_ = (
                None if part is None else seeded_copy(part, seed).fit_unlabeled(X_pool)
                for part in (self.estimator, self.judge)
            )
            self.classes_ = self.estimator_.classes_
            self._learn([], None)
        return self

    def _check_X(self, X: Any, labels: np.ndarray) -> Any:
        if self.confidence == "correct" and not hasattr(self.estimator, "predict_correct_proba"):
            raise TypeError(
                f"confidence='correct' asks for predict_correct_proba, which {type(self.estimator).__name__} lacks; "
                "expected a classifier that has it, or confidence='proba'"
            )
        return indexable(X)[0]

    def _check_pool(self, X: Any, pool: Any) -> None:
        """Refuse tables that the classifiers will not take, since they are asked about the pool last of all."""
        super()._check_pool(X, pool)
        parts = [part for part in (self.estimator, self.judge) if part is not None]
        if width_of(pool) is not None and any(map(_takes_no_missing_values, parts)):
            numbers = np.asarray(pool)
            if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                row = int(np.isfinite(numbers).all(axis=1).argmin())
                raise ValueError(f"X_pool has values that are not finite, in row {row}; expected finite numbers")

    def _fit(self, X: Any, labels: np.ndarray, pool: Any, rng: np.random.Generator, seed: int) -> None:
        self.judge_ = fit_copy(self.judge, X, labels, pool, seed)

        def fit(rows: np.ndarray) -> Odds:
            part = _safe_indexing(X, rows)
            copy, judge = (fit_copy(one, part, labels[rows], pool, seed) for one in (self.estimator, self.judge))
            return Odds(copy, judge, self.confidence)

        answers = list(answers_out_of_fold(fit, X, labels, self.cv, rng))
        warn_of_unknown(answers, type(self).__name__)
        self._learn(answers, pool)

    def _learn(self, answers: Sequence[Answer], pool: Any) -> None:
        odds = Odds(self.estimator_, self.judge_, self.confidence)
        found = calibrate(answers, odds, pool, self.weights)
        self._calibration, self.right_, self.weights_ = found

    def _correct(self, X: Any, labels: np.ndarray) -> np.ndarray:
        return self._calibration.proba(Odds(self.estimator_, self.judge_, self.confidence).of(X)[1])

    def accuracy_interval(self, X: Any) -> tuple[float, float, float]:
        """Estimate the accuracy of the predictions for samples without labels.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes; usually the unlabeled pool.

        Returns
        -------
        estimate : float
            The mean of P(correct).
        low, high : float
            Ends of a credible interval at ``level`` (Laplace's approximation): it takes in that the calibration was
            learned from few labels, that each sample is right or wrong, and that a judge may be wrong for the pool
            in another way than for the labeled samples, by a constant with a standard deviation of 0.2 in the
            log-odds.

        Raises
        ------
        NotFittedError
            If this was never fitted.
        """
        check_is_fitted(self)
        return self._calibration.accuracy(Odds(self.estimator_, self.judge_, self.confidence).of(X)[1], self.level)

    @property
    def coef_(self) -> np.ndarray:
        """Factors of the log-odds, and the constant, (m,)."""
        if "_calibration" not in self.__dict__:
            raise AttributeError(f"this {type(self).__name__} is not fitted yet: it has no coef_")
        return self._calibration.coef
