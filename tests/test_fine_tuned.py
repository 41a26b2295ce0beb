"""FineTunedClassifier: training against a plain torch loop, what is shared and what is not, state, the loop."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import apart
from modAL.models import ActiveLearner
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from modal_clip_dual import (
    DualPromptClassifier,
    DualPromptLearner,
    FineTunedClassifier,
    badge_sampling,
    negative_prompt_sampling,
)
from modal_clip_dual.active import Protocol
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.data import reading
from modal_clip_dual.evaluation import compare_strategies
from modal_clip_dual.nn import fine_tuning
from modal_clip_dual.nn.fine_tuning import FineTunedTower

BEHIND = {"ln_post.weight", "ln_post.bias", "proj"}


@pytest.fixture(autouse=True)
def empty_cache():
    reading.memory_of_pixels.clear()


@pytest.fixture
def make(digits):
    def made(**params):
        demo = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}
        quick = {"lr": 1e-4, "n_steps": 6, "batch_size": 16, "random_state": 0}
        return FineTunedClassifier(digits.class_names, **{**demo, **quick, **params})

    return made


@pytest.fixture
def labeled(digits):
    rows = np.random.default_rng(1).permutation(1797)[:40]
    return digits.images[rows], digits.target[rows]


@pytest.fixture
def pixels():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=generator)


def text_of(backbone, n=3):
    generator = torch.Generator().manual_seed(1)
    return F.normalize(torch.randn(n, backbone.embed_dim, generator=generator), dim=-1)


# -------------------------------------------------------------------- the tower


@pytest.mark.parametrize("kind", ["clip", "custom", "siglip", "coca"])
@pytest.mark.parametrize("layers", ["last", 2, "all"])
def test_starts_as_the_frozen_tower(tiny, pixels, kind, layers):
    backbone = tiny(kind)
    module = FineTunedTower(backbone, text_of(backbone), layers)
    expected = backbone.encode_images(pixels)
    with torch.no_grad():
        torch.testing.assert_close(module.image_embeddings(pixels), expected, atol=1e-5, rtol=0)
        if layers != "all":
            hidden = module.hidden(pixels)
            assert hidden.shape == (3, 17, 64)
            torch.testing.assert_close(module.image_embeddings(hidden), expected, atol=1e-5, rtol=0)
        outputs = module.train()(pixels)
    torch.testing.assert_close(outputs.positive, backbone.logit_scale * expected @ module.text.T, atol=1e-3, rtol=0)


def test_only_the_last_blocks_are_copied(tiny):
    backbone = tiny()
    theirs = dict(backbone.model.visual.named_parameters())
    for layers, first in (("last", 1), (2, 0)):
        module = FineTunedTower(backbone, text_of(backbone), layers)
        blocks = tuple(f"transformer.resblocks.{k}." for k in range(first, 2))
        expected = {name for name in theirs if name in BEHIND or name.startswith(blocks)}
        assert set(module.trained) == expected
        for name, parameter in module.tower.named_parameters():
            assert (parameter is theirs[name]) == (name not in expected), name
            assert parameter.requires_grad == (name in expected)
    whole = FineTunedTower(backbone, text_of(backbone), "all")
    assert set(whole.trained) == set(theirs)
    assert not any(parameter is theirs[name] for name, parameter in whole.trained.items())


def test_blocks_that_take_the_sequence_first(tiny, pixels):
    backbone = apart(tiny())
    backbone.model.visual.transformer.batch_first = False
    for block in backbone.model.visual.transformer.resblocks:
        block.attn.batch_first = False
    module = FineTunedTower(backbone, text_of(backbone), "last")
    with torch.no_grad():
        torch.testing.assert_close(module.image_embeddings(pixels), tiny().encode_images(pixels), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_trained_blocks_are_float32_on_a_coarse_tower(checkpoints, pixels, layers):
    name = f"local-dir:{checkpoints['clip']}"
    exact = load_backbone(name, None, "cpu").encode_images(pixels)
    for precision in ("bf16", "pure_bf16"):
        backbone = load_backbone(name, None, "cpu", precision)
        module = FineTunedTower(backbone, text_of(backbone), layers)
        assert {parameter.dtype for parameter in module.trained.values()} == {torch.float32}
        module(pixels).positive.sum().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in module.trained.values())
        with torch.no_grad():
            cosine = (module.image_embeddings(pixels) * exact).sum(1)
        assert cosine.min() > 0.99  # bfloat16 has 8 bits


# -------------------------------------------------------------------- training


@pytest.mark.parametrize("layers", ["last", 2, "all"])
def test_training_is_the_plain_loop(make, labeled, demo, layers):
    """AdamW on a whole copy of the tower, some of its weights trained; margin and average in float64."""
    X, y = labeled
    clf = make(layers=layers, n_steps=4, batch_size=40, margin=0.3, beta=0.3).fit(X, y)
    tower = copy.deepcopy(demo.model.visual)
    n = len(tower.transformer.resblocks)
    first = {"last": n - 1, 2: n - 2, "all": 0}[layers]
    blocks = tuple(f"transformer.resblocks.{k}." for k in range(first, n))
    for name, parameter in tower.named_parameters():
        parameter.requires_grad_(layers == "all" or name in BEHIND or name.startswith(blocks))
    trained = {name: value for name, value in tower.named_parameters() if value.requires_grad}
    files = [demo.preprocessing(Image.fromarray(x).convert("RGB")) for x in X]
    images = demo.to_input(torch.from_numpy(np.stack(files)))
    text = demo.encode_texts([f"a photo of a {name}." for name in clf.class_names]).clone()
    target = torch.from_numpy(y)
    points = [{name: value.detach().double().clone() for name, value in trained.items()}]
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-4, weight_decay=0.1)
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 1e-4 * (1 + np.cos(np.pi * step / 4)) / 2
        image = F.normalize(tower(images), dim=-1)
        logits = demo.logit_scale * (image - 0.3 * text[target]) @ text.T  # as the authors' code has it
        optimizer.zero_grad()
        F.cross_entropy(logits, target).backward()
        optimizer.step()
        points.append({name: value.detach().double().clone() for name, value in trained.items()})
    x = (np.arange(5) + 0.5) / 5
    weights = (x * (1 - x)) ** (0.3 - 1)
    weights /= weights.sum()
    assert set(clf._head.weights) == set(trained)
    for name, value in clf._head.weights.items():
        expected = sum(w * point[name].numpy() for w, point in zip(weights, points))
        # The bias of keys has no gradient but roundings, which AdamW blows up to whole steps.
        counts = np.arange(len(value)) // 128 != 1 if name.endswith("in_proj_bias") else slice(None)
        moved = np.abs(expected - points[0][name].numpy())[counts]
        assert np.mean(np.abs(value - expected)[counts]) < 0.02 * np.mean(moved), name
    with torch.no_grad():
        for name, value in clf._head.weights.items():
            trained[name].copy_(torch.from_numpy(value.copy()))
        image = F.normalize(tower(images), dim=-1)
    np.testing.assert_allclose(clf.transform(X), image.numpy(), atol=1e-5)
    np.testing.assert_allclose(clf.predict_proba(X), (demo.logit_scale * image @ text.T).softmax(1), atol=1e-4)


def test_learns(make, digits):
    clf = make(n_steps=60, batch_size=36).fit(digits.images[:100], digits.target[:100])
    X, y = digits.images[100:500], digits.target[100:500]
    zero_shot = (clf.zero_shot_proba(X).argmax(axis=1) == y).mean()
    assert clf.score(X, y) > zero_shot + 0.08


@pytest.mark.parametrize("layers", ["last", "all"])
def test_the_shared_model_never_changes(make, labeled, demo, layers):
    before = {name: value.clone() for name, value in demo.model.state_dict().items()}
    blank = torch.zeros(1, 3, *demo.model.visual.image_size)
    embeddings = demo.encode_images(blank)
    clf = make(layers=layers).fit(*labeled)
    clf.predict(labeled[0])
    assert all(torch.equal(value, before[name]) for name, value in demo.model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in demo.model.parameters())
    assert not any(module.training for module in demo.model.modules())
    assert torch.equal(demo.encode_images(blank), embeddings)
    assert np.abs(clf.transform(labeled[0]) - make().transform(labeled[0])).max() > 1e-3


def test_frozen_blocks_once_per_image_without_augmentation(make, labeled, monkeypatch):
    sizes = []
    hidden = FineTunedTower.hidden
    monkeypatch.setattr(
        FineTunedTower, "hidden", lambda self, pixels: sizes.append(len(pixels)) or hidden(self, pixels)
    )
    kept = make().fit(*labeled)
    assert sum(sizes) == 40
    sizes.clear()
    make(augment=lambda image: image).fit(*labeled)
    assert sum(sizes) == 6 * 40 / 3  # 6 steps, 3 a pass
    sizes.clear()
    monkeypatch.setattr(fine_tuning, "KEPT_BYTES", 1000)
    same = make().fit(*labeled)
    assert sum(sizes) >= 2 * 40
    # AdamW turns gradients near 0 into whole steps, so roundings are larger than elsewhere.
    np.testing.assert_allclose(same.predict_proba(labeled[0]), kept.predict_proba(labeled[0]), atol=0.03)
    sizes.clear()
    same.predict(labeled[0])
    same.predict_proba(labeled[0][:10])
    assert sum(sizes) == 0  # predicted above already


def test_augmentation_changes_training_images(make, labeled):
    flipped = make(augment=lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).fit(*labeled)
    plain = make().fit(*labeled)
    mirrored = make().fit(labeled[0][:, :, ::-1].copy(), labeled[1])
    X = labeled[0]
    np.testing.assert_allclose(flipped.predict_proba(X), mirrored.predict_proba(X), atol=0.03)
    assert np.abs(flipped.predict_proba(X) - plain.predict_proba(X)).max() > 0.06
    with pytest.raises(TypeError, match="augment returned NoneType"):
        make(augment=lambda image: None).fit(*labeled)


def test_options_matter_and_seeds_decide(make, labeled):
    X, y = labeled
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = make().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(make().fit(X, y).predict_proba(X), first)
    for params in ({"random_state": 1}, {"margin": 0.0}, {"average": None}, {"average": "gaussian"}, {"beta": 2.0},
                   {"weight_decay": 5.0}, {"layers": 2}, {"template": "a digit: {}"}):  # fmt: skip
        assert (make(**params).fit(X, y).predict_proba(X) != first).any(), params
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


def test_files_and_images_alike(make, labeled, tmp_path):
    X, y = labeled
    paths = [str(tmp_path / f"{k}.png") for k in range(len(X))]
    for path, image in zip(paths, X):
        Image.fromarray(image).save(path)
    from_files = make().fit(paths, y)
    np.testing.assert_allclose(from_files.predict_proba(X), make().fit(X, y).predict_proba(paths), atol=1e-4)


# -------------------------------------------------------------------- what is refused


def test_embeddings_are_refused(make, labeled, embeddings):
    message = r"X has shape \(40, 128\), so it holds embeddings, which fine-tuning would have to change; .* images"
    with pytest.raises(ValueError, match=message):
        make().fit(embeddings[:40], labeled[1])
    clf = make().fit(*labeled)
    for method in ("predict", "predict_proba", "clean_logits", "transform"):
        with pytest.raises(ValueError, match=message):
            getattr(clf, method)(embeddings[:40])
    assert clf.zero_shot_proba(embeddings[:40]).shape == (40, 10)  # asks the frozen CLIP


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layers": 9}, "layers=9: .* model_name='demo'.* has 4 blocks; expected at most 4, or 'all'"),
        ({"layers": 0}, "'layers' parameter"),
        ({"layers": "first"}, "'layers' parameter"),
        ({"margin": -1}, "'margin' parameter"),
        ({"average": "ema"}, "'average' parameter"),
        ({"beta": 0}, "'beta' parameter"),
        ({"lr": 0}, "'lr' parameter"),
        ({"n_steps": 0}, "'n_steps' parameter"),
        ({"augment": "auto"}, "'augment' parameter"),
    ],
)
def test_refused_before_training(make, labeled, params, message):
    clf = make().fit(*labeled)
    before = clf.predict_proba(labeled[0])
    with pytest.raises(ValueError, match=message):
        clf.set_params(**params).fit(*labeled)
    clf.set_params(**make().get_params())
    np.testing.assert_array_equal(clf.predict_proba(labeled[0]), before)


def test_training_that_diverges_leaves_the_earlier_fit(make, labeled):
    clf = make().fit(*labeled)
    before = clf.predict_proba(labeled[0])
    with pytest.raises(FloatingPointError, match="training diverged: .* smaller lr than 1e\\+30"):
        clf.set_params(lr=1e30).fit(*labeled)
    np.testing.assert_array_equal(clf.predict_proba(labeled[0]), before)


def test_towers_without_blocks(tiny, pixels):
    """Such as ResNets and timm's: they can be trained as a whole alone."""
    backbone = apart(tiny())
    backbone.model.visual = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 32))
    for layers in ("last", 1):
        with pytest.raises(ValueError, match=rf"layers={layers!r}: .*\(Sequential\).*or layers='all'"):
            FineTunedTower(backbone, text_of(backbone), layers)
    module = FineTunedTower(backbone, text_of(backbone), "all")
    module(pixels).positive.sum().backward()
    assert all(parameter.grad is not None for parameter in module.trained.values())
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


