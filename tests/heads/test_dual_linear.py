"""The whole fit: what it reaches, what it must not see, and every odd input."""

from dataclasses import fields

import numpy as np
import pytest

from modal_clip_dual.heads import _dual_linear, _fitted
from modal_clip_dual.heads._dual_linear import DualLinearFit, fit_dual_linear, names_evidence
from modal_clip_dual.heads._heads import LogisticHead, Material, MixtureHead, TextHead, agreement, explained
from modal_clip_dual.utils.arrays import unit_rows
from modal_clip_dual.utils.whitening import fit_whitening


def clusters(n=240, width=24, n_classes=4, seed=0, noise=1.2):
    """Unit rows around class centers, their classes, and text that is right about half of the time."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_classes, width))
    target = np.arange(n) % n_classes
    X = unit_rows(centers[target] + noise * rng.normal(size=(n, width)))
    text = unit_rows(centers + 3.0 * rng.normal(size=centers.shape))
    return X, target, 20 * text


def accuracy(fitted, X, target):
    return np.mean(fitted.logits(X).argmax(1) == target)


def same(a, b, rtol=0.0, atol=0.0):
    for field in fields(DualLinearFit):
        first, second = np.asarray(getattr(a, field.name)), np.asarray(getattr(b, field.name))
        if first.dtype.kind == "U" or not (rtol or atol):
            assert np.array_equal(first, second), field.name
        else:
            np.testing.assert_allclose(first, second, rtol=rtol, atol=atol, err_msg=field.name)


@pytest.fixture(scope="module")
def text_of_digits(demo, digits):
    from modal_clip_dual.clip.templates import template_embeddings

    text = template_embeddings(demo, digits.class_names, ["a photo of a {}."]).numpy()
    return float(demo.logit_scale) * text


def test_digits_gain_without_a_label_and_more_with_some(digits, embeddings, text_of_digits):
    order = np.random.default_rng(0).permutation(len(embeddings))
    pool, test = order[:1198], order[1198:]
    X, y = embeddings, digits.target
    zero_shot = np.mean((X[test] @ text_of_digits.T).argmax(1) == y[test])
    none = fit_dual_linear(X[:0], y[:0], 10, pool=X[pool], text=text_of_digits)
    some = fit_dual_linear(X[pool[:80]], y[pool[:80]], 10, pool=X[pool], text=text_of_digits)
    # 73%, 93% and 95% when this was written.
    assert accuracy(none, X[test], y[test]) > zero_shot + 0.15
    assert accuracy(some, X[test], y[test]) > 0.93
    right = some.logits(X[test]).argmax(1) == y[test]
    proba = some.correct_proba(X[test])
    assert abs(proba.mean() - right.mean()) < 0.06
    assert proba[right].mean() - proba[~right].mean() > 0.2
    assert none.gain > 1.1 and 0.8 < none.agreement < 1 and none.text_share == 1 and some.text_share > 0.9


def test_names_that_mean_nothing_are_not_believed(digits, embeddings, text_of_digits):
    order = np.random.default_rng(0).permutation(len(embeddings))
    pool, test, few = order[:1198], order[1198:], order[:40]
    X, y, shifted = embeddings, digits.target, np.roll(text_of_digits, 1, axis=0)
    fitted = fit_dual_linear(X[few], y[few], 10, pool=X[pool], text=shifted)
    without = fit_dual_linear(X[few], y[few], 10, pool=X[pool])
    assert fitted.evidence < 2 and fitted.text_share < 0.2
    assert accuracy(fitted, X[test], y[test]) > accuracy(without, X[test], y[test]) - 0.03
    assert without.text_share == 0 and all(name.startswith("no text") for name in without.head_names)


@pytest.mark.parametrize("n_labels", [4, 5, 10])
def test_right_names_survive_the_labels_of_the_greatest_doubt(digits, embeddings, text_of_digits, n_labels):
    """Least-confident samples are of few classes, and no head is sure of them; this says nothing of the names."""
    pool = np.random.default_rng(3).permutation(len(embeddings))[599:]
    X, y = embeddings, digits.target
    none = fit_dual_linear(X[:0], y[:0], 10, pool=X[pool], text=text_of_digits)
    logits = none.logits(X[pool])
    surest = np.exp(logits - logits.max(1, keepdims=True)).sum(1)  # 1 / largest probability
    doubtful = pool[np.argsort(-surest, kind="stable")[:n_labels]]
    assert len(np.unique(y[doubtful])) < 6 and np.mean(none.logits(X[doubtful]).argmax(1) == y[doubtful]) < 0.8
    some = fit_dual_linear(X[doubtful], y[doubtful], 10, pool=X[pool], text=text_of_digits)
    assert accuracy(some, X[pool], y[pool]) > accuracy(none, X[pool], y[pool]) - 0.03


def material_of(X, text, n_labeled):
    whitening = fit_whitening(X, 16)
    return Material(X[n_labeled:], X[:n_labeled], text.astype(np.float32), len(text), whitening)


@pytest.mark.parametrize("row", [0, 7, 19])
def test_no_label_reaches_its_own_held_out_prediction(row):
    X, target, text = clusters()
    material, held_out = material_of(X, text, 20), [np.arange(fold, 20, 5) for fold in range(5)]
    heads = [
        TextHead(material),
        MixtureHead(material, 0.5, 1.0),
        MixtureHead(material, 1.0, 0.0),
        LogisticHead(material, 0.0, 0.03, True),
        LogisticHead(material, 0.5, 1.0, False),
    ]
    other = target[:20].copy()
    other[row] = (other[row] + 1) % 4
    results = []
    for labels in (target[:20], other):
        _, folds = _dual_linear._fit_heads(heads, 3.0, material, labels, held_out)
        results.append([_dual_linear._held_out_logits(by_fold, material, held_out) for by_fold in zip(*folds)])
    place = int(np.flatnonzero(np.concatenate(held_out) == row)[0])
    own_fold = np.isin(np.concatenate(held_out), held_out[row % 5])
    for head, (first, second) in enumerate(zip(*results)):
        np.testing.assert_allclose(first[place], second[place], atol=1e-5)
        np.testing.assert_allclose(first[own_fold], second[own_fold], atol=1e-5)
        assert head == 0 or np.abs(first - second).max() > 0.01  # others do learn from it


def test_held_out_neighbors_do_not_know_the_label():
    X, target, text = clusters()
    material = material_of(X, text, 20)
    known = np.arange(1, 20)
    A, c = text.T.astype(np.float32), np.zeros(4, np.float32)
    rows = _dual_linear._probabilities(material, A, c, target[:20], known)
    n_pool = len(material.pool)
    assert np.array_equal(rows[n_pool + known].argmax(1), target[known]) and (rows[n_pool + known].max(1) == 1).all()
    expected = np.exp(X[0] @ A) / np.exp(X[0] @ A).sum()
    np.testing.assert_allclose(rows[n_pool], expected, atol=2e-3)  # float16


def test_the_same_twice_and_in_any_order():
    X, target, text = clusters()
    few = np.arange(0, 240, 9)
    fitted = fit_dual_linear(X[few], target[few], 4, pool=X, text=text)
    same(fitted, fit_dual_linear(X[few], target[few], 4, pool=X, text=text))
    rng = np.random.default_rng(1)
    shuffled = rng.permutation(few)
    other = fit_dual_linear(X[shuffled], target[shuffled], 4, pool=X[rng.permutation(240)], text=text)
    np.testing.assert_allclose(other.head_weights, fitted.head_weights, atol=5e-3)
    # Rounds of EM end at a threshold, to the accuracy of which the results may differ.
    np.testing.assert_allclose(other.logits(X), fitted.logits(X), atol=0.05)
    np.testing.assert_allclose(other.correct_proba(X), fitted.correct_proba(X), atol=0.02)


def test_a_mapped_pool_is_as_one_in_memory_and_is_not_read_beyond_max_pool(tmp_path):
    X, target, text = clusters(2000)
    path = tmp_path / "pool.npy"
    np.save(path, X.astype(np.float16))
    mapped = np.load(path, mmap_mode="r")
    few = np.arange(30)
    arguments = {"text": text, "max_pool": 500}
    fitted = fit_dual_linear(X[few], target[few], 4, pool=mapped, **arguments)
    same(fitted, fit_dual_linear(X[few], target[few], 4, pool=X.astype(np.float16), **arguments), atol=1e-3)
    assert len(fitted.store) <= 530
    assert accuracy(fitted, X, target) > np.mean((X @ text.T).argmax(1) == target) + 0.1


def test_labeled_rows_in_the_pool_count_once():
    X, target, text = clusters()
    few = np.arange(20)
    with_them = fit_dual_linear(X[few], target[few], 4, pool=X, text=text)
    without = fit_dual_linear(X[few], target[few], 4, pool=X[20:], text=text)
    same(with_them, without, atol=1e-3)


def test_without_labels():
    X, target, text = clusters()
    fitted = fit_dual_linear(X[:0], target[:0], 4, pool=X, text=text)
    assert accuracy(fitted, X, target) > np.mean((X @ text.T).argmax(1) == target) + 0.05
    assert fitted.evidence == 0 and len(fitted.store) == 240
    # Mixtures that disagree on a row of the pool are a reason to doubt it: P(correct) is no higher than they agree.
    assert fitted.correct_proba(X).mean() <= fitted.agreement + 0.02


@pytest.mark.parametrize("n", [1, 3, 4, 5])
@pytest.mark.parametrize("with_text", [True, False])
@pytest.mark.parametrize("with_pool", [True, False])
def test_very_few_labels_of_few_classes(n, with_text, with_pool):
    X, target, text = clusters()
    target = np.minimum(target, 2)  # nobody is of class 3
    fitted = fit_dual_linear(
        X[:n], target[:n], 4, pool=X if with_pool else None, text=text if with_text else None
    )
    odds = fitted.correctness_logits(X)
    assert np.isfinite(fitted.logits(X)).all() and np.isfinite(odds).all() and odds.dtype == np.float32
    if not with_text:  # what was never seen is not predicted
        assert np.isin(fitted.logits(X).argmax(1), target[:n]).all()
    one = fit_dual_linear(X[:n], np.zeros(n, int), 4, pool=X if with_pool else None, text=text if with_text else None)
    assert np.isfinite(one.logits(X)).all()


@pytest.mark.parametrize(
    "n, width, n_classes, n_pool",
    [(12, 3, 6, 60), (6, 40, 2, 20), (8, 30, 4, 5), (30, 1, 2, 40)],
    ids=["D < C", "two classes, N < D", "N < n", "D = 1"],
)
def test_odd_shapes(n, width, n_classes, n_pool):
    X, target, text = clusters(n + n_pool, width, n_classes)
    fitted = fit_dual_linear(X[:n], target[:n], n_classes, pool=X[n:], text=text)
    assert fitted.coef.shape == (n_classes, width) and fitted.coef.dtype == np.float32
    assert np.isfinite(fitted.correctness_logits(X)).all()
    proba = fitted.correct_proba(X)
    assert ((proba >= 0) & (proba <= 1)).all()


def test_pools_of_copies_and_of_one_picture():
    X, target, text = clusters(40)
    copies = np.repeat(X, 6, axis=0)
    fitted = fit_dual_linear(X[:12], target[:12], 4, pool=copies, text=text)
    assert np.isfinite(fitted.correctness_logits(X)).all()
    single = fit_dual_linear(X[:0], target[:0], 4, pool=np.repeat(X[:1], 30, axis=0), text=text)
    assert np.isfinite(single.correctness_logits(X)).all()


def test_log_odds_of_being_right_are_the_formula():
    X, target, text = clusters()
    fitted = fit_dual_linear(X[:20], target[:20], 4, pool=X, text=text)
    Y = clusters(9, seed=1)[0].astype(np.float64)
    logits, other = Y @ fitted.coef.T + fitted.intercept, Y @ fitted.second[:-1] + fitted.second[-1]
    places = unit_rows(Y @ fitted.projection + fitted.projection_offset)
    (own, around, constant), factor = fitted.calibration, fitted.second_factor
    for i in range(9):
        closest = np.argsort(-(fitted.store @ places[i]))[:5]
        for k in range(4):
            rest = [j for j in range(4) if j != k]
            share = np.clip(fitted.store_probabilities[closest, k].astype(np.float64).mean(), 0.005, 0.995)
            against = logits[i, k] - np.log(np.exp(logits[i, rest]).sum())
            second = other[i, k] - np.log(np.exp(other[i, rest]).sum())
            wanted = own * against + around * np.log(share / (1 - share)) + constant + factor * second
            assert fitted.correctness_logits(Y[i : i + 1].astype(np.float32))[0, k] == pytest.approx(wanted, abs=2e-3)


def test_second_opinion_is_the_mixture_that_trusts_the_text_least():
    X, target, text = clusters()
    fitted = fit_dual_linear(X[:20], target[:20], 4, pool=X[20:], text=text, rank=16)
    material = material_of(X, text, 20)
    weight = _dual_linear._label_weight(_dual_linear.LABEL_WEIGHT, 220, 20, 4)
    A, c = MixtureHead(material, 1.0, 0.2, label_weight=weight).fit(target[:20], np.arange(20))
    wanted, logits = X @ A + c, X @ fitted.second[:-1] + fitted.second[-1]
    scale = logits.std() / wanted.std()  # all heads have logits of the same spread
    np.testing.assert_allclose(logits, scale * wanted, rtol=1e-3, atol=1e-3)
    assert 0 < fitted.second_factor < 0.6
    for without in ({"pool": None, "text": text}, {"pool": X, "text": None}):
        plain = fit_dual_linear(X[:20], target[:20], 4, **without)
        assert plain.second is None and plain.second_factor == 0
        assert np.isfinite(plain.correctness_logits(X)).all()


def test_second_opinion_on_a_held_out_label_never_saw_it(monkeypatch):
    """P(correct) is calibrated on what mixtures say of labels that they were not fitted to."""
    X, target, text = clusters()
    given = {}

    def taken(fitted, material, target, held_out, by_fold, second):
        table = whole(fitted, material, target, held_out, by_fold, second)
        given.update(material=material, target=target, held_out=held_out, by_fold=by_fold, second=second)
        given["table"] = table[0]
        return table

    whole = _dual_linear._held_out_table
    monkeypatch.setattr(_dual_linear, "_held_out_table", taken)
    fit_dual_linear(X[:20], target[:20], 4, pool=X[20:], text=text)
    material, target = given["material"], given["target"]
    assert len(given["second"]) == len(given["held_out"]) == 5
    weight = _dual_linear._label_weight(_dual_linear.LABEL_WEIGHT, 220, 20, 4)
    start = 0
    for out, (A, c), (B, d) in zip(given["held_out"], given["by_fold"], given["second"]):
        others = np.setdiff1d(np.arange(20), out)
        E, e = MixtureHead(material, 1.0, 0.2, label_weight=weight).fit(target, others)
        rows = material.labeled[out].astype(np.float64)
        logits, wanted = rows @ B + d, rows @ E + e
        np.testing.assert_allclose(logits, logits.std() / wanted.std() * wanted, rtol=1e-3, atol=1e-3)
        for i, (predicted, row) in enumerate(zip((rows @ A + c).argmax(1), logits)):
            odds = row[predicted] - np.log(np.exp(np.delete(row, predicted)).sum())
            assert given["table"][start + i, 3] == pytest.approx(odds, abs=1e-3)
        start += len(out)


def test_rows_are_scored_in_blocks(monkeypatch):
    X, target, text = clusters()
    fitted = fit_dual_linear(X[:20], target[:20], 4, pool=X, text=text)
    whole = fitted.correctness_logits(X)
    monkeypatch.setattr(_fitted, "ROWS", 7)
    np.testing.assert_allclose(fitted.correctness_logits(X), whole, atol=1e-4)


class Oracle:
    """A head that knows the classes' centers, whatever it is shown; says which labels it was shown."""

    name = "oracle"

    def __init__(self, centers):
        self.centers = centers
        self.shown = []

    def fit(self, target, rows):
        self.shown.append(len(rows))
        return 20 * self.centers.T, np.zeros(len(self.centers), np.float32)


