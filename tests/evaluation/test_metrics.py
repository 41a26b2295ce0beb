import itertools
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, roc_auc_score

from modal_clip_dual.evaluation import (
    area_under_risk_coverage,
    auroc_of_correctness,
    coverage_at_accuracy,
    expected_calibration_error,
    negative_log_likelihood,
    prediction_rejection_ratio,
)
from modal_clip_dual.evaluation.metrics import calibration_bins, risk_coverage
from modal_clip_dual.evaluation.plots import plot_reliability, plot_risk_coverage


def test_auroc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(0)
    score, correct = rng.integers(0, 6, 50), rng.random(50) < 0.5
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a in score[correct]
        for b in score[~correct]
    ]
    assert auroc_of_correctness(score, correct) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("value", [True, False])
def test_auroc_of_one_kind_is_nan(value):
    assert np.isnan(auroc_of_correctness([0.1, 0.2], [value, value]))


def test_calibration_error_by_hand():
    # Bins of two: (0.1, 0.3) with 1 of 2 right: |0.5 - 0.2|; (0.8, 1.0) both: |1 - 0.9|.
    confidence, correct = [0.8, 0.1, 1.0, 0.3], [1, 0, 1, 1]
    assert expected_calibration_error(confidence, correct, n_bins=2) == pytest.approx(0.2)
    assert expected_calibration_error([0.25], [0]) == pytest.approx(0.25)


def test_calibration_error_of_calibrated_and_inflated_scores():
    rng = np.random.default_rng(0)
    confidence = rng.random(20000)
    correct = rng.random(20000) < confidence
    assert expected_calibration_error(confidence, correct) < 0.02
    assert expected_calibration_error(np.sqrt(confidence), correct) > 0.1


def test_wrong_input():
    with pytest.raises(ValueError, match="inconsistent"):
        auroc_of_correctness([0.1], [1, 0])
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        expected_calibration_error([1.1], [1])
    with pytest.raises(ValueError, match="empty"):
        expected_calibration_error([], [])
    with pytest.raises(ValueError, match="n_bins=0"):
        expected_calibration_error([0.5], [1], n_bins=0)


OF_CORRECTNESS = [
    auroc_of_correctness,
    expected_calibration_error,
    calibration_bins,
    area_under_risk_coverage,
    prediction_rejection_ratio,
    coverage_at_accuracy,
    partial(coverage_at_accuracy, threshold="stated"),
    risk_coverage,
    plot_reliability,
    plot_risk_coverage,
]


