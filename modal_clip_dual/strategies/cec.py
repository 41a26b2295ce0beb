"""CEC: calibrated entropy-weighted clustering (Safaei and Patel, WACV 2025)."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from scipy.special import entr
from sklearn.neighbors import NearestNeighbors
from sklearn.utils._param_validation import Interval

from ..utils.arrays import as_array
from ..utils.selection import ascending_order, subsample as random_rows
from ._clustering import SUBSAMPLE, nearest_to_centers, rows_to_fit
from ._equal import alike, also_equal, first_equal
from ._strategy import query_strategy, query_utility
from .view import View

NEEDS = "predict_proba"  # method of the classifier
CONSTRAINTS = {
    "n_prior": [Interval(Integral, 1, None, closed="left"), None],
    "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    "max_samples": [Interval(Integral, 2, None, closed="left")],
}


@query_utility(**CONSTRAINTS)
def cec_uncertainty(
    classifier: Any,
    X: Any,
    *,
    n_prior: int | None = None,
    n_neighbors: int = 10,
    max_samples: int = 10_000,
    random_state: Any = None,
) -> np.ndarray:
    """Calibrated entropy of each sample plus that of its neighbors.

    A utility for modAL's `make_linear_combination` and `make_query_strategy`.

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        As for `cec_sampling`.
    X : array-like of n samples
        Embeddings, images or paths.
    n_prior : int or None, default=None
        Number of samples that estimate a class's prior; see `cec_sampling`.
    n_neighbors : int, default=10
        Number of neighbors whose entropy counts.
    max_samples : int, default=10_000
        At most this many random samples are searched for neighbors.
    random_state : int, Generator, RandomState or None, default=None
        Controls the draw of these samples.

    Returns
    -------
    uncertainty : ndarray of shape (n,), float32
        Uncertainty in nats, 0 to 2 log C.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        As for `cec_sampling`.

    Examples
    --------
    >>> from modal_clip_dual import DualPromptClassifier
    >>> from modal_clip_dual.data import load_digits_images
    >>> from modal_clip_dual.strategies import cec_uncertainty
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> cec_uncertainty(clf, digits.images[:50]).shape
    (50,)
    """
    uncertain = _Uncertainty(classifier, n_prior, n_neighbors, max_samples, random_state)
    return uncertain.of(np.arange(classifier.n_samples))


@query_strategy(**CONSTRAINTS, subsample=[Interval(Integral, 1, None, closed="left"), None])
def cec_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    n_prior: int | None = None,
    n_neighbors: int = 10,
    max_samples: int = 10_000,
    subsample: int | None = SUBSAMPLE,
    random_state: Any = None,
) -> Any:
    """Query from clusters of samples that are uncertain and have uncertain neighbors.

    Each class probability is divided by the class's prior, its mean over the samples where it is highest,
    and the results are normalized again; a sample's uncertainty is their entropy plus the mean entropy of its
    nearest neighbors, weighted by distance.  k-means with these weights makes n_instances
    clusters, and the sample nearest to each center is queried ([1]_, Sec. 3).

    Parameters
    ----------
    classifier : modAL learner, Committee, Pipeline or estimator
        Needs ``predict_proba``; one that was never fitted needs ``zero_shot_proba``.  Its ``transform``
        embeds the samples; without one, X_pool itself is taken as it reaches the estimator.
        The probabilities of a Committee's members are averaged.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Shuffle samples of equal uncertainty in the order of the result.
    n_prior : int or None, default=None
        Number of samples that estimate a class's prior: the mean probability of its most probable ones.  None is
        n_pool / C, the share of each class in a balanced pool.
    n_neighbors : int, default=10
        Number of nearest neighbors, weighted by exp(-distance).
    max_samples : int, default=10_000
        At most this many random samples of the pool are searched for neighbors.
    subsample : int or None, default=50_000
        In a pool of more samples, so many random ones have their uncertainty computed and are what k-means is
        fitted to; every sample of the pool can still be queried.  None takes all.
    random_state : int, Generator, RandomState or None, default=None
        Controls k-means, tie breaking and subsampling.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, most uncertain first.
    metrics : ndarray of shape (n_instances,)
        Their uncertainty in nats; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If an argument is not an integer, or the classifier lacks a required method.
    ValueError
        If the pool is empty, or an argument is out of its range.
    NotFittedError
        If the classifier was never fitted and has no zero-shot probabilities.

    Notes
    -----
    The values of ``n_prior`` and ``n_neighbors`` and the shape of the weights are our choices.
    Time s min(n_pool, max_samples) D for the neighbors, where s = min(n_pool, subsample), and n_pool n_instances D
    for the clusters; memory n_pool (C + D).

    References
    ----------
    .. [1] Safaei and Patel, "Active Learning for Vision-Language Models", WACV 2025,
       arXiv:2410.22187.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from modal_clip_dual import DualPromptClassifier, cec_sampling
    >>> from modal_clip_dual.data import load_digits_images
    >>> digits = load_digits_images()
    >>> clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", max_epochs=5)
    >>> learner = ActiveLearner(clf, query_strategy=cec_sampling)
    >>> rows, images = learner.query(digits.images[:200], n_instances=20)
    >>> len(set(rows.tolist()))
    20
    """
    uncertain = _Uncertainty(classifier, n_prior, n_neighbors, max_samples, random_state)
    n = classifier.n_samples
    fitted_to = rows_to_fit(n, subsample, n_instances, random_state)
    uncertainty = uncertain.of(np.arange(n) if fitted_to is None else fitted_to)
    # k-means needs at least one weight above zero.
    weights = uncertainty + np.float32(1e-6)
    rows = np.sort(nearest_to_centers(uncertain.embeddings, n_instances, random_state, weights, fitted_to))
    metrics = uncertainty[rows] if fitted_to is None else uncertain.of(rows)
    order = ascending_order(-metrics, random_tie_break)
    return rows[order], metrics[order]


class _Uncertainty:
    """The uncertainty of any rows of a pool; what it depends on is computed once."""

    def __init__(self, view: View, n_prior: int | None, n_neighbors: int, max_samples: int, rng: np.random.Generator):
        self.embeddings = as_array(view.embeddings).astype(np.float32, copy=False)
        self.proba = view.proba
        n, n_classes = self.proba.shape
        n_prior = max(1, n // n_classes) if n_prior is None else min(n_prior, n)
        highest = np.partition(self.proba, n - n_prior, axis=0)[n - n_prior :]
        self.prior = np.maximum(highest.mean(axis=0), np.finfo(np.float32).tiny)
        self.n_neighbors = n_neighbors
        self.reference = random_rows(n, max_samples, rng)
        self.entropy_of_reference = self._entropy(self.reference)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the entropy (m,) of each row plus that of its neighbors; equal samples get equal ones."""
        entropy = self._entropy(rows)
        if len(self.proba) == 1:
            return entropy
        part = slice(None) if len(rows) == len(self.proba) else rows  # a slice copies nothing
        embeddings, reference = self.embeddings[part], self.embeddings[self.reference]
        distances, neighbors = _neighbors(embeddings, rows, reference, self.reference, self.n_neighbors)
        weights = np.exp(-distances)
        weights /= weights.sum(axis=1, keepdims=True)
        uncertainty = entropy + (weights * self.entropy_of_reference[neighbors]).sum(axis=1, dtype=np.float32)
        tied: np.ndarray = alike(uncertainty, also_equal(first_equal(embeddings), self.proba[part]))
        return tied

    def _entropy(self, rows: np.ndarray) -> np.ndarray:
        """Return the calibrated entropy (m,) of some rows."""
        calibrated = self.proba[rows] / self.prior
        calibrated /= calibrated.sum(axis=1, keepdims=True)
        entropy: np.ndarray = entr(calibrated).sum(axis=1).astype(np.float32)
        return entropy


def _neighbors(
    embeddings: np.ndarray, rows: np.ndarray, reference: np.ndarray, rows_of_reference: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distances, and positions in the reference, both (m, k), of each sample's nearest neighbors, itself left out."""
    k = min(n_neighbors, len(reference) - 1)
    search = NearestNeighbors(algorithm="brute").fit(reference)
    distances, found = search.kneighbors(embeddings, n_neighbors=k + 1)
    # One of the k + 1 is dropped: the sample itself if it is among them, else the farthest.
    itself = rows_of_reference[found] == rows[:, None]
    itself[~itself.any(axis=1), -1] = True
    return distances[~itself].reshape(-1, k), found[~itself].reshape(-1, k)