@pytest.mark.parametrize("with_text", [True, False])
def test_another_head_is_cross_fitted_and_weighed_like_the_others(with_text):
    X, target, text = clusters(noise=1.8)
    centers = np.stack([X[target == k].mean(0) for k in range(4)])
    oracle = Oracle(unit_rows(centers))
    text = text if with_text else None
    arguments = {"pool": X, "text": text}
    fitted = fit_dual_linear(X[:40], target[:40], 4, **arguments, heads=[(oracle, 0.0)])
    assert oracle.shown == [40, 32, 32, 32, 32, 32]
    weights = dict(zip(fitted.head_names, fitted.head_weights))
    assert weights["oracle" if with_text else "no text: oracle"] > 0.02
    plain = fit_dual_linear(X[:40], target[:40], 4, **arguments)
    assert accuracy(fitted, X[40:], target[40:]) >= accuracy(plain, X[40:], target[40:])


def test_one_held_out_part_stands_for_the_folds_where_they_would_take_long(monkeypatch):
    X, target, text = clusters()
    oracle = Oracle(text / 20)
    monkeypatch.setattr(_dual_linear, "LARGE", 100)
    fitted = fit_dual_linear(X[:40], target[:40], 4, pool=X, text=text, heads=[(oracle, 0.1)])
    assert oracle.shown == [40, 32] and accuracy(fitted, X, target) > 0.6


