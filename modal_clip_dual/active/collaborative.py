"""Two prompt learners that judge each other's pseudo-labels: CoFT (arXiv 2602.04337)."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ..clip.inputs import join
from ..data.images import as_array
from ..utils.delegated import DelegatedTransform
from ..utils.labels import as_labels, check_labels, encode_labels, resolve_labels
from ..utils.seeding import seed_parts
from ..utils.selection import generator_of, select_highest_per_class
from ..utils.weights import without_weights
from .pseudo_labels import THRESHOLDS, collaborative_pseudo_labels

FINALS = ("probe", "prompts")


class CollaborativePromptClassifier(DelegatedTransform, ClassifierMixin, BaseEstimator):
    """Train two prompt learners that judge each other's pseudo-labels, then a model on what both accept.

    Both members are copies of ``estimator`` with other random starts.  They learn from the labels, if there are
    any, and from the samples of the pool that are likeliest by class ([1]_, Sec. 4).  Each labels the whole pool,
    and a label is kept if the other member's clean logit at it is above a threshold.  A final model is trained on
    what is kept of each member, and predictions are the mean of both.

    Parameters
    ----------
    estimator : DualPromptClassifier
        The prompt learner; copies of it are trained.
    n_per_class : int, default=16
        Number of samples per class with which a round starts.
    n_rounds : int, default=1
        Number of rounds of the members.  The first starts from zero-shot CLIP; in each later one a member starts
        anew, from the samples that itself found likeliest in the round before (CoFT+).
    threshold : {"clean", "correct"} or float, default="clean"
        Value that z has to exceed; see `collaborative_pseudo_labels`.
    final : {"probe", "prompts"} or classifier, default="probe"
        Model that is trained on what is kept: a logistic regression on the embeddings of each member, or its prompts
        again.  [1]_ trains the whole image tower: that is a `FineTunedClassifier` with ``layers="all"``, which takes
        images.  Copies of a classifier are trained on labeled samples and on what is kept alike; where its
        ``class_names`` or ``random_state`` is None, they get the names of ``estimator`` and a seed.
    probe : classifier or None, default=None
        Classifier of embeddings for ``final="probe"``; None is scikit-learn's logistic regression with C=10.
    random_state : int, RandomState instance or None, default=None
        Controls both members' random starts and draws.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        All labels, sorted.
    members_ : list of two DualPromptClassifier
        The members after the last round, which judged each other.
    kept_ : list of two tuples (rows, labels)
        Rows of the pool that were kept and their labels, by the member that gave them.
    finals_ : list of two classifiers
        The models that predict.

    Notes
    -----
    Which of the two final models [1]_ reports, or whether it averages them, is not said; the mean is a choice, and
    so are ``n_per_class`` and the zero-shot start of later members.  Without a pool the members are trained on the
    labels alone, and so are the final models.

    References
    ----------
    .. [1] "CoFT", arXiv:2602.04337.

    Examples
    --------
    >>> from modal_clip_dual import CollaborativePromptClassifier, DualPromptClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> dual = DualPromptClassifier(class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> clf = CollaborativePromptClassifier(dual, random_state=0).fit_unlabeled(X[:500])
    >>> clf.predict_proba(X[500:]).shape
    (1297, 10)
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": [HasMethods(["fit", "fit_unlabeled", "predict_proba", "clean_logits"])],
        "n_per_class": [Interval(Integral, 1, None, closed="left")],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "threshold": [StrOptions(set(THRESHOLDS)), Interval(Real, None, None, closed="neither")],
        "final": [StrOptions(set(FINALS)), HasMethods(["fit", "predict_proba"])],
        "probe": [HasMethods(["fit", "predict_proba"]), None],
        "random_state": ["random_state"],
    }

    seeds_copies_of = ("estimator", "final")

    def __init__(
        self,
        estimator: Any,
        *,
        n_per_class: int = 16,
        n_rounds: int = 1,
        threshold: str | float = "clean",
        final: Any = "probe",
        probe: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.n_per_class = n_per_class
        self.n_rounds = n_rounds
        self.threshold = threshold
        self.final = final
        self.probe = probe
        self.random_state = random_state

    @without_weights
    def fit(self, X: Any, y: Any, *, X_pool: Any = None) -> CollaborativePromptClassifier:
        """Train on labeled samples, and on an unlabeled pool.

        There is no ``sample_weight``.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        y : array-like of shape (n,)
            Labels.
        X_pool : array-like of n_pool samples, default=None
            Unlabeled samples, in the form of X.  They may include those of X, whose given labels count as well.

        Returns
        -------
        self : CollaborativePromptClassifier

        Raises
        ------
        ValueError
            If an argument does not fit, or as `DualPromptClassifier.fit`.
        TypeError
            If weights of samples are passed.
        """
        self._validate_params()
        y = check_labels(y)
        array = as_array(X, "X")
        return self._train(array, y, None if X_pool is None else as_array(X_pool, "X_pool"))

    def fit_unlabeled(self, X_pool: Any) -> CollaborativePromptClassifier:
        """Train on an unlabeled pool alone.

        Parameters
        ----------
        X_pool : array-like of n_pool samples
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        self : CollaborativePromptClassifier

        Raises
        ------
        ValueError
            If the estimator's ``class_names`` is None, or as `DualPromptClassifier.fit_unlabeled`.
        """
        self._validate_params()
        return self._train(None, np.empty(0, dtype=np.intp), as_array(X_pool, "X_pool"))

    def _train(self, X: Any, y: np.ndarray, pool: Any) -> CollaborativePromptClassifier:
        rng = generator_of(self.random_state)
        members: list[Any] = []
        chosen = [self._likeliest(clone(self.estimator), pool)] * 2
        for _ in range(self.n_rounds if pool is not None else 1):
            members = [self._member(X, y, pool, pseudo, rng) for pseudo in chosen]
            chosen = [self._likeliest(member, pool) for member in members]
        kept = [_nothing(members[0])] * 2
        if pool is not None:
            pairs = (members, reversed(members))
            kept = [
                collaborative_pseudo_labels(one, other, pool, threshold=self.threshold) for one, other in zip(*pairs)
            ]
        classes = members[0].classes_
        finals = [
            self._final(member, X, y, pool, of_member, classes, rng) for member, of_member in zip(members, kept)
        ]
        self.members_, self.kept_, self.finals_, self.classes_ = members, kept, finals, classes
        return self

    def _likeliest(self, member: Any, pool: Any) -> Any:
        """Rows of the pool that a member, or zero-shot CLIP, finds likeliest by class, and their labels."""
        if pool is None:
            return None
        if hasattr(member, "classes_"):
            proba, classes = member.predict_proba(pool), member.classes_
        else:
            proba, classes = member.zero_shot_proba(pool), resolve_labels(member.class_names, None)[0]
        rows = select_highest_per_class(proba.max(axis=1), proba.argmax(axis=1), self.n_per_class)
        return rows, classes[proba[rows].argmax(axis=1)]

    def _member(self, X: Any, y: np.ndarray, pool: Any, pseudo: Any, rng: np.random.Generator) -> Any:
        member = clone(self.estimator).set_params(random_state=int(rng.integers(2**31)))
        if pseudo is None:
            return member.fit(X, y)
        rows, labels = pseudo
        return member.fit(X, y, X_pseudo=pool[rows], y_pseudo=self._like(labels, y))

    def _like(self, labels: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Labels of zero-shot CLIP are positions in a list of names; the given ones may be the names."""
        return as_labels(labels, y, self.estimator.class_names) if len(y) else labels

    def _final(
        self, member: Any, X: Any, y: np.ndarray, pool: Any, kept: Any, classes: np.ndarray, rng: np.random.Generator
    ) -> Any:
        rows, labels = kept
        if isinstance(self.final, str) and self.final == "prompts":
            final = clone(self.estimator).set_params(random_state=int(rng.integers(2**31)))
            if not len(rows):
                return final.fit(X, y) if len(y) else member
            return final.fit(X, y, X_pseudo=pool[rows], y_pseudo=labels)
        target = np.concatenate([encode_labels(y, classes), encode_labels(labels, classes)])
        if len(np.unique(target)) < 2:
            return member  # a model of one class says nothing
        parts = ([] if X is None else [X]) + ([pool[rows]] if len(rows) else [])
        if isinstance(self.final, str):
            probe = LogisticRegression(C=10.0, max_iter=2000) if self.probe is None else clone(self.probe)
            embeddings = np.concatenate([member.transform(part) for part in parts])
            return _Final(probe.fit(embeddings, target), np.arange(len(classes)), member.transform)
        samples = parts[0] if len(parts) == 1 else join(*parts)
        return _Final(self._copy_of_final(rng).fit(samples, classes[target]), classes)

    def _copy_of_final(self, rng: np.random.Generator) -> Any:
        final = clone(self.final)
        ours = {"random_state": int(rng.integers(2**31)), "class_names": self.estimator.class_names}
        given = final.get_params(deep=False)
        final.set_params(**{name: ours[name] for name in ours if given.get(name, "") is None})
        seed_parts(final, ours["random_state"])
        return final

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities, the mean of both final models.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        proba : ndarray of shape (n, C)
            Probabilities; the columns are in the order of ``classes_``.

        Raises
        ------
        NotFittedError, ValueError
            As for `DualPromptClassifier.predict`.
        """
        check_is_fitted(self, "finals_")
        mean: np.ndarray = np.mean([final.predict_proba(X) for final in self.finals_], axis=0)
        return mean

    def predict(self, X: Any) -> np.ndarray:
        """Predict the label of each sample.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        labels : ndarray of shape (n,)
            Labels out of ``classes_``.

        Raises
        ------
        NotFittedError, ValueError
            As for `DualPromptClassifier.predict`.
        """
        labels: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def predict_correct_proba(self, X: Any) -> np.ndarray:
        """Return the probability that the predicted label is right, the largest class probability.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        correct : ndarray of shape (n,)
            Values in [0, 1].

        Raises
        ------
        NotFittedError, ValueError
            As for `DualPromptClassifier.predict`.
        """
        highest: np.ndarray = self.predict_proba(X).max(axis=1)
        return highest

    def _transforms_by(self) -> list[Any]:
        return [self.estimator, *getattr(self, "members_", [])[::-1]]  # the first member last, which is asked

    def transform(self, X: Any) -> np.ndarray:
        """Return the unit embeddings of the first member.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        embeddings : ndarray of shape (n, D), float32

        Raises
        ------
        NotFittedError, ValueError
            As for `DualPromptClassifier.transform`.
        """
        check_is_fitted(self, "members_")
        embeddings: np.ndarray = self.members_[0].transform(X)
        return embeddings


class _Final:
    """A classifier of samples, or of their embeddings by a member, with a column for every class."""

    def __init__(self, classifier: Any, classes: np.ndarray, transform: Callable[[Any], np.ndarray] | None = None):
        self.classifier, self.classes, self.transform = classifier, classes, transform

    def predict_proba(self, X: Any) -> np.ndarray:
        found = self.classifier.predict_proba(X if self.transform is None else np.asarray(self.transform(X)))
        proba = np.zeros((len(found), len(self.classes)))
        proba[:, np.searchsorted(self.classes, self.classifier.classes_)] = found
        return proba


def _nothing(member: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.empty(0, dtype=np.intp), member.classes_[:0]
