"""The penalty that labeled samples choose, against a plain formula and scikit-learn's regression."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from modal_clip_dual.nn import text_penalty
from modal_clip_dual.nn.text_penalty import PENALTIES, choose_text_penalty

SCALE = 20.0


def example(shift, n=60, n_classes=5, width=16, seed=0, noise=0.2):
    """Labeled samples around texts that are ``shift`` away from the true means of their classes."""
    rng = np.random.default_rng(seed)

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    text = unit(rng.normal(size=(n_classes, width)))
    target = rng.integers(n_classes, size=n)
    means = unit(text + shift * unit(rng.normal(size=text.shape)))
    return unit(means[target] + noise * rng.normal(size=(n, width))), target, text


def moved(x, y, text, penalty, weight):
    """Texts that minimize the loss in the docstring's words."""

    def loss(flat):
        texts = flat.reshape(text.shape)
        likelihood = log_softmax(SCALE * x @ texts.T, axis=1)[np.arange(len(y)), y]
        return -weight @ likelihood + penalty / 2 * SCALE**2 * ((texts - text) ** 2).sum()

    return minimize(loss, text.ravel(), options={"gtol": 1e-4}).x.reshape(text.shape)


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_plain_formula(weighted):
    x, y, text = example(0.8, n=9, n_classes=3, width=4)
    weight = np.random.default_rng(1).uniform(0.5, 2, size=9) if weighted else np.ones(9)
    smallest = [min(tuple(row) for row in x[y == k]) for k in range(3)]  # classes are sorted by their first sample,
    order = sorted(range(9), key=lambda i: (smallest[y[i]], tuple(x[i])))  # samples by value, and dealt in turn
    folds = np.empty(9, int)
    folds[order] = np.arange(9) % 5
    scores = []
    for penalty in PENALTIES:
        score = -np.log(penalty / 0.01) ** 2 / (2 * 1.5**2)
        for fold in range(5):
            texts = moved(x[folds != fold], y[folds != fold], text, penalty, weight[folds != fold])
            for i in np.flatnonzero(folds == fold):
                score += weight[i] * log_softmax(SCALE * texts @ x[i])[y[i]]
        scores.append(score)
    posterior = np.exp(scores - np.max(scores)) / np.exp(scores - np.max(scores)).sum()
    expected = np.exp(posterior @ np.log(PENALTIES))
    actual = choose_text_penalty(x, y, text, SCALE, weight if weighted else None)
    assert actual == pytest.approx(expected, rel=0.02)


def test_names_that_say_enough_are_held_and_others_are_not():
    right, wrong = (choose_text_penalty(*example(shift, noise=0.4), SCALE) for shift in (0.0, 2.0))
    assert right > 0.03 and wrong < 0.003


@pytest.mark.parametrize("n", [0, 1])
def test_one_label_or_none_has_the_usual_penalty(n):
    x, y, text = example(0.5)
    assert choose_text_penalty(x[:n], y[:n], text, SCALE) == 0.01


def test_few_labels_stay_near_it():
    x, y, text = example(0.0)
    assert 0.003 < choose_text_penalty(x[:2], y[:2], text, SCALE) < 0.03


def test_copies_are_weights():
    x, y, text = example(0.5, n=20)
    weight = np.tile([1, 2, 3, 1], 5)
    copies = choose_text_penalty(np.repeat(x, weight, axis=0), np.repeat(y, weight), text, SCALE)
    assert copies == pytest.approx(choose_text_penalty(x, y, text, SCALE, weight.astype(float)), rel=1e-9)
    assert choose_text_penalty(np.tile(x[:1], (7, 1)), y[[0] * 7], text, SCALE) == 0.01


def test_order_does_not_matter_and_samples_of_one_class_do():
    x, y, text = example(0.5)
    other = np.array([3, 0, 4, 1, 2])  # numbers of the same classes
    again = choose_text_penalty(x, other[y], text[np.argsort(other)], SCALE)
    assert again == pytest.approx(choose_text_penalty(x, y, text, SCALE), rel=1e-3)
    order = np.random.default_rng(0).permutation(len(y))
    assert choose_text_penalty(x[order], y[order], text, SCALE) == pytest.approx(
        choose_text_penalty(x, y, text, SCALE), rel=1e-3
    )
    one = choose_text_penalty(x[y == 0], y[y == 0], text, SCALE)
    assert PENALTIES[0] <= one <= PENALTIES[-1]


def test_many_samples_are_asked_in_part():
    x, y, text = example(0.5, n=5000)
    few, many = (choose_text_penalty(x[:k], y[:k], text, SCALE) for k in (200, 5000))
    assert abs(np.log(few / many)) < 1.2  # a step of the grid: it does not depend on the number of samples


def test_many_classes_are_told_apart_in_part(monkeypatch):
    """Those with labels first; the samples of the others do not count."""
    x, y, text = example(0.5, n=40, n_classes=150)
    asked = []
    monkeypatch.setattr(text_penalty, "_held_out", lambda *args: asked.append(args) or np.zeros(len(PENALTIES)))
    choose_text_penalty(x, y, text, SCALE)
    rows, logits, labels, _ = asked[0]
    assert len(rows) == 40 and logits.shape == (40, 100)
    reference = SCALE * np.einsum("nd,nd->n", x, text[y])
    np.testing.assert_allclose(logits[np.arange(40), labels], reference, rtol=1e-10)
    choose_text_penalty(*example(0.5, n=3000, n_classes=150), SCALE)  # every class has labels
    rows, logits, labels, _ = asked[1]
    assert logits.shape == (200, 100) and len(np.unique(labels)) > 80
