"""CorrectnessRegressor: a regression that learns from answers out of fold when a classifier is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ..utils.arrays import unit_rows
from ..utils.labels import encode_labels
from ._base import CorrectnessClassifier
from ._calibration import METHODS, Calibrator, Identity, constant, fit_calibrator, says_nothing
from ._features import check_features, features_of
from ._layers import embeddings_of
from ._neighbors import OF_NEIGHBOR, Judged
from ._out_of_fold import fitted_folds, folds_of

ALPHAS = tuple(10.0**k for k in range(-1, 6))  # penalties of the default regression
CUT = 3.0  # standard deviations of a feature
STAGE_FOLDS = 5  # where `cv` is a splitter, which knows the samples and not the answers


def default_regressor() -> Any:
    """Return ridge regression on standardized features, cut at 3 standard deviations.

    A feature of a new sample far outside of what the training samples have would move the prediction anywhere.
    """
    return make_pipeline(StandardScaler(), FunctionTransformer(_cut), RidgeCV(ALPHAS))


def _cut(table: np.ndarray) -> np.ndarray:
    cut: np.ndarray = np.clip(table, -CUT, CUT)
    return cut


@dataclass(frozen=True)
class Stages:
    """The fitted regression, and the judged samples that its second stage looks at."""

    regression: Any  # None if nothing could be learned
    judged: Judged | None


class CorrectnessRegressor(CorrectnessClassifier):
    """Say whether a label is right by a regression on features of the prediction.

    Copies of the classifier answer for samples whose labels they did not see.  A regression learns from
    features of these answers, such as their probabilities, whether they are right.  This is how Unconditional
    Truthfulness ([1]_) judges the answers of language models, carried over to labels.  The classifier and its
    predictions do not change.

    Parameters
    ----------
    estimator : classifier
        The classifier whose labels are judged, such as `BayesAdapterClassifier`, or scikit-learn's on a table.
    features : sequence of str, default=("proba",)
        What the regression sees.  ``"proba"`` are the logarithms of the class probabilities, largest first, at most
        10.  ``"clean"`` are the clean logit of the label and its margin over the others.  ``"attention"`` are, for
        each head of each block of the image tower, the attention of CLS to itself, the entropy of its attention and
        its largest one among the patches; it needs images and an estimator with ``block_features``.
        ``"embedding"`` is the estimator's ``transform``, or X as it reaches an estimator without one.  The wide ones
        need some hundred labels; with fewer they make the ranking worse.
    neighbors : int, default=0
        Number of nearest labeled samples that a second stage looks at; 0 leaves it out.  The second stage
        sees of each neighbor its similarity, the estimator's largest probability for it, the confidence of the first
        stage in it, the product of this and the sample's own largest probability, and whether its label is the one
        predicted for the sample.
    regressor : regressor, default=None
        A regressor of scikit-learn; None is ridge regression on standardized features, cut at 3 standard deviations.
    cv : int or cross-validation splitter, default=5
        Number of folds, stratified as far as the labels allow.  With at most 2 cv labels, each is a fold of its own;
        where all classes have the same number of labels, 2 or more, there are at most so many folds.  The estimator
        is fitted once more for each.
    calibrate : {"sigmoid", "isotonic"} or None, default="sigmoid"
        How the regression's prediction becomes a probability, learned out of fold; None cuts it to [0, 1].
    random_state : int, RandomState instance or None, default=None
        Decides the folds, and the seed of an estimator whose ``random_state`` is None.

    Attributes
    ----------
    estimator_ : classifier
        The fitted copy of the estimator.
    classes_ : ndarray of shape (C,)
        All labels, sorted.
    feature_names_out_ : list of str
        Names of the features.
    n_features_in_ : int
        Number of columns of X, where the estimator says so.
    feature_names_in_ : ndarray of str
        Column names, where the estimator says so.

    See Also
    --------
    ClassCodeClassifier : Judge a label by the code of its class.
    DirichletMetaClassifier : Learn how sure the class probabilities can be.
    correctness_sampling : Query what is least likely to be right.

    Notes
    -----
    The estimator is fitted cv + 1 times.  If all answers out of fold are right, or none, the
    answer for every sample is their share by Laplace's rule, and a warning says so.

    In the paper a token's features are attention, probability and confidence of the tokens before it.  A label has
    no tokens before it: the neighbors take their place here.  As there, the second stage sees confidences of the
    first one that are out of fold.

    References
    ----------
    .. [1] Vazhentsev et al., "Unconditional Truthfulness: Learning Unconditional Uncertainty of Large Language
       Models", EMNLP 2025, arXiv:2408.10692.

    Examples
    --------
    >>> from modal_clip_dual import BayesAdapterClassifier, CorrectnessRegressor
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> base = BayesAdapterClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=100)
    >>> clf = CorrectnessRegressor(base, features=["proba", "attention"], random_state=0).fit(X[:80], y[:80])
    >>> len(clf.feature_names_out_)  # 10 probabilities; 4 blocks of 4 heads, 3 figures each
    58
    >>> labels, correct = clf.predict_with_confidence(X[80:])
    >>> right = labels == y[80:]
    >>> bool(correct[right].mean() > correct[~right].mean() + 0.1)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **CorrectnessClassifier._parameter_constraints,
        "features": [list, tuple],
        "neighbors": [Interval(Integral, 0, None, closed="left")],
        "regressor": [HasMethods(["fit", "predict"]), None],
        "calibrate": [StrOptions(set(METHODS)), None],
    }

    feature_names_out_: list[str]
    _model: Stages
    _calibrator: Calibrator

    def __init__(
        self,
        estimator: Any,
        *,
        features: Sequence[str] = ("proba",),
        neighbors: int = 0,
        regressor: Any = None,
        cv: Any = 5,
        calibrate: str | None = "sigmoid",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.features = features
        self.neighbors = neighbors
        self.regressor = regressor
        self.cv = cv
        self.calibrate = calibrate
        self.random_state = random_state

    def _check_X(self, X: Any, labels: np.ndarray) -> Any:
        check_features(self.features, self.estimator)
        return X

    def _fit(self, X: Any, labels: np.ndarray, pool: Any, rng: np.random.Generator, seed: int) -> None:
        target = encode_labels(labels, self.classes_)
        tables, right, rows, largest = [], [], [], []
        self.feature_names_out_ = []
        for fold in fitted_folds(self.estimator, X, labels, self.cv, rng, pool, seed):
            part = _safe_indexing(X, fold.test)
            predicted = encode_labels(fold.estimator.predict(part), self.classes_)
            table, self.feature_names_out_ = features_of(
                fold.estimator, part, predicted, self.classes_, self.features
            )
            tables.append(table)
            largest.append(fold.estimator.predict_proba(part).max(axis=1))
            right.append(predicted == target[fold.test])
            rows.append(np.column_stack([fold.test, predicted]))
        answers = np.concatenate(right) if right else np.empty(0, dtype=bool)
        if says_nothing(answers, type(self).__name__, stacklevel=5):
            self._model, self._calibrator = Stages(None, None), constant(answers)
            return
        table, tested = np.concatenate(tables), np.concatenate(rows)
        splits = folds_of(answers, self.cv if isinstance(self.cv, Integral) else STAGE_FOLDS, rng, least=1)
        regression, out_of_fold = self._regress(table, answers, splits)
        judged = None
        if self.neighbors:
            embedded = unit_rows(embeddings_of(self.estimator_, X))[tested[:, 0]]
            confidence = np.clip(out_of_fold, 0, 1)
            judged = Judged(embedded, target[tested[:, 0]], np.concatenate(largest), confidence)
            near = judged.features(embedded, tested[:, 1], judged.proba, self.neighbors, itself=True)
            regression, out_of_fold = self._regress(np.hstack([table, near]), answers, splits)
            names = [f"neighbor{k}_{name}" for k in range(self.neighbors) for name in OF_NEIGHBOR]
            self.feature_names_out_ = self.feature_names_out_ + names
        self._model = Stages(regression, judged)
        self._calibrator = (
            Identity()
            if self.calibrate is None
            else fit_calibrator(out_of_fold, answers, self.calibrate, type(self).__name__)
        )

    def _regress(self, table: np.ndarray, right: np.ndarray, splits: Any) -> tuple[Any, np.ndarray]:
        """Return the regression of being right on a table (n, m), and its predictions (n,) out of fold."""
        model = default_regressor() if self.regressor is None else clone(self.regressor)
        target = right.astype(np.float64)
        out_of_fold: np.ndarray = cross_val_predict(model, table, target, cv=splits)
        return model.fit(table, target), out_of_fold

    def _correct(self, X: Any, labels: np.ndarray) -> np.ndarray:
        regression, judged = self._model.regression, self._model.judged
        if regression is None:
            same: np.ndarray = self._calibrator(np.zeros(len(labels)))
            return same
        predicted = encode_labels(labels, self.classes_)
        table, _ = features_of(self.estimator_, X, predicted, self.classes_, self.features)
        if judged is not None:
            embedded = unit_rows(embeddings_of(self.estimator_, X))
            own = self.estimator_.predict_proba(X).max(axis=1)
            near = judged.features(embedded, predicted, own, self.neighbors)
            table = np.hstack([table, near])
        correct: np.ndarray = self._calibrator(regression.predict(table))
        return correct