# -------------------------------------------------------------------- state


@pytest.mark.parametrize("layers", ["last", 2, "all"])
def test_files_hold_the_trained_blocks_alone(make, labeled, demo, tmp_path, layers):
    clf = make(layers=layers).fit(*labeled)
    X = labeled[0]
    expected = clf.predict_logits(X)
    trained = clf._head.weights
    clf.save(tmp_path / "tuned.npz")
    with np.load(tmp_path / "tuned.npz") as file:
        names = {name for name in file.files if name.startswith("head.")}
    assert names == {"head.text", *(f"head.weights.{name}" for name in trained)}
    assert len(trained) == {"last": 12 + 3, 2: 24 + 3, "all": len(demo.model.visual.state_dict())}[layers]
    n_bytes = sum(value.nbytes for value in trained.values()) + clf._head.text.nbytes
    pickled = pickle.dumps(clf)
    assert n_bytes < len(pickled) < n_bytes + 10_000
    for name, weight in demo.model.state_dict().items():
        if weight.numel() > 100 and name.removeprefix("visual.") not in trained:
            assert weight.numpy().tobytes()[:400] not in pickled, name
    copies = [pickle.loads(pickled), copy.deepcopy(clf), FineTunedClassifier.load(tmp_path / "tuned.npz")]
    for other in copies:
        for actual, wanted in zip(other.predict_logits(X), expected):
            np.testing.assert_array_equal(actual, wanted)
    assert copies[2].get_params() == clf.get_params()
    copies[0].fit(X[:20], labeled[1][:20])  # a copy goes its own way
    np.testing.assert_array_equal(clf.predict_logits(X)[0], expected[0])
    with pytest.raises(NotFittedError):
        clone(clf).predict(X)
    with pytest.raises(ValueError, match="it holds a FineTunedClassifier, for FineTunedClassifier.load"):
        DualPromptClassifier.load(tmp_path / "tuned.npz")


