"""ClassCodeClassifier: how near a sample is to the code of its class (TAC)."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from ._base import ScoringClassifier, base_has
from ._code_net import CodeNet, draw_codes, fit_codes


def _has_proba(self: Any) -> bool:
    return self.estimator is None or base_has("predict_proba")(self)


class ClassCodeClassifier(ScoringClassifier):
    """Say whether a label is right by the distance to the code of its class.

    Each class has a fixed random code of -1 and 1.  A small network is trained so that the activations of a sample
    are near the code of its class.  How well the activations agree with the code of the label that any
    classifier predicts is the score of this label (TAC, [1]_).  The classifier and its predictions do not change.

    Parameters
    ----------
    estimator : classifier or None, default=None
        The classifier whose labels are judged, such as `BayesAdapterClassifier`, or scikit-learn's on a table.
        None predicts by the codes themselves; X is then a table of numbers, such as embeddings.
    n_bits : int or "hadamard", default="hadamard"
        Bits per layer.  ``"hadamard"`` takes rows of the smallest Hadamard matrix with enough of them, any two of
        which differ in half of their bits.  A number draws random codes, all different.
    projection : int, default=3
        Number of linear maps of the network, with ReLU between.
    code_noise : float, default=0.1
        Probability that a bit of a code is flipped in a step of training, for the cross-entropy.
    l1_weight : float, default=10.0
        Weight of the distance to the code of a sample's class, beside the cross-entropy.
    layers : {"embedding", "blocks"} or list of int, default="embedding"
        What the network sees.  ``"embedding"`` is the estimator's ``transform``, or X as it reaches an
        estimator without one.  ``"blocks"`` are the CLS tokens of all blocks of the image tower, and a list of
        numbers those of some blocks; they need images and an estimator with ``block_features``.
    calibrate : {"sigmoid", "isotonic"}, default="sigmoid"
        How the score becomes a probability.
    cv : int or cross-validation splitter, default=5
        Number of folds whose answers calibrate the score, stratified as far as the labels allow.  With at most 2 cv
        labels, each is a fold of its own; where all classes have the same number of labels, 2 or more, there are at
        most so many folds.  The estimator is fitted once more for each.
    lr : float, default=0.1
        Learning rate at the start; it falls to 0 along a cosine.
    max_epochs : int, default=300
        Passes over the labeled samples.
    batch_size : int, default=256
        Labeled samples per step.
    random_state : int, RandomState instance or None, default=None
        Decides codes, training and folds, and the seed of an estimator whose ``random_state`` is None.

    Attributes
    ----------
    estimator_ : classifier or None
        The fitted copy of the estimator.
    classes_ : ndarray of shape (C,)
        All labels, sorted.
    codes_ : ndarray of shape (C, L), int8
        Codes of the classes, in -1 and 1; L bits of all layers.
    n_features_in_ : int
        Number of columns of X, where the estimator says so.
    feature_names_in_ : ndarray of str
        Column names, where the estimator says so.

    See Also
    --------
    DirichletMetaClassifier : Learn how sure the class probabilities can be.
    CorrectnessRegressor : Learn when the estimator's answers out of fold are right.
    code_distance_sampling : Query what is farthest from the code of its label.

    Notes
    -----
    The score of label y for activations a (L,) is the mean over the bits of ``a * codes_[y]``.  The loss is the
    cross-entropy of ``softmax(-g d_k)``, where d_k is the mean distance ``|a - c_k|`` to the codes and g is learned,
    plus ``l1_weight`` times the distance to the sample's own code.  The settings are those of the authors' code
    except for the schedule of the learning rate, the number of epochs, and Hadamard codes of more than 16 bits, in
    whose place the authors draw random ones.

    ``predict`` and ``predict_proba`` of ``estimator=None`` are by distances; the authors decode by the signs of the
    activations.

    The estimator is fitted cv + 1 times.  Copies of the folds learn from fewer labels, so that P(correct) tends to be
    too low where few labels more still matter.

    References
    ----------
    .. [1] Monteiro et al., "Constraining Representations Yields Models That Know What They Don't Know", ICLR 2023,
       arXiv:2208.14488.

    Examples
    --------
    >>> from modal_clip_dual import BayesAdapterClassifier, ClassCodeClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> base = BayesAdapterClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=100)
    >>> clf = ClassCodeClassifier(base, random_state=0).fit(X[:80], y[:80])
    >>> labels, correct = clf.predict_with_confidence(X[80:])
    >>> right = labels == y[80:]
    >>> bool(correct[right].mean() > correct[~right].mean() + 0.1)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **ScoringClassifier._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_bits": [Interval(Integral, 1, None, closed="left"), StrOptions({"hadamard"})],
        "projection": [Interval(Integral, 1, None, closed="left")],
        "code_noise": [Interval(Real, 0, 0.5, closed="left")],
        "l1_weight": [Interval(Real, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    _model: CodeNet

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_bits: int | str = "hadamard",
        projection: int = 3,
        code_noise: float = 0.1,
        l1_weight: float = 10.0,
        layers: str | Sequence[int] = "embedding",
        calibrate: str = "sigmoid",
        cv: Any = 5,
        lr: float = 0.1,
        max_epochs: int = 300,
        batch_size: int = 256,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.n_bits = n_bits
        self.projection = projection
        self.code_noise = code_noise
        self.l1_weight = l1_weight
        self.layers = layers
        self.calibrate = calibrate
        self.cv = cv
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.random_state = random_state

    @property
    def codes_(self) -> np.ndarray:
        """Codes of the classes (C, L), int8."""
        check_is_fitted(self, "_model")
        return self._model.codes

    # ---------------------------------------------------------------- training

    def _check_X(self, X: Any, labels: np.ndarray) -> Any:
        if self.estimator is not None:
            return X
        if not isinstance(self.layers, str) or self.layers != "embedding":
            raise ValueError(f"layers={self.layers!r} needs an estimator with block_features; got estimator=None")
        return validate_data(self, X, dtype=np.float32)

    def _classes_of(self, base: Any, labels: np.ndarray) -> np.ndarray:
        if base is not None:
            return super()._classes_of(base, labels)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(f"y contains one class only ({classes[0]!r}); expected at least two classes")
        return classes

    def _layers(self, base: Any, X: Any) -> list[np.ndarray]:
        return [X] if base is None else super()._layers(base, X)

    def _fit_model(self, layers: list[np.ndarray], target: np.ndarray, n_classes: int, seed: int) -> CodeNet:
        if not isinstance(self.n_bits, str) and n_classes > 2**self.n_bits:
            raise ValueError(f"n_bits={self.n_bits} gives {2**self.n_bits} codes, but there are {n_classes} classes")
        rng = np.random.default_rng(seed)
        return fit_codes(
            layers,
            target,
            draw_codes(n_classes, self.n_bits, len(layers), rng),
            rng,
            projection=self.projection,
            code_noise=self.code_noise,
            l1_weight=self.l1_weight,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
        )

    def _score(self, model: CodeNet, layers: list[np.ndarray], target: np.ndarray) -> np.ndarray:
        agreement = model.agreement(model.activations(layers))
        score: np.ndarray = agreement[np.arange(len(target)), target]
        return score

    def _predict_rows(
        self, base: Any, X: Any, rows: np.ndarray, model: CodeNet, layers: list[np.ndarray]
    ) -> np.ndarray:
        if base is None:
            labels: np.ndarray = self.classes_[model.proba(model.activations(layers)).argmax(axis=1)]
            return labels
        return super()._predict_rows(base, X, rows, model, layers)

    # ---------------------------------------------------------------- predictions

    def _table(self, X: Any) -> Any:
        """Return X, checked if there is no estimator that checks it."""
        check_is_fitted(self, "_model")
        return X if self.estimator_ is not None else validate_data(self, X, dtype=np.float32, reset=False)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the labels, as the estimator does; without one, the class of the nearest code.

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
        check_is_fitted(self, "_model")
        if self.estimator_ is not None:
            return super().predict(X)
        labels: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    @available_if(_has_proba)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the estimator's class probabilities; without one, those by the distances to the codes.

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
        X = self._table(X)
        if self.estimator_ is not None:
            proba: np.ndarray = self.estimator_.predict_proba(X)
            return proba
        return self._model.proba(self._model.activations([X]))

    def activations(self, X: Any) -> np.ndarray:
        """Return the activations that are compared with the codes.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.

        Returns
        -------
        activations : ndarray of shape (n, L), float32
            One value per bit, near -1 or 1 where the network knows the sample's class.

        Raises
        ------
        NotFittedError
            If this was never fitted.
        """
        X = self._table(X)
        return self._model.activations(self._layers(self.estimator_, X))

    def code_margin(self, X: Any, labels: Any = None) -> np.ndarray:
        """Return the score of labels: how well the activations agree with their codes.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.
        labels : array-like of shape (n,), default=None
            Labels out of ``classes_``; None takes those of `predict`.

        Returns
        -------
        margin : ndarray of shape (n,), float32
            Mean over the bits of activation times code, near 1 for a label that is surely right.

        Raises
        ------
        NotFittedError
            If this was never fitted.
        ValueError
            If a label is unknown.
        """
        X = self._table(X)
        labels = self.predict(X) if labels is None else labels
        return self._scores_of(X, labels)

    def predict_with_confidence(self, X: Any) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102  # set below
        return super().predict_with_confidence(self._table(X))

    predict_with_confidence.__doc__ = ScoringClassifier.predict_with_confidence.__doc__