@pytest.mark.parametrize("metric", OF_CORRECTNESS, ids=lambda f: getattr(f, "__name__", "stated"))
@pytest.mark.parametrize(
    ("correct", "message"),
    [
        ([1, 3], r"correct\[1\] is 3; expected booleans, or numbers that are 0 or 1, one per prediction"),
        ([0, -1], r"correct\[1\] is -1; expected"),
        ([0.9, 1], r"correct\[0\] is 0\.9; expected"),  # confidences in the place of answers
        ([1, np.nan], r"correct\[1\] is nan; expected"),
        (["1", "0"], r"correct\[0\] is '1'; expected"),
        ([True, None], r"correct\[1\] is None; expected"),
        ([[True], [False]], r"correct has shape \(2, 1\); expected"),
        (True, r"correct has shape \(\); expected"),
    ],
    ids=repr,
)
def test_answers_that_are_neither_right_nor_wrong_are_refused(metric, correct, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        metric([0.1, 0.2], correct)


@pytest.mark.parametrize("metric", OF_CORRECTNESS, ids=lambda f: getattr(f, "__name__", "stated"))
@pytest.mark.parametrize(
    ("confidence", "message"),
    [
        (np.full((2, 3), 0.3), r"has shape \(2, 3\); expected \(n,\), a number per prediction$"),
        (np.full((2, 2), 0.3), r"has shape \(2, 2\); expected \(n,\)"),
        (torch.full((2, 1), 0.3), r"has shape \(2, 1\); .*; (score|confidence)\[:, 0\] is the column"),
        (pd.DataFrame({"sure": [0.1, 0.2]}), r"has shape \(2, 1\); expected \(n,\)"),
        (0.5, r"has shape \(\); expected \(n,\)"),
        (["0.5", "high"], r"has the type <U4; expected \(n,\)"),
        ([0.5, None], r"has 1 nan; expected \(n,\)"),
        (np.array([0.5, "high"], dtype=object), r"holds something that is no number \(.*high'\); expected \(n,\)"),
    ],
    ids=str,
)
def test_confidences_that_are_no_number_per_prediction_are_refused(metric, confidence, message):
    """A table of class probabilities gave a number, which was wrong."""
    with pytest.raises(ValueError, match=f"^(score|confidence) {message}"):
        metric(confidence, [True, False])


@pytest.mark.parametrize(
    "confidence", [torch.tensor([0.75, 0.5, 0.25]), pd.Series([0.75, 0.5, 0.25], dtype="Float64"), (0.75, 0.5, 0.25)]
)
def test_confidences_of_any_type_are_the_same(confidence):
    plain, correct = [0.75, 0.5, 0.25], [True, False, True]
    for metric in OF_CORRECTNESS[:2] + OF_CORRECTNESS[3:7]:
        assert metric(confidence, correct) == metric(plain, correct)


@pytest.mark.parametrize(
    "correct",
    [[1, 0, 1], [1.0, 0.0, 1.0], np.array([1, 0, 1], np.uint8), np.array([True, 0, np.True_], object),
     pd.Series([True, False, True], dtype="boolean"), torch.tensor([True, False, True])],
    ids=repr,
)  # fmt: skip
def test_answers_of_any_type_are_the_same_answers(correct):
    score, plain = [0.9, 0.8, 0.3], [True, False, True]
    for metric in OF_CORRECTNESS[:2] + OF_CORRECTNESS[3:7]:
        assert metric(score, correct) == metric(score, plain)


def test_bins_are_those_of_the_error():
    rng = np.random.default_rng(0)
    confidence = rng.random(100)
    correct = rng.random(100) < 0.5
    accuracy, stated, counts = calibration_bins(confidence, correct, n_bins=7)
    assert counts.tolist() == [15, 15, 14, 14, 14, 14, 14]
    order = sorted(range(100), key=lambda k: confidence[k])
    first = order[:15]
    assert accuracy[0] == pytest.approx(sum(correct[k] for k in first) / 15)
    assert stated[0] == pytest.approx(sum(confidence[k] for k in first) / 15)
    gaps = sum(n * abs(a - s) for a, s, n in zip(accuracy, stated, counts)) / 100
    assert expected_calibration_error(confidence, correct, 7) == pytest.approx(gaps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_likelihood_is_scikit_learns(dtype):
    logits = np.random.default_rng(0).normal(0, 30, (200, 5))  # many probabilities of 0 and 1
    proba = softmax(logits.astype(dtype), axis=1)
    assert (proba == 0).any() or dtype == np.float64
    target = np.random.default_rng(1).integers(0, 5, 200)
    expected = log_loss(target, proba, labels=np.arange(5))
    assert negative_log_likelihood(proba, target) == pytest.approx(expected, rel=1e-6)


def test_likelihood_by_hand():
    assert negative_log_likelihood([[0.25, 0.75]], [1]) == pytest.approx(-math.log(0.75))
    assert negative_log_likelihood(np.full((4, 8), 1 / 8), [0, 0, 7, 7]) == pytest.approx(math.log(8))
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(52 * math.log(2))
    assert negative_log_likelihood(np.array([[0.25, 0.75]], np.float16), [1]) == pytest.approx(-math.log(0.75))
    zero = np.array([[1, 0]], dtype=np.float32)
    assert negative_log_likelihood(zero, [1]) == pytest.approx(23 * math.log(2), rel=1e-5)
    # float32 rows of many classes do not sum to 1 exactly, which is no error and no warning.
    many = softmax(np.random.default_rng(0).normal(size=(3, 5000)).astype(np.float32), axis=1)
    assert 8 < negative_log_likelihood(many, [0, 1, 4999]) < 11


@pytest.mark.parametrize(
    ("proba", "target", "message"),
    [
        ([[0.5, 0.5]], [2], "not columns of proba: .*from 0 to 1"),
        ([[0.5, 0.5]], [-1], "not columns of proba"),
        ([[0.5, 0.5]], [0.0], "not columns of proba"),
        ([[0.5, 0.5]], [0, 1], r"\(1, 2\) and target_column \(2,\)"),
        ([0.5, 0.5], [0, 1], r"shape \(2,\)"),
        (np.empty((0, 2)), np.empty(0, int), "at least one sample"),
        ([[1.5, -0.5]], [0], r"outside \[0, 1\]"),
        ([[np.nan, 0.5]], [1], r"outside \[0, 1\]"),
    ],
)
def test_wrong_likelihoods(proba, target, message):
    with pytest.raises(ValueError, match=message):
        negative_log_likelihood(proba, target)


def literal_aurc(score, correct):
    """Mean over all orders of equal scores of the mean share of errors among the k surest."""
    areas = []
    for order in itertools.permutations(range(len(score))):
        if all(score[a] >= score[b] for a, b in itertools.pairwise(order)):
            wrong = [not correct[k] for k in order]
            areas.append(np.mean([np.mean(wrong[:k]) for k in range(1, len(wrong) + 1)]))
    return np.mean(areas)


@pytest.mark.parametrize("seed", range(4))
def test_aurc_with_ties_against_every_order(seed):
    rng = np.random.default_rng(seed)
    score, correct = rng.integers(-1, 2, 7), rng.random(7) < 0.5
    assert area_under_risk_coverage(score, correct) == pytest.approx(literal_aurc(score, correct))


def test_aurc_of_known_cases():
    assert area_under_risk_coverage([3, 2, 1], [True, False, True]) == pytest.approx(
        (0 + 1 / 2 + 1 / 3) / 3
    )
    assert area_under_risk_coverage([0.5] * 10, [True] * 7 + [False] * 3) == pytest.approx(0.3)
    assert area_under_risk_coverage([1, 2], [True, True]) == 0
    assert area_under_risk_coverage([-np.inf, 2], [False, True]) == pytest.approx(0.25)
    coverage, risk = risk_coverage([3, 1, 1], [False, True, False])
    assert coverage.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk.tolist() == pytest.approx([1, 0.75, 2 / 3])


def test_wrong_scores():
    with pytest.raises(ValueError, match="score has 1 nan"):
        area_under_risk_coverage([np.nan, 1], [True, True])
    with pytest.raises(ValueError, match="score is empty"):
        area_under_risk_coverage([], [])
    with pytest.raises(ValueError, match="inconsistent"):
        area_under_risk_coverage([1, 2], [True])


@pytest.mark.parametrize("n_bins", [1, 7, 10])
def test_bins_of_equal_width_are_scikit_learns(n_bins):
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.random(200) ** 3, [0.0, 1.0]])
    correct = rng.random(202) < confidence
    accuracy, stated, counts = calibration_bins(confidence, correct, n_bins, binning="width")
    right, said = calibration_curve(correct, confidence, n_bins=n_bins, strategy="uniform")
    np.testing.assert_allclose(accuracy, right)
    np.testing.assert_allclose(stated, said)
    assert counts.sum() == 202


