"""Weights in files: forms in which they come, and what a tag would have said of them."""

import argparse
import json
import pickle
import re
import warnings
from functools import cache
from unittest import mock

import numpy as np
import open_clip
import pytest
import safetensors
import torch
from conftest import TINY, tiny_config
from safetensors.torch import save_file

from modal_clip_dual import CLIPImageEncoder
from modal_clip_dual.clip import files
from modal_clip_dual.clip.backbone import load_backbone

NAME = "tiny-in-a-file"


SMALL = json.loads(json.dumps(TINY))
SMALL["text_cfg"]["vocab_size"] = 99  # nothing is encoded here but images


@pytest.fixture
def known(monkeypatch, nothing_loaded):
    """A small model that open_clip knows by name; its tokenizer takes longer to make than the rest."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, SMALL)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: open_clip.tokenizer.tokenize)


@cache
def weights_of_small():
    torch.manual_seed(0)
    return open_clip.create_model(NAME).state_dict()


@pytest.fixture
def weights(known):
    return weights_of_small()


@pytest.fixture
def tags(monkeypatch, known):
    """Two names of one model, with QuickGELU and without, and tags for them."""
    from open_clip import pretrained

    quick = SMALL | {"quick_gelu": True}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"{NAME}-quickgelu", quick)
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


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_only_what_open_clip_does_not_read_is_copied(weights, tmp_path, monkeypatch, key, prefix):
    """A copy of a large model takes time and room."""
    content = {prefix + name: value for name, value in weights.items()}
    torch.save(content if key is None else {"epoch": 3, key: content}, tmp_path / "a.pt")
    copying = mock.Mock(side_effect=torch.save)
    monkeypatch.setattr(torch, "save", copying)
    load_backbone(NAME, tmp_path / "a.pt", "cpu")
    assert copying.called == (key == "model" or prefix == "model.")


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


def written(path, content):
    """One of the files that people pass instead of weights."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif callable(content):
        content(path)
    else:
        torch.save(content, path)
    return str(path)


def cut(path, save):
    save(path)
    path.write_bytes(path.read_bytes()[:2000])


def zipped(path, **arrays):
    with path.open("wb") as file:  # whatever its ending
        np.savez(file, **arrays)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n"


@pytest.mark.parametrize("ending", ["pt", "safetensors", "npz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty .0 bytes"),
        (b"no weights at all", "is text that begins with 'no weights at all'"),
        (LFS, "is a pointer of Git LFS, .* git lfs pull"),
        (b"<!DOCTYPE html><html>404", "is a web page"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), r"cannot be read as weights: it begins with b'.x89PNG"),
        (pickle.dumps({"a": 1}), "cannot be read as weights"),
        (lambda path: cut(path, lambda to: torch.save({"a": torch.zeros(999)}, to)), "cannot be read as.*cut off"),
        (lambda path: cut(path, lambda to: save_file({"a": torch.zeros(999)}, to)), "cannot be read as.*cut off"),
        (lambda path: zipped(path, a=np.zeros(3)), r"holds \['a'\]; expected weights"),
        (lambda path: zipped(path, a=np.array([{}])), "cannot be read as weights .*allow_pickle"),
        (b"\x93NUMPY" + bytes(100), "cannot be read as weights"),
    ],
)
def test_other_files_are_refused_by_name(known, tmp_path, content, message, ending):
    path = written(tmp_path / f"a.{ending}", content)
    with pytest.raises(ValueError, match=f"a.{ending}' {message}"):
        load_backbone(NAME, path, "cpu")


def test_folders_and_paths_without_a_file(known, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "a.pt").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="model' is a folder .it is empty.; expected a file of weights, or a tag"):
        load_backbone(NAME, tmp_path / "model", "cpu")
    (tmp_path / "model" / "open_clip_config.json").touch()
    with pytest.raises(ValueError, match="it holds open_clip_config.json.*model_name='local-dir:.*model' loads it"):
        load_backbone(NAME, str(tmp_path / "model"), "cpu")
    for path in ("gone.pt", str(tmp_path / "gone"), "~/gone.PTH"):
        with pytest.raises(ValueError, match="pretrained='.*gone.*': there is no such file, seen from '/"):
            load_backbone(NAME, path, "cpu")
    with pytest.raises(ValueError, match=f"~ is the shell's; expected '{tmp_path}/a.pt'"):
        load_backbone(NAME, "~/a.pt", "cpu")
    with pytest.raises(ValueError, match="'gone' is neither a file nor a tag"):
        load_backbone(NAME, "gone", "cpu")


