"""Weights of labeled rows in dual-linear: each sum against the same sum over rows that are repeated."""

import numpy as np
import pytest
from precision import EPS

from modal_clip_dual import DualLinearClassifier
from modal_clip_dual.heads import _dual_linear
from modal_clip_dual.heads._dual_linear import fit_dual_linear, names_evidence
from modal_clip_dual.heads._mixture import fit_mixture
from modal_clip_dual.heads._stacking import stack_weights, stacking_loss
from modal_clip_dual.utils.arrays import unit_rows
from modal_clip_dual.utils.folds import merged
from modal_clip_dual.utils.text_logistic import fit_logistic, objective
from modal_clip_dual.utils.whitening import fit_whitening

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}
EXACT = {"tolerance": 1e-9, "iterations": 5000}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_axes_of_weighted_rows(rng):
    X, weight = rng.normal(size=(40, 5)), rng.integers(1, 4, 40)
    weighted = fit_whitening(X, 4, weight=weight.astype(float))
    repeated = fit_whitening(np.repeat(X, weight, axis=0), 4)
    np.testing.assert_allclose(weighted.mean, repeated.mean, atol=4 * EPS)
    np.testing.assert_allclose(weighted.axes, repeated.axes, atol=40 * EPS)
    for power, scale in weighted.scales.items():
        np.testing.assert_allclose(scale, repeated.scales[power], rtol=40 * EPS)


@pytest.mark.parametrize("with_text", [True, False])
def test_mixture_of_weighted_rows(rng, with_text):
    """Of the pool, too: labeled rows whose labels are held out are in it."""
    z, z_labeled, target = rng.normal(size=(30, 3)), rng.normal(size=(8, 3)), np.arange(8) % 4
    weight, weight_labeled = rng.integers(1, 4, 30), rng.integers(1, 4, 8)
    text = rng.normal(size=(30, 4))
    several = {"weight": weight.astype(float), "weight_labeled": weight_labeled.astype(float), "tolerance": 0.0}
    found = fit_mixture(z, text if with_text else None, 1.0, z_labeled, target, 4, **several)
    expected = fit_mixture(
        np.repeat(z, weight, axis=0),
        np.repeat(text, weight, axis=0) if with_text else None,
        1.0,
        np.repeat(z_labeled, weight_labeled, axis=0),
        np.repeat(target, weight_labeled),
        4,
        tolerance=0.0,
    )
    np.testing.assert_allclose(found.means, expected.means, rtol=1e-9, atol=1e-12)
    assert found.variance == pytest.approx(expected.variance, rel=1e-9)


@pytest.mark.parametrize("width", [4, 60])  # fewer and more columns than rows: two ways to the axes
def test_regression_on_weighted_rows(rng, width):
    features, text, target = rng.normal(size=(25, width)), rng.normal(size=(25, 3)), np.arange(25) % 3
    weight = rng.integers(1, 4, 25)
    times = [np.repeat(part, weight, axis=0) for part in (features, text, target)]
    parameters = rng.normal(size=(width + 1) * 3 + 1)
    value, gradient = objective(parameters, features, text, target, np.full(width, 0.3), weight.astype(float))
    wanted, slope = objective(parameters, *times, np.full(width, 0.3))
    assert value == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9)
    found = fit_logistic(features, text, target, 3, 0.5, weight=weight.astype(float), **EXACT)
    expected = fit_logistic(*times, 3, 0.5, **EXACT)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-6)
    np.testing.assert_allclose(found.offset, expected.offset, atol=1e-6)
    assert found.text_factor == pytest.approx(expected.text_factor, abs=1e-6)


def test_blend_and_evidence_of_weighted_rows(rng):
    logits, target, weight = rng.normal(size=(2, 20, 3)), np.arange(20) % 3, rng.integers(1, 4, 20)
    prior, counts = np.array([0.4, 0.2]), weight.astype(float)
    times = [np.repeat(part, weight, axis=0) for part in logits], np.repeat(target, weight)
    value, gradient = stacking_loss(prior, np.stack(logits, axis=1), target, prior + 0.1, 0.3, counts)
    wanted, slope = stacking_loss(prior, np.stack(times[0], axis=1), times[1], prior + 0.1, 0.3)
    assert value == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-10)
    np.testing.assert_allclose(
        stack_weights(logits, target, prior, counts=counts), stack_weights(*times, prior), atol=1e-5
    )
    sure = 3 * np.eye(3)[target] + logits[0]
    expected = names_evidence(np.repeat(sure, weight, axis=0), times[1])
    assert names_evidence(sure, target, counts) == pytest.approx(expected, rel=1e-6) and expected > 10


@pytest.mark.parametrize("with_text", [True, False])
def test_whole_fit_is_that_of_repeated_rows(rng, monkeypatch, with_text):
    """Copies are left as they are here, each in the fold of its row, so that nothing is weighted in the reference."""
    centers = rng.normal(size=(4, 24))
    y = np.arange(200) % 4
    X = unit_rows(centers[y] + 1.2 * rng.normal(size=(200, 24)))
    text = 20 * unit_rows(centers + 3.0 * rng.normal(size=centers.shape)) if with_text else None
    few, pool, weight = slice(0, 24), X[24:], np.random.default_rng(1).integers(1, 4, 24)
    found = fit_dual_linear(X[few], y[few], 4, pool=pool, text=text, weight=weight.astype(float))
    plain = fit_dual_linear(X[few], y[few], 4, pool=pool, text=text)
    real = _dual_linear.deal_folds
    monkeypatch.setattr(_dual_linear, "merged", lambda *parts: parts)
    monkeypatch.setattr(_dual_linear, "deal_folds", lambda *_: np.repeat(real(X[few], y[few], 5), weight))
    expected = fit_dual_linear(np.repeat(X[few], weight, axis=0), np.repeat(y[few], weight), 4, pool=pool, text=text)
    for name in ("coef", "intercept", "head_weights"):
        scale = np.abs(getattr(expected, name)).max()
        # The regressions end when no derivative is larger than 3e-4 sqrt(n).
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=3e-3 * scale, err_msg=name)
        assert np.abs(getattr(plain, name) - getattr(expected, name)).max() > 0.02 * scale
    for name in ("text_share", "evidence", "gain"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=5e-3, abs=1e-3), name


