"""What the meta-estimators share: the wrapped classifier, its predictions, and P(correct) of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ..utils.delegated import DelegatedTransform
from ..utils.labels import check_labels, encode_labels
from ..utils.pool import check_pool, warn_of_lost_pool
from ..utils.rollback import unchanged_on_error
from ..utils.selection import generator_of
from ..utils.weights import without_weights
from ._calibration import METHODS, Calibrator, fit_calibrator
from ._layers import layers_of
from ._out_of_fold import fit_copy, fitted_folds

Self = TypeVar("Self", bound="CorrectnessClassifier")


def base_has(method: str) -> Callable[[Any], bool]:
    """Return a check whether the wrapped estimator has a method, for `available_if`."""

    def check(self: Any) -> bool:
        getattr(getattr(self, "estimator_", self.estimator), method)  # AttributeError names what is missing
        return True

    return check


class CorrectnessClassifier(DelegatedTransform, MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """The predictions of a classifier, unchanged, and a model of whether each of them is right.

    A subclass implements ``_fit`` and ``_correct``.
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split", "get_n_splits"])],
        "calibrate": [StrOptions(set(METHODS))],
        "random_state": ["random_state"],
    }

    hands_on_predictions = True  # they are those of the fitted copy, for query strategies too
    seeds_copies_of = ("estimator", "judge")  # by `fit_copy`

    estimator: Any
    cv: Any
    calibrate: Any
    random_state: Any
    estimator_: Any
    classes_: np.ndarray
    n_features_in_: int

    @without_weights
    def fit(self: Self, X: Any, y: Any, *, X_pool: Any = None) -> Self:
        """Fit a copy of the estimator, and learn from its answers out of fold when it is right.

        There is no ``sample_weight``: answers out of fold are counted, and each counts once.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.
        y : array-like of shape (n,)
            Labels.
        X_pool : array-like, default=None
            The unlabeled pool; it is passed on to the estimator if its ``fit`` takes it, and through the steps of
            a Pipeline to the last one.

        Returns
        -------
        self : CorrectnessClassifier

        Raises
        ------
        ValueError
            If a parameter, X, y or X_pool does not fit; an earlier fit is kept.
        TypeError
            If the estimator lacks a method that the parameters ask for, or weights of samples are passed.

        Warns
        -----
        UserWarning
            If a classifier inside of the estimator takes a pool and does not get it, as in a grid search.
        """
        self._validate_params()
        labels = check_labels(y)
        if issparse(X):
            raise TypeError("X is sparse, but sparse input is not supported; pass a dense array, as X.toarray() is")
        (X,) = indexable(X)
        check_consistent_length(X, labels)
        rng = generator_of(self.random_state)
        seed = int(rng.integers(2**31))
        with unchanged_on_error(self):
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
            X = self._check_X(X, labels)
            if X_pool is not None:
                self._check_pool(X, X_pool)
                parts = {name: getattr(self, name, None) for name in ("estimator", "judge")}
                warn_of_lost_pool(parts, type(self).__name__, stacklevel=4)
            self.estimator_ = self._fit_base(X, labels, X_pool, seed)
            self.classes_ = self._classes_of(self.estimator_, labels)
            for name in ("n_features_in_", "feature_names_in_"):
                if hasattr(self.estimator_, name):
                    setattr(self, name, getattr(self.estimator_, name))
            self._fit(X, labels, X_pool, rng, seed)
        return self

    def _check_X(self, X: Any, labels: np.ndarray) -> Any:
        return X

    def _check_pool(self, X: Any, pool: Any) -> None:
        check_pool(pool, X)

    def _fit_base(self, X: Any, labels: np.ndarray, pool: Any, seed: int) -> Any:
        return fit_copy(self.estimator, X, labels, pool, seed)

    def _classes_of(self, base: Any, labels: np.ndarray) -> np.ndarray:
        classes: np.ndarray = base.classes_
        return classes

    def _fit(self, X: Any, labels: np.ndarray, pool: Any, rng: np.random.Generator, seed: int) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no _fit")  # a subclass writes it

    def _correct(self, X: Any, labels: np.ndarray) -> np.ndarray:
        """Return P(correct) of the labels (n,) that `predict` returned for X."""
        raise NotImplementedError(f"{type(self).__name__} has no _correct")  # a subclass writes it

    # ---------------------------------------------------------------- predictions

    def predict(self, X: Any) -> np.ndarray:
        """Predict the labels, as the estimator does.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.

        Returns
        -------
        labels : ndarray of shape (n,)
            Labels out of ``classes_``.

        Raises
        ------
        NotFittedError
            If this was never fitted.
        """
        check_is_fitted(self)
        labels: np.ndarray = self.estimator_.predict(X)
        return labels

    @available_if(base_has("predict_proba"))  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the estimator's class probabilities.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.

        Returns
        -------
        proba : ndarray of shape (n, C)
            Probabilities; the columns are in the order of ``classes_``.

        Raises
        ------
        NotFittedError
            If this was never fitted.
        """
        check_is_fitted(self)
        proba: np.ndarray = self.estimator_.predict_proba(X)
        return proba

    @available_if(base_has("transform"))  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def transform(self, X: Any) -> np.ndarray:
        """Return the estimator's embeddings.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.

        Returns
        -------
        embeddings : ndarray of shape (n, D)
            Embeddings, as the estimator's ``transform`` returns them; an estimator that transforms without a fit
            does so here.
        """
        embeddings: np.ndarray = getattr(self, "estimator_", self.estimator).transform(X)
        return embeddings

    def _transforms_by(self) -> list[Any]:
        return [self.estimator, *([self.estimator_] if hasattr(self, "estimator_") else [])]

    def predict_correct_proba(self, X: Any) -> np.ndarray:
        """Return the probability that the label of `predict` is right.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.

        Returns
        -------
        correct : ndarray of shape (n,), float64
            Values in [0, 1].

        Raises
        ------
        NotFittedError
            If this was never fitted.
        """
        return self.predict_with_confidence(X)[1]

    def predict_with_confidence(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return predicted labels and the probability that each is right.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.

        Returns
        -------
        labels : ndarray of shape (n,)
            Labels, as `predict` returns them.
        correct : ndarray of shape (n,), float64
            Probabilities, as `predict_correct_proba` returns them.

        Raises
        ------
        NotFittedError
            If this was never fitted.
        """
        labels = self.predict(X)
        return labels, self._correct(X, labels)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.estimator is not None:
            tags.input_tags = get_tags(self.estimator).input_tags
            tags.input_tags.sparse = False
        return tags