def plain(weights):
    return {name: value.contiguous().clone() for name, value in weights.items()}


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.safetensors", save_file),
        ("a.pt", save_file),
        ("pytorch_model.bin", save_file),
        ("A.SAFETENSORS", save_file),
        ("a.safetensors", torch.save),
        ("a.safetensors", lambda w, path: save_file({f"clip.model.{n}": v for n, v in w.items()}, path)),
        ("a.pt", lambda w, path: torch.save(w, path, _use_new_zipfile_serialization=False)),
        ("a.npz", lambda w, path: zipped(path, **{n: v.numpy() for n, v in w.items()})),
        ("a.npz", torch.save),
        ("a.pt", lambda w, path: torch.save({"model": {"state_dict": w}}, path)),
        ("a.pt", lambda w, path: torch.save({"epoch": 3, "checkpoint": {"student": w}, 0: 1}, path)),
        ("a.pt", lambda w, path: torch.save({"state_dict": w, "model_ema": {n: v + 1 for n, v in w.items()}}, path)),
        ("a.pt", lambda w, path: torch.save({"logit_scale": 1.0, **{f"clip.{n}": v for n, v in w.items()}}, path)),
        ("a.pt", lambda w, path: torch.save({n: v.double() for n, v in w.items()}, path)),
    ],
)
def test_files_are_known_by_what_is_in_them(weights, tmp_path, name, save):
    """Whatever their names are; weights may stand in dicts of dicts."""
    save(plain(weights), tmp_path / name)
    found = load_backbone(NAME, tmp_path / name, "cpu").model.state_dict()
    assert all(torch.equal(found[n], value) for n, value in weights.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "save"), [("a.pt", torch.save), ("a.safetensors", save_file)])
def test_half_precision_in_a_file(weights, tmp_path, dtype, name, save):
    save({n: v.to(dtype) for n, v in plain(weights).items()}, tmp_path / name)
    found = load_backbone(NAME, tmp_path / name, "cpu").model.state_dict()
    assert all(torch.equal(found[n], value.to(dtype).float()) for n, value in weights.items())


