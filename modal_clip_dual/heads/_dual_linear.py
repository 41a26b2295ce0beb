"""A linear head that learns from the whole pool, a few labels and the text: the numerics of dual-linear.

There are two groups of heads, one with text and one without.  Each group is blended in its logits, with weights
learned from cross-fitted predictions.  The share of the first group depends on how well the names explain the
labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp

from ..utils.arrays import blocks, unit_rows
from ..utils.folds import deal_folds, merged
from ..utils.logistic import fit_logistic
from ..utils.odds import against_rest
from ..utils.pool import spread_rows
from ..utils.whitening import fit_whitening
from ._correctness import PRIOR, PRIOR_ALONE, PRIOR_NO_SECOND, log_odds, lowered
from ._fitted import ROWS, DualLinearFit
from ._heads import LogisticHead, Material, MixtureHead, TextHead, agreement, beside, explained, some_rows, spread
from ._mixture import LABEL_WEIGHT, softmax
from ._neighbors import nearest, neighbor_shares
from ._pool import unmatched
from ._stacking import Head, stack_weights

Linear = tuple[np.ndarray, np.ndarray]

POWER = 0.5  # power of the whitening in which neighbors are searched
TOTAL = 0.6  # sum of the prior weights: blends of overconfident heads
MIXTURES = ((0.5, 1.0, 0.08), (0.5, 0.2, 0.32), (1.0, 1.0, 0.12), (1.0, 0.2, 0.48))  # power, beta, share
SECOND = 3  # of the mixtures, the one that trusts the text least: the second opinion on whether the blend is right
LOGISTICS = ((0.0, 0.03), (0.5, 1.0))  # power, penalty
FREE_MIXTURES = (0.5, 1.0)  # powers
ALONE = (0.3, 0.3, 0.0)  # prior weights of text and logistic heads without a pool
POOL = 3000  # rows of a pool that are used, if there are no more than 150 classes
FREE_SPREAD = 3.0  # scale of the logits of heads without text, which have no other reference
LABELED_SHARE = 0.05  # of the pool's weight, that the labeled rows have at most with one label per class
FEWEST = 4  # with fewer labels nothing is cross-fitted
LARGE = 1e9  # rows x classes x axes above which one held-out fifth takes the place of the folds
# Nats: what is asked of names, about what chance gives them, and the most that counts in their favor.
NAMES_DOUBT, NAMES_PRIOR = 2.0, 5.0
NAMES_UNSEEN = 0.6  # nats per label by which names are worth more for classes without labels


@dataclass(frozen=True)
class World:
    """Heads that are blended with each other, fitted and cross-fitted.

    Attributes
    ----------
    names : list of str
    heads : list of tuple of ndarray
        Fitted to all labels.
    folds : list of list of tuple of ndarray
        For each fold, the heads that were fitted without its labels.
    weights : ndarray of shape (H,)
    """

    names: list[str]
    heads: list[Linear]
    folds: list[list[Linear]]
    weights: np.ndarray

    def blends(self) -> list[Linear]:
        """The blend of the heads fitted to all labels, then those of each fold."""
        return [_sum(self.weights, heads) for heads in (self.heads, *self.folds)]

    def second(self) -> list[Linear]:
        """The second opinion fitted to all labels, then those of each fold."""
        return [heads[1 + SECOND] for heads in (self.heads, *self.folds)]


def fit_dual_linear(
    X_labeled: np.ndarray,
    target: np.ndarray,
    n_classes: int,
    *,
    pool: np.ndarray | None = None,
    text: np.ndarray | None = None,
    heads: Sequence[tuple[Head, float]] = (),
    rank: int = 256,
    label_weight: float = LABEL_WEIGHT,
    max_pool: int | None = None,
    n_folds: int = 5,
    neighbors: int = 5,
    weight: np.ndarray | None = None,
) -> DualLinearFit:
    """Fit to a pool and to labeled embeddings; there may be no labels yet.

    Parameters
    ----------
    X_labeled : ndarray of shape (n, D)
        Labeled embeddings; they are scaled to length 1 here.
    target : ndarray of int, shape (n,)
        Classes, 0 to C - 1; some may be missing.
    n_classes : int
        Number C of classes, at least 2.
    pool : ndarray of shape (N, D), optional
        Unlabeled embeddings; they may include the labeled ones and may be mapped from a file.  At most ``max_pool``
        rows are read; if there are more, the choice depends on their order.
    text : ndarray of shape (C, D), optional
        Text embeddings of length 1 times the logit scale.  Without it, the fit needs labels.
    heads : sequence of (`Head`, float), default=()
        Further heads, each with the prior weight of its logits; those of the other heads sum to 0.6.  They are
        cross-fitted like the others, with the text's heads if there is text.
    rank : int, default=256
        Largest number of principal axes to keep.
    label_weight : float, default=4.0
        Largest weight of a labeled row in the mixtures, in unlabeled rows.  The weight is smaller, but at least 1, if
        the pool is so small that a few labeled pictures would decide the class means.
    max_pool : int, optional
        Largest number of rows of the pool to use; max(3,000, 20 C) by default.
    n_folds : int, default=5
        Number of folds of the labeled samples in cross-fitting.
    neighbors : int, default=5
        Number of nearest rows that enter P(correct); with 0, no rows are kept.
    weight : ndarray of shape (n,), optional
        Weights of the labeled rows, above 0.  Every sum over labeled rows is weighted: 2 is a row that comes twice.
        In P(correct) a neighbor counts once, whatever its weight.

    Raises
    ------
    ValueError
        If there is neither text nor a label, neither a pool nor a label, or if shapes do not match.
    """
    labeled, target = unit_rows(X_labeled), np.asarray(target, dtype=np.intp)
    text = None if text is None else np.asarray(text, dtype=np.float32)
    _check(labeled, target, n_classes, pool, text)
    rows = np.empty((0, labeled.shape[1]), dtype=np.float32)
    if pool is not None and len(pool):
        rows = unit_rows(pool[spread_rows(len(pool), max_pool or max(POOL, 20 * n_classes))])
        rows = rows[unmatched(rows, labeled)]
    labeled, target, weight = merged(labeled, target, weight)
    every = None if weight is None else beside(rows, weight)
    whitening = fit_whitening(np.concatenate([rows, labeled]), rank, weight=every)
    material = Material(rows, labeled, text, n_classes, whitening, weight)
    held_out = _held_out(material, target, n_folds)
    n_labels = len(labeled) if weight is None else float(weight.sum())
    label_weight = _label_weight(label_weight, len(rows), n_labels, n_classes)
    worlds, gain, agreed = [], 1.0, 1.0
    if text is not None:
        world, gain, agreed = _text_world(material, target, held_out, label_weight, heads)
        worlds.append(world)
    if text is None or held_out:
        worlds.append(_free_world(material, target, held_out, label_weight, () if worlds else heads))
    share, evidence = _belief(worlds, material, target, held_out)
    shares = [1.0] if len(worlds) == 1 else [share, 1 - share]
    (A, c), *by_fold = [_sum(shares, blends) for blends in zip(*(world.blends() for world in worlds))]
    second = worlds[0].second() if text is not None and len(rows) else []
    prior = np.array(PRIOR if second else PRIOR_NO_SECOND)
    fitted = DualLinearFit(
        coef=np.ascontiguousarray(A.T),
        intercept=c,
        calibration=prior[0, :3],
        calibration_alone=np.array(PRIOR_ALONE[0]),
        head_names=np.array([name for world in worlds for name in world.names]),
        head_weights=np.concatenate([part * world.weights for part, world in zip(shares, worlds)]),
        text_share=share,
        evidence=evidence,
        gain=gain,
        agreement=agreed,
        n_neighbors=neighbors,
        second=np.vstack(second[0]) if second else None,
        second_factor=float(prior[0, 3:].sum()),  # 0 without a second opinion
        **_neighborhood(material, A, c, target, neighbors),
    )
    table = _held_out_table(fitted, material, target, held_out, by_fold, second[1:]) if held_out else None
    return _calibrated(fitted, material, target, prior, table)


def _check(
    labeled: np.ndarray, target: np.ndarray, n_classes: int, pool: np.ndarray | None, text: np.ndarray | None
) -> None:
    """Refuse shapes that do not match, and data without anything to learn from."""
    width = labeled.shape[1]
    if len(target) != len(labeled):
        raise ValueError(f"target has {len(target)} labels, X_labeled {len(labeled)} rows; expected as many")
    if len(target) and not 0 <= target.min() <= target.max() < n_classes:
        raise ValueError(f"target has values from {target.min()} to {target.max()}; expected 0 to {n_classes - 1}")
    if text is not None and text.shape != (n_classes, width):
        raise ValueError(f"text has shape {text.shape}; expected {(n_classes, width)}")
    if pool is not None and pool.shape[1:] != (width,):
        raise ValueError(f"pool has shape {pool.shape}; expected (N, {width})")
    if not len(target) and (text is None or pool is None or not len(pool)):
        raise ValueError("there are no labels; expected text and a pool with at least one row")


def _label_weight(label_weight: float, n_pool: int, n_labels: float, n_classes: int) -> float:
    """Return the weight of a labeled row.

    The error of a class mean that m labels draw by a share a is a^2 / m of a picture's variance: the share may grow
    as the square root of the labels per class.
    """
    if not n_labels:
        return label_weight
    share = LABELED_SHARE * np.sqrt(n_labels / n_classes)
    return min(label_weight, max(1.0, float(share * n_pool / n_labels)))


def _held_out(material: Material, target: np.ndarray, n_folds: int) -> list[np.ndarray]:
    """Return the rows of each fold; only one fold if fitting all heads to each would take long."""
    if len(target) < FEWEST:
        return []
    n_folds = min(n_folds, len(target))
    folds = deal_folds(material.labeled, target, n_folds)
    size = (len(material.pool) + len(target)) * material.n_classes * material.whitening.axes.shape[1]
    return [np.flatnonzero(folds == fold) for fold in range(1 if size > LARGE else n_folds)]


def _scaled(head: Linear, width: float, sample: tuple[np.ndarray, np.ndarray | None]) -> Linear:
    """Return the head, scaled to the spread of the text's logits."""
    (A, c), (rows, weight) = head, sample
    factor = np.float32(width / (spread(rows @ A + c, weight) or width or 1.0))
    return A * factor, c * factor


