"""The commands ``export`` and ``import``."""

import pandas as pd
import pytest
from PIL import Image

from modal_clip_dual import DualPromptLearner, TipAdapterClassifier
from modal_clip_dual.cli import main
from modal_clip_dual.cli.export import FORMATS
from modal_clip_dual.exchange import available_formats


@pytest.fixture
def state(tmp_path):
    (tmp_path / "pool").mkdir()
    paths = [tmp_path / "pool" / f"{k}.png" for k in range(3)]
    for k, path in enumerate(paths):
        Image.new("RGB", (8, 8), (60 * k, 0, 0)).save(path)
    clf = TipAdapterClassifier(["cat", "dog"], model_name="demo", pretrained="bundled", device="cpu", verbose=0)
    learner = DualPromptLearner(clf, paths, path=tmp_path / "state.npz")
    learner.teach(rows=[0], y=["cat"], train=False)
    learner.close()
    return str(tmp_path / "state.npz")


def test_out_and_in_again(state, tmp_path, capsys):
    out = str(tmp_path / "out.csv")
    assert main(["export", state, out]) == 0
    assert capsys.readouterr().out == f"1 labels written: {out}\n"
    frame = pd.read_csv(out)
    frame.loc[1, "label"] = "dog"
    frame.loc[0, "label"] = "dog"
    frame.assign(what="label").iloc[:2].to_csv(tmp_path / "in.csv", index=False)
    assert main(["import", state, str(tmp_path / "in.csv"), "--no-train", "--annotator", "ann"]) == 0
    assert capsys.readouterr().out.startswith("1 labels are new, 0 changed; 1 were kept as they were, ")
    assert main(["import", state, str(tmp_path / "in.csv"), "--no-train", "--replace"]) == 0
    learner = DualPromptLearner.resume(state)
    assert learner.labels_.tolist() == ["dog", "dog"]
    assert main(["export", state, str(tmp_path / "folders"), "--link"]) == 0
    assert sorted(path.name for path in (tmp_path / "folders" / "dog").iterdir()) == ["0.png", "1.png"]
    assert main(["export", state, str(tmp_path / "t.json"), "--format", "label-studio", "--root", str(tmp_path)]) == 0


def test_what_a_user_can_cause(state, tmp_path, capsys):
    assert main(["export", state, state]) == 2
    assert "does not tell the format" in capsys.readouterr().err
    assert main(["export", state, state, "--format", "csv"]) == 2
    assert "exists; overwrite=True replaces it" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "no.npz"), str(tmp_path / "out.csv")]) == 2
    error = capsys.readouterr().err
    assert "no.npz': there is no saved state of a learner" in error and "Errno" not in error
    assert main(["export", str(tmp_path), str(tmp_path / "out.csv")]) == 2
    assert "is not a saved state of a learner (it is a folder)" in capsys.readouterr().err
    assert main(["import", state, str(tmp_path / "no.csv")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_all_formats_may_be_named():
    assert sorted(FORMATS) == available_formats()