def test_odds_of_the_names_count_weights_where_classes_lack_labels(rng, monkeypatch):
    """Of two classes in four there is a label: names get the same odds by weights as by repeated rows."""
    centers, y = rng.normal(size=(4, 24)), np.arange(200) % 4
    X = unit_rows(centers[y] + 1.2 * rng.normal(size=(200, 24)))
    text = 20 * unit_rows(centers + 3.0 * rng.normal(size=centers.shape))
    few = np.flatnonzero(y < 2)[:20]
    pool, weight = np.delete(X, few, axis=0), np.random.default_rng(1).integers(1, 4, 20)
    monkeypatch.setattr(_dual_linear, "expit", lambda odds: odds)  # so that the share is the odds
    found = fit_dual_linear(X[few], y[few], 4, pool=pool, text=text, weight=weight.astype(float))
    real = _dual_linear.deal_folds
    monkeypatch.setattr(_dual_linear, "merged", lambda *parts: parts)
    monkeypatch.setattr(_dual_linear, "deal_folds", lambda *_: np.repeat(real(X[few], y[few], 5), weight))
    expected = fit_dual_linear(np.repeat(X[few], weight, axis=0), np.repeat(y[few], weight), 4, pool=pool, text=text)
    assert found.text_share == pytest.approx(expected.text_share, abs=0.1)


def test_copies_become_one_row():
    X = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], dtype=np.float32)
    labeled, target, weight = merged(X, np.array([1, 0, 1, 0]), None)
    assert labeled.tolist() == [[1, 0], [0, 1], [1, 0]] and target.tolist() == [1, 0, 0]  # one with two labels stays
    assert weight.tolist() == [2, 1, 1]
    assert merged(X, np.array([1, 0, 1, 0]), np.array([0.5, 1, 2, 3]))[2].tolist() == [2.5, 1, 3]
    alone = X[:2], np.array([0, 1])
    assert merged(*alone, None)[2] is None and merged(*alone, None)[0] is alone[0]
    assert merged(X[:0], np.empty(0, np.intp), None)[2] is None


def test_a_held_out_label_is_not_known_from_a_copy(rng, monkeypatch):
    """Four times the same images: their own labels would say that the regressions are always right."""
    X, y = unit_rows(rng.normal(size=(40, 30))), rng.integers(0, 4, 40)  # nothing to be learned
    once = fit_dual_linear(X[:20], y[:20], 4, pool=X[20:])
    often = fit_dual_linear(np.tile(X[:20], (4, 1)), np.tile(y[:20], 4), 4, pool=X[20:])
    weighted = fit_dual_linear(X[:20], y[:20], 4, pool=X[20:], weight=np.full(20, 4.0))
    np.testing.assert_array_equal(often.coef, weighted.coef)
    monkeypatch.setattr(_dual_linear, "merged", lambda *parts: parts)
    told = fit_dual_linear(np.tile(X[:20], (4, 1)), np.tile(y[:20], 4), 4, pool=X[20:])
    fresh = unit_rows(rng.normal(size=(200, 30)))
    assert once.correct_proba(fresh).mean() < 0.5 and often.correct_proba(fresh).mean() < 0.5
    assert told.correct_proba(fresh).mean() > often.correct_proba(fresh).mean() + 0.15


def test_weights_of_the_classifier(embeddings, digits):
    X, y, pool = embeddings[:40], digits.target[:40], embeddings[40:400]
    weight = np.random.default_rng(0).integers(0, 4, 40)
    clf = DualLinearClassifier(digits.class_names, **DEMO)
    probes = embeddings[400:600]
    found = clf.fit(X, y, weight, X_pool=pool).predict_proba(probes)
    repeated = clf.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight), X_pool=pool).predict_proba(probes)
    np.testing.assert_array_equal(found, repeated)
    plain = clf.fit(X, y, X_pool=pool).predict_proba(probes)
    assert np.abs(found - plain).max() > 0.05
    ones = clf.fit(X, y, np.ones(40), X_pool=pool).predict_proba(probes)
    np.testing.assert_allclose(ones, plain, atol=0.01)  # sums of other orders; regressions end at a tolerance
    assert clf.get_metadata_routing().fit.requests == {"X_pool": None, "sample_weight": None}


def test_refused_weights_keep_the_fit(embeddings, digits, monkeypatch):
    clf = DualLinearClassifier(digits.class_names, **DEMO)
    clf.fit(embeddings[:20], digits.target[:20], X_pool=embeddings[20:100])
    before = clf.predict_proba(embeddings[:30])
    monkeypatch.setattr(DualLinearClassifier, "_encode", None)  # refused before anything is encoded
    for weight, message in [
        (np.ones(19), r"sample_weight.shape == \(19,\), expected \(20,\)"),
        (np.zeros(20), "all weights are zero"),
        (np.full(20, -1.0), r"sample_weight\[0\]=-1"),
    ]:
        with pytest.raises(ValueError, match=message):
            clf.fit(embeddings[:20], digits.target[:20], weight, X_pool=digits.images[:50])
    monkeypatch.undo()
    np.testing.assert_array_equal(clf.predict_proba(embeddings[:30]), before)
