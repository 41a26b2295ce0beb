"""Embeddings in files (numpy.memmap): nothing reads or copies them as a whole."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from modAL.models import ActiveLearner
from modAL.uncertainty import entropy_sampling
from sklearn.utils import check_array

from modal_clip_dual import DualPromptLearner, mine_confident, negative_prompt_sampling, scores
from modal_clip_dual.active import Protocol
from modal_clip_dual.strategies import _equal, _ranking
from modal_clip_dual.utils.arrays import Rows, blocks


def small_blocks(monkeypatch):
    """Make every part of the code that goes block by block take many blocks."""
    from modal_clip_dual.clip import inputs
    from modal_clip_dual.heads import _dual_linear, dual_linear
    from modal_clip_dual.nn import inference
    from modal_clip_dual.utils import arrays

    for module in (_dual_linear, dual_linear):  # it reads so many rows of a pool at once, but 20 per class at least
        monkeypatch.setattr(module, "POOL", 100)
    for module in (arrays, inputs):
        monkeypatch.setattr(module, "ROWS", 70)
    monkeypatch.setattr(arrays, "CACHED", 40)
    monkeypatch.setattr(inference, "PREDICTION_BATCH", 90)
    monkeypatch.setattr(scores, "ROWS", 50)
    monkeypatch.setattr(_ranking, "POOL_ROWS", 110)
    monkeypatch.setattr(_equal, "ROWS", 60)


class Watched(np.memmap):
    """A memmap that notes the largest number of rows that were taken out of it at once."""

    most = 0

    def __getitem__(self, key):
        part = super().__getitem__(key)
        if getattr(part, "ndim", 0) == 2:
            Watched.most = max(Watched.most, len(part))
        return part


@pytest.fixture(params=["float32", "float16", "float64"])
def mapped(request, embeddings, tmp_path):
    path = tmp_path / "pool.dat"
    array = np.memmap(path, dtype=request.param, mode="w+", shape=embeddings.shape)
    array[:] = embeddings * 3  # not of unit length
    array.flush()
    Watched.most = 0
    return Watched(path, dtype=request.param, mode="r", shape=embeddings.shape)


def in_memory(mapped):
    return np.array(mapped.tolist(), dtype=np.float32)


METHODS = ["predict", "predict_proba", "clean_logits", "predict_clean_proba", "predict_correct_proba",
           "zero_shot_proba", "transform"]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_methods_take_them_block_by_block(fitted, mapped, method, monkeypatch):
    expected = getattr(fitted, method)(in_memory(mapped))
    small_blocks(monkeypatch)
    actual = getattr(fitted, method)(mapped)
    assert Watched.most <= 110
    if actual.dtype.kind == "f":
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected, atol=2e-4, rtol=1e-4)
    else:
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("method", ["predict", "predict_correct_proba", "query", "mine"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_memory_is_that_of_a_block(fitted, embeddings, tmp_path, method, dtype, monkeypatch):
    shape = (20 * len(embeddings), embeddings.shape[1])
    pool = np.memmap(tmp_path / "pool.dat", dtype, "w+", shape=shape)
    pool[:] = np.tile(embeddings, (20, 1))
    call = {
        "query": lambda: negative_prompt_sampling(fitted, pool, 10),
        "mine": lambda: mine_confident(fitted, pool, 10, exclude=[3]),
    }.get(method, lambda: getattr(fitted, method)(pool))
    small_blocks(monkeypatch)
    call()
    tracemalloc.start()
    try:
        call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.25 * 4 * pool.size  # of what the pool would take in memory


def test_a_plain_learner(classifier, mapped, digits, monkeypatch):
    """query and teach, as with the same numbers in memory."""
    chosen = []
    for X in (in_memory(mapped), mapped):
        if X is mapped:
            small_blocks(monkeypatch)
            Watched.most = 0
        learner = ActiveLearner(classifier(max_epochs=2), negative_prompt_sampling)
        for _ in range(2):
            rows, instances = learner.query(X, n_instances=20)
            learner.teach(instances, digits.target[rows])
        chosen.append(rows.tolist())
        chosen.append(mine_confident(learner, X, 3)[0].tolist())
    assert chosen[:2] == chosen[2:]
    assert Watched.most <= 110


@pytest.mark.parametrize(
    "strategy", [negative_prompt_sampling, partial(negative_prompt_sampling, score="margin")]
)
@pytest.mark.parametrize("calibration", [None, "judge"])
def test_the_whole_loop(classifier, mapped, digits, strategy, calibration, monkeypatch, tmp_path):
    logs = []
    for X in (in_memory(mapped), mapped):
        if X is mapped:
            small_blocks(monkeypatch)
            Watched.most = 0
        learner = DualPromptLearner(
            classifier(max_epochs=2), X, query_strategy=strategy, calibration=calibration, pseudo_labels="own",
            path=tmp_path / f"{len(logs)}.npz",
        )  # fmt: skip
        learner.run(digits.target, protocol=Protocol(2, fraction=0.01))
        logs.append([learner.rows_.tolist(), learner.pseudo_rows_.tolist()])
    assert logs[0] == logs[1]
    # 36 labelled and pseudo-labelled ones are taken out to train on; a judge takes 20 per class.
    assert Watched.most <= (180 if calibration is None else 200)


def test_the_whole_loop_with_a_transducer(classifier, mapped, digits, monkeypatch):
    """It reads its own share of the pool, and what is trained on."""
    small_blocks(monkeypatch)
    monkeypatch.setattr("modal_clip_dual.active.training.MOST_TRANSDUCED", 100)
    logs = []
    for X in (in_memory(mapped), mapped):
        Watched.most = 0
        learner = DualPromptLearner(classifier(max_epochs=2), X, y_pool=digits.target)
        learner.run(digits.target, protocol=Protocol(2, fraction=0.01))
        logs.append([learner.rows_.tolist(), learner.pseudo_rows_.tolist()])
    assert logs[0] == logs[1] and len(logs[0][1]) == 100
    assert Watched.most <= 200


def test_strategies_of_others_get_an_array(classifier, embeddings, digits, tmp_path):
    np.save(tmp_path / "pool.npy", embeddings)
    pool = np.load(tmp_path / "pool.npy", mmap_mode="r")
    seen = []

    def spying(learner, X, n_instances):
        seen.append(X)
        return entropy_sampling(learner, X, n_instances)

    learner = DualPromptLearner(classifier(max_epochs=1), pool, query_strategy=spying)
    learner.query(n_instances=3)
    assert isinstance(seen[0], np.ndarray)


def test_numbers_that_are_not_finite_are_refused(fitted, embeddings, tmp_path):
    array = np.memmap(tmp_path / "pool.dat", np.float64, "w+", shape=embeddings.shape)
    array[:] = embeddings
    for wrong in (np.nan, np.inf, 1e300):
        array[1700, 5] = wrong
        with pytest.raises(ValueError, match="Input X contains"):
            fitted.predict(array)


def test_rows():
    array = np.arange(20).reshape(10, 2)
    rows = Rows(array, [3, 1, 7])
    with pytest.raises(ValueError, match="gathered"):
        rows.__array__(copy=False)
    assert rows.shape == (3, 2) and len(rows) == 3 and rows.ndim == 2
    np.testing.assert_array_equal(rows[1:], array[[1, 7]])
    np.testing.assert_array_equal(np.asarray(rows), array[[3, 1, 7]])
    np.testing.assert_array_equal(check_array(rows), array[[3, 1, 7]])
    assert [(part.start, part.stop) for part in blocks(7, 3)] == [(0, 3), (3, 6), (6, 7)]
