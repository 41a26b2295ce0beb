import numpy as np
import pytest

from modal_clip_dual.evaluation import auroc_of_correctness, expected_calibration_error


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
