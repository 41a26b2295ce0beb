"""Equal samples are found, of every kind of pool, and get equal scores."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from template import small_blocks

from modal_clip_dual.strategies import (
    _equal,
    badge_gradient_norm,
    cec_uncertainty,
    coreset_distance,
    negative_prompt_uncertainty,
)
from modal_clip_dual.strategies._equal import alike, also_equal, equal_to, first_equal, keys_of, lowest_rows
from modal_clip_dual.strategies._points import Points
from modal_clip_dual.utils.arrays import Rows


def literal(X):
    """Row of the first equal sample, each compared with all before."""
    return [next(k for k in range(len(X)) if np.array_equal(X[k], X[row])) for row in range(len(X))]


KINDS = {
    "array": lambda X: X,
    "float16": lambda X: X.astype(np.float16),
    "one byte": lambda X: X.astype(np.uint8),
    "transposed": lambda X: np.asfortranarray(X),
    "tensor": torch.from_numpy,
    "rows": lambda X: Rows(np.concatenate([X, X]), np.arange(len(X))),
    "frame": pd.DataFrame,
    "nested lists": lambda X: X.tolist(),
}


@pytest.mark.parametrize("width", [1, 3, 8, 9, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_first_of_equal_samples(kind, width, monkeypatch):
    """Few values, so that many rows share their middle, and some all of it."""
    monkeypatch.setattr(_equal, "ROWS", 7)
    rng = np.random.default_rng(width)
    X = rng.integers(2, size=(60, width)).astype(np.float32)
    X[:, 2:-2] = 1.0
    X = X[rng.integers(60, size=150)]
    np.testing.assert_array_equal(first_equal(KINDS[kind](X)), literal(X))
    assert first_equal(KINDS[kind](np.arange(40, dtype=np.float32).reshape(20, 2))) is None


def test_images_and_paths(digits):
    images = digits.images[[3, 1, 3, 1, 2]]
    assert first_equal(images).tolist() == [0, 1, 0, 1, 4]
    assert first_equal(list(images)).tolist() == [0, 1, 0, 1, 4]
    paths = ["b.png", "a.png", "b.png"]
    for given in (paths, np.array(paths), np.array(paths, dtype=object), [Path(p) for p in paths],
                  np.array(paths)[:, None], pd.DataFrame({"path": paths})):  # fmt: skip
        assert first_equal(given).tolist() == [0, 1, 0]
    assert first_equal(["a", "b"]) is None


def test_what_cannot_be_compared_differs(digits):
    for X in ([digits.images[0], digits.images[0][:4]], csr_matrix(np.ones((3, 2))), [{}, {}], [None, None]):
        assert first_equal(X) is None


def test_one_hash_of_different_samples(monkeypatch):
    monkeypatch.setattr(_equal, "_hash", lambda words: np.zeros(len(words), dtype=np.uint64))
    X = np.array([[1.0], [1.0], [2.0], [1.0]])
    assert first_equal(X).tolist() == [0, 0, 2, 0]
    assert first_equal(X[1:3]) is None


def test_keys_may_be_given():
    X = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    assert first_equal(X, keys_of(X)).tolist() == [0, 1, 0]
    np.testing.assert_array_equal(np.concatenate([keys_of(X[:1]), keys_of(X[1:])]), keys_of(X))


def test_equal_in_something_else_too():
    first = np.array([0, 0, 0, 3, 3])
    values = np.array([[1.0], [2.0], [2.0], [5.0], [5.0]])  # the first of three stands apart
    assert also_equal(first, values).tolist() == [0, 1, 1, 3, 3]
    assert also_equal(None, values) is None
    assert also_equal(first, np.arange(5.0)[:, None]) is None


@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_values_are_made_alike(make):
    values, first = make([1.0, 2.0, 1.5, 2.0]), np.array([0, 1, 0, 1])
    assert alike(values, first).tolist() == [1.0, 2.0, 1.0, 2.0]
    assert values.tolist() == [1.0, 2.0, 1.5, 2.0]  # not written to
    assert alike(values, None) is values
    assert alike(values, np.array([0, 1, 2, 1])) is values  # alike already
    assert equal_to(3, first).tolist() == [1, 3]
    assert equal_to(3, None).tolist() == [3]


SCORES = [negative_prompt_uncertainty, badge_gradient_norm, cec_uncertainty, coreset_distance]


@pytest.mark.parametrize("score", SCORES)
def test_equal_samples_get_equal_scores(learner, embeddings, score, monkeypatch):
    small_blocks(monkeypatch)
    sample = np.random.default_rng(1).permutation(np.repeat(np.arange(29), 7))
    values = score(learner, embeddings[60:89][sample])
    first = [np.flatnonzero(sample == one)[0] for one in sample]
    np.testing.assert_array_equal(values, values[first])
    assert len(np.unique(values)) > 20


def test_a_sample_is_at_no_distance_from_itself(embeddings):
    """Products leave some 1e-7 of it, squared."""
    points = Points(np.concatenate([embeddings[:50], embeddings[:3]]))
    nearest = points.nearest(torch.from_numpy(embeddings[2:40]))
    assert (nearest == 0).nonzero()[:, 0].tolist() == [*range(2, 40), 52]


def test_distances_between_close_samples_keep_their_digits(embeddings):
    """Of two unit vectors 0.001 apart, products know the squared distance to some 10 %."""
    x, near = embeddings[:50], embeddings[:50].copy()
    near[:, 7] += np.linspace(1e-4, 1e-3, 50, dtype=np.float32)
    expected = np.square(near.astype(np.float64) - x).sum(axis=1)
    # near and x round to eps / 2 of their numbers, below 1: the reference takes them as they are.
    actual = Points(x).nearest(torch.from_numpy(near)).numpy()
    np.testing.assert_allclose(actual, expected, rtol=4 * np.finfo(np.float32).eps)


def test_the_first_of_equal_samples_stand_for_the_others():
    first = np.array([0, 1, 0, 3, 1, 0, 1])
    assert lowest_rows(np.array([5, 3, 6, 2]), first).tolist() == [0, 3, 1, 2]
    assert lowest_rows(np.array([4, 6, 1]), first).tolist() == [1, 4, 6]
    assert lowest_rows(np.array([6, 5]), None).tolist() == [6, 5]