def _sum(weights: Sequence[float] | np.ndarray, heads: Sequence[Linear]) -> Linear:
    """Return the head whose logits are a weighted sum of heads' logits."""
    A = sum((np.float32(weight) * A for weight, (A, _) in zip(weights, heads)), np.float32(0))
    return A, sum((np.float32(weight) * c for weight, (_, c) in zip(weights, heads)), np.float32(0))


def _fit_heads(
    heads: Sequence[Head], width: float, material: Material, target: np.ndarray, held_out: list[np.ndarray]
) -> tuple[list[Linear], list[list[Linear]]]:
    """Fit heads to all labels, and for each fold to the labels of the others, with logits of the same spread."""
    sample, every = some_rows(material), np.arange(len(target))
    seen = [every, *(np.setdiff1d(every, out) for out in held_out)]
    fitted, *folds = [[_scaled(head.fit(target, rows), width, sample) for head in heads] for rows in seen]
    return fitted, folds


def _weigh(
    folds: list[list[Linear]], prior: np.ndarray, material: Material, target: np.ndarray, held_out: list[np.ndarray]
) -> np.ndarray:
    """Return the heads' weights by the held-out labels, or the prior weights if labels are too few."""
    if not held_out:
        return prior
    logits = [_held_out_logits(by_fold, material, held_out) for by_fold in zip(*folds)]
    order = np.concatenate(held_out)
    return stack_weights(logits, target[order], prior, counts=material.weight_of(order))


