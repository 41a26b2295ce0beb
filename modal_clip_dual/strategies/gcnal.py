"""GCNAL: a graph network tells labeled from unlabeled samples (Caramalau et al., CVPR 2021)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ..utils.arrays import as_tensor
from ..utils.selection import ascending_order, fill_up, subsample
from ._strategy import query_strategy
from .coreset import greedy_k_center

if TYPE_CHECKING:
    import torch


@query_strategy(
    selection=[StrOptions({"core", "uncertain"})],
    n_hidden=[Interval(Integral, 1, None, closed="left")],
    dropout=[Interval(Real, 0, 1, closed="left")],
    n_epochs=[Interval(Integral, 1, None, closed="left")],
    lr=[Interval(Real, 0, None, closed="neither")],
    weight_decay=[Interval(Real, 0, None, closed="left")],
    unlabeled_weight=[Interval(Real, 0, None, closed="neither")],
    margin=[Interval(Real, 0, 1, closed="both")],
    max_samples=[Interval(Integral, 1, None, closed="left")],
)
def gcnal_sampling(
    classifier: Any,
    X_pool: Any,
    n_instances: int = 1,
    random_tie_break: Any = False,
    *,
    selection: str = "core",
    n_hidden: int = 128,
    dropout: float = 0.3,
    n_epochs: int = 200,
    lr: float = 1e-3,
    weight_decay: float = 5e-4,
    unlabeled_weight: float = 1.2,
    margin: float = 0.1,
    max_samples: int = 10_000,
    random_state: Any = None,
    device: str | None = None,
) -> Any:
    """Query samples that a graph network finds unlike labeled ones, or hard to tell from them.

    Samples are the nodes of a graph whose edges are the cosines of their embeddings.  A graph
    network of two layers learns which nodes are labeled.  ``"core"`` (CoreGCN) then takes the
    greedy k-center of its hidden representation, ``"uncertain"`` (UncertainGCN) the samples
    whose score is nearest to ``margin`` ([1]_, Sec. 3).  It does not use the classifier's
    predictions.  Before the first labels the samples are drawn at random.

    Parameters
    ----------
    classifier : modAL learner or Committee
        Its ``transform`` embeds the samples; without one, X_pool itself is taken as it reaches the
        estimator.  The learner's ``X_training`` is the labeled set.
    X_pool : array-like of n_pool samples
        The unlabeled pool.
    n_instances : int, default=1
        Number of samples to query, 1 to n_pool.
    random_tie_break : bool, default=False
        Choose among equals at random instead of taking the first.
    selection : {"core", "uncertain"}, default="core"
        Rule that selects samples: CoreGCN or UncertainGCN.
    n_hidden : int, default=128
        Width of the hidden layer.
    dropout : float, default=0.3
        Share of the hidden layer that is dropped while training.
    n_epochs : int, default=200
        Steps of Adam, each on the whole graph.
    lr, weight_decay : float, default=1e-3, 5e-4
        Settings of Adam.
    unlabeled_weight : float, default=1.2
        Weight of the unlabeled nodes' loss (lambda).
    margin : float, default=0.1
        Score around which ``"uncertain"`` chooses; labeled nodes score 1, unlabeled ones 0.
    max_samples : int, default=10_000
        At most this many random samples represent the pool, as in [1]_ (M).
    random_state : int, Generator, RandomState or None, default=None
        Controls the network, tie breaking and subsampling.
    device : str or None, default=None
        Torch device of the network; None is the device of the embeddings, for arrays the CPU.

    Returns
    -------
    indices : ndarray of int, shape (n_instances,)
        Distinct rows of X_pool, most informative first.
    metrics : ndarray of shape (n_instances,)
        ``"core"``: the distance to the nearest labeled or chosen node; ``"uncertain"``: minus the
        distance of the score to ``margin``.  Returned with modAL 0.4.2 or later.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or there are no embeddings.
    ValueError
        If the classifier is not a modAL learner, the pool is empty, or an argument is out of its range.

    Notes
    -----
    With S the cosines, the adjacency matrix is ``(S - I) D^-1 + I``, D the column sums of S - I,
    as in the authors' code.  S is never computed: its product with a matrix H is ``V (V^T H)``, so
    time is n_epochs m D n_hidden and memory m (D + n_hidden) for m = min(n_pool, max_samples).
    Column sums below 1 count as 1: they can be negative where cosines are, while the features of [1]_ are
    never negative.  The authors' published script takes the k-center of
    the network's hidden features too, since April 2021, with the logit as one more column; this leaves the logit out.

    References
    ----------
    .. [1] Caramalau, Bhattarai and Kim, "Sequential Graph Convolutional Network for Active
       Learning", CVPR 2021, arXiv:2006.10219.

    Examples
    --------
    >>> from modAL.models import ActiveLearner
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from modal_clip_dual import gcnal_sampling
    >>> X, y = load_digits(return_X_y=True)
    >>> learner = ActiveLearner(
    ...     LogisticRegression(max_iter=1000), gcnal_sampling,
    ...     X_training=X[:50] / 16, y_training=y[:50],
    ... )
    >>> rows, _ = learner.query(X[50:500] / 16, n_instances=10, n_epochs=20)
    >>> len(set(rows.tolist()))
    10
    """
    from ._points import Points

    known, _ = classifier.labeled(required=True)
    if known is None:
        return fill_up([], n_instances, classifier.n_samples, random_state), np.zeros(n_instances)
    embeddings = classifier.embeddings
    sample = subsample(len(embeddings), max(max_samples, n_instances), random_state)
    if len(sample) < len(embeddings):
        embeddings = embeddings[sample]
    pool = Points(embeddings, device)
    nodes = _unit_nodes(pool.x, as_tensor(known).to(pool.x))
    settings = (n_hidden, dropout, n_epochs, lr, weight_decay, unlabeled_weight)
    scores, hidden = train_graph_network(nodes, len(sample), *settings, random_state)
    if selection == "core":
        points = Points(pool.alike(hidden[: len(sample)]))
        nearest = points.nearest(hidden[len(sample) :])
        rows, metrics = greedy_k_center(points, nearest, n_instances, random_state, random_tie_break)
    else:
        distance = (pool.alike(scores[: len(sample)]) - margin).abs().cpu().numpy()
        rows = ascending_order(distance, random_tie_break)[:n_instances]
        metrics = -distance[rows]
    return sample[rows], metrics


def _unit_nodes(pool: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    import torch
    import torch.nn.functional as F

    return F.normalize(torch.cat([pool, known]), dim=1)


def propagate(nodes: torch.Tensor, degrees: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Product of the adjacency matrix of unit nodes (n, D) with values (n, H)."""
    scaled = values / degrees[:, None]
    return nodes @ (nodes.T @ scaled) - scaled + values


