"""Folders as ``local-dir:FOLDER``: what makes no CLIP is refused by name, before anything is read."""

import json

import numpy as np
import open_clip
import pytest
import torch
from conftest import write_checkpoint

from modal_clip_dual import CLIPImageEncoder
from modal_clip_dual.cli import main
from modal_clip_dual.clip import loaders
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.clip.folders import file_of_weights

WEIGHTS, CONFIG = "open_clip_pytorch_model.bin", "open_clip_config.json"


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "clip")


def load(folder):
    return load_backbone(f"local-dir:{folder}", None, "cpu")


def rewrite(folder, change):
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.fixture
def nothing_read(monkeypatch):
    for name in ("load_tokenizer", "_create"):
        monkeypatch.setattr(loaders, name, lambda *args, **kw: pytest.fail("something was loaded"))


@pytest.mark.usefixtures("nothing_read")
def test_weights_under_a_name_that_open_clip_does_not_look_for(folder):
    """It would make a random CLIP, and say so in a line of its log alone."""
    (folder / WEIGHTS).rename(folder / "epoch_32.pt")
    with pytest.raises(ValueError, match=r"random model; the folder holds epoch_32.pt, open_cl") as caught:
        load(folder)
    for said in (str(folder), repr(WEIGHTS), "'open_clip_model.safetensors'", ".safetensors, .bin, .pth"):
        assert said in str(caught.value)


@pytest.mark.usefixtures("nothing_read")
def test_refused_before_the_page_starts(folder, tmp_path, capsys):
    from PIL import Image

    (folder / WEIGHTS).unlink()
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "0.png")
    model = ["--model", f"local-dir:{folder}", "--no-browser"]
    assert main(["label", str(tmp_path / "images"), "--classes", "a,b", *model]) != 0
    said = capsys.readouterr()
    assert "would make a random model; the folder holds open_clip_config.json" in said.err
    assert "Loading" not in said.out


@pytest.mark.parametrize(
    "names",
    [
        [WEIGHTS, "epoch.pth"],
        ["pytorch_model.bin", "other.safetensors", "open_clip_pytorch_model.pth"],
        ["a.bin", "z.safetensors", "b.pth", "ignored.pt"],
        ["b.pth", "c.bin"],
        ["model.pth", "model.safetensors", "a.safetensors"],
    ],
)
def test_the_file_is_the_one_that_open_clip_reads(folder, names, monkeypatch):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    for name in names:
        (folder / name).write_bytes(content)
    read = []
    monkeypatch.setattr(open_clip.factory, "load_checkpoint", lambda model, path, **kw: read.append(path))
    open_clip.create_model(f"local-dir:{folder}")
    assert read == [str(file_of_weights(folder))]


def std(value):
    return lambda config: config["preprocess_cfg"].update(std=value)


@pytest.mark.usefixtures("nothing_read")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (std([0.3, 0.0, 0.3]), r"std=\[0.3, 0.0, 0.3\].*larger than 0"),
        (std(0), "std=0 in preprocess_cfg"),
        (std([float("nan")] * 3), "std=.*a finite number for each of three channels"),
        (lambda c: c["preprocess_cfg"].update(mean=[0.4]), r"mean=\[0.4\] in"),
        (lambda c: c["preprocess_cfg"].update(mean="a"), "mean='a' in"),
        (lambda c: c["preprocess_cfg"].update(mode="L"), r"mode='L'.*expected one of \('RGB',\)"),
        (lambda c: c["preprocess_cfg"].update(interpolation="nearest"), "interpolation='nearest'.*'bicubic'"),
        (lambda c: c["preprocess_cfg"].update(resize_mode="crop"), "resize_mode='crop'.*'shortest'"),
        (lambda c: c.update(preprocess_cfg=[1]), r"preprocess_cfg=\[1\]; expected settings by name"),
        (lambda c: c.pop("model_cfg"), "no model_cfg with vision_cfg and text_cfg"),
        (lambda c: c["model_cfg"].pop("text_cfg"), "no model_cfg with vision_cfg and text_cfg"),
        (lambda c: c.update(model_cfg=[1]), "no model_cfg with vision_cfg and text_cfg"),
    ],
)
def test_configurations_that_do_not_fit(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message) as caught:
        load(folder)
    assert f"local-dir:{folder}" in str(caught.value)
    assert CONFIG in str(caught.value)


@pytest.mark.usefixtures("nothing_read")
@pytest.mark.parametrize("content", [b"{broken", b"[1]", b"\xff\xfe", b""])
def test_configurations_that_are_none(folder, content):
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(ValueError, match=rf"local-dir:{folder}.*{CONFIG} in this folder (cannot be|has no)"):
        load(folder)


def cut_off(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def of_another_model(folder):
    rewrite(folder, lambda config: config["model_cfg"]["vision_cfg"].update(layers=3))


def of_none(folder):
    torch.save({"epochs": 1}, folder / WEIGHTS)


def unknown_setting(folder):
    rewrite(folder, lambda config: config["model_cfg"].update(foo=1))


@pytest.mark.parametrize("spoil", [cut_off, of_another_model, of_none, unknown_setting])
def test_weights_that_cannot_be_loaded(folder, spoil):
    spoil(folder)
    with pytest.raises(ValueError, match=f"{WEIGHTS} in this folder cannot be read, or does not hold") as caught:
        load(folder)
    assert f"local-dir:{folder}" in str(caught.value)
    assert isinstance(caught.value.__cause__, (RuntimeError, TypeError))


def test_weights_that_are_not_finite(folder):
    state = torch.load(folder / WEIGHTS)
    state["visual.proj"][0, 0] = float("nan")
    torch.save(state, folder / WEIGHTS)
    with pytest.raises(ValueError, match=f"local-dir:{folder}.*{WEIGHTS} in this folder holds NaN or infinity"):
        load(folder)


def test_weights_of_smaller_images(folder):
    rewrite(folder, lambda config: config["model_cfg"]["vision_cfg"].update(image_size=64))
    with pytest.warns(UserWarning, match=f"{WEIGHTS} in this folder was trained with 17 .* images of 32 pixels"):
        load(folder)


@pytest.mark.parametrize(("precision", "advice"), [("fp32", "computes in float32"), ("bf16", "try precision='fp32'")])
def test_advice_about_precision_fits_it(folder, precision, advice, monkeypatch):
    backbone = load_backbone(f"local-dir:{folder}", None, "cpu", precision)
    monkeypatch.setattr(type(backbone), "encode_images", lambda self, pixels: torch.full((len(pixels), 32), np.nan))
    encoder = CLIPImageEncoder(f"local-dir:{folder}", None, device="cpu", precision=precision, cache=None)
    with pytest.raises(FloatingPointError, match=r"X\[0\]") as caught:
        encoder.fit_transform(np.zeros((2, 32, 32, 3), np.uint8))
    assert advice in str(caught.value)
    assert ("fp32" in str(caught.value)) == (precision != "fp32")
