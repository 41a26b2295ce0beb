"""Fixtures: the bundled CLIP on digits, and small random CLIPs of every kind of text tower."""

import copy
import json
import os
import random
import signal

# Side by side, each of pytest-xdist's workers has a core, and torch would take all of them; before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import threadpoolctl
import torch
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    threadpoolctl.threadpool_limits(1)  # NumPy's threads, where a plugin of pytest imported it before this file

settings.register_profile("deterministic", derandomize=True, database=None)
settings.load_profile("deterministic")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.get_closest_marker("notebook"))  # the longest first
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(autouse=True)
def same_draws():
    """Every test begins with the same state of the global generators, so that none passes by luck."""
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def penalties_once():
    """Most fits repeat a few sets of labels, which choose the same penalty each time."""
    from modal_clip_dual.nn.criteria import anchored

    known, choose = {}, anchored.choose_text_penalty

    def remembered(*args):
        key = tuple(None if value is None else np.asarray(value).tobytes() for value in args)
        if key not in known:
            known[key] = choose(*args)
        return known[key]

    anchored.choose_text_penalty = remembered
    yield
    anchored.choose_text_penalty = choose


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard():
    """Shells start what runs in the background with SIGINT ignored; the tests send it."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


LABELLED = np.random.default_rng(0).permutation(1797)[:60]  # digits that `fitted` was trained on

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
}


def tiny_config(kind="clip", embed_dim=32):
    """open_clip configuration of a small model: "clip", "custom", "siglip" or "coca"."""
    config = json.loads(json.dumps(TINY)) | {"embed_dim": embed_dim}
    if kind != "clip":
        config["custom_text"] = True
    if kind == "siglip":
        config["text_cfg"] |= {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
        config["init_logit_bias"] = -10
    if kind == "coca":
        config["text_cfg"] |= {"embed_cls": True, "output_tokens": True}
        config["vision_cfg"] |= {"attentional_pool": True, "output_tokens": True}
        config["multimodal_cfg"] = config["text_cfg"] | {"layers": 2}
        del config["multimodal_cfg"]["embed_cls"], config["multimodal_cfg"]["output_tokens"]
    return config


def write_checkpoint(folder, kind="clip", seed=0):
    """Write a small random model as open_clip's ``local-dir:`` expects it; return the folder."""
    import open_clip

    config = tiny_config(kind)
    classes = {"coca": open_clip.CoCa, "clip": open_clip.CLIP}
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = classes.get(kind, open_clip.CustomTextCLIP)(**arguments)
        # Far from the initial values, where many terms are too small to be seen.
        for name, parameter in model.named_parameters():
            if name == "text_decoder.text_projection":  # open_clip leaves it as the memory was, NaN at times
                parameter.data.zero_()
            parameter.data += torch.randn_like(parameter) * 0.05
        model.logit_scale.data.fill_(np.log(50.0))
    folder.mkdir(parents=True, exist_ok=True)
    written = {"model_cfg": config, "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.3] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folder of a small random checkpoint per kind of text tower."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {k: write_checkpoint(root / k, k) for k in ("clip", "custom", "siglip", "coca")}


@pytest.fixture(scope="session")
def tiny(checkpoints):
    """Function that loads the small model of a kind on the CPU."""
    from modal_clip_dual.clip.backbone import load_backbone

    return lambda kind="clip": load_backbone(f"local-dir:{checkpoints[kind]}", None, "cpu")


def apart(backbone):
    """The same CLIP with weights of its own, which a test may change; copies are the shared one."""
    other = object.__new__(type(backbone))
    other.__dict__.update(backbone.__dict__, model=copy.deepcopy(backbone.model), text_cache={})
    return other


@pytest.fixture
def nothing_loaded(monkeypatch):
    """The models that this process has loaded, none at first; forgotten afterwards."""
    from modal_clip_dual.clip import backbone

    monkeypatch.setattr(backbone, "_loaded", {})
    return backbone._loaded


@pytest.fixture(scope="session")
def demo():
    """The bundled CLIP on the CPU."""
    from modal_clip_dual.clip.backbone import load_backbone

    return load_backbone("demo", "bundled", "cpu")


@pytest.fixture(scope="session")
def digits():
    from modal_clip_dual.data import load_digits_images

    return load_digits_images()


@pytest.fixture(scope="session")
def embeddings(digits):
    """Unit embeddings of all digits under the bundled CLIP, (1797, 128)."""
    return make_classifier(digits).transform(digits.images)


# Short names of tests for arguments of the net's parts.
PARTS = {
    "n_visual_tokens": "module__n_visual_tokens", "prompt_depth": "module__prompt_depth",
    "detach_positive": "module__detach_positive", "text_encoding": "module__text_encoding",
    "text_batch_size": "module__text_batch_size", "momentum": "optimizer__momentum",
    "weight_decay": "optimizer__weight_decay", "pseudo_batch_size": "iterator_train__pseudo_batch_size",
}  # fmt: skip


def named(params):
    """Parameters of the classifier, the net's parts by their short names among them."""
    parts = {PARTS[name]: value for name, value in params.items() if name in PARTS}
    params = {name: value for name, value in params.items() if name not in PARTS}
    return params | {"net_params": parts | (params.get("net_params") or {})} if parts else params


def make_classifier(digits, **params):
    from modal_clip_dual import DualPromptClassifier

    params = named({"max_epochs": 5, "device": "cpu", "random_state": 0} | params)
    return DualPromptClassifier(
        digits.class_names, model_name="demo", pretrained="bundled", **params
    )


@pytest.fixture(scope="session")
def classifier(digits):
    """Function that makes an unfitted classifier of digits on the bundled CLIP."""
    return lambda **params: make_classifier(digits, **params)


@pytest.fixture(scope="session")
def fitted(digits, embeddings):
    """A classifier trained on 60 digits as the paper does: not to be changed."""
    return make_classifier(digits, criterion="dual", max_epochs=20).fit(embeddings[LABELLED], digits.target[LABELLED])


@pytest.fixture(scope="session")
def learner(fitted, digits, embeddings):
    """modAL's learner around `fitted`, with the 60 digits it was trained on: not to be changed."""
    return make_learner(fitted, embeddings[LABELLED], digits.target[LABELLED])


@pytest.fixture(scope="session")
def learner_for(learner, digits, embeddings):
    """Function that gives a learner for a strategy by its name: `learner`, or one that has what the strategy asks."""
    from sklearn.linear_model import LogisticRegression

    from modal_clip_dual import ClassCodeClassifier, DirichletMetaClassifier

    X, y = embeddings[LABELLED], digits.target[LABELLED]
    models = {"code-distance": ClassCodeClassifier, "dirichlet-uncertainty": DirichletMetaClassifier}
    base = LogisticRegression(C=100, max_iter=1000)
    learners = {
        name: make_learner(model(base, max_epochs=5, cv=2, random_state=0).fit(X, y), X, y)
        for name, model in models.items()
    }
    return lambda name: learners.get(name, learner)


def make_learner(estimator, X_training, y_training):
    """modAL's learner around an estimator that is fitted already."""
    from modAL.models import ActiveLearner

    learner = ActiveLearner(estimator)
    learner.X_training, learner.y_training = X_training, y_training
    return learner
