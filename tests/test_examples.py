"""The examples run as they stand; README and pages: test_docs.py."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_quickstart(capsys):
    runpy.run_path(str(ROOT / "examples/quickstart.py"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "12", "24", "36", "48", "60", "72"]


@pytest.fixture
def pretrain():
    return runpy.run_path(str(ROOT / "examples/pretrain_demo_clip.py"))


def test_pretraining_script_is_deterministic_and_writes_what_the_package_reads(
    pretrain, tmp_path, monkeypatch
):
    import torch

    from modal_clip_dual.clip import backbone, loaders

    folders = []
    for k in range(2):
        with torch.random.fork_rng():
            model, rows = pretrain["train"](n_images=128, batch_size=64, lr=1e-3, seed=3)
        folders.append(tmp_path / str(k))
        pretrain["save"](model, rows, folders[k])
        (folders[k] / "open_clip_config.json").write_text(pretrain["CONFIG"].read_text())
    first, second = (next(f.glob("*.safetensors")).read_bytes() for f in folders)
    assert first == second

    monkeypatch.setattr(loaders, "DEMO_FOLDER", folders[0])
    monkeypatch.setattr(backbone, "_loaded", {})
    loaded = backbone.load_backbone("demo", "bundled", "cpu")
    tokens = loaded.tokenizer(["a photo of a seven."])
    with torch.no_grad():
        expected = model.encode_text(tokens)
        torch.testing.assert_close(loaded.model.encode_text(tokens), expected, atol=2e-2, rtol=0)


def test_pretraining_glyphs_are_not_empty(pretrain):
    glyphs = pretrain["draw_glyphs"]()
    assert len(pretrain["FONTS"]) - 1 <= len(glyphs) <= len(pretrain["FONTS"])
    assert glyphs.shape[1:] == (62, 64, 64)
    assert glyphs.flatten(2).sum(2).min() > 20  # ink in every glyph
