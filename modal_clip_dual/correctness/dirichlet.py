"""DirichletMetaClassifier: how sure the class probabilities of a classifier can be."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from ..utils.dirichlet import KINDS, uncertainty_of
from ..utils.validation import check_integer, check_option
from ._base import ScoringClassifier
from ._evidence_net import EvidenceNet, fit_evidence

CONFIDENCES = ("label", "max_proba", "entropy")


class DirichletMetaClassifier(ScoringClassifier):
    """Say whether a label is right by a Dirichlet distribution over the class probabilities.

    The classifier and its predictions do not change.  A small network learns from the same features a Dirichlet
    distribution over class probabilities for each sample, which is wide where the labels so far say little
    ([1]_).  Its mean tells how likely the classifier's label is; its width tells how much more labels would tell.

    Parameters
    ----------
    estimator : classifier
        The classifier whose labels are judged, such as `BayesAdapterClassifier`, or scikit-learn's on a table.
    hidden : sequence of int, default=(64,)
        Widths of the network's hidden layers.
    kl_weight : float, default=0.01
        Weight of the divergence from the uniform Dirichlet distribution.
    layers : {"embedding", "blocks"} or list of int, default="embedding"
        What the network sees.  ``"embedding"`` is the estimator's ``transform``, or X as it reaches an
        estimator without one.  ``"blocks"`` are the CLS tokens of all blocks of the image tower, and a list of
        numbers those of some blocks; they need images and an estimator with ``block_features``.
    confidence : {"label", "max_proba", "entropy"}, default="label"
        What P(correct) is computed from: the mean probability of the estimator's label, the largest mean
        probability, or the entropy of the mean, less of which is better.
    calibrate : {"sigmoid", "isotonic"}, default="sigmoid"
        How the score becomes a probability.
    cv : int or cross-validation splitter, default=5
        Number of folds whose answers calibrate the score, stratified as far as the labels allow.  With at most 2 cv
        labels, each is a fold of its own; where all classes have the same number of labels, 2 or more, there are at
        most so many folds.  The estimator is fitted once more for each.
    lr : float, default=0.001
        Learning rate of Adam.
    max_epochs : int, default=200
        Passes over the labeled samples.
    batch_size : int, default=256
        Labeled samples per step.
    random_state : int, RandomState instance or None, default=None
        Decides training and folds, and the seed of an estimator whose ``random_state`` is None.

    Attributes
    ----------
    estimator_ : classifier
        The fitted copy of the estimator.
    classes_ : ndarray of shape (C,)
        All labels, sorted.
    n_features_in_ : int
        Number of columns of X, where the estimator says so.
    feature_names_in_ : ndarray of str
        Column names, where the estimator says so.

    See Also
    --------
    ClassCodeClassifier : Judge a label by the code of its class.
    CorrectnessRegressor : Learn when the estimator's answers out of fold are right.
    dirichlet_uncertainty_sampling : Query by this uncertainty.

    Notes
    -----
    The loss is ``digamma(alpha_0) - digamma(alpha_y) + kl_weight * KL(Dir(alpha) || Dir(1))``.  With several layers,
    each has a network with C outputs, which pass ReLU and a joint linear map, as in the authors' code; with one layer
    its outputs are the logarithms of alpha.

    The means of the network are far less sure than they are right, so that P(correct) is calibrated on answers out of
    fold: in each fold a copy of the estimator and a network learn from the same rows and both judge the others.
    ``uncertainty`` is not calibrated.

    References
    ----------
    .. [1] Shen et al., "Post-hoc Uncertainty Learning Using a Dirichlet Meta-Model", AAAI 2023,
       arXiv:2212.07359.

    Examples
    --------
    >>> from modal_clip_dual import BayesAdapterClassifier, DirichletMetaClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> base = BayesAdapterClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=100)
    >>> clf = DirichletMetaClassifier(base, random_state=0).fit(X[:80], y[:80])
    >>> clf.predict_alpha(X[80:]).shape
    (1717, 10)
    >>> labels, correct = clf.predict_with_confidence(X[80:])
    >>> right = labels == y[80:]
    >>> bool(correct[right].mean() > correct[~right].mean() + 0.1)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **ScoringClassifier._parameter_constraints,
        "hidden": [list, tuple],
        "kl_weight": [Interval(Real, 0, None, closed="left")],
        "confidence": [str],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    _model: EvidenceNet

    def __init__(
        self,
        estimator: Any,
        *,
        hidden: Sequence[int] = (64,),
        kl_weight: float = 0.01,
        layers: str | Sequence[int] = "embedding",
        confidence: str = "label",
        calibrate: str = "sigmoid",
        cv: Any = 5,
        lr: float = 0.001,
        max_epochs: int = 200,
        batch_size: int = 256,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.hidden = hidden
        self.kl_weight = kl_weight
        self.layers = layers
        self.confidence = confidence
        self.calibrate = calibrate
        self.cv = cv
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.random_state = random_state

    def predict_alpha(self, X: Any) -> np.ndarray:
        """Return the parameters of the Dirichlet distributions.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.

        Returns
        -------
        alpha : ndarray of shape (n, C), float32
            Positive parameters; ``alpha / alpha.sum(axis=1, keepdims=True)`` are the mean class probabilities.

        Raises
        ------
        NotFittedError
            If this was never fitted.
        """
        check_is_fitted(self, "_model")
        return self._model.alpha(self._layers(self.estimator_, X))

    def uncertainty(self, X: Any, kind: str = "mutual-information") -> np.ndarray:
        """Return how uncertain the class probabilities of each sample are.

        Parameters
        ----------
        X : array-like of n samples
            Whatever the estimator takes.
        kind : str, default="mutual-information"
            ``"entropy"`` of the mean probabilities; ``"data"``, the mean entropy, which more labels
            would not lessen; ``"mutual-information"``, their difference, which more labels would lessen;
            ``"max-probability"``, 1 less the largest mean; ``"precision"``, C over the sum of alpha; or
            ``"differential-entropy"``.

        Returns
        -------
        uncertainty : ndarray of shape (n,), float64
            Larger is less certain; entropies are in nats.

        Raises
        ------
        NotFittedError
            If this was never fitted.
        ValueError
            If the kind is unknown.
        """
        check_option("kind", kind, KINDS)
        return uncertainty_of(self.predict_alpha(X), kind)

    def _check_X(self, X: Any, labels: np.ndarray) -> Any:
        check_option("confidence", self.confidence, CONFIDENCES)
        for width in self.hidden:
            check_integer("hidden", width, 1)
        return X

    def _fit_model(self, layers: list[np.ndarray], target: np.ndarray, n_classes: int, seed: int) -> EvidenceNet:
        return fit_evidence(
            layers,
            target,
            n_classes,
            np.random.default_rng(seed),
            hidden=self.hidden,
            kl_weight=self.kl_weight,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
        )

    def _score(self, model: EvidenceNet, layers: list[np.ndarray], target: np.ndarray) -> np.ndarray:
        alpha = model.alpha(layers).astype(np.float64)
        if self.confidence == "entropy":
            return -uncertainty_of(alpha, "entropy")
        p = alpha / alpha.sum(axis=1, keepdims=True)
        chosen = p.max(axis=1) if self.confidence == "max_proba" else p[np.arange(len(p)), target]
        odds: np.ndarray = np.log(chosen) - np.log1p(-np.minimum(chosen, 1 - 1e-12))
        return odds
