"""`examples/reproduce_table1.py` from start to end, on the small stand-ins of `examples/make_stand_ins.py`."""

import argparse
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modal_clip_dual import PAPER_SETTINGS

EXAMPLES = Path(__file__).parents[1] / "examples"
PAGE = EXAMPLES.parent / "docs" / "reproduce.md"
stand_ins = runpy.run_path(str(EXAMPLES / "make_stand_ins.py"))
script = runpy.run_path(str(EXAMPLES / "reproduce_table1.py"))
NAMES = ["DTD", "Caltech101", "EuroSAT", "Aircraft", "Flowers102", "UCF101"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("stand-ins")
    stand_ins["write_data"](root / "data", [*script["DATA"]["paper"], "oxford_pets"], per_class=(20, 1, 2), side=16)
    stand_ins["write_model"](root / "model", narrower=16, image_size=32, layers=2)
    return root


@pytest.fixture
def run(root, tmp_path, monkeypatch, capsys):
    """Function that runs the script and returns what it printed, its status and the number of runs that it did."""
    from modal_clip_dual.evaluation import compare

    def run(*arguments, data=root / "data"):
        done = []
        monkeypatch.setattr(compare, "_execute", lambda run, *rest: done.append(run) or execute(run, *rest))
        monkeypatch.setattr(sys, "argv", [
            "reproduce_table1.py", "--root", str(data), "--model", f"local-dir:{root / 'model'}", "--device", "cpu",
            "--cache", "memory", "--out", str(tmp_path / "out"), *arguments,
        ])  # fmt: skip
        status = script["main"]()
        printed = capsys.readouterr()
        return printed.out + (printed.err if status else ""), status, len(done)

    execute = compare._execute
    return run


FEW = ["--seeds", "1", "--rounds", "2", "--epochs", "1", "--strategies", "random", "negative-prompt"]


def test_the_papers_protocol_from_start_to_end(run, root, tmp_path):
    from modal_clip_dual import DualPromptClassifier
    from modal_clip_dual.data import load_benchmark

    data = tmp_path / "data"
    shutil.copytree(root / "data", data)
    (data / "ucf101").rename(tmp_path / "ucf101")
    said, status, n_done = run(*FEW, data=data)
    assert (status, n_done) == (0, 5 * 3)
    assert f"ucf101 is left out. load_benchmark('ucf101'): the data set is not complete in root='{data}'" in said
    assert "split_zhou_UCF101.json  (missing)" in said
    assert "How to get it: https://github.com/KaiyangZhou/CoOp" in said
    assert said.rstrip().endswith("left out: ucf101")
    assert "UCF101" not in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")

    (tmp_path / "ucf101").rename(data / "ucf101")  # it has come since
    said, status, n_done = run(*FEW, data=data)
    assert (status, n_done) == (0, 3) and "left out" not in said
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert table in said
    said, status, n_done = run(*FEW, data=data)  # nothing is left to do
    assert (status, n_done) == (0, 0) and table in said
    assert said.count("3 runs of 2 rounds of 1 labels, 3 of them done") == 6

    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]
    assert lines[0] == ["data set", "labels", "accuracy in %", "zero-shot", "random", "selection only", "full"]
    assert [line[:3] for line in lines[2:]] == [
        [name, percent, who] for name in NAMES for percent in ("1%", "2%")
        for who in ("ours", "paper", "ours - paper")
    ]  # fmt: skip
    for ours, paper, difference in zip(lines[2::3], lines[3::3], lines[4::3]):
        for own, theirs, between in zip(ours[3:], paper[3:], difference[3:]):
            assert 0 <= float(own) <= 100
            assert float(between) == pytest.approx(float(own) - float(theirs), abs=0.051)
    assert lines[-2] == ["UCF101", "2%", "paper", "64.3", "66.6", "68.5", "75.8"]
    assert len(pd.read_csv(tmp_path / "out" / "table.csv")) == 6 * (1 + 2 * 3)

    eurosat = load_benchmark("eurosat", data)
    clf = DualPromptClassifier(
        eurosat.class_names, model_name=f"local-dir:{root / 'model'}", pretrained=None, template=eurosat.template,
    )  # fmt: skip
    right = clf.zero_shot_proba(eurosat.X_test).argmax(axis=1) == eurosat.y_test
    assert float(lines[2 + 2 * 6][3]) == 100 * np.mean(right)


def test_dry_run(run, root, tmp_path):
    shutil.copytree(root / "data" / "dtd", tmp_path / "data" / "dtd")
    said, status, n_done = run(*FEW, "--dry-run", data=tmp_path / "data")
    assert status == 0 and n_done == 0 and not (tmp_path / "out").exists()
    assert "dtd: pool 100, test 10, 5 classes; 3 runs of 2 rounds of 1 labels, 0 of them done" in said
    assert re.search(r"about \d+ (seconds|minutes) of training", said)