def test_evidence_for_names():
    target = np.arange(40) % 4
    right = 3.0 * np.eye(4)[target]
    assert names_evidence(right, target) > 20
    assert names_evidence(right, (target + 1) % 4) == pytest.approx(0, abs=1e-3)  # never below
    assert names_evidence(right[:0], target[:0]) == 0
    # Boldness does not count: right in half of the cases at any scale.
    half = 3.0 * np.eye(4)[np.where(np.arange(40) % 8 < 4, target, (target + 1) % 4)]
    assert names_evidence(half, target) == pytest.approx(names_evidence(50 * half, target), rel=1e-3)


def test_explained_variance_and_agreement():
    rng = np.random.default_rng(0)
    z, cluster = rng.normal(size=(60, 3)).astype(np.float32), rng.integers(4, size=60)
    centered = z - z.mean(0)
    between = sum((cluster == k).sum() * (centered[cluster == k].mean(0) ** 2).sum() for k in range(4))
    assert explained(z, cluster) == pytest.approx(between / (centered**2).sum(), rel=1e-5)
    assert explained(np.ones((5, 3), np.float32), np.zeros(5, int)) == 0
    heads = [(np.eye(3, dtype=np.float32), np.zeros(3, np.float32)), (-np.eye(3, dtype=np.float32), np.zeros(3))]
    assert agreement(z, heads[:1] * 2) == 1
    assert agreement(z, heads) == 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"target": np.array([0, 4])}, "target has values from 0 to 4; expected 0 to 3"),
        ({"target": np.array([0])}, "target has 1 labels, X_labeled 2 rows"),
        ({"text": np.ones((3, 24))}, r"text has shape \(3, 24\); expected \(4, 24\)"),
        ({"pool": np.ones((5, 7))}, r"pool has shape \(5, 7\); expected \(N, 24\)"),
        ({"X_labeled": np.ones((0, 24)), "target": np.array([], int), "pool": None}, "there are no labels"),
        ({"X_labeled": np.ones((0, 24)), "target": np.array([], int), "text": None}, "there are no labels"),
    ],
)
def test_refusals(change, message):
    X, target, text = clusters(20)
    arguments = {"X_labeled": X[:2], "target": target[:2], "n_classes": 4, "pool": X, "text": text} | change
    with pytest.raises(ValueError, match=message):
        fit_dual_linear(**arguments)


