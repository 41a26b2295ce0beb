"""Ctrl-C, memory that runs out, full disks, numbers that are not finite: nothing half done stays."""

import errno
import os
import signal
import weakref
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LABELLED
from modAL.models import ActiveLearner
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from modal_clip_dual import (
    CLIPImageEncoder,
    DualLinearClassifier,
    DualPromptLearner,
    _compat,
    negative_prompt_sampling,
)
from modal_clip_dual.base import _classifier as base_module
from modal_clip_dual.clip.backbone import Backbone
from modal_clip_dual.evaluation import results
from modal_clip_dual.nn import inference
from modal_clip_dual.nn.criteria.dual import DualPromptLoss
from modal_clip_dual.utils import memory
from modal_clip_dual.utils.persistence import write_state
from modal_clip_dual.utils.rollback import unchanged_on_error

N = 100


@pytest.fixture
def labelled(embeddings, digits):
    return embeddings[LABELLED[:32]], digits.target[LABELLED[:32]]


@pytest.fixture
def fresh(classifier, labelled):
    """A fitted classifier that may be changed: 2 epochs of 2 steps."""
    return classifier(max_epochs=2).fit(*labelled)


def snapshot(clf, X):
    return {name: id(value) for name, value in vars(clf).items()}, clf.clean_logits(X)


def assert_unchanged(clf, X, before):
    assert {name: id(value) for name, value in vars(clf).items()} == before[0]
    np.testing.assert_array_equal(clf.clean_logits(X), before[1])


class At(Callback):
    """Does something at one step of a training, counted from 1 over all epochs."""

    def __init__(self, step, act):
        self.step, self.act, self.count_ = step, act, 0

    def on_train_begin(self, net, **kwargs):
        self.count_ = 0

    def on_grad_computed(self, net, **kwargs):
        self.count_ += 1
        if self.count_ == self.step:
            self.act(net)


def press_ctrl_c(*args, **kwargs):
    signal.raise_signal(signal.SIGINT)


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


# -------------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_unlabeled"])
@pytest.mark.parametrize("step", [1, 3])
def test_ctrl_c_in_training(classifier, fresh, labelled, method, step):
    X, y = labelled
    arguments = (X,) if method == "fit_unlabeled" else (X, y)
    never = classifier(max_epochs=3, net_params={"callbacks": [At(step, press_ctrl_c)]})
    with pytest.raises(KeyboardInterrupt):
        getattr(never, method)(*arguments)
    with pytest.raises(NotFittedError):
        never.predict(X)
    fresh.set_params(max_epochs=3, net_params={"callbacks": [At(step, press_ctrl_c)]})
    before = snapshot(fresh, X)
    with pytest.raises(KeyboardInterrupt):
        getattr(fresh, method)(*arguments)
    assert_unchanged(fresh, X, before)
    fresh.set_params(net_params=None)  # and it goes on as if nothing had happened
    never.set_params(net_params=None, max_epochs=2).fit(X, y).set_params(max_epochs=3)
    for clf in (fresh, never):
        getattr(clf, method)(*arguments)
    np.testing.assert_array_equal(fresh.clean_logits(X), never.clean_logits(X))