def test_calibration_error_of_equal_width_by_a_loop():
    """The upper end belongs to a bin, as the authors of BayesAdapter have it: (l, u]."""
    rng = np.random.default_rng(1)
    confidence, correct = rng.integers(1, 21, 300) / 20, rng.random(300) < 0.6
    expected = 0.0
    for k in range(10):
        inside = [i for i in range(300) if k / 10 < confidence[i] <= (k + 1) / 10]
        if inside:
            gap = np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            expected += len(inside) / 300 * abs(gap)
    found = expected_calibration_error(confidence, correct, 10, binning="width")
    assert found == pytest.approx(expected, abs=1e-12)
    assert found != pytest.approx(expected_calibration_error(confidence, correct, 10), abs=1e-4)
    with pytest.raises(ValueError, match="binning='equal'"):
        expected_calibration_error(confidence, correct, binning="equal")


def best_coverage(score, correct, accuracy):
    """Try every threshold."""
    best = 0.0
    for threshold in set(score.tolist()):
        kept = [bool(c) for s, c in zip(score, correct) if s >= threshold]
        if sum(kept) * 1000 >= round(accuracy * 1000) * len(kept):
            best = max(best, len(kept) / len(score))
    return best


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("ties", [True, False])
def test_coverage_is_that_of_the_best_threshold(accuracy, ties):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        score = rng.integers(0, 12, 60) / 12 if ties else rng.random(60)
        correct = rng.random(60) < 0.6 + 0.4 * score
        assert coverage_at_accuracy(score, correct, accuracy) == best_coverage(score, correct, accuracy)


