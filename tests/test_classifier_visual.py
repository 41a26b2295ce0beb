"""DualPromptClassifier with visual prompts: training on images, caches, state."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import named
from PIL import Image
from precision import of_tower
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torchvision import transforms as T

from modal_clip_dual import DualPromptClassifier, negative_prompt_sampling
from modal_clip_dual.clip.backbone import Backbone
from modal_clip_dual.data import augmentation, reading
from modal_clip_dual.nn.image_encoder import PromptedImageEncoder

KINDS = ["vpt-deep", "vpt-shallow", "maple", "ivlp"]


@pytest.fixture(autouse=True)
def empty_cache():
    reading.memory_of_pixels.clear()


@pytest.fixture
def labelled(digits):
    rows = np.random.default_rng(1).permutation(1797)[:40]
    return digits.images[rows], digits.target[rows]


@pytest.fixture
def visual(classifier):
    """Function that makes a classifier with visual prompts, without augmentation."""

    def make(visual_prompts="vpt-deep", **params):
        params = {"max_epochs": 2, "augment": None, "n_visual_tokens": 4} | params
        return classifier(visual_prompts=visual_prompts, **params)

    return make


@pytest.fixture
def forwards(monkeypatch):
    """Images per forward of the image tower with prompts, call by call."""
    sizes = []
    original = PromptedImageEncoder.__call__
    monkeypatch.setattr(
        PromptedImageEncoder,
        "__call__",
        lambda self, pixels, *args: sizes.append(len(pixels)) or original(self, pixels, *args),
    )
    return sizes


def saved(folder, images):
    paths = [str(folder / f"{k}.png") for k in range(len(images))]
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    return paths


# -------------------------------------------------------------------- learning


@pytest.mark.parametrize("kind", KINDS)
def test_learns_and_moves_prompts_alone(visual, digits, demo, kind):
    """100 labels; no weight of the backbone moves and none receives a gradient."""
    before = {key: value.clone() for key, value in demo.model.state_dict().items()}
    clf = visual(kind, max_epochs=10, n_visual_tokens=20)
    clf.fit(digits.images[:100], digits.target[:100])
    assert clf.score(digits.images[100:600], digits.target[100:600]) > 0.78
    assert all(torch.equal(before[key], value) for key, value in demo.model.state_dict().items())
    assert all(parameter.grad is None for parameter in demo.model.parameters())
    initial = dict(visual(kind, max_epochs=1, lr=1e-30, n_visual_tokens=20).fit(
        digits.images[:10], digits.target[:10]
    ).net_.module_.named_parameters())  # fmt: skip
    for name, parameter in clf.net_.module_.named_parameters():
        assert not torch.equal(parameter, initial[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_the_formula(visual, labelled, digits, demo, kind):
    """Images through the trained module one by one, in numpy from there on."""
    clf = visual(kind).fit(*labelled)
    X = digits.images[:6]
    module = clf.net_.module_.eval()
    with torch.no_grad():
        pixels = [demo.preprocess(Image.fromarray(image))[None] for image in X]
        image = torch.cat([module.image_embeddings(one) for one in pixels]).double().numpy()
        text = module.text_embeddings().double().numpy()
    s_pos, s_neg = image @ text[0].T, image @ text[1].T
    np.testing.assert_allclose(clf.transform(X), image, atol=1e-5)
    np.testing.assert_allclose(clf.clean_logits(X), (s_pos - s_neg) * demo.logit_scale, atol=1e-3)
    exp = np.exp(s_pos * demo.logit_scale)
    np.testing.assert_allclose(clf.predict_proba(X), exp / exp.sum(1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_negative_weight_is_the_plain_learner(visual, labelled, kind):
    """VPT and MaPLe as such: the negative prompt is drawn and never trained."""
    plain = visual(kind, negative_weight=0).fit(*labelled)
    other = visual(kind, negative_weight=0, complement="hard", detach_positive=True).fit(*labelled)
    np.testing.assert_array_equal(plain.predict_proba(labelled[0]), other.predict_proba(labelled[0]))
    detached = visual(kind, detach_positive=True, random_state=0).fit(*labelled)
    np.testing.assert_allclose(
        detached.predict_proba(labelled[0]), plain.predict_proba(labelled[0]), atol=1e-4
    )


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("vpt-deep", {"n_visual_tokens": 5}),
        ("vpt-shallow", {"n_visual_tokens": 5}),
        ("maple", {"prompt_depth": 1}),
        ("maple", {"n_context": 2}),
        ("vpt-deep", {"augment": "auto"}),
        ("vpt-deep", {"augment": T.RandomRotation(15)}),
        ("vpt-deep", {"visual_prompts": "vpt-shallow"}),
        ("vpt-deep", {"random_state": 1}),
    ],
)
def test_every_parameter_matters(visual, labelled, kind, params):
    default = visual(kind).fit(*labelled).clean_logits(labelled[0])
    changed = visual(kind).set_params(**named(params)).fit(*labelled).clean_logits(labelled[0])
    assert np.abs(default - changed).max() > 1e-3


@pytest.mark.parametrize("augment", [None, "auto", T.RandomRotation(15)])
def test_same_seed_same_result_and_global_state_untouched(visual, labelled, augment):
    torch.manual_seed(0)
    np.random.seed(0)
    states = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = visual(augment=augment).fit(*labelled).clean_logits(labelled[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[0])
    assert torch.equal(torch.get_rng_state(), states[1])
    torch.manual_seed(7)
    again = visual(augment=augment).fit(*labelled).clean_logits(labelled[0])
    np.testing.assert_array_equal(again, first)


def test_augmentation_is_new_in_every_epoch_and_absent_in_prediction(visual, labelled, monkeypatch):
    seeds = []
    original = augmentation.augmented

    def noted(augment, image, seed, preprocessing):
        seeds.append(seed)
        return original(augment, image, seed, preprocessing)

    monkeypatch.setattr(reading, "augmented", noted)
    clf = visual(augment="auto", max_epochs=3).fit(*labelled)
    assert len(seeds) == len(set(seeds)) == 4 * 40  # once to ask the frozen CLIP, before training
    clf.predict(labelled[0])
    clf.zero_shot_proba(labelled[0])
    assert len(seeds) == 4 * 40


def test_partial_fit_goes_on(visual, labelled):
    clf = visual(max_epochs=5).fit(*labelled)
    clf.partial_fit(*labelled)
    assert len(clf.history_) == 10
    assert clf.history_[-1]["train_loss"] < clf.history_[0]["train_loss"]


def test_user_settings_of_skorch(visual, labelled):
    from skorch.dataset import ValidSplit
    from torch.utils.data import DataLoader

    for params in ({"iterator_train": DataLoader}, {"train_split": ValidSplit(4)}):
        clf = visual(net_params=params).fit(*labelled)
        assert len(clf.history_) == 2
    assert clf.history_[-1]["valid_loss"] > 0


# -------------------------------------------------------------------- forms of X


@pytest.mark.parametrize("kind", ["vpt-deep", "maple"])
def test_images_and_paths_agree(visual, labelled, tmp_path, kind):
    X, y = labelled
    paths = saved(tmp_path, X)
    clf = visual(kind).fit(X, y)
    expected = clf.predict_proba(X)
    np.testing.assert_allclose(visual(kind).fit(paths, y).predict_proba(X), expected, atol=1e-4)
    colour = np.repeat(X[..., None], 3, axis=3)
    for form in (paths, pd.DataFrame({"file": paths}), colour, torch.from_numpy(X), list(X)):
        np.testing.assert_allclose(clf.predict_proba(form), expected, atol=1e-4)
    for params in ({"encode_batch_size": 7}, {"n_jobs": 2}, {"cache": None}):
        other = visual(kind, **params).fit(paths, y)
        np.testing.assert_allclose(other.predict_proba(paths), expected, atol=1e-4)


def test_embeddings_are_refused_before_and_after_fit(visual, labelled, embeddings):
    message = r"X has shape \(40, 128\).*visual_prompts='vpt-deep'.*expected images"
    with pytest.raises(ValueError, match=message):
        visual().fit(embeddings[:40], labelled[1])
    clf = visual().fit(*labelled)
    for method in ("predict", "predict_proba", "clean_logits", "transform"):
        with pytest.raises(ValueError, match=message):
            getattr(clf, method)(embeddings[:40])
    assert clf.zero_shot_proba(embeddings[:40]).shape == (40, 10)  # asks the frozen CLIP


def test_transform_is_frozen_before_and_moved_after_fit(visual, labelled, embeddings, digits):
    clf = visual()
    np.testing.assert_allclose(clf.transform(digits.images[:9]), embeddings[:9], atol=of_tower(), rtol=0)
    zero_shot = clf.zero_shot_proba(digits.images[:9])
    clf.fit(*labelled)
    moved = clf.transform(digits.images[:9])
    assert np.abs(moved - embeddings[:9]).max() > 1e-2
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(clf.zero_shot_proba(digits.images[:9]), zero_shot)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"visual_prompts": "deep"}, ValueError, "'visual_prompts' parameter"),
        ({"n_visual_tokens": 0}, ValueError, "'module__n_visual_tokens' parameter"),
        ({"prompt_depth": 0}, ValueError, "'module__prompt_depth' parameter"),
        ({"visual_prompts": "maple", "prompt_depth": 4}, ValueError, "prompt_depth=4; .*at most 3"),
        ({"augment": "flip"}, ValueError, "'augment' parameter"),
        ({"augment": lambda image: None}, TypeError, "augment returned NoneType"),
        ({"visual_prompts": None, "augment": abs}, ValueError, "augment=.* no effect"),
        ({"cache": "ram"}, ValueError, "cache='ram'; expected"),
        ({"n_jobs": 0}, ValueError, "n_jobs=0; expected"),
    ],
)
def test_refused_before_training(visual, labelled, forwards, params, error, message):
    clf = visual().fit(*labelled)
    before = clf.clean_logits(labelled[0])
    n_forwards = len(forwards)
    with pytest.raises(error, match=message):
        clf.set_params(**named(params)).fit(*labelled)
    assert len(forwards) == n_forwards
    clf.set_params(**visual().get_params())
    np.testing.assert_array_equal(clf.clean_logits(labelled[0]), before)


def test_tower_without_place_for_prompts(labelled, digits, nothing_loaded):
    clf = DualPromptClassifier(
        digits.class_names, model_name="RN50", pretrained=None, device="cpu", visual_prompts="vpt-deep"
    )
    with pytest.warns(UserWarning, match="random weights"):
        with pytest.raises(ValueError, match=r"ModifiedResNet.*'ViT-B-16'"):
            clf.fit(*labelled)


# -------------------------------------------------------------------- work that is not repeated


def test_one_forward_per_image_and_fit(visual, labelled, digits, forwards):
    """Whatever is asked of a pool, its images go through the tower once per fit."""
    clf = visual().fit(*labelled)
    forwards.clear()
    pool = digits.images[:300]
    negative_prompt_sampling(clf, pool, n_instances=5)
    clf.predict(pool[100:])
    clf.transform(pool)
    assert sum(forwards) == len(np.unique(pool, axis=0))
    clf.fit(*labelled)
    forwards.clear()
    clf.predict(pool[:50])
    assert sum(forwards) == 50


@pytest.mark.parametrize(("cache", "n_reads"), [("memory", 40), ("disk", 40), (None, 5 * 40)])
def test_cache_saves_reading_files(visual, labelled, demo, tmp_path, monkeypatch, cache, n_reads):
    demo.embedding_cache.clear()  # the frozen tower is asked too, whatever ran before
    folder = tmp_path / "cache" if cache == "disk" else None
    read = []
    original = reading.read_image
    monkeypatch.setattr(
        reading, "read_image", lambda *args, **kwargs: read.append(1) or original(*args, **kwargs)
    )
    paths = saved(tmp_path, labelled[0])
    clf = visual(cache=folder or cache).fit(paths, labelled[1])  # 2 epochs
    clf.predict(paths)
    # Without a cache: to see that all can be read, by the frozen tower, in 2 epochs, and to predict.
    assert len(read) == n_reads
    if cache == "disk":
        assert [path.suffix for path in folder.glob("pixels-*")] == [".sqlite"]
        reading.memory_of_pixels.clear()
        clf.fit(paths, labelled[1]).predict(paths)
        assert len(read) == n_reads


def test_frozen_classifier_uses_the_disk_cache(classifier, labelled, tmp_path, demo, monkeypatch):
    demo.embedding_cache.clear()
    disk = {"cache": tmp_path}
    first = classifier(**disk).fit(*labelled).predict_proba(labelled[0])
    demo.embedding_cache.clear()
    monkeypatch.setattr(Backbone, "encode_images", None)
    again = classifier(**disk).fit(*labelled).predict_proba(labelled[0])
    np.testing.assert_array_equal(again, first)


# -------------------------------------------------------------------- state


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_holds_the_prompts_and_no_backbone_weight(visual, labelled, demo, kind):
    clf = visual(kind, n_visual_tokens=20, prompt_depth=2 if kind in ("maple", "ivlp") else None)
    clf.fit(*labelled)
    expected = clf.clean_logits(labelled[0])
    arrays = clf.__getstate__()["_head"].prompts
    assert set(arrays) == set(clf.net_.module_.state_dict())
    shapes = {
        "vpt-deep": {"visual.tokens": (4, 20, 128)},
        "vpt-shallow": {"visual.tokens": (1, 20, 128)},
        "ivlp": {
            "visual.deep_positive": (1, 16, 128), "visual.deep_negative": (1, 16, 128), "visual.tokens": (2, 20, 128),
        },
        "maple": {
            "visual.deep_positive": (1, 16, 128), "visual.deep_negative": (1, 16, 128),
            "visual.weight": (2, 128, 128), "visual.bias": (2, 1, 128),
        },
    }[kind]  # fmt: skip
    shapes |= {"context_positive": (16, 128), "context_negative": (16, 128)}
    shapes |= {"offsets_positive": (10, 2, 128), "offsets_negative": (10, 2, 128)}
    assert {name: array.shape for name, array in arrays.items()} == shapes
    pickled = pickle.dumps(clf)
    n_bytes = sum(array.nbytes for array in arrays.values())
    assert n_bytes < len(pickled) < n_bytes + 10_000
    for weight in demo.model.state_dict().values():
        if weight.numel() > 100:
            assert weight.numpy().tobytes()[:400] not in pickled
    loaded = pickle.loads(pickled).set_params(visual_prompts=None, net_params={"module__n_visual_tokens": 1})
    np.testing.assert_array_equal(loaded.clean_logits(labelled[0]), expected)
    assert len(pickle.loads(pickle.dumps(loaded)).partial_fit(*labelled).history_) == 4


def test_clone_and_grid_search(visual, labelled):
    clf = visual("maple", prompt_depth=2)
    assert clone(clf).get_params() == clf.get_params()
    grid = {"visual_prompts": [None, "vpt-shallow", "maple"]}
    search = GridSearchCV(visual(prompt_depth=1), grid, cv=2).fit(*labelled)
    assert set(search.cv_results_["param_visual_prompts"]) == set(grid["visual_prompts"])


def test_threads_share_one_backbone(visual, labelled, digits, classifier):
    """Scoring with and without visual prompts at the same time disturbs neither."""
    moved, plain = visual().fit(*labelled), classifier(cache=None).fit(*labelled)
    X = digits.images[:120]
    expected = moved.clean_logits(X), plain.clean_logits(X)
    results: list = []

    def score(clf, k):
        clf.__dict__.pop("_prompted_embeddings", None)
        results.append((k, clf.clean_logits(X)))

    threads = [threading.Thread(target=score, args=((moved, plain)[k % 2], k % 2)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    for k, logits in results:
        np.testing.assert_allclose(logits, expected[k], atol=1e-4)


def test_paths_of_another_folder_with_the_same_name(visual, labelled, tmp_path, monkeypatch):
    """Relative paths mean what they mean at the time of the call."""
    clf = visual().fit(*labelled)
    answers = []
    for k in range(2):
        folder = tmp_path / str(k)
        folder.mkdir()
        Image.fromarray(labelled[0][k]).save(folder / "a.png")
        monkeypatch.chdir(folder)
        answers.append(clf.clean_logits([Path("a.png")])[0])
    np.testing.assert_allclose(answers, clf.clean_logits(labelled[0][:2]), atol=1e-4)


# -------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [None, *KINDS])
def test_gpu_agrees_with_cpu(classifier, digits, labelled, kind):
    """Same seed, float32: logits of the trained prompts within 1e-3, accuracy within noise."""
    params = {"visual_prompts": kind, "augment": None, "max_epochs": 10}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    cpu = classifier(**params).fit(*labelled)
    gpu = classifier(**params, device="cuda", precision="fp32").fit(*labelled)
    X, y = digits.images[:600], digits.target[:600]
    assert abs(cpu.score(X, y) - gpu.score(X, y)) < 0.05
    moved = pickle.loads(pickle.dumps(cpu)).set_params(device="cuda", precision="fp32")
    np.testing.assert_allclose(moved.clean_logits(X), cpu.clean_logits(X), atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_half_precision_learns(classifier, digits, precision, kind):
    clf = classifier(
        visual_prompts=kind, augment=None, device="cuda", precision=precision, max_epochs=10
    ).fit(digits.images[:100], digits.target[:100])
    assert clf.predict_proba(digits.images[:5]).dtype == np.float32
    assert clf.score(digits.images[100:600], digits.target[100:600]) > 0.7


@pytest.mark.gpu
def test_gpu_batches_come_from_pinned_memory(visual, labelled):
    for device, pinned in (("cpu", False), ("cuda", True)):
        clf = visual(device=device)
        source = clf._source(labelled[0], clf._load_backbone("demo", "bundled"))
        assert next(source.read([np.arange(3)])).is_pinned() == pinned
