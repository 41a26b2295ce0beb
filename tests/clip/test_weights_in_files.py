"""Weights in files: forms in which they come, and what a tag would have said of them."""

import json
import re
import warnings

import open_clip
import pytest
import torch
from conftest import TINY, tiny_config

from modal_clip_dual import CLIPImageEncoder
from modal_clip_dual.clip import files
from modal_clip_dual.clip.backbone import load_backbone

NAME = "tiny-in-a-file"


@pytest.fixture
def weights(monkeypatch, nothing_loaded):
    """Weights of a small model that open_clip knows by name."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, json.loads(json.dumps(TINY)))
    torch.manual_seed(0)
    return open_clip.create_model(NAME).state_dict()


@pytest.fixture
def tags(monkeypatch):
    """Two names of one model, with QuickGELU and without, and tags for them."""
    from open_clip import pretrained

    config = json.loads(json.dumps(TINY))
    quick = json.loads(json.dumps(TINY)) | {"quick_gelu": True}
    for name, model in ((NAME, config), (f"{NAME}-quickgelu", quick)):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, model)
    inception = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "resize_mode": "squash"}
    of_model = {
        "openai": {"url": "", "quick_gelu": True},
        "laion2b_e16": {"url": ""},
        "webli": {"url": "", **inception},
    }
    monkeypatch.setitem(pretrained._PRETRAINED, NAME, of_model)
    monkeypatch.setitem(pretrained._PRETRAINED, f"{NAME}-quickgelu", {"openai": of_model["openai"]})
    return of_model


# ---------------------------------------------------------------- forms


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict", "weights"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod."])
def test_checkpoints_of_training_scripts(weights, tmp_path, key, prefix):
    content = {prefix + name: value for name, value in weights.items()}
    torch.save(content if key is None else {"epoch": 3, key: content}, tmp_path / "a.pt")
    backbone = load_backbone(NAME, tmp_path / "a.pt", "cpu")
    found = backbone.model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_weights_beside_a_head_of_ones_own(weights, tmp_path):
    content = {f"clip.{name}": value for name, value in weights.items()} | {"head.weight": torch.zeros(3, 32)}
    torch.save(content, tmp_path / "a.pt")
    found = load_backbone(NAME, tmp_path / "a.pt", "cpu").model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 1, "lr": 0.1}, r"holds \['epoch', 'lr'\]; expected weights of .* one of the keys state_dict"),
        ([1, 2], "holds a list; expected weights"),
        ({"logit_scale": torch.zeros(())}, f"does not hold the weights of model_name='{NAME}'"),
    ],
)
def test_files_without_weights_of_the_model(weights, tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message):
        load_backbone(NAME, str(tmp_path / "a.pt"), "cpu")


def test_other_files_are_refused_by_name(weights, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match=r"a.pt' cannot be read as weights"):
        load_backbone(NAME, str(tmp_path / "a.pt"), "cpu")


def test_paths_as_pretrained(weights, tmp_path, digits):
    torch.save(weights, tmp_path / "a.pt")
    encoders = [CLIPImageEncoder(NAME, path, cache=None) for path in (tmp_path / "a.pt", str(tmp_path / "a.pt"))]
    first, second = (encoder.transform(digits.images[:3]) for encoder in encoders)
    assert (first == second).all()


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_is_refused_with_lines_that_convert_it(weights, tmp_path, monkeypatch):
    model = open_clip.create_model(NAME)
    torch.jit.save(torch.jit.script(model), tmp_path / "jit.pt")
    monkeypatch.setattr(torch.jit, "load", None)  # it is not run to be refused
    with pytest.raises(ValueError, match="jit.pt' is a TorchScript archive") as caught:
        load_backbone(NAME, str(tmp_path / "jit.pt"), "cpu")
    monkeypatch.undo()
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, json.loads(json.dumps(TINY)))
    lines = [line.strip() for line in str(caught.value).splitlines() if line.startswith("    ")]
    exec("\n".join(lines), {"torch": torch})
    found = load_backbone(NAME, str(tmp_path / "jit-weights.pt"), "cpu").model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


# ---------------------------------------------------------------- what a tag would have said


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        (NAME, "openai.pt", "is named after .* with QuickGELU.*expected model_name='tiny-in-a-file-quickgelu'"),
        (NAME, "OpenAI/weights.pt", "is named after .* with QuickGELU"),
        (NAME, "vit_quickgelu.pt", "is named after .* with QuickGELU"),
        (NAME, "mine.pt", "does not say whether it was trained with QuickGELU"),
        (NAME, "laion2b_e16.pt", None),
        (f"{NAME}-quickgelu", "openai.pt", None),
        (f"{NAME}-quickgelu", "mine.pt", None),
        (f"{NAME}-quickgelu", "LAION2B.pt", "without QuickGELU.*with it.*expected model_name='tiny-in-a-file'"),
    ],
)
def test_activation_of_a_file(tags, name, file, message):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files.warn_of_activation(name, f"/somewhere/{file}")
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == (message is not None)
    if message is not None:
        assert re.search(message, texts[0])


def test_activation_of_models_with_one_name_is_not_in_doubt(weights):
    files.warn_of_activation(NAME, "/somewhere/mine.pt")


@pytest.mark.parametrize(
    ("file", "mean", "squash"),
    [("webli.pt", (0.5, 0.5, 0.5), True), ("openai.pt", open_clip.OPENAI_DATASET_MEAN, False)],
)
@pytest.mark.filterwarnings("ignore:pretrained=.*QuickGELU")
def test_preprocessing_of_a_file_is_that_of_its_tag(tags, tmp_path, nothing_loaded, file, mean, squash):
    torch.save(open_clip.create_model(NAME).state_dict(), tmp_path / file)
    found = load_backbone(NAME, str(tmp_path / file), "cpu").preprocessing
    assert found.mean == pytest.approx(mean)
    assert found.squash == squash


def test_preprocessing_that_all_tags_share_and_that_they_do_not(tags, monkeypatch):
    from open_clip import pretrained

    with pytest.warns(UserWarning, match="right for openai, laion2b_e16 and others, not for webli"):
        assert files.preprocessing_of_file(NAME, "/somewhere/mine.pt") == {}
    monkeypatch.setitem(pretrained._PRETRAINED, NAME, {"webli": tags["webli"]})
    found = files.preprocessing_of_file(NAME, "/somewhere/mine.pt")
    assert found["image_mean"] == (0.5, 0.5, 0.5)
    assert found["image_resize_mode"] == "squash"


def test_siglip_in_a_file_has_its_own_preprocessing():
    found = files.preprocessing_of_file("ViT-B-16-SigLIP", "/somewhere/mine.pt")
    assert found["image_mean"] == (0.5, 0.5, 0.5)
    assert found["image_resize_mode"] == "squash"


def test_package_of_the_tokenizer_is_asked_for_before_weights_are_read(monkeypatch, tmp_path, nothing_loaded):
    config = tiny_config("siglip")
    config["text_cfg"]["hf_tokenizer_name"] = "somebody/tokenizer"
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-hf", config)

    def without(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")

    monkeypatch.setattr(open_clip.tokenizer.HFTokenizer, "__init__", without)
    monkeypatch.setattr(open_clip, "create_model_and_transforms", None)
    (tmp_path / "a.pt").touch()
    with pytest.raises(ImportError, match=r"package transformers, .*: pip install transformers"):
        load_backbone("tiny-hf", str(tmp_path / "a.pt"), "cpu")