def test_damaged_files(make, labeled, tmp_path):
    clf = make().fit(*labeled)
    clf.save(tmp_path / "tuned.npz")
    with np.load(tmp_path / "tuned.npz") as file:
        arrays = dict(file)
    without = {name: value for name, value in arrays.items() if "weights" not in name}
    np.savez(tmp_path / "none.npz", **without)
    with pytest.raises(ValueError, match="damaged .*no weights of a tower"):
        FineTunedClassifier.load(tmp_path / "none.npz")
    name = "head.weights.proj"
    np.savez(tmp_path / "shape.npz", **arrays | {name: arrays[name][:5]})
    with pytest.raises(ValueError, match="not those of the last blocks of model_name='demo'"):
        FineTunedClassifier.load(tmp_path / "shape.npz").predict(labeled[0])


# -------------------------------------------------------------------- in the loop


def test_in_modals_learner_and_searches(make, labeled, digits):
    learner = ActiveLearner(make(), query_strategy=badge_sampling, X_training=labeled[0], y_training=labeled[1])
    rows, images = learner.query(digits.images[:60], n_instances=3)
    learner.teach(images, digits.target[rows])
    assert learner.predict(digits.images[:5]).shape == (5,)
    search = GridSearchCV(make(n_steps=2), {"layers": ["last", "all"]}, cv=2).fit(*labeled)
    assert search.best_params_["layers"] in ("last", "all")
    few = labeled[1] < 4
    names = make(n_steps=2).fit(labeled[0][few], np.array(digits.class_names)[labeled[1][few]])
    assert names.classes_.tolist() == sorted(digits.class_names)
    assert set(names.predict(digits.images[:30])) <= set(digits.class_names)


