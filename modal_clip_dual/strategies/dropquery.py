"""DropQuery: disagreement under dropout, then clusters (Gupte et al., TMLR 2024)."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval

from ..utils.arrays import CACHED, ROWS, Rows, as_array, as_tensor, blocks
from ..utils.selection import ascending_order
from ._clustering import SUBSAMPLE, nearest_to_centers, rows_to_fit
from ._strategy import query_strategy, query_utility
from .view import View

if TYPE_CHECKING:
    import torch

CONSTRAINTS = {
    "n_dropouts": [Interval(Integral, 1, None, closed="left")],
    "dropout": [Interval(Real, 0, 1, closed="neither")],
}


@query_utility(**CONSTRAINTS)
def dropquery_disagreement(
    classifier: Any,
    X: Any,
    *,
    n_dropouts: int = 3,
    dropout: float = 0.75,
    random_state: Any = None,
    device: str | None = None,
) -> np.ndarray:
    """Share of feature dropouts that change each sample's prediction.

    A utility for modAL's `make_linear_combination` and `make_query_strategy`.

    Parameters
    ----------
    classifier : modAL learner, Pipeline or estimator
        As for `dropquery_sampling`.
    X : array-like of n samples
        Embeddings, images or paths.
    n_dropouts : int, default=3
        Number of dropouts per sample.
    dropout : float, default=0.75
        Share of the features that each dropout sets to zero.
    random_state : int, Generator, RandomState or None, default=None
        Controls the dropouts.
    device : str or None, default=None
        Torch device of the computation; see `dropquery_sampling`.

    Returns
    -------
    disagreement : ndarray of shape (n,), float64
        Share from 0 to 1, in steps of 1 / n_dropouts.

    Raises
    ------
    TypeError, ValueError, NotFittedError
        As for `dropquery_sampling`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual.strategies import dropquery_disagreement
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = LogisticRegression(max_iter=1000).fit(X[:100] / 16, y[:100])
    >>> dropquery_disagreement(clf, X / 16, random_state=0).shape
    (1797,)
    """
    return _disagreement(classifier, n_dropouts, dropout, random_state, device)[0]


@query_strategy(**CONSTRAINTS, subsample=[Interval(Integral, 1, None, closed="left"), None])
def dropquery_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    n_dropouts: int = 3,
    dropout: float = 0.75,
    subsample: int | None = SUBSAMPLE,
    random_state: Any = None,
    device: str | None = None,
) -> Any:
    """Query from clusters of samples whose prediction changes under dropout.

    Features of each embedding are dropped at random, ``n_dropouts`` times; samples whose
    prediction changes in more than half of them are candidates.  k-means over the candidates
    makes n_instances clusters, and the sample nearest to each center is queried ([1]_, Sec. 4).
    If there are too few candidates, samples with the next highest disagreement join them.

    Parameters
    ----------
    classifier : modAL learner, Pipeline or estimator
        Must be fitted.  It is either linear in its embeddings, with the attribute ``coef_`` as in
        `DualPromptClassifier`, or has ``predict`` but no ``transform`` of its own: then X_pool, as it
        reaches the estimator, holds the embeddings.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Choose among samples of equal disagreement at random when candidates are too few.
    n_dropouts : int, default=3
        Number of dropouts per sample (M).
    dropout : float, default=0.75
        Probability with which a feature is set to zero; the others are scaled by 1 / (1 -
        dropout).
    subsample : int or None, default=50_000
        k-means is fitted to at most this many random candidates; all candidates can still be queried.  None
        takes all.
    random_state : int, Generator, RandomState or None, default=None
        Controls dropout, k-means, its subsample and tie breaking.
    device : str or None, default=None
        Torch device of dropout; None is the device of the embeddings.  Different kinds of devices draw
        differently.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, highest disagreement first.
    metrics : ndarray of shape (n_instances,)
        Their disagreement, 0 to 1; returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If n_instances is not an integer, or the classifier is of neither of these kinds.
    ValueError
        If the pool is empty, or an argument is out of its range.
    NotFittedError
        If the classifier was never fitted.

    Notes
    -----
    Time n_dropouts n_pool C D, k-means over s = min(candidates, subsample), and n_pool n_instances D for the nearest
    to its centers; memory n_pool.

    References
    ----------
    .. [1] Gupte et al., "Revisiting Active Learning in the Era of Vision Foundation Models",
       TMLR 2024, arXiv:2401.14555.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import dropquery_sampling
    >>> X, y = load_digits(return_X_y=True)
    >>> learner = ActiveLearner(
    ...     LogisticRegression(max_iter=1000), dropquery_sampling,
    ...     X_training=X[:50] / 16, y_training=y[:50],
    ... )
    >>> rows, _ = learner.query(X[50:] / 16, n_instances=10)
    >>> len(set(rows.tolist()))
    10
    """
    disagreement, embeddings = _disagreement(classifier, n_dropouts, dropout, random_state, device)
    order = ascending_order(-disagreement, random_tie_break)
    candidates = order[: max(n_instances, int((disagreement > 0.5).sum()))]
    fitted_to = rows_to_fit(len(candidates), subsample, n_instances, random_state)
    centers = nearest_to_centers(Rows(as_array(embeddings), candidates), n_instances, random_state, None, fitted_to)
    chosen = np.sort(candidates[centers])
    rows = chosen[ascending_order(-disagreement[chosen], random_tie_break)]
    return rows, disagreement[rows]


def _disagreement(
    view: View, n_dropouts: int, dropout: float, rng: np.random.Generator, device: str | None
) -> tuple[np.ndarray, np.ndarray | torch.Tensor]:
    """Share (n,) of dropouts that change the prediction; the embeddings (n, D)."""
    import torch

    embeddings, predict = _predictor(view, device)
    x = as_tensor(embeddings, device)
    generator = torch.Generator(x.device).manual_seed(int(rng.integers(2**31)))
    changed = np.zeros(len(x))
    dropped = torch.empty((min(len(x), ROWS), x.shape[1]), device=x.device)
    size = CACHED if x.device.type == "cpu" else ROWS
    for rows in blocks(len(x), ROWS):
        block, kept = x[rows], dropped[: rows.stop - rows.start]
        predicted = predict(block)
        for _ in range(n_dropouts):
            torch.rand(block.shape, generator=generator, out=kept)
            for part in blocks(len(block), size):
                kept[part].ge_(dropout).mul_(block[part]).div_(1 - dropout)
            changed[rows] += predict(kept) != predicted
    return changed / n_dropouts, embeddings


def _predictor(
    view: View, device: str | None
) -> tuple[np.ndarray | torch.Tensor, Callable[[torch.Tensor], np.ndarray]]:
    """Embeddings of X, and a function from tensors of embeddings to predictions."""
    import torch.nn.functional as F

    if view.is_committee:
        return view.embeddings, lambda x: view.proba_at(as_array(x)).argmax(axis=1)
    inside = view.find("coef_", required=False, through_templates=False)
    if not inside.has("coef_") and not inside.has("transform"):
        view.check_has(inside, "predict")
        return view.embeddings, lambda x: inside.object.predict(as_array(x))
    head = view.linear_head
    weights, biases = as_tensor(head.weights, device), as_tensor(head.biases, device)

    def predict(x: torch.Tensor) -> np.ndarray:
        return F.linear(x, weights.to(x), biases.to(x)).argmax(dim=1).cpu().numpy()

    return head.embeddings, predict