def column_sums(nodes: torch.Tensor) -> torch.Tensor:
    """Sums (n,) of the cosines of each node with all others, at least 1."""
    return (nodes @ nodes.sum(dim=0) - nodes.square().sum(dim=1)).clamp(min=1.0)


def train_graph_network(
    nodes: torch.Tensor,
    n_unlabeled: int,
    n_hidden: int,
    dropout: float,
    n_epochs: int,
    lr: float,
    weight_decay: float,
    unlabeled_weight: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (n,) and hidden representation (n, n_hidden) of the trained network.

    The first ``n_unlabeled`` nodes are unlabeled, the others labeled.
    """
    import torch
    import torch.nn.functional as F

    generator = torch.Generator(nodes.device).manual_seed(int(rng.integers(2**31)))

    def uniform(*shape: int) -> torch.Tensor:  # within 1 / sqrt(width of the layer's output)
        values = torch.rand(shape, generator=generator, device=nodes.device) * 2 - 1
        scaled: torch.Tensor = (values / shape[-1] ** 0.5).requires_grad_()
        return scaled

    parameters = [
        uniform(nodes.shape[1], n_hidden), uniform(n_hidden), uniform(n_hidden, 1), uniform(1)
    ]  # fmt: skip
    first, first_bias, second, second_bias = parameters
    degrees = column_sums(nodes)
    # A (X W) = (A X) W, and A X is the same at every step.
    propagated = propagate(nodes, degrees, nodes)

    def forward(training: bool) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.relu(propagated @ first + first_bias)
        if training and dropout:
            kept = torch.rand(hidden.shape, generator=generator, device=nodes.device) >= dropout
            hidden = hidden * kept / (1 - dropout)
        return (propagate(nodes, degrees, hidden @ second) + second_bias)[:, 0], hidden

    optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    with torch.enable_grad():
        for _ in range(n_epochs):
            logits, _ = forward(training=True)
            unlabeled, known = logits[:n_unlabeled], logits[n_unlabeled:]
            # Cross-entropies of sigmoid scores, each mean on its own.
            loss = F.softplus(-known).mean() + unlabeled_weight * F.softplus(unlabeled).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        logits, hidden = forward(training=False)
    return logits.sigmoid(), hidden
