"""Centroids of the classes that follow the images to be predicted (BaFTA)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length

from ..data.augmentation import RandomResizedCrop, seeded_generators
from ..data.images import as_array, image_key, kind_of, read_image
from ..utils.arrays import blocks
from ..utils.labels import check_labels, encode_labels
from ..utils.selection import generator_of
from ..utils.weights import without_weights
from ._certainty import MERGES, shares, weights_of
from ._wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

VIEWS_AT_ONCE = 2048  # images that are encoded at a time where each has several views
NEEDS = ("transform", "predict_proba", "zero_shot_coef", "proba_of_embeddings")


@dataclass
class State:
    """The centroids at one time.

    Attributes
    ----------
    components : ndarray of shape (r, D)
        Orthonormal directions in which centroids live.
    centroids : ndarray of shape (C, r), float64
        Unit vectors.
    counts : ndarray of shape (C,), float64
        Number of samples that each centroid is the mean of, its start included.
    scale : float
        Inverse temperature of cosines.
    """

    components: np.ndarray
    centroids: np.ndarray
    counts: np.ndarray
    scale: float

    def project(self, embeddings: np.ndarray) -> np.ndarray:
        """Return unit coordinates (..., r) of embeddings (..., D) along the components."""
        return _unit(np.asarray(embeddings, dtype=np.float64) @ self.components.T)

    def cluster_proba(self, coordinates: np.ndarray) -> np.ndarray:
        """Return probabilities (..., C) by the cosines with the centroids."""
        proba: np.ndarray = softmax(self.scale * coordinates @ self.centroids.T, axis=-1)
        return proba

    def update(self, k: int, coordinates: np.ndarray) -> None:
        """Move the centroid of class k to the running mean with one more sample (r,)."""
        self.centroids[k] = _unit(self.counts[k] * self.centroids[k] + coordinates)
        self.counts[k] += 1


class TestTimeCentroids(Wrapper):
    """Move one centroid per class along with unlabeled images, and mix both predictions (BaFTA).

    Nothing is trained.  Centroids start at the text embeddings, and every image that is shown to `adapt` moves the
    centroid of the class that it seems to have.  A prediction mixes the wrapped classifier's probabilities with
    those by the cosines to the centroids ([1]_), each weighted by how certain it is.  ``predict_proba`` uses the
    centroids as they are and changes nothing, so that its answers do not depend on other calls; the paper's
    online form is `adapt_predict_proba`.

    In active learning the pool is at hand, so that ``adapt(X_pool)`` before a query is the natural use;
    `fit` does it with its ``X_pool``.

    Parameters
    ----------
    estimator : CLIPClassifier
        A classifier of this package.  `fit` trains a clone; without it, a fitted classifier is used as it
        is, and one that was never fitted answers zero-shot.
    project : {"drop-first", "span"} or None, default="drop-first"
        Space of the centroids.  ``"drop-first"`` is the paper's: the span of the text embeddings without their first
        left singular vector, which all classes share.  ``"span"`` keeps this vector, None all D dimensions.  With
        two classes ``"drop-first"`` would leave a line, on which there is nothing but a sign; then ``"span"`` is
        taken.
    alpha : float, default=0.5
        Order of Renyi's entropy, in (0, inf]; 1 is Shannon's, ``float("inf")`` minus the log of the largest
        probability.
    beta : float, default=1.0
        Balance: the weight of the centroids' prediction is multiplied by it.  0 is the wrapped classifier alone.  The
        paper does not state its value.
    assign : {"merged", "centroid"}, default="merged"
        Prediction that says which centroid an image moves: the mixture, or the centroids' alone, as
        reviews read the paper.
    start_count : int, default=1
        Number of samples that the text counts as in its centroid; with 0 the first image replaces it.
    n_views : int, default=1
        Number of views per image: the image itself and random changes of it.  More than 1 needs images and
        multiplies the encoding by their number.
    views : {"crop-flip", "crop"} or callable, default="crop-flip"
        Random change: a random resized crop, mirrored every second time or never; or a function from a PIL image to
        a PIL image, which may draw from the global generators.
    merge : {"renyi", "printed", "mean"}, default="renyi"
        Weights of views and of the two predictions; see Notes.
    random_state : int, RandomState instance or None, default=None
        Controls the views, which also depend on the image itself but on no other image.

    Attributes
    ----------
    estimator_ : object
        Classifier that `fit` trained.
    classes_ : ndarray of shape (C,)
        Labels of the classifier in use.
    components_ : ndarray of shape (r, D)
        Orthonormal directions of the space of the centroids; set by `adapt`.
    centroids_ : ndarray of shape (C, r)
        Centroids, of length 1, as coordinates along ``components_``; set by `adapt`.
    counts_ : ndarray of shape (C,)
        Samples in each centroid, with ``start_count``; set by `adapt`.

    See Also
    --------
    DualLinearClassifier : Learn from the whole pool at once, whatever its order.

    Notes
    -----
    With text probabilities p, centroid probabilities q and a weight R of each, the mixture is
    (R(p) p + beta R(q) q) / (R(p) + beta R(q)); views of one image are merged in the same way before that.  The
    paper's weight is Re(p) = log(sum_j p_j^alpha) / (alpha - 1).  For alpha < 1 that is minus the entropy H, and
    normalized weights of it, ``"printed"``, are H / sum H: they give most weight to the prediction that is
    *least* certain.  The paper's words say the opposite, so ``"renyi"`` is 1 - H / log C.  ``"mean"`` weighs all
    alike.

    The result depends on the order of the images, because a wrong assignment moves a centroid for good.

    References
    ----------
    .. [1] Hu et al., "BaFTA: Backprop-Free Test-Time Adaptation For Zero-Shot Vision-Language Models",
       2024, arXiv:2406.11309.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier, TestTimeCentroids
    >>> from modal_clip_dual.data import load_digits_images
    >>> X, y, class_names = load_digits_images().values()
    >>> zero_shot = DualPromptClassifier(class_names, model_name="demo", pretrained="bundled")
    >>> adapted = TestTimeCentroids(zero_shot).adapt(X)
    >>> adapted.predict_proba(X[:5]).shape
    (5, 10)
    """

    __test__ = False  # no test, whatever its name makes pytest think

    _parameter_constraints: dict[str, Any] = {
        **Wrapper._parameter_constraints,
        "project": [StrOptions({"drop-first", "span"}), None],
        "alpha": [Interval(Real, 0, np.inf, closed="right")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "assign": [StrOptions({"merged", "centroid"})],
        "start_count": [Interval(Integral, 0, None, closed="left")],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "views": [StrOptions({"crop-flip", "crop"}), callable],
        "merge": [StrOptions(set(MERGES))],
        "random_state": ["random_state"],
    }
    components_: np.ndarray
    centroids_: np.ndarray
    counts_: np.ndarray

    def __init__(
        self,
        estimator: Any,
        *,
        project: str | None = "drop-first",
        alpha: float = 0.5,
        beta: float = 1.0,
        assign: str = "merged",
        start_count: int = 1,
        n_views: int = 1,
        views: str | Callable[[Any], Any] = "crop-flip",
        merge: str = "renyi",
        random_state: int | np.random.RandomState | None = None,
    ):
        self.estimator = estimator
        self.project = project
        self.alpha = alpha
        self.beta = beta
        self.assign = assign
        self.start_count = start_count
        self.n_views = n_views
        self.views = views
        self.merge = merge
        self.random_state = random_state

    @without_weights
    def fit(self, X: Any, y: Any, *, X_pool: Any = None) -> TestTimeCentroids:
        """Fit a clone of the wrapped classifier, then adapt new centroids.

        Labeled samples enter with their class, which is not in the paper; the pool follows in its order.  There is
        no ``sample_weight``.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.
        y : array-like of shape (n,)
            Labels.
        X_pool : array-like, default=None
            Unlabeled samples, for `adapt`, and for the wrapped classifier if its ``fit`` takes them.

        Returns
        -------
        self : TestTimeCentroids

        Raises
        ------
        ValueError
            If a parameter or X or y does not fit; an earlier fit is kept.
        TypeError
            If the estimator is not a classifier of this package, or weights of samples are passed.
        """
        self._check()
        return super().fit(X, y, X_pool=X_pool)

    def _after_fit(self, X: Any, y: Any, X_pool: Any) -> None:
        if X is not None:
            self.adapt(X, y)
        if X_pool is not None:
            self.adapt(X_pool)

    def adapt(self, X: Any, y: Any = None) -> TestTimeCentroids:
        """Show samples, one after the other; each moves one centroid.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths; their order matters.
        y : array-like of shape (n,), default=None
            Labels, where they are known: the class whose centroid each sample moves.

        Returns
        -------
        self : TestTimeCentroids

        Raises
        ------
        ValueError
            If X or y does not fit; the centroids are then as before.
        NotFittedError
            If the classifier was never fitted and has no ``class_names``.
        """
        self._advance(X, y)
        return self

    def adapt_predict_proba(self, X: Any) -> np.ndarray:
        """Predict samples one after the other, each before it moves a centroid: the paper's online form.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths; their order matters.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Probabilities, each by the centroids as the samples before it left them.

        Raises
        ------
        ValueError, NotFittedError
            As for `adapt`.
        """
        return self._advance(X, None)

    def reset(self) -> TestTimeCentroids:
        """Put the centroids back to the text; the wrapped classifier stays as it is.

        Returns
        -------
        self : TestTimeCentroids
        """
        for name in ("components_", "centroids_", "counts_"):
            self.__dict__.pop(name, None)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities by the classifier and the centroids as they are.

        Parameters
        ----------
        X : array-like
            Embeddings (n, D), images (n, H, W[, 3]) of uint8, or n file paths.

        Returns
        -------
        proba : ndarray of shape (n, C), float32
            Probabilities; the columns are in the order of ``classes_``.

        Raises
        ------
        ValueError, NotFittedError
            As for `adapt`.
        """
        state = self._start()
        parts = []
        for views, text in self._views_of(X, state):
            text_proba, proba, _ = self._merge(views, text, state)
            mixed = self._mix(text_proba, proba)
            parts.append(mixed.astype(np.float32))
        return np.concatenate(parts)

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
        ValueError, NotFittedError
            As for `adapt`.
        """
        best = self.predict_proba(X).argmax(axis=1)
        labels: np.ndarray = self._known_classes()[best]
        return labels

    # ---------------------------------------------------------------- steps

    def _check(self) -> None:
        self._validate_params()
        model = self._model()
        missing = [name for name in NEEDS if not hasattr(model, name)]
        if missing:
            raise TypeError(
                f"estimator is a {type(model).__name__} without {', '.join(missing)}; expected a classifier of this "
                "package, such as DualPromptClassifier or BayesAdapterClassifier"
            )

    def _start(self) -> State:
        """Return a copy of the present state, or the state before any sample."""
        self._check()
        model = self._model()
        self._known_classes()
        coef = getattr(model, "coef_", None)
        coef = np.asarray(model.zero_shot_coef() if coef is None else coef, dtype=np.float64)
        scale = float(np.linalg.norm(coef, axis=1).mean())
        if "centroids_" in self.__dict__:
            if self.centroids_.shape[0] != len(coef) or self.components_.shape[1] != coef.shape[1]:
                raise ValueError(
                    f"the centroids have {len(self.centroids_)} classes and {self.components_.shape[1]} dimensions, "
                    f"the wrapped classifier now {len(coef)} and {coef.shape[1]}: it was fitted anew; call reset "
                    "first"
                )
            return State(self.components_, self.centroids_.copy(), self.counts_.copy(), scale)
        components = text_components(_unit(coef), self.project)
        counts = np.full(len(coef), float(self.start_count))
        return State(components, _unit(coef @ components.T), counts, scale)

    def _advance(self, X: Any, y: Any) -> np.ndarray:
        state = self._start()
        target = None
        if y is not None:
            target = encode_labels(check_labels(y), self._known_classes())
            check_consistent_length(X, target)
        rows: list[np.ndarray] = []
        for views, text in self._views_of(X, state):
            for k in range(len(views)):
                one = slice(k, k + 1)
                text_proba, proba, coordinates = self._merge(views[one], text[one], state)
                mixed = self._mix(text_proba, proba)[0]
                if target is not None:
                    best = int(target[len(rows)])
                else:
                    best = int((mixed if self.assign == "merged" else proba[0]).argmax())
                rows.append(mixed)
                state.update(best, coordinates[0])
        self.components_, self.centroids_, self.counts_ = state.components, state.centroids, state.counts
        return np.array(rows, dtype=np.float32)

    def _merge(self, views: np.ndarray, text: np.ndarray, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return text and centroid probabilities (n, C), and coordinates (n, r), merged over views (n, B, ...)."""
        proba = state.cluster_proba(views)
        if views.shape[1] == 1:
            return text[:, 0], proba[:, 0], views[:, 0]
        by_text, by_cluster = (shares(weights_of(p, self.alpha, self.merge)) for p in (text, proba))
        return (
            np.einsum("nb,nbc->nc", by_text, text),
            np.einsum("nb,nbc->nc", by_cluster, proba),
            _unit(np.einsum("nb,nbr->nr", by_text, views)),
        )

    def _mix(self, text: np.ndarray, proba: np.ndarray) -> np.ndarray:
        """Return the weighted mean of the two predictions (n, C)."""
        if not self.beta:
            return text
        both = np.stack([weights_of(p, self.alpha, self.merge) for p in (text, proba)], axis=-1)
        balance = shares(shares(both) * [1.0, self.beta])
        mixed: np.ndarray = balance[:, :1] * text + balance[:, 1:] * proba
        return mixed

    def _views_of(self, X: Any, state: State) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield coordinates (b, B, r) and text probabilities (b, B, C) of the views of some samples."""
        model = self._model()
        if self.n_views == 1:
            ask = model.predict_proba if hasattr(model, "classes_") else model.zero_shot_proba
            text = np.asarray(ask(X), dtype=np.float64)
            embeddings = np.asarray(model.transform(X))
            for rows in blocks(len(text), VIEWS_AT_ONCE):
                yield state.project(embeddings[rows])[:, None], text[rows, None]
            return
        array = as_array(X)
        if kind_of(array) == "embeddings":
            raise ValueError(
                f"X has shape {array.shape}, so it holds embeddings, of which there are no views; expected images "
                f"(n, H, W[, 3]) of uint8 or file paths, or n_views=1 (now {self.n_views})"
            )
        quiet = copy.copy(model)  # views never come again, so that a cache would only grow
        if "cache" in quiet.get_params(deep=False):
            quiet.set_params(cache=None)
        seed = int(generator_of(self.random_state).integers(2**31))
        size = quiet.input_pixels(array[:1]).shape[2:]
        for rows in blocks(len(array), max(1, VIEWS_AT_ONCE // self.n_views)):
            numbers = range(len(array))[rows]
            images = [view for row in numbers for view in self._views_of_one(array, row, seed, size)]
            embeddings = np.asarray(quiet.transform(images))
            text = np.asarray(quiet.proba_of_embeddings(embeddings), dtype=np.float64)
            shape = (len(numbers), self.n_views, -1)
            yield state.project(embeddings).reshape(shape), text.reshape(shape)

    def _views_of_one(self, array: Any, row: int, seed: int, size: tuple[int, int]) -> list[Image.Image]:
        image = read_image(array, row)
        identity = int.from_bytes(image_key(array, row)[:8], "little")
        views = [image]
        for view in range(1, self.n_views):
            words = (seed, identity, view)
            if callable(self.views):
                with seeded_generators(words):
                    views.append(self.views(image))
            else:
                crop = RandomResizedCrop(size, flip=0.5 if self.views == "crop-flip" else 0.0)
                views.append(crop(image, np.random.default_rng(words)))
        return views


def text_components(text: np.ndarray, project: str | None) -> np.ndarray:
    """Return orthonormal directions (r, D) of the space of the centroids.

    Parameters
    ----------
    text : ndarray of shape (C, D)
        Unit text embeddings.
    project : {"drop-first", "span"} or None
        See `TestTimeCentroids`.
    """
    if project is None:
        return np.eye(text.shape[1])
    _, sizes, directions = np.linalg.svd(text, full_matrices=False)
    rank = int((sizes > sizes[0] * max(text.shape) * np.finfo(np.float32).eps).sum())
    first = 1 if project == "drop-first" and rank > 2 else 0
    components: np.ndarray = directions[first:rank]
    return components


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: np.ndarray = vectors / np.where(length > 0, length, 1)
    return unit