def test_coverage_counts_what_reaches_the_accuracy_exactly():
    correct = [True] * 19 + [False]
    assert coverage_at_accuracy(np.linspace(1, 0, 20), correct, 0.95) == 1.0
    assert coverage_at_accuracy([0.5, 0.4], [False, False]) == 0.0


def test_coverage_of_stated_probabilities_is_the_authors():
    rng = np.random.default_rng(0)
    score = np.append(rng.random(200) ** 0.2, 0.9)
    for correct in (rng.random(201) < score, rng.random(201) < score - 0.2):
        for accuracy in (0.8, 0.9, 0.95, 0.99):
            kept = [i for i in range(201) if score[i] >= accuracy]
            reached = np.mean([correct[i] for i in kept]) >= accuracy
            found = coverage_at_accuracy(score, correct, accuracy, threshold="stated")
            assert found == pytest.approx(len(kept) / 201 if reached else 0.0)
            assert found <= coverage_at_accuracy(score, correct, accuracy)


def test_coverage_refuses():
    with pytest.raises(ValueError, match=r"accuracy=95; expected a number in \[0, 1\]"):
        coverage_at_accuracy([0.5], [1], 95)
    with pytest.raises(ValueError, match="threshold='oracle'"):
        coverage_at_accuracy([0.5], [1], threshold="oracle")
    with pytest.raises(ValueError, match="outside"):
        coverage_at_accuracy([2.0], [1], threshold="stated")
    with pytest.raises(ValueError, match="nan"):
        coverage_at_accuracy([np.nan], [1])


def test_rejection_ratio_is_that_of_areas_over_random_orders():
    rng = np.random.default_rng(0)
    score = rng.permutation(7).astype(float)
    correct = np.array([1, 0, 1, 1, 0, 1, 1], dtype=bool)

    def kept_quality(order):
        return np.mean([np.mean([correct[i] for i in order[:k]]) for k in range(1, 8)])

    random = np.mean([kept_quality(order) for order in itertools.permutations(range(7))])
    oracle = kept_quality(sorted(range(7), key=lambda i: not correct[i]))
    expected = (kept_quality(np.argsort(-score)) - random) / (oracle - random)
    assert prediction_rejection_ratio(score, correct) == pytest.approx(expected)
    assert np.isnan(prediction_rejection_ratio(score, np.ones(7)))


def test_rejection_ratio_of_errors_among_all_would_be_the_auroc():
    """What the notes of the function say of Malinin and Gales's area."""
    rng = np.random.default_rng(3)
    score = rng.random(200)
    correct = rng.random(200) < score

    def area(values):
        order = np.argsort(-values, kind="stable")
        errors = np.append(0, np.cumsum(~correct[order])) / 200
        return trapezoid(errors, np.linspace(0, 1, 201))

    random, oracle = (~correct).mean() / 2, area(correct.astype(float))
    ratio = (random - area(score)) / (random - oracle)
    assert ratio == pytest.approx(2 * roc_auc_score(correct, score) - 1)
    assert prediction_rejection_ratio(score, correct) != pytest.approx(ratio, abs=1e-2)
