"""What the meta-estimators of this room share: they fit a copy, and use a fitted classifier as it is."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if

from ..utils.delegated import DelegatedTransform
from ..utils.labels import resolve_classes
from ..utils.pool import check_pool, fit_with_pool, warn_of_lost_pool
from ..utils.rollback import unchanged_on_error
from ..utils.weights import without_weights

Self = TypeVar("Self", bound="Wrapper")


def _inner_has(name: str) -> Any:
    return available_if(lambda self: hasattr(self.estimator, name))


class Wrapper(DelegatedTransform, MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Base of meta-estimators around one classifier.

    ``fit`` trains a clone, ``estimator_``.  Without `fit`, ``estimator`` is used as it is, fitted or zero-shot.
    Neither is changed by any other method, except for `set_output`, which is theirs.
    """

    _parameter_constraints: dict[str, Any] = {"estimator": "no_validation"}
    estimator: Any
    estimator_: Any

    @without_weights
    def fit(self: Self, X: Any, y: Any, *, X_pool: Any = None) -> Self:
        """Fit a clone of the wrapped estimator on labeled samples, which all count alike.

        Parameters
        ----------
        X : array-like
            Labeled samples, in a form that the wrapped estimator takes.
        y : array-like of shape (n,)
            Labels.
        X_pool : array-like, default=None
            Unlabeled samples.  They are also passed on to the wrapped estimator, if its ``fit`` takes them, and
            through the steps of a Pipeline to the last one.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a parameter does not fit, and what the wrapped estimator raises; an earlier fit is kept.
        TypeError
            If weights of samples are passed, which are not taken.
        """
        self._validate_params()
        if X_pool is not None:
            check_pool(X_pool, X)
            warn_of_lost_pool({"estimator": self.estimator}, type(self).__name__, stacklevel=6)
        self._adopt(fit_with_pool(clone(self.estimator), X, y, X_pool), X, y, X_pool)
        return self

    @_inner_has("fit_unlabeled")  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def fit_unlabeled(self: Self, X_pool: Any) -> Self:
        """Fit a clone of the wrapped estimator on unlabeled samples alone, if it can do that.

        Parameters
        ----------
        X_pool : array-like
            Unlabeled samples, in a form that the wrapped estimator takes.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            As for `fit`.
        """
        self._validate_params()
        self._adopt(clone(self.estimator).fit_unlabeled(X_pool), None, None, X_pool)
        return self

    def _adopt(self, fitted: Any, X: Any, y: Any, X_pool: Any) -> None:
        with unchanged_on_error(self):
            for name in [name for name in vars(self) if name.endswith("_")]:
                delattr(self, name)
            self.estimator_ = fitted
            self._after_fit(X, y, X_pool)

    def _after_fit(self, X: Any, y: Any, X_pool: Any) -> None:
        """Learn what the wrapper itself learns."""

    def _model(self) -> Any:
        """Return the classifier in use; it must not be changed."""
        model = getattr(self, "estimator_", self.estimator)
        return model.estimator if isinstance(model, FrozenEstimator) else model

    def _transforms_by(self) -> list[Any]:
        return [self.estimator, self._model()]

    def _known_classes(self) -> np.ndarray:
        try:
            return self.classes_
        except AttributeError as error:
            raise NotFittedError(
                f"This {type(self).__name__} and the {type(self.estimator).__name__} that it wraps were never fitted "
                "and name no classes; call fit first"
            ) from error

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the columns of `predict_proba`: those of the classifier in use."""
        model = self._model()
        if not hasattr(model, "classes_") and getattr(model, "class_names", None) is not None:
            return resolve_classes(model.class_names, None)[0]
        classes: np.ndarray = model.classes_
        return classes

    @property
    def n_features_in_(self) -> int:
        """Width of X, where the classifier in use was fitted on a table."""
        width: int = self._model().n_features_in_
        return width

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Column names of X, where the classifier in use was fitted on a table with names."""
        names: np.ndarray = self._model().feature_names_in_
        return names

    @_inner_has("transform")  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def transform(self, X: Any) -> np.ndarray:
        """Return what the classifier in use returns: unit image embeddings.

        Parameters
        ----------
        X : array-like
            Samples, in a form that the classifier takes.

        Returns
        -------
        embeddings : ndarray of shape (n, D)

        Raises
        ------
        ValueError
            What the classifier raises.
        """
        embeddings: np.ndarray = self._model().transform(X)
        return embeddings

    @_inner_has("transform")  # type: ignore[untyped-decorator]  # scikit-learn has no types
    @without_weights
    def fit_transform(self, X: Any, y: Any, *, X_pool: Any = None) -> np.ndarray:
        """Fit, and return what `transform` returns of X.

        Parameters
        ----------
        X : array-like
            Labeled samples, in a form that the wrapped estimator takes.
        y : array-like of shape (n,)
            Labels.
        X_pool : array-like, default=None
            Unlabeled samples, as for `fit`.

        Returns
        -------
        embeddings : ndarray of shape (n, D)

        Raises
        ------
        ValueError, TypeError
            As for `fit`.
        """
        embeddings: np.ndarray = self.fit(X, y, X_pool=X_pool).transform(X)
        return embeddings

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self._model(), "classes_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.classifier_tags = inner.classifier_tags
        tags.transformer_tags = inner.transformer_tags
        return tags