def test_pcbs_protocol_from_start_to_end(run, root, tmp_path):
    data = tmp_path / "data"
    for name in ("oxford_pets", "dtd"):
        shutil.copytree(root / "data" / name, data / name)
    few = ["--seeds", "1", "--rounds", "2", "--epochs", "2", "--strategies", "random", "pcb-badge"]
    said, status, n_done = run("--protocol", "pcb", *few, data=data)
    assert (status, n_done) == (0, 4) and said.count("is left out") == 5
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert table in said and re.findall(r"^\w+$", table, re.MULTILINE) == ["dtd", "oxford_pets"]
    assert len(re.findall(r"^\| CoOp +\| (?:random|pcb-badge) ", table, re.MULTILINE)) == 4
    assert table.count("5 labels | 10 labels") == 2


def test_what_is_not_coops_or_not_there(run, root, tmp_path):
    from modal_clip_dual.data.datasets.loading import data_sets

    data = tmp_path / "data"
    shutil.copytree(root / "data" / "caltech-101", data / "caltech101")  # as torchvision has it, without a split file
    assert data_sets()["caltech101"].torchvision.needs == ("caltech101/101_ObjectCategories/",)
    (data / "caltech101" / "split_zhou_Caltech101.json").unlink()
    said, status, n_done = run(data=data)
    assert (status, n_done) == (2, 0) and "has none of dtd, caltech101" in said
    assert "caltech101 is left out. load_benchmark('caltech101')" in said
    assert "split_zhou_Caltech101.json  (missing)" in said and "download=True" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "200"], "200 rounds of 1 labels are more than the pool of 100 samples"),
        (["--lr", "-1"], "'lr' parameter"),
        (["--model", "nosuch"], "model_name='nosuch' is not known to open_clip"),
        (["--device", "nosuch"], "device='nosuch' cannot be used"),
        (["--out", __file__], "is no folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_run(run, arguments, message, tmp_path):
    said, status, n_done = run(*arguments)
    assert (status, n_done) == (2, 0) and "error: " in said and message in said
    assert not (tmp_path / "out").exists()


def test_strategies_of_the_other_protocol_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--strategies", "pcb-badge")
    assert "--strategies pcb-badge; expected some of alfa-mix, badge" in capsys.readouterr().err


def test_the_stand_in_model_has_the_layout_of_vit_b_16(tmp_path):
    import json

    import open_clip

    real = open_clip.get_model_config("ViT-B-16")
    stand_ins["write_model"](tmp_path)
    small = json.loads((tmp_path / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    for tower, width in (("vision_cfg", 96), ("text_cfg", 64)):
        assert small[tower]["width"] == width == real[tower]["width"] // 8
        kept = set(real[tower]) - {"width", "heads"}
        assert {name: small[tower][name] for name in kept} == {name: real[tower][name] for name in kept}


@pytest.mark.parametrize("protocol", ["paper", "pcb"])
def test_the_page_has_every_setting_of_the_script(protocol):
    text = PAGE.read_text(encoding="utf-8")
    (sets,) = re.findall(rf"^\| `{protocol}` \| (`.*`) \|$", text, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", sets)) == script["DATA"][protocol]
    text = text[text.index(f"| setting | `{protocol}` |") :].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^ ,:;|]+)", text, re.MULTILINE))
    settings = script["SETTINGS"][protocol]
    for name in ("n_context", "lr", "max_epochs", "batch_size", "gradient_clip_value"):
        assert rows[name] == str(settings[name]), name
    net = settings["net_params"]
    assert (net["optimizer__momentum"], net["optimizer__weight_decay"]) == (0.9, 5e-4)
    assert "momentum 0.9, weight decay 5e-4" in text
    written = re.findall(r"`([\w-]+)`", text)
    own = {name for name in net if not name.startswith(("optimizer", "iterator"))}
    strategies = {name for *_, part in script["PARTS"][protocol] for name in part}
    assert {*settings, *own, *strategies} - {"net_params"} <= {*written}


def test_every_column_and_row_of_table_1_is_run():
    from modal_clip_dual.evaluation._published import COLUMNS, TABLE_1, column_of, row_of

    parts = script["PARTS"]["paper"]
    assert {column_of(strategy, loop) for _, loop, _, part in parts for strategy in part} == set(COLUMNS)
    assert [row_of(name) for name in script["DATA"]["paper"]] == list(TABLE_1)


def test_learners():
    """The baselines have one prompt; in selection only L2 must not reach the prompt that classifies."""
    args = argparse.Namespace(
        protocol="paper", model="demo", pretrained="bundled", device="cpu", precision="fp32", cache="memory",
        epochs=None, lr=None,
    )  # fmt: skip
    coop, detached, dual = (learner.get_params() for learner in script["learners"](args).values())
    assert [params["negative_weight"] for params in (coop, detached, dual)] == [0, 1, 1]
    name = "module__detach_positive"
    assert detached["net_params"] == dual["net_params"] | {name: True} and name not in dual["net_params"]
    for params in (detached, coop):
        same = {key: dual[key] for key in ("net_params", "negative_weight")}
        assert params | same == dual
    assert {key: dual[key] for key in PAPER_SETTINGS} == PAPER_SETTINGS
