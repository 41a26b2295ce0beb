"""What README and examples show runs as it stands."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python_blocks(text):
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


def test_readme_example(tmp_path):
    (code,) = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    script = tmp_path / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) > 0.5
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_snippets_of_the_page_on_images(tmp_path):
    from PIL import Image

    (tmp_path / "my-images" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "my-images" / "cat" / "tom.png")
    blocks = python_blocks((ROOT / "docs/images.md").read_text(encoding="utf-8"))
    code = "\n".join([*blocks, "print(len(paths), len(rows), embeddings.shape)"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1 10 (100, 128)"


def test_snippets_of_the_page_on_the_loop(tmp_path):
    blocks = python_blocks((ROOT / "docs/loop.md").read_text(encoding="utf-8"))
    code = "\n".join([*blocks, "print(repr(learner)[:37], len(labelled), settings['budget'])"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "DualPromptLearner(round 2, 40 of 1797 40 40"


def test_snippets_of_the_page_on_saving(tmp_path):
    blocks = python_blocks((ROOT / "docs/saving.md").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.split()[0] == "True"
    assert second.startswith("['demo', 'bundled'] ")


def test_snippets_of_the_page_on_strategies():
    blocks = python_blocks((ROOT / "docs/strategies.md").read_text(encoding="utf-8"))
    code = "\n".join([*blocks, "print(len(learner.query(X[20:], n_instances=10)[0]), rows.shape)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "10 (10,)"


def test_quickstart(capsys):
    runpy.run_path(str(ROOT / "examples/quickstart.py"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["12", "24", "36", "48", "60", "72"]


@pytest.fixture
def pretrain():
    return runpy.run_path(str(ROOT / "examples/pretrain_demo_clip.py"))


def test_pretraining_script_is_deterministic_and_writes_what_the_package_reads(
    pretrain, tmp_path, monkeypatch
):
    import torch

    from modal_clip_dual.nn import backbone

    folders = []
    for k in range(2):
        with torch.random.fork_rng():
            model, rows = pretrain["train"](n_images=128, batch_size=64, lr=1e-3, seed=3)
        folders.append(tmp_path / str(k))
        pretrain["save"](model, rows, folders[k])
        (folders[k] / "open_clip_config.json").write_text(pretrain["CONFIG"].read_text())
    first, second = (next(f.glob("*.safetensors")).read_bytes() for f in folders)
    assert first == second

    monkeypatch.setattr(backbone, "_DEMO_FOLDER", folders[0])
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