def _held_out_logits(by_fold: Sequence[Linear], material: Material, held_out: list[np.ndarray]) -> np.ndarray:
    """Return logits of the held-out rows, fold after fold, by heads fitted without their labels."""
    return np.concatenate([material.labeled[out] @ A + c for out, (A, c) in zip(held_out, by_fold)])


def _text_world(
    material: Material,
    target: np.ndarray,
    held_out: list[np.ndarray],
    label_weight: float,
    others: Sequence[tuple[Head, float]],
) -> tuple[World, float, float]:
    """Return the heads with text, the gain of the mixtures' clusters, and the agreement of the mixtures."""
    assert material.text is not None
    heads: list[Head] = [TextHead(material)]
    if len(material.pool):
        heads += [MixtureHead(material, power, beta, label_weight=label_weight) for power, beta, _ in MIXTURES]
    heads += [LogisticHead(material, power, penalty, True) for power, penalty in LOGISTICS]
    heads += [head for head, _ in others]
    sample, sample_weight = some_rows(material)
    width = spread(sample @ material.text.T, sample_weight)
    fitted, folds = _fit_heads(heads, width, material, target, held_out)
    gain, agreed, prior = 1.0, 1.0, list(ALONE)
    if len(material.pool):
        mixtures = fitted[1 : 1 + len(MIXTURES)]
        gain, agreed = _gain(material, mixtures), agreement(material.pool, mixtures)
        share = 0.2 + 0.6 * min(1.0, float(np.exp(-(gain - 1) / 0.1)))  # of the text
        prior = [TOTAL * part for part in (share, *((1 - share) * part for *_, part in MIXTURES))]
        prior += [0.0] * len(LOGISTICS)
    prior += [weight for _, weight in others]
    weights = _weigh(folds, np.array(prior), material, target, held_out)
    return World([head.name for head in heads], fitted, folds, weights), gain, agreed


