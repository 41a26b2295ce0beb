"""Loading of frozen models: names, files, sharing, precision."""

import pickle
import time

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from precision import of_tower

from modal_clip_dual.clip import backbone as module, loaders
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.clip.names import resolve_device, resolve_precision


def test_loaded_once_and_shared(checkpoints):
    name = f"local-dir:{checkpoints['clip']}"
    assert load_backbone(name, None, "cpu") is load_backbone(name, None, "cpu", "fp32")
    assert load_backbone(name, None, "cpu", "bf16") is not load_backbone(name, None, "cpu")


def test_replaced_checkpoint_is_loaded_again(tmp_path, nothing_loaded):
    from conftest import write_checkpoint

    name = f"local-dir:{write_checkpoint(tmp_path, seed=0)}"
    first = load_backbone(name, None, "cpu")
    time.sleep(0.02)
    write_checkpoint(tmp_path, seed=1)
    second = load_backbone(name, None, "cpu")
    assert not torch.equal(first.encode_texts(["a"]), second.encode_texts(["a"]))
    assert list(nothing_loaded.values()) == [second]  # nobody can ask for the first again


@pytest.mark.parametrize("kind", ["clip", "custom", "siglip", "coca"])
def test_equals_open_clip(tiny, checkpoints, kind):
    backbone = tiny(kind)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{checkpoints[kind]}")
    model.eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = F.normalize(model.encode_image(images), dim=-1)
    torch.testing.assert_close(backbone.encode_images(images), expected, atol=of_tower(64, 2), rtol=0)
    assert backbone.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert backbone.embed_dim == 32
    assert repr(backbone.preprocess) == repr(preprocess)


def test_checkpoint_file_as_tag(tmp_path, nothing_loaded):
    """``pretrained=`` a file: the way users load weights of a named architecture."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = open_clip.create_model("RN50")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.warns(UserWarning, match="does not say whether it was trained with QuickGELU"):
        backbone = load_backbone("RN50", str(tmp_path / "weights.pt"), "cpu")
    expected = dict(model.named_parameters())
    for name, parameter in backbone.model.named_parameters():
        assert torch.equal(parameter, expected[name])


def test_no_parameter_needs_a_gradient(tiny):
    assert not any(parameter.requires_grad for parameter in tiny().model.parameters())
    assert not tiny().model.training


def test_global_random_state_is_left_alone(checkpoints, nothing_loaded):
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.get_rng_state()
    load_backbone("demo", "bundled", "cpu")
    load_backbone(f"local-dir:{checkpoints['clip']}", None, "cpu")
    assert torch.equal(torch.get_rng_state(), expected)
    assert np.random.randint(1000) == 684


def test_gpu_generators_are_left_alone(monkeypatch, nothing_loaded):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    load_backbone("demo", "bundled", "cpu")
    assert not seeds


def test_random_weights_warn_and_are_always_the_same(nothing_loaded):
    with pytest.warns(UserWarning, match="random weights"):
        first = load_backbone("RN50", None, "cpu")
    state = {key: value.clone() for key, value in first.model.state_dict().items()}
    nothing_loaded.clear()
    torch.manual_seed(5)
    with pytest.warns(UserWarning, match="random weights"):
        second = load_backbone("RN50", None, "cpu")
    assert all(torch.equal(state[key], value) for key, value in second.model.state_dict().items())


@pytest.mark.parametrize(
    ("model_name", "pretrained", "message"),
    [
        ("ViT-B32", "openai", r"model_name='ViT-B32' is not known.*nearest: 'ViT-B-32'"),
        ("vit-l-14", "openai", r"nearest: 'ViT-L-14'"),
        ("dem", "bundled", r"nearest: .*'demo'"),
        ("ViT-B-32", "opnai", r"pretrained='opnai' is neither a file nor a tag.*nearest: 'openai'"),
        ("ViT-B-32", "no/such/file.pt", r"pretrained='no/such/file.pt': there is no such file"),
        ("demo", "openai", r"pretrained='openai' does not exist for model_name='demo'.*'bundled'"),
        ("local-dir:no/such/folder", None, r"and there is no such folder; the path is relative, and seen from '.+'$"),
        ("local-dir:/no/such/folder", None, r"open_clip_config.json and weights, and there is no such folder$"),
    ],
)
def test_unknown_names(model_name, pretrained, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(model_name, pretrained, "cpu")


def test_every_open_clip_name_is_passed_on():
    for name, tag in open_clip.list_pretrained():
        module.check_model_name(name, tag)
    module.check_model_name("ViT-B/32", "openai")
    module.check_model_name("hf-hub:org/repo", None)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu0"])
def test_unusable_device(device):
    with pytest.raises(ValueError, match=f"device='{device}' cannot be used"):
        resolve_device(device)


def test_auto_device_and_precision():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
    assert resolve_precision("fp16", torch.device("cpu")) == "fp16"


@pytest.mark.parametrize("name", ["demo", "tiny"])
def test_bfloat16_towers_stay_close(checkpoints, name):
    names = ("demo", "bundled") if name == "demo" else (f"local-dir:{checkpoints['clip']}", None)
    full = load_backbone(*names, "cpu", "fp32")
    half = load_backbone(*names, "cpu", "bf16")
    assert half.model.visual.conv1.weight.dtype == torch.bfloat16
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for method, argument in (("encode_images", images), ("encode_texts", ["zero", "one"])):
        a, b = getattr(full, method)(argument), getattr(half, method)(argument)
        assert b.dtype == torch.float32
        assert (a * b).sum(1).min() > 0.99


def test_pickle_is_the_recipe(demo):
    data = pickle.dumps(demo)
    assert len(data) < 300
    assert pickle.loads(data) is demo


def test_bundled_model_is_small(demo):
    folder = loaders.DEMO_FOLDER
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8e6
    assert demo.model.context_length == 77
    assert demo.tokenizer.vocab_size == demo.model.vocab_size


@pytest.mark.gpu
def test_auto_precision_on_a_gpu():
    backbone = load_backbone("demo", "bundled", "cuda")
    assert backbone.precision in ("bf16", "fp16")
    cpu = load_backbone("demo", "bundled", "cpu")
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    similarity = (backbone.encode_images(images).cpu() * cpu.encode_images(images)).sum(1)
    assert similarity.min() > 0.99


def test_copies_are_the_same_and_its_text_names_it(tiny):
    import copy

    backbone = tiny()
    assert copy.deepcopy(backbone) is backbone
    assert repr(backbone) == f"Backbone({backbone.name}, device='cpu', precision='fp32')"


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_half_precision_of_a_gpu(monkeypatch, has_bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    assert resolve_precision("auto", torch.device("cuda")) == expected
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
    assert resolve_precision("fp32", torch.device("cuda")) == "fp32"


@pytest.mark.parametrize("precision", ["pure_bf16", "bf16"])
def test_bundled_model_in_half_precision(precision, demo, nothing_loaded):
    half = load_backbone("demo", "bundled", "cpu", precision)
    assert half.model.visual.conv1.weight.dtype == torch.bfloat16
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = demo.encode_images(images)
    assert (half.encode_images(images) * expected).sum(dim=1).min() > 0.99