def test_without_text_classes_that_were_never_seen_lower_p_correct():
    X, target, _ = clusters(noise=0.3)  # clusters that every head is sure of
    few = np.flatnonzero(target < 2)[:3]  # and labels of two classes of four: too few to cross-fit
    fitted = fit_dual_linear(X[few], target[few], 4, pool=X)
    right = accuracy(fitted, X, target)
    assert right == pytest.approx(0.5, abs=0.02)
    assert 0.25 < fitted.correct_proba(X).mean() < right + 0.02
    every = fit_dual_linear(X[:8], target[:8], 4, pool=X)  # two labels of each
    assert accuracy(every, X, target) > 0.95 and every.correct_proba(X).mean() > 0.7


def test_a_labeled_row_counts_less_in_a_small_pool():
    weight = _dual_linear._label_weight
    assert weight(4.0, 3000, 10, 10) == 4  # the most that is allowed
    assert weight(4.0, 300, 10, 10) == pytest.approx(1.5)  # labels draw a twentieth of a mean
    assert weight(4.0, 1000, 40, 10) == pytest.approx(2.5)  # with four per class, a tenth
    assert weight(4.0, 100, 10, 10) == 1 and weight(4.0, 0, 5, 10) == 1
    assert weight(0.5, 100, 10, 10) == 0.5 and weight(4.0, 100, 0, 10) == 4