def _gain(material: Material, mixtures: Sequence[Linear]) -> float:
    """Return the variance that the mixtures' classes explain, divided by that of the zero-shot classes."""
    zero_shot = material.pool_text.argmax(1)
    ratios = []
    for (power, beta, _), (A, c) in zip(MIXTURES, mixtures):
        if beta == 1:
            z = material.pool_coordinates * material.whitening.scales[power]
            by_text = max(explained(z, zero_shot), 1e-6)
            ratios.append(explained(z, (material.pool @ A + c).argmax(1)) / by_text)
    return float(np.mean(ratios))


def _free_world(
    material: Material,
    target: np.ndarray,
    held_out: list[np.ndarray],
    label_weight: float,
    others: Sequence[tuple[Head, float]],
) -> World:
    """Return the heads without text."""
    heads: list[Head] = []
    if len(material.pool):
        heads += [MixtureHead(material, power, 0, label_weight=label_weight) for power in FREE_MIXTURES]
    heads += [LogisticHead(material, power, penalty, False) for power, penalty in LOGISTICS]
    prior = np.array([TOTAL / len(heads)] * len(heads) + [weight for _, weight in others])
    heads += [head for head, _ in others]
    fitted, folds = _fit_heads(heads, FREE_SPREAD, material, target, held_out)
    weights = _weigh(folds, prior, material, target, held_out)
    return World([f"no text: {head.name}" for head in heads], fitted, folds, weights)


def _belief(
    worlds: list[World], material: Material, target: np.ndarray, held_out: list[np.ndarray]
) -> tuple[float, float]:
    """Return the share of the heads with text, and the evidence for the names.

    The odds are those of the held-out labels' likelihoods, times a prior: names that explain the labels better than
    chance (at the best temperature, so that boldness does not count against them) are preferred; others are not.
    The labels only tell about the classes that have some.  Of the others the heads without text know nothing, so for
    their share of the classes a constant takes the place of likelihoods and doubt.  Otherwise the few labels that a
    doubting strategy asks for first, of few classes and hard for all heads, would throw good names away.
    """
    if material.text is None:
        return 0.0, 0.0
    evidence = names_evidence(material.labeled_text, target, material.weight)
    if len(worlds) < 2:
        return 1.0, evidence
    order = np.concatenate(held_out)
    y, counts = target[order], material.weight_of(order)
    # Heads without text cannot know a class that the other folds lack; then all classes count alike.
    unseen = [~np.isin(target[out], np.delete(target, out)) for out in held_out]
    doubts = (0.02, float(np.clip(np.average(np.concatenate(unseen), weights=counts), 0.02, 1)))
    likelihood = []
    for world, doubt in zip(worlds, doubts):
        proba = softmax(_held_out_logits(world.blends()[1:], material, held_out).astype(np.float64))
        chosen = proba[np.arange(len(y)), y]
        logs = np.log((1 - doubt) * chosen + doubt / material.n_classes)
        likelihood.append(logs.sum() if counts is None else counts @ logs)
    n_labels = len(y) if counts is None else float(counts.sum())
    without = 1 - len(np.unique(target)) / material.n_classes
    told = (1 - without) * (likelihood[0] - likelihood[1] - NAMES_DOUBT) + without * NAMES_UNSEEN * n_labels
    odds = told + min(NAMES_PRIOR, evidence)
    return float(expit(odds)), evidence