@pytest.mark.parametrize("method", ["fit", "fit_unlabeled"])
def test_ctrl_c_between_the_last_assignments(classifier, fresh, labelled, digits, method, monkeypatch):
    """The moment when some attributes are the new fit's and others the old one's."""
    X, y = labelled
    other = {"fit": (X[:10], y[:10]), "fit_unlabeled": (X[:20],)}[method]
    before = snapshot(fresh, X)
    monkeypatch.setattr(base_module, "validate_data", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        getattr(fresh, method)(*other)
    assert fresh.n_features_in_ == 128
    monkeypatch.undo()
    assert_unchanged(fresh, X, before)


def test_changes_are_undone_as_a_whole():
    class Thing:
        pass

    thing, log = Thing(), [1]
    thing.kept, thing.log = "before", log
    with pytest.raises(KeyboardInterrupt), unchanged_on_error(thing):
        thing.kept, thing.new = "after", 1
        thing.log.append(2)
        del thing.kept
        raise KeyboardInterrupt
    assert vars(thing) == {"kept": "before", "log": [1]}
    assert thing.log is log
    with unchanged_on_error(thing):
        thing.kept = "after"
    assert thing.kept == "after"


@pytest.mark.parametrize("form", ["images", "paths"])
def test_ctrl_c_in_encoding_keeps_what_is_whole(
    classifier, digits, embeddings, tmp_path, monkeypatch, nothing_loaded, form
):
    X = digits.images[:24]
    if form == "paths":
        X = [str(tmp_path / f"{k}.png") for k in range(24)]
        for path, image in zip(X, digits.images):
            Image.fromarray(image).save(path)
    clf = classifier(encode_batch_size=4, cache=tmp_path / "cache")
    encode, calls = Backbone.encode_images, []

    def interrupted(backbone, pixels):
        calls.append(len(pixels))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(backbone, pixels)

    monkeypatch.setattr(Backbone, "encode_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clf.transform(X)
    nothing_loaded.clear()  # as in a new process: only the disk remembers
    np.testing.assert_allclose(clf.transform(X), embeddings[:24], atol=1e-5)
    assert 24 <= sum(calls) <= 24 + 4 * 2 + 4  # one batch in flight and the interrupted one again


def test_ctrl_c_in_a_query_of_modal_is_ctrl_c(fresh, embeddings, monkeypatch):
    """modAL 0.4.2 would run the strategy a second time and take its answer for the rows."""
    learner = ActiveLearner(fresh, query_strategy=negative_prompt_sampling)
    expected = learner.query(embeddings[:N], n_instances=5)
    before = snapshot(fresh, embeddings[:N])
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return inference._predict(*args, **kwargs)

    monkeypatch.setattr(inference, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learner.query(embeddings[:N], n_instances=5)
    assert len(calls) == 1
    monkeypatch.undo()
    assert_unchanged(fresh, embeddings[:N], before)
    again = learner.query(embeddings[:N], n_instances=5)
    for part, same in zip(again, expected):
        np.testing.assert_array_equal(part, same)


class TwiceAsking:
    """What modAL 0.4.2 does in `query`, in few words; to be mended in a copy."""

    def __init__(self, query_strategy):
        self.query_strategy = query_strategy

    def query(self, X_pool, *args, return_metrics=False, **kwargs):
        try:
            rows, metrics = self.query_strategy(self, X_pool, *args, **kwargs)
        except:  # noqa: E722
            metrics = None
            rows = self.query_strategy(self, X_pool, *args, **kwargs)
        return (rows, metrics) if return_metrics else rows


def test_modal_asks_a_strategy_once():
    Learner = type("Learner", (), {name: vars(TwiceAsking)[name] for name in ("__init__", "query")})
    module = SimpleNamespace(BaseLearner=Learner)
    _compat._mend_query(module)
    mended = Learner.query
    _compat._mend_query(module)
    assert Learner.query is mended
    calls = []

    def strategy(learner, X_pool, n_instances=1, answer=None):
        calls.append(type(learner))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    learner = Learner(strategy)
    for error in (KeyboardInterrupt(), ValueError("n_instances=0"), RuntimeError("out of memory")):
        with pytest.raises(type(error)) as caught:
            learner.query([1, 2], answer=error)
        assert caught.value is error
    assert learner.query([1, 2], 2, answer=([0, 1], [0.5, 0.4]), return_metrics=True) == (
        [0, 1],
        [0.5, 0.4],
    )
    assert learner.query([1, 2], 3, answer=[0, 1, 2]) == [0, 1, 2]  # without metrics, as in 0.4.1
    assert calls == [Learner] * 5


def test_error_of_a_strategy_is_raised_once_and_as_it_is(fresh, embeddings):
    learner = ActiveLearner(fresh, query_strategy=negative_prompt_sampling)
    with pytest.raises(ValueError, match=r"n_instances=0; expected 1 to 5") as caught:
        learner.query(embeddings[:5], n_instances=0)
    assert caught.value.__context__ in (None, caught.value)


@pytest.mark.parametrize("where", ["mine_confident", "fit", "_record", "after the record"])
def test_ctrl_c_anywhere_in_a_round_of_the_loop(classifier, embeddings, digits, where, monkeypatch):
    """Taught again, the round and those that follow are what they would have been."""
    X, y = embeddings[:N], digits.target[:N]

    def make():
        return DualPromptLearner(classifier(max_epochs=1), X, n_per_class=2, y_pool=y)

    def play(learner, interrupt):
        for round_ in range(3):
            rows, instances = learner.query(n_instances=6)
            if round_ == 1 and interrupt:
                before = dict(vars(learner.estimator)), dict(vars(learner))
                with monkeypatch.context() as patch:
                    break_at(patch, learner)
                    with pytest.raises(KeyboardInterrupt):
                        learner.teach(instances, y[rows])
                assert vars(learner.estimator) == before[0]
                assert len(learner.log_) == 2
                assert learner.rows_[6:].tolist() == rows.tolist() and len(learner.y_training) == 6
            learner.teach(instances, y[rows])
        return learner

    def break_at(patch, learner):
        from modal_clip_dual.active import training

        if where == "mine_confident":
            patch.setattr(training, "mine_confident", raising(KeyboardInterrupt()))
        elif where == "fit":
            patch.setattr(DualPromptLoss, "forward", raising(KeyboardInterrupt()))
        elif where == "_record":
            interrupt = raising(KeyboardInterrupt())
            patch.setattr(type(learner), "_predictions_of", interrupt)
        else:
            record = type(learner)._record

            def and_interrupt(self, *args):
                record(self, *args)
                raise KeyboardInterrupt

            patch.setattr(type(learner), "_record", and_interrupt)

    interrupted, expected = play(make(), True), play(make(), False)
    timeless = [name for name in interrupted.log.columns if not name.endswith("seconds")]
    pd.testing.assert_frame_equal(interrupted.log[timeless], expected.log[timeless])
    np.testing.assert_array_equal(interrupted.estimator.clean_logits(X), expected.estimator.clean_logits(X))


@pytest.mark.parametrize(
    ("where", "pseudo_labels"), [("fit_unlabeled", "own"), ("fit_unlabeled", "transductive"), ("_record", "auto")]
)
def test_ctrl_c_in_round_zero(classifier, embeddings, digits, where, pseudo_labels, monkeypatch):
    X, params = embeddings[:N], {"n_per_class": 2, "pseudo_labels": pseudo_labels}
    learner = DualPromptLearner(classifier(max_epochs=1), X, **params)
    owner = DualLinearClassifier if pseudo_labels == "transductive" else type(learner.estimator)
    owner = type(learner) if where == "_record" else owner
    with monkeypatch.context() as patch:
        patch.setattr(owner, where, raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            learner.query(n_instances=3)
    assert not hasattr(learner, "log_")
    assert not hasattr(learner.estimator, "classes_")
    expected = DualPromptLearner(classifier(max_epochs=1), X, **params).query(n_instances=3)[0]
    np.testing.assert_array_equal(learner.query(n_instances=3)[0], expected)
    assert [record["round"] for record in learner.log_] == [0]


# -------------------------------------------------------------------- memory


class Tensor(torch.Tensor):
    """Something large, of which a test can see whether it is still held."""


def out_of_memory(held, error=torch.cuda.OutOfMemoryError):
    """A function that fails as torch does, with a large tensor among its variables."""

    def fail(*args, **kwargs):
        activations = torch.zeros(1000).as_subclass(Tensor)
        held.append(weakref.ref(activations))
        raise error("CUDA out of memory. Tried to allocate 2.00 GiB")

    return fail


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("pseudo", [False, True])
def test_memory_runs_out_in_training(fresh, labelled, monkeypatch, error, pseudo):
    X, y = labelled
    extra = {"X_pseudo": X[:8], "y_pseudo": y[:8]} if pseudo else {}
    before, held, emptied = snapshot(fresh, X), [], []
    monkeypatch.setattr(DualPromptLoss, "forward", out_of_memory(held, error))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        fresh.set_params(device="cpu").fit(X, y, **extra)
    message = str(caught.value)
    assert "no memory left for training; try a smaller batch_size (now 16)" in message
    assert "text_batch_size (now 'auto'), or precision='bf16'" in message
    assert ("pseudo_batch_size (now 64)" in message) == pseudo
    assert "Tried to allocate 2.00 GiB" in message
    assert len(held) == 1
    assert held[0]() is None  # though the error is still held
    assert emptied == [1]
    monkeypatch.undo()
    assert_unchanged(fresh, X, before)
    fresh.set_params(batch_size=4).fit(X, y)


def test_memory_runs_out_in_encoding(classifier, digits, monkeypatch, nothing_loaded):
    encode, batches, held, full = Backbone.encode_images, [], [], [True]

    def third(backbone, pixels):
        batches.append(len(pixels))
        return out_of_memory(held)() if len(batches) == 3 and full else encode(backbone, pixels)

    monkeypatch.setattr(Backbone, "encode_images", third)
    clf = classifier(encode_batch_size=8)
    encoder = CLIPImageEncoder("demo", "bundled", batch_size=8, device="cpu", cache=None)
    for estimator, name in ((clf, "encode_batch_size"), (encoder, "batch_size")):
        batches.clear()
        with pytest.raises(torch.cuda.OutOfMemoryError, match=f"smaller {name} .now 8.*'bf16'") as caught:
            estimator.transform(digits.images[:40])
        assert held.pop()() is None, caught
    batches.clear()
    full.clear()
    assert clf.set_params(encode_batch_size=4).transform(digits.images[:40]).shape == (40, 128)
    assert batches == [4] * 6  # the first 16 images were kept


def test_memory_runs_out_in_scoring(fresh, classifier, digits, embeddings, monkeypatch):
    held = []
    X = embeddings[:N]
    monkeypatch.setattr(inference, "by_cosine", out_of_memory(held))
    for method in ("predict", "predict_proba", "clean_logits", "zero_shot_proba"):
        with pytest.raises(torch.cuda.OutOfMemoryError, match="no memory left for scoring"):
            getattr(fresh, method)(X)
    learner = ActiveLearner(fresh, query_strategy=negative_prompt_sampling)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="try a smaller text_batch_size"):
        learner.query(X, n_instances=5)
    assert len(held) == 5
    assert all(reference() is None for reference in held)
    monkeypatch.undo()
    assert len(learner.query(X, n_instances=5)[0]) == 5


def test_memory_runs_out_with_visual_prompts(classifier, digits, monkeypatch):
    clf = classifier(visual_prompts="vpt-shallow", n_visual_tokens=1, max_epochs=1, augment=None)
    clf.fit(digits.images[:8], digits.target[:8])
    monkeypatch.setattr(inference, "embed_images", out_of_memory([]))
    with pytest.raises(torch.cuda.OutOfMemoryError, match="smaller encode_batch_size .now 256"):
        clf.predict(digits.images[:20])
    monkeypatch.undo()
    assert len(clf.predict(digits.images[:20])) == 20


def test_what_counts_as_no_memory():
    for error in (
        torch.cuda.OutOfMemoryError(""),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ):
        assert memory.is_out_of_memory(error)
    for error in (RuntimeError("shapes do not match"), ValueError("out of memory"), KeyboardInterrupt()):
        assert not memory.is_out_of_memory(error)
    with pytest.raises(RuntimeError, match="^shapes do not match$"), memory.memory_advice("a", "b"):
        raise RuntimeError("shapes do not match")


# -------------------------------------------------------------------- disk


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_leaves_the_saved_state_whole(classifier, embeddings, digits, tmp_path, monkeypatch):
    X, y = embeddings[:N], digits.target[:N]
    path = tmp_path / "state.npz"
    learner = DualPromptLearner(classifier(max_epochs=1), X, n_per_class=0, path=path)
    rows, instances = learner.query(n_instances=5)
    saved = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match=r"No space left.*old content of the file is intact.*state\.npz"):
            learner.teach(instances, y[rows])
    assert path.read_bytes() == saved
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.npz", "state.npz.holder", "state.npz.lock"]
    resumed = DualPromptLearner.resume(path, X)
    assert resumed._query["rows"] == rows.tolist()
    learner.teach(instances, y[rows])  # the labels were not lost, nor are they there twice
    assert len(learner.rows_) == 5
    assert len(DualPromptLearner.resume(path, X).rows_) == 5


def test_full_disk_after_a_training(classifier, embeddings, digits, tmp_path, monkeypatch):
    X, y = embeddings[:N], digits.target[:N]
    path = tmp_path / "state.npz"
    learner = DualPromptLearner(classifier(max_epochs=1), X, n_per_class=0, path=path)
    rows, instances = learner.query(n_instances=5)
    calls, fsync = [], os.fsync

    def second(descriptor):
        calls.append(1)
        return fsync(descriptor) if len(calls) == 1 else full_disk()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", second)
        with pytest.raises(OSError, match="No space left"):
            learner.teach(instances, y[rows])
    resumed = DualPromptLearner.resume(path, X)  # trains on the labels, which had been saved
    for each in (learner, resumed):
        assert each.rows_.tolist() == rows.tolist()
        assert len(each.log_) == 2
    np.testing.assert_array_equal(learner.predict(X), resumed.predict(X))
    assert len(resumed.query(n_instances=5)[0]) == 5


def test_full_disk_while_a_state_is_written(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    write_state(path, "learner", {"a": 1}, {"x": np.zeros(3)})
    saved = path.read_bytes()
    monkeypatch.setattr("builtins.open", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_state(path, "learner", {"a": 2}, {"x": np.ones(3)})
    monkeypatch.undo()
    assert path.read_bytes() == saved


def test_full_disk_leaves_tables_and_finished_runs_whole(tmp_path, monkeypatch):
    frame = pd.DataFrame({"seed": range(5), "accuracy": np.linspace(0, 1, 5)})
    results.write_table(frame, tmp_path)
    saved = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def half(self, target, **kwargs):
        target.write_bytes(b"seed,acc")
        full_disk()

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(OSError, match=r"No space left.*old content of the file is intact.*results\.csv"):
        results.write_table(frame, tmp_path)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == saved


def test_full_disk_in_the_middle_of_a_comparison(embeddings, digits, tmp_path, monkeypatch):
    from sklearn.naive_bayes import GaussianNB

    from modal_clip_dual.active import Protocol
    from modal_clip_dual.evaluation import compare_strategies, read_results

    def run(seeds):
        return compare_strategies(
            GaussianNB(), ["random"], embeddings[:N].astype(float), digits.target[:N], seeds=seeds,
            protocol=Protocol(2, per_class=2), path=tmp_path, verbose=0,
        )  # fmt: skip

    first = run([0])

    class Full:
        def __init__(self, stream):
            pass

        writerow = full_disk

    with monkeypatch.context() as patch:
        patch.setattr(results.csv, "writer", Full)
        with pytest.raises(OSError, match=r"No space left.*finished runs are whole.*seed|partial"):
            run([0, 1])
    pd.testing.assert_frame_equal(read_results(tmp_path), first)
    assert sorted(run([0, 1])["seed"].unique()) == [0, 1]
    assert not list(tmp_path.rglob("*.partial"))


# -------------------------------------------------------------------- numbers


def spoil(value):
    def act(net):
        net.module_.context_positive.data[:] = value

    return act


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("step", "place"), [(1, "epoch 1, step 2"), (2, "epoch 2, step 1"), (5, "epoch 3, step 2")]
)
def test_training_stops_at_the_first_loss_that_is_not_finite(fresh, labelled, value, step, place):
    X, y = labelled  # 2 steps per epoch
    before, seen = snapshot(fresh, X), []

    class Count(Callback):
        def on_batch_end(self, net, training, **kwargs):
            seen.append(net.history[-1, "batches", -1, "train_loss"])

    fresh.set_params(max_epochs=9, net_params={"callbacks": [At(step, spoil(value)), Count()]})
    with pytest.raises(FloatingPointError, match=f"{place}; try a smaller lr than 0.01") as caught:
        fresh.fit(X, y)
    assert "training diverged: the loss is nan" in str(caught.value)
    assert len(seen) == step  # that of the step itself, and no step after the bad one
    fresh.set_params(max_epochs=2, net_params=None)
    np.testing.assert_array_equal(fresh.clean_logits(X), before[1])


def test_prompts_that_the_last_step_ruined(fresh, labelled):
    X, y = labelled
    before = fresh.clean_logits(X)
    fresh.set_params(net_params={"callbacks": [At(4, spoil(float("nan")))]})
    with pytest.raises(FloatingPointError, match="a prompt is no longer finite in epoch 2, step 2"):
        fresh.fit(X, y)
    np.testing.assert_array_equal(fresh.set_params(net_params=None).clean_logits(X), before)


def test_loss_that_was_never_finite(classifier, labelled):
    class Spoil(Callback):
        def on_train_begin(self, net, **kwargs):
            spoil(float("nan"))(net)

    clf = classifier(net_params={"callbacks": [Spoil()]})
    with pytest.raises(FloatingPointError, match="epoch 1, step 1; nothing had been trained yet.*in fp32"):
        clf.fit(*labelled)
    with pytest.raises(NotFittedError):
        clf.predict(labelled[0])


def test_diverging_loop_goes_on_with_the_last_good_prompts(classifier, embeddings, digits):
    X, y = embeddings[:N], digits.target[:N]
    learner = DualPromptLearner(classifier(max_epochs=1), X, n_per_class=0)
    rows, instances = learner.query(n_instances=6)
    learner.teach(instances, y[rows])
    good = learner.predict_proba(X)
    rows, instances = learner.query(n_instances=6)
    learner.estimator.set_params(lr=1e38, max_epochs=3)
    with pytest.raises(FloatingPointError, match="epoch 2, step 1"):
        learner.teach(instances, y[rows])
    np.testing.assert_array_equal(learner.predict_proba(X), good)
    learner.estimator.set_params(lr=0.01, max_epochs=1)
    learner.query(n_instances=1)  # trains on the labels that wait
    assert len(learner.rows_) == 12


@pytest.mark.parametrize(
    ("precision", "advice"), [("fp32", "computes in float32, so the weights"), ("bf16", "try precision='fp32'")]
)
def test_embeddings_that_are_not_finite_are_neither_returned_nor_kept(
    classifier, digits, monkeypatch, nothing_loaded, precision, advice
):
    encode = Backbone.encode_images

    def overflow(backbone, pixels):
        embeddings = encode(backbone, pixels)
        return embeddings.clone().index_fill_(0, torch.tensor([1]), float("nan"))

    clf = classifier(encode_batch_size=4, precision=precision)
    monkeypatch.setattr(Backbone, "encode_images", overflow)
    with pytest.raises(FloatingPointError, match=rf"X\[1\]: the image tower .*{advice}"):
        clf.transform(digits.images[:10])
    monkeypatch.undo()
    assert np.isfinite(clf.transform(digits.images[:10])).all()


def test_clone_of_an_interrupted_estimator_is_clean(classifier, labelled):
    clf = classifier(net_params={"callbacks": [At(1, press_ctrl_c)]})
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*labelled)
    again = clone(clf).set_params(net_params=None).fit(*labelled)
    np.testing.assert_array_equal(
        again.clean_logits(labelled[0]), classifier().fit(*labelled).clean_logits(labelled[0])
    )