class ScoringClassifier(CorrectnessClassifier):
    """A correctness classifier whose model gives each label a score, which is calibrated out of fold.

    A subclass implements ``_fit_model(layers, target, n_classes, seed)`` and ``_score(model, layers, target)``.  In
    each fold a copy of the estimator and a model are fitted on the same rows, and both judge the others.
    """

    _parameter_constraints: dict[str, Any] = {
        **CorrectnessClassifier._parameter_constraints,
        "layers": [StrOptions({"embedding", "blocks"}), list, tuple],
    }

    layers: str | Sequence[int]
    _model: Any
    _calibrator: Calibrator

    def _fit_model(self, layers: list[np.ndarray], target: np.ndarray, n_classes: int, seed: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _fit_model")

    def _score(self, model: Any, layers: list[np.ndarray], target: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} has no _score")

    def _layers(self, base: Any, X: Any) -> list[np.ndarray]:
        return layers_of(base, X, self.layers)

    def _fit(self, X: Any, labels: np.ndarray, pool: Any, rng: np.random.Generator, seed: int) -> None:
        n_classes = len(self.classes_)
        whole = self._layers(self.estimator_, X)
        target = encode_labels(labels, self.classes_)
        self._model = self._fit_model(whole, target, n_classes, seed)
        scores, right, known = [np.empty(0)], [np.empty(0, dtype=bool)], [np.empty(0, dtype=bool)]
        for fold in fitted_folds(self.estimator, X, labels, self.cv, rng, pool, seed):
            layers = self._layers(fold.estimator, X)
            model = self._fit_model([layer[fold.train] for layer in layers], target[fold.train], n_classes, seed)
            there = [layer[fold.test] for layer in layers]
            predicted = encode_labels(self._predict_rows(fold.estimator, X, fold.test, model, there), self.classes_)
            scores.append(self._score(model, there, predicted))
            right.append(predicted == target[fold.test])
            known.append(np.isin(predicted, target[fold.train]) & np.isin(target[fold.test], target[fold.train]))
        # A model says nothing about classes that it has not seen; the whole one has seen all that have a label.
        of_all, counted = np.concatenate(right), np.concatenate(known)
        if not counted.any():
            counted = np.full(len(of_all), of_all.any())
        self._calibrator = fit_calibrator(
            np.concatenate(scores)[counted], of_all[counted], self.calibrate, type(self).__name__
        )

    def _predict_rows(
        self, base: Any, X: Any, rows: np.ndarray, model: Any, layers: list[np.ndarray]
    ) -> np.ndarray:
        labels: np.ndarray = base.predict(_safe_indexing(X, rows))
        return labels

    def _scores_of(self, X: Any, labels: Any) -> np.ndarray:
        """Return the scores (n,) of labels for X."""
        layers = self._layers(self.estimator_, X)
        return self._score(self._model, layers, encode_labels(np.asarray(labels), self.classes_, "labels"))

    def _correct(self, X: Any, labels: np.ndarray) -> np.ndarray:
        correct: np.ndarray = self._calibrator(self._scores_of(X, labels))
        return correct