def names_evidence(text_logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return the nats by which text logits (n, C) beat chance on labels, at the best temperature >= theirs.

    ``weight`` (n,) are weights of the labels.
    """
    if not len(target):
        return 0.0
    rows = np.arange(len(target))
    logits = text_logits.astype(np.float64)
    chance = (len(target) if weight is None else float(weight.sum())) * np.log(logits.shape[1])

    def loss(factor: float) -> float:
        scaled = factor * logits
        losses = logsumexp(scaled, axis=1) - scaled[rows, target]
        return float(losses.sum() if weight is None else weight @ losses)

    best = minimize_scalar(loss, bounds=(0, 1), method="bounded")
    return float(max(0.0, chance - min(best.fun, loss(1.0))))


def _neighborhood(
    material: Material, A: np.ndarray, c: np.ndarray, target: np.ndarray, neighbors: int
) -> dict[str, np.ndarray]:
    """Return the space in which neighbors are searched, all rows in it, and their probabilities."""
    scale = material.whitening.scales[POWER]
    projection = material.whitening.axes * scale
    offset = -(material.whitening.mean @ projection)
    rows = np.concatenate([material.pool_coordinates, material.labeled_coordinates]) * scale
    # Without a pool the only neighbors are labeled rows, which are too far away to be useful.
    store = unit_rows(rows) if neighbors and len(material.pool) else rows[:0]
    probabilities = _probabilities(material, A, c, target, np.arange(len(target)))
    return {
        "projection": projection,
        "projection_offset": offset,
        "store": store,
        "store_probabilities": probabilities[: len(store)],
    }


def _probabilities(
    material: Material, A: np.ndarray, c: np.ndarray, target: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Return class probabilities, float16, of the pool and the labeled rows; known labels have probability 1."""
    n_pool = len(material.pool)
    probabilities = np.empty((n_pool + len(material.labeled), material.n_classes), dtype=np.float16)
    for rows in blocks(n_pool, ROWS):
        probabilities[rows] = softmax(material.pool[rows] @ A + c)
    probabilities[n_pool:] = softmax(material.labeled @ A + c)
    probabilities[n_pool + known] = 0
    probabilities[n_pool + known, target[known]] = 1
    return probabilities


def _calibrated(
    fitted: DualLinearFit,
    material: Material,
    target: np.ndarray,
    prior: np.ndarray,
    held_out: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None,
) -> DualLinearFit:
    """Calibrate log-odds, neighbors and the second opinion on held-out predictions; see `_held_out_table`.

    While labels are few, an upper bound says how often predictions are right: with text, the agreement of the
    mixtures on the pool; without, the share of the classes that have a label.
    """
    sample, _ = some_rows(material)
    logits = fitted.logits(sample)
    factors, alone = prior[0].copy(), np.array(PRIOR_ALONE[0])
    for mean, constant, odds in ((factors, 2, fitted.correctness_logits(sample)), (alone, 1, against_rest(logits))):
        chosen = _of_predicted(odds, logits)
        seen = len(np.unique(target)) / material.n_classes * float(expit(chosen).mean())
        mean[constant] = fitted.text_share * lowered(chosen, fitted.agreement)
        mean[constant] += (1 - fitted.text_share) * lowered(chosen, seen)
    if held_out is not None:
        table, right, counts = held_out
        factors, _ = fit_logistic(table, right, factors, prior[1], counts)
        alone, _ = fit_logistic(table[:, [0, 2]], right, alone, np.array(PRIOR_ALONE[1]), counts)
    return replace(
        fitted, calibration=factors[:3], calibration_alone=alone, second_factor=float(factors[3:].sum())
    )


def _held_out_table(
    fitted: DualLinearFit,
    material: Material,
    target: np.ndarray,
    held_out: list[np.ndarray],
    by_fold: list[Linear],
    second: list[Linear],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return features of held-out predictions, which of them are right, and their weights.

    The features are own log-odds, the neighbors', 1, and the second opinion's if there is one.  Heads without text
    cannot know a class that has no label in the other folds, but the fit to all labels does.  So unless the text has
    a share, rows of such a class are not used.
    """
    features, right, counted = [], [], []
    for fold, (out, (A, c)) in enumerate(zip(held_out, by_fold)):
        known = np.setdiff1d(np.arange(len(target)), out)
        if fitted.text_share < 0.5:
            out = out[np.isin(target[out], target[known])]
        rows = material.labeled[out]
        logits = rows @ A + c
        odds = [against_rest(logits)]
        around = np.zeros_like(logits)
        if len(fitted.store) and len(out):
            found = nearest(fitted.project(rows), fitted.store, fitted.n_neighbors)
            shares = neighbor_shares(found, _probabilities(material, A, c, target, known), softmax(logits.copy()))
            around = log_odds(shares)
        odds += [around, np.ones_like(logits)]
        if second:
            B, d = second[fold]
            odds.append(against_rest(rows @ B + d))
        features.append(np.column_stack([_of_predicted(values, logits) for values in odds]))
        right.append(logits.argmax(1) == target[out])
        counted.append(out)
    return np.concatenate(features), np.concatenate(right), material.weight_of(np.concatenate(counted))


def _of_predicted(values: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return each row's value for the class that its logits predict."""
    chosen: np.ndarray = values[np.arange(len(logits)), logits.argmax(1)]
    return chosen