def test_text_towers_of_their_own(weights, monkeypatch, tmp_path):
    """Training scripts put the text tower under a name, whether the model has it there or not."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"{NAME}-custom", SMALL | {"custom_text": True})
    own = open_clip.create_model(f"{NAME}-custom").state_dict()
    torch.save(own, tmp_path / "a.pt")
    torch.save({"module." + name: value for name, value in weights.items()}, tmp_path / "b.pt")
    found = load_backbone(NAME, tmp_path / "a.pt", "cpu").model.state_dict()
    assert all(torch.equal(found[name.removeprefix("text.")], value) for name, value in own.items())
    found = load_backbone(f"{NAME}-custom", tmp_path / "b.pt", "cpu").model.state_dict()
    there = {name: value for name, value in found.items() if name.removeprefix("text.") in weights}
    assert len(there) == len(weights)
    assert all(torch.equal(weights[name.removeprefix("text.")], value) for name, value in there.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"student": w, "teacher": w}, r"several models, under the keys \['student', 'teacher'\]"),
        (
            lambda w: {f"{part}.{n}": v for part in ("online", "ema") for n, v in w.items()},
            r"several models, under the prefixes \['online.', 'ema.'\]",
        ),
        (lambda w: w | {"ln_final.weight": w["ln_final.weight"] * np.nan}, "NaN or infinity in 1 of .*'ln_final.w"),
        (lambda w: {n: v.to(torch.int8) for n, v in w.items()}, "holds quantized weights .'positional_embedding' of"),
        (lambda w: w | {"logit_bias": torch.zeros(1)}, "they have a logit_bias, as SigLIP's have"),
        (
            lambda w: {"vision_model.x.weight": w["ln_final.weight"], "logit_scale": w["logit_scale"]},
            "by the names of Hugging Face.s transformers",
        ),
        (lambda w: {n: v[:16] for n, v in w.items() if v.ndim}, "holds both towers, but no logit_scale"),
        (lambda w: {n: v[:9] if v.ndim else v for n, v in w.items()}, "does not hold the weights of model_name="),
    ],
)
def test_weights_that_are_not_those_of_the_model(weights, tmp_path, change, message):
    torch.save(change(plain(weights)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=f"a.pt' .*{message}"):
        load_backbone(NAME, tmp_path / "a.pt", "cpu")


def lines_of(error):
    return "\n".join(line.strip() for line in str(error).splitlines() if line.startswith("    "))


@pytest.mark.parametrize(("prefix", "save"), [("", torch.save), ("module.", torch.save), ("module.", save_file)])
@pytest.mark.parametrize(
    ("tower", "kept"),
    [
        ("an image tower alone", lambda name: name.startswith("visual.")),
        ("an image tower alone", lambda name: name.startswith("visual.") or name == "logit_scale"),
        ("a text tower alone", lambda name: not name.startswith("visual.")),
        ("both towers, but no logit_scale", lambda name: name != "logit_scale"),
    ],
)
def test_one_tower_is_put_into_a_model_by_the_lines_of_the_error(tags, tmp_path, tower, kept, prefix, save):
    whole = plain(open_clip.create_model(NAME).state_dict())
    others = {name: value + 0.5 for name, value in whole.items()}
    torch.save(whole, tmp_path / "whole.pt")
    save({prefix + name: value for name, value in others.items() if kept(name)}, tmp_path / "webli.pt")
    with pytest.raises(ValueError, match=f"holds {tower}") as caught:
        load_backbone(NAME, tmp_path / "webli.pt", "cpu")
    lines = lines_of(caught.value).replace("pretrained='openai'", f"pretrained={str(tmp_path / 'whole.pt')!r}")
    exec(lines, {"torch": torch, "open_clip": open_clip, "safetensors": safetensors})
    found = torch.load(tmp_path / "webli-weights.pt")
    assert all(torch.equal(found[name], (others if kept(name) else whole)[name]) for name in whole)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda model: {"args": argparse.Namespace(lr=1), "state_dict": model.state_dict()}, "argparse.Namespace"),
        (lambda model: {"best": np.float64(0.5), "model": model.state_dict()}, "numpy.*scalar"),
        (lambda model: {"best": np.float64(0.5), **model.state_dict()}, "numpy.*scalar"),
        (lambda model: model, "open_clip.model.CLIP"),
    ],
)
def test_pickled_objects_are_left_out_by_the_lines_of_the_error(weights, tmp_path, change, named):
    model = open_clip.create_model(NAME)
    torch.save(change(model), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"a.pt' holds Python objects .{named}.*If you trust it") as caught:
        load_backbone(NAME, tmp_path / "a.pt", "cpu")
    exec(lines_of(caught.value), {"torch": torch})
    found = load_backbone(NAME, tmp_path / "a-weights.pt", "cpu").model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_weights_of_larger_images_and_longer_texts(weights, monkeypatch, tmp_path):
    config = json.loads(json.dumps(SMALL))
    config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"] = 64, 60
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"{NAME}-64", config)
    torch.save(open_clip.create_model(f"{NAME}-64").state_dict(), tmp_path / "a.pt")
    with pytest.warns(UserWarning) as caught:
        load_backbone(NAME, tmp_path / "a.pt", "cpu")
    images, texts = (str(warning.message) for warning in caught)
    assert re.search("65 positions, images of 64 pixels,.* 17: .*; expected .* such as 'tiny-in-a-file-64'", images)
    assert re.search("60 positions in 'positional_embedding', and .* has 40: they are interpolated", texts)
    assert load_backbone(f"{NAME}-64", tmp_path / "a.pt", "cpu").model.context_length == 60


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
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, SMALL)
    exec(lines_of(caught.value), {"torch": torch})
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


def test_activation_of_models_with_one_name_is_not_in_doubt(known):
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
