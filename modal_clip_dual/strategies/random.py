"""Random sampling, the baseline."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._strategy import query_strategy


@query_strategy()
def random_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    random_state: Any = None,
) -> Any:
    """Query samples uniformly at random, without looking at them.

    Parameters
    ----------
    classifier : object
        Not used.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Not used: random sampling has no scores that could tie.
    random_state : int, Generator, RandomState or None, default=None
        Controls the draw.  An integer gives the same rows at every call; pass a generator for a loop.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool.
    metrics : ndarray of shape (n_instances,)
        Zeros; returned with modAL 0.4.2 or later, which expects metrics.

    Raises
    ------
    TypeError
        If n_instances is not an integer.
    ValueError
        If the pool is empty or n_instances does not fit it.

    Examples
    --------
    >>> import numpy as np
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import random_sampling
    >>> learner = ActiveLearner(LogisticRegression(), query_strategy=random_sampling)
    >>> rows, samples = learner.query(np.zeros((10, 3)), n_instances=4)
    >>> len(set(rows)), samples.shape
    (4, (4, 3))
    """
    rows = random_state.permutation(classifier.n_samples)[:n_instances]
    return rows, np.zeros(n_instances)
