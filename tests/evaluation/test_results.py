"""Stored runs of one folder: which belong together, and which are refused with their files."""

import os
import re
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modal_clip_dual.active import Protocol
from modal_clip_dual.cli import main
from modal_clip_dual.evaluation import compare_strategies, read_results, summarize

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
ENDS = r".* Delete the file that does not count any more, or move it to another folder"
RULE = {"first": 0}


def compare(path, C=1.0, seeds=(0, 1), strategies="random", X=X, y=Y):
    return compare_strategies(
        {"lr": LogisticRegression(C=C)}, strategies, X, y, protocol=Protocol(2, per_class=2), seeds=list(seeds),
        path=path, verbose=0,
    )  # fmt: skip


def age(folder, hours):
    """Make the files of a folder older; return them by their times, the oldest first."""
    for file in folder.glob("runs/*.csv"):
        os.utime(file, (file.stat().st_mtime - 3600 * hours,) * 2)
    return sorted(folder.glob("runs/*.csv"), key=lambda file: file.stat().st_mtime)


def dated(file):
    return f"{str(file)!r} of {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(file.stat().st_mtime))}"


def test_two_settings_under_one_name_without_a_common_seed(tmp_path, capsys):
    compare(tmp_path, C=1e-4, seeds=[0, 1])
    (older, _) = sorted(age(tmp_path, 2))
    assert len(compare(tmp_path, C=100, seeds=[2, 3])) == 4  # a comparison has its own runs only
    newer = sorted(tmp_path.glob("runs/*.csv"))[2]
    with pytest.raises(ValueError, match="^runs of one name have other settings, data or code") as caught:
        read_results(tmp_path)
    message = str(caught.value)
    assert "estimator='lr', strategy='random')" in message and re.search(ENDS, message)
    assert message.index(dated(older)) < message.index(dated(newer)) and "with 1 more files" in message
    assert main(["report", str(tmp_path)]) == 2
    assert dated(older) in capsys.readouterr().err


def test_two_settings_in_two_folders(tmp_path, capsys):
    compare(tmp_path / "a", C=1e-4, seeds=[0, 1])
    compare(tmp_path / "b", C=100, seeds=[2, 3])
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "runs of one name have other settings" in capsys.readouterr().err


def test_seeds_that_are_added_belong_to_the_others(tmp_path):
    compare(tmp_path, seeds=[0, 1])
    compare(tmp_path, seeds=[1, 2], strategies=["random", "margin"])
    frame = read_results(tmp_path)
    assert "settings" not in frame
    assert summarize(frame)["n_seeds"].tolist() == [2, 2, 3, 3]


def test_files_of_versions_before(tmp_path):
    """They do not tell their settings, and are read as before; and these read the files of now."""
    compare(tmp_path, C=1e-4, seeds=[0, 1])
    for file in tmp_path.glob("runs/*.csv"):
        table = pd.read_csv(file)
        assert table["settings"].nunique() == 1 and table["settings"].dtype.kind in "if"
        assert (table["settings"] < 2**53).all()  # version 0.1.0 takes what it does not know for a float
        table.drop(columns="settings").to_csv(file, index=False)
    before = read_results(tmp_path)
    assert len(before) == 4 and len(compare(tmp_path, C=1e-4, seeds=[0, 1])) == 4
    compare(tmp_path, C=100, seeds=[2, 3])
    assert len(read_results(tmp_path)) == 8


def choose(learner, X, n_instances=1):
    return list(range(RULE["first"], RULE["first"] + n_instances))


def test_an_edited_strategy_runs_anew_and_both_files_are_named(tmp_path, monkeypatch):
    first = compare(tmp_path, seeds=[0], strategies={"own": choose})
    (older,) = age(tmp_path, 1)
    monkeypatch.setitem(RULE, "first", 12)
    second = compare(tmp_path, seeds=[0], strategies={"own": choose})
    assert first["nll"].tolist() != second["nll"].tolist()
    newer = age(tmp_path, 0)[1]
    with pytest.raises(ValueError, match=r"^two files hold one run \(.*strategy='own', seed=0\)") as caught:
        read_results(tmp_path)
    message = str(caught.value)
    assert message.index(f"the older {dated(older)}") < message.index(f"the newer {dated(newer)}")
    assert re.search(ENDS, message)
    older.unlink()
    pd.testing.assert_frame_equal(read_results(tmp_path), second)


def pixels(X):
    return np.stack([np.asarray(Image.open(file), dtype=float).ravel() for file in X]) / 255


def test_other_images_in_the_same_files_are_another_run(tmp_path):
    files = [str(tmp_path / f"{k}.png") for k in range(16)]
    frames = []
    for seed in (0, 0, 1):
        rng = np.random.default_rng(seed)
        for file in files:
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
        frames.append(
            compare_strategies(
                make_pipeline(FunctionTransformer(pixels), LogisticRegression()), "random", files, np.arange(16) % 2,
                protocol=Protocol(1, per_class=2), seeds=1, path=tmp_path / "out", verbose=0,
            )
        )
    pd.testing.assert_frame_equal(frames[1], frames[0])  # found again, with its seconds
    assert len(list(tmp_path.glob("out/runs/*.csv"))) == 2
    assert frames[2]["nll"].tolist() != frames[0]["nll"].tolist()