def test_whole_loop_and_resume(make, digits, tmp_path):
    X, y = digits.images[:80], digits.target[:80]

    def learner(path=None):
        return DualPromptLearner(make(), X, query_strategy=negative_prompt_sampling, y_pool=y, path=path)

    whole = learner().run(y, protocol=Protocol(2, per_class=1))
    learner(tmp_path / "loop.npz").run(y, protocol=Protocol(1, per_class=1))
    resumed = DualPromptLearner.resume(tmp_path / "loop.npz", X)
    assert type(resumed.estimator) is FineTunedClassifier
    resumed.run(y, protocol=Protocol(2, per_class=1))
    assert resumed.rows_.tolist() == whole.rows_.tolist()
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert whole.log_[-1]["estimated_accuracy"] is not None


def test_comparisons_pass_images(make, digits):
    """Where an estimator on a frozen tower gets embeddings."""
    table = compare_strategies(
        {"tuned": make(n_steps=2)}, ["random"], digits.images[:120], digits.target[:120],
        protocol=Protocol(1, per_class=1), seeds=1, verbose=0,
    )  # fmt: skip
    assert len(table) == 1


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(make, labeled):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    cpu, gpu = make().fit(*labeled), make(device="cuda", precision="fp32").fit(*labeled)
    np.testing.assert_allclose(gpu.predict_proba(labeled[0]), cpu.predict_proba(labeled[0]), atol=1e-2)
    half = make(device="cuda").fit(*labeled)
    assert half.predict_proba(labeled[0]).dtype == np.float32




def test_pixels_go_through_the_trained_tower(make, labeled):
    """What predicts from changed pixels (smoothing, the eraser) sees the model that was trained."""
    X, y = labeled
    clf = make().fit(X, y)
    pixels = clf.input_pixels(X[:5])
    np.testing.assert_allclose(clf.proba_of_pixels(pixels), clf.predict_proba(X[:5]), atol=1e-4)
    assert np.abs(clf.proba_of_pixels(pixels) - clf.zero_shot_proba(X[:5])).max() > 1e-3
