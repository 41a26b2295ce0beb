"""Loading by name: what is listed, what is refused, what a new data set takes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_dtd
import torchvision
from dataset_template import make_images, no_download, write  # noqa: F401
from PIL import Image

from modal_clip_dual.data import available_benchmarks, datasets, load_benchmark
from modal_clip_dual.data.datasets.loading import data_sets

SPLIT_FILE = test_dtd.TestDTD.split_file
make_dtd = test_dtd.TestDTD().make_coop


def test_listed_in_the_order_of_the_paper():
    assert available_benchmarks() == [
        "caltech101", "dtd", "eurosat", "fgvc_aircraft", "oxford_flowers", "ucf101", "oxford_pets",
        "food101", "stanford_cars", "sun397", "imagenet", "cifar10", "cifar100", "digits", "folder",
    ]  # fmt: skip


def test_every_data_set_is_tested():
    tested = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert set(re.findall(r'^    name = "(\w+)"$', tested, re.MULTILINE)) == set(data_sets())


def test_a_data_set_is_one_file(tmp_path, monkeypatch):
    """A file dropped into the folder is listed, last, and read; nothing else knows of it."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "leaves.py").write_text(
        """
from modal_clip_dual.data.datasets._dataset import DataSet
from modal_clip_dual.data.datasets._layouts import read_one_folder

DATASET = DataSet(
    "leaves",
    "a scan of a {} leaf.",
    read=lambda root: read_one_folder(root / "scans"),
    root="the folder that holds 'scans'",
)
"""
    )
    before = available_benchmarks()
    monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path / "code")])
    try:
        assert available_benchmarks() == [*before, "leaves"]
        make_images(tmp_path / "scans", *(f"{name}/{k}.png" for name in ("oak", "red_maple") for k in range(3)))
        data = load_benchmark("leaves", tmp_path)
        assert (data.name, data.split, data.class_names) == ("leaves", "seeded", ["oak", "red maple"])
        assert data.template.format(data.class_names[1]) == "a scan of a red maple leaf."
        assert data.y_train.tolist() == [0, 0, 1, 1] and data.y_test.tolist() == [0, 1]
        with pytest.raises(ValueError, match="root=None; .*expects the folder that holds 'scans'"):
            load_benchmark("leaves")
        with pytest.raises(ValueError, match="layout='coop' does not exist for 'leaves'; expected None"):
            load_benchmark("leaves", tmp_path, layout="coop")
        with pytest.raises(ValueError, match="did you mean 'leaves'"):
            load_benchmark("leave", tmp_path)
    finally:
        sys.modules.pop(f"{datasets.__name__}.leaves", None)
        vars(datasets).pop("leaves", None)
    monkeypatch.undo()
    assert available_benchmarks() == before


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load_benchmark("dtd", tmp_path / "data")
    root = tmp_path / "data"
    assert str(error.value).splitlines() == [
        f"load_benchmark('dtd'): the data set is not complete in root={str(root)!r}.",
        "Expected, as in CoOp:",
        f"    {root / 'dtd'}{os.sep}  (missing)",
        "    |-- images/  (missing)",
        "    |-- split_zhou_DescribableTextures.json  (missing)",
        "How to get it: https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md#dtd",
        "Expected, as in torchvision.datasets.DTD:",
        f"    {root}{os.sep}  (missing)",
        "    |-- dtd/dtd/images/  (missing)",
        "    |-- dtd/dtd/labels/train1.txt  (missing)",
        "    |-- dtd/dtd/labels/val1.txt  (missing)",
        "    |-- dtd/dtd/labels/test1.txt  (missing)",
        "How to get it, with torchvision's split, whose figures do not compare with CoOp's: "
        + "pass download=True.",
    ]


def test_split_in_two_places(tmp_path):
    make_dtd(tmp_path)
    write(tmp_path / SPLIT_FILE, {})
    with pytest.raises(ValueError, match="is ambiguous: split_zhou_DescribableTextures.json is in it and"):
        load_benchmark("dtd", tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["../../etc/passwd", 0, "banded"], "has the path '../../etc/passwd'; expected one relative to"),
        (["a/../../x.jpg", 0, "banded"], "has the path 'a/../../x.jpg'"),
        (["a\\..\\..\\x.jpg", 0, "banded"], "has the path "),
        (["a/.. /x.jpg", 0, "banded"], "has the path 'a/.. /x.jpg'"),
        (["/etc/passwd", 0, "banded"], "has the path '/etc/passwd'"),
        (["\\\\host\\x.jpg", 0, "banded"], "has the path "),
        (["C:x.jpg", 0, "banded"], "has the path 'C:x.jpg'"),
        (["a\0b.jpg", 0, "banded"], "has the path "),
        (["", 0, "banded"], "has the path ''"),
        (["a.jpg", 0], "is .'a.jpg', 0.; expected CoOp's"),
        (["a.jpg", "0", "banded"], "is .'a.jpg', '0', 'banded'.; expected"),
        (["a.jpg", True, "banded"], "is .'a.jpg', True, 'banded'.; expected"),
        (["a.jpg", -1, "banded"], "is .'a.jpg', -1, 'banded'.; expected"),
        (["a.jpg", 0, " "], "is .'a.jpg', 0, ' '.; expected"),
        ({"path": "a.jpg"}, "is {'path': 'a.jpg'}; expected"),
        (["a.jpg", 0, "dotted"], "gives label 0 the class name 'dotted', but .*entry 1 of 'train', gives it"),
    ],
)
def test_entries_refused(tmp_path, entry, message):
    path = make_dtd(tmp_path) / SPLIT_FILE
    split = json.loads(path.read_text())
    split["test"].append(entry)
    write(path, split)
    with pytest.raises(ValueError, match=rf"split_zhou_Desc.*json', entry 2 of 'test', {message}"):
        load_benchmark("dtd", tmp_path)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("{", 'is no JSON file .*; expected CoOp\'s {"train"'),
        ("[" * 100_000, "is no JSON file"),
        ([], r"holds \[\]; expected CoOp's"),
        ({"train": []}, "holds {'train': ..}; expected"),
        ({"train": [], "test": []}, "has no image for 'train'; expected at least one"),
        ({"train": [["banded/banded_0002.jpg", 0, "a"]], "test": []}, "has no image for 'test'"),
        (
            {"train": [["banded/banded_0002.jpg", 0, "a"]], "test": [["banded/banded_0002.jpg", 2, "b"]]},
            "has 2 labels, the largest 2, but none is 1; expected every integer from 0 to 1",
        ),
        (
            {"train": [["banded/banded_0002.jpg", 0, "a_b"]], "test": [["banded/banded_0002.jpg", 1, "A b"]]},
            r"classes 'a_b' \(label 0\) and 'A b' \(label 1\) would both be called 'A b'",
        ),
    ],
)
def test_split_files_refused(tmp_path, split, message):
    write(make_dtd(tmp_path) / SPLIT_FILE, split)
    with pytest.raises(ValueError, match=message):
        load_benchmark("dtd", tmp_path)


def test_validation_may_be_missing(tmp_path):
    path = make_dtd(tmp_path) / SPLIT_FILE
    split = json.loads(path.read_text())
    for val in ({"val": []}, {}):
        write(path, {part: split[part] for part in ("train", "test")} | val)
        data = load_benchmark("dtd", tmp_path)
        assert (data.X_val, data.y_val, len(data.X_test)) == (None, None, 2)


def test_missing_images(tmp_path):
    folder = make_dtd(tmp_path)
    split = json.loads((folder / SPLIT_FILE).read_text())
    split["test"] += [[f"banded/{k}.jpg", 0, "banded"] for k in range(4)]
    split["val"].append(["nowhere/0.jpg", 0, "banded"])
    write(folder / SPLIT_FILE, split)
    with pytest.raises(FileNotFoundError, match="names 2 images, of which 1 are missing: '.*nowhere/0.jpg'"):
        load_benchmark("dtd", tmp_path)
    del split["val"][-1]
    write(folder / SPLIT_FILE, split)
    with pytest.raises(
        FileNotFoundError,
        match="json' names 6 images, of which 4 are missing: '.*0.jpg', '.*1.jpg', '.*2.jpg', ...; are all",
    ):
        load_benchmark("dtd", tmp_path)
    (folder / "images" / "banded" / "0.jpg").mkdir()  # no file either
    make_images(folder / "images" / "banded", "1.jpg", "2.jpg")
    os.symlink(folder / "images" / "banded" / "1.jpg", folder / "images" / "banded" / "3.jpg")
    with pytest.raises(FileNotFoundError, match="of which 1 are missing: '[^']*banded/0.jpg'; are all"):
        load_benchmark("dtd", tmp_path)


def test_failing_downloads(tmp_path, monkeypatch):
    def offline(root, **kwargs):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "DTD", offline)
    with pytest.raises(OSError, match="could not fetch 'dtd' into .*no route to host"):
        load_benchmark("dtd", tmp_path, download=True)
    monkeypatch.setattr(torchvision.datasets, "DTD", lambda root, **kwargs: None)
    with pytest.raises(FileNotFoundError, match="delete what is left of an earlier download"):
        load_benchmark("dtd", tmp_path, download=True)
    with pytest.raises(FileNotFoundError, match="torchvision cannot download it any more"):
        load_benchmark("stanford_cars", tmp_path, download=True)
    with pytest.raises(FileNotFoundError, match="DATASETS.md#ucf101") as error:
        load_benchmark("ucf101", tmp_path, download=True)
    assert "torchvision" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("flowers102", "did you mean 'oxford_flowers'?"),
        ("caltech-101", "did you mean 'caltech101'?"),
        ("CIFAR", "did you mean 'cifar10'"),
        ("dtdd", "did you mean 'dtd'?"),
        ("mnist", "is no benchmark; expected one of caltech101, dtd"),
        (None, "name=None is no benchmark"),
        (["dtd"], "is no benchmark"),
    ],
)
def test_unknown_name(tmp_path, name, hint):
    with pytest.raises(ValueError) as error:
        load_benchmark(name, tmp_path)
    assert hint in str(error.value)
    assert ", ".join(available_benchmarks()) in str(error.value)


def test_arguments_refused(tmp_path):
    for root in (None, "", 3, b"/data"):
        with pytest.raises(ValueError, match=r"root=.*; load_benchmark\('caltech101'\) expects the folder "
                           "that holds 'caltech-101'"):  # fmt: skip
            load_benchmark("caltech101", root)
    with pytest.raises(ValueError, match="root=None; .*holds 'cifar-10-batches-py'"):
        load_benchmark("cifar10")
    with pytest.raises(ValueError, match="root=None; .*expects a folder of class folders"):
        load_benchmark("folder")
    with pytest.raises(ValueError, match="layout='zhou'; expected None, 'coop' or 'torchvision'"):
        load_benchmark("dtd", tmp_path, layout="zhou")
    for name, layout, allowed in (
        ("ucf101", "torchvision", "None or 'coop'"),
        ("cifar10", "coop", "None or 'torchvision'"),
        ("digits", "coop", "None"),
    ):
        with pytest.raises(
            ValueError, match=f"layout='{layout}' does not exist for '{name}'; expected {allowed}"
        ):
            load_benchmark(name, tmp_path, layout=layout)


def test_classifier_reads_what_is_loaded(tmp_path, digits):
    from modal_clip_dual import DualPromptClassifier

    split = {"train": [], "val": [], "test": []}
    for label in range(10):
        for k, row in enumerate(np.flatnonzero(digits.target == label)[:6]):
            path = tmp_path / "caltech-101" / "101_ObjectCategories" / f"{label}/{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digits.images[row]).save(path)
            part = "train" if k < 2 else "test"
            split[part].append([f"{label}/{k}.png", label, digits.class_names[label]])
    write(tmp_path / "caltech-101" / "split_zhou_Caltech101.json", split)
    data = load_benchmark("caltech101", tmp_path)
    clf = DualPromptClassifier(
        data.class_names,
        model_name="demo",
        pretrained="bundled",
        device="cpu",
        template=data.template,
        cache=None,
    )
    predicted = clf.zero_shot_proba(data.X_test).argmax(axis=1)
    assert predicted.shape == data.y_test.shape == (40,)
    assert np.mean(predicted == data.y_test) > 0.3  # chance: 0.1


def test_importing_stays_light():
    heavy = ("torch", "torchvision", "sklearn", "scipy", "open_clip", "modal_clip_dual.data.datasets")
    code = f"import modal_clip_dual.data as d, sys; print([m for m in {heavy} if m in sys.modules])"
    code += "\nprint(d.load_benchmark.__module__, 'load_benchmark' in dir(d))"
    code += f"\nprint([m for m in {heavy[:-1]} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split("\n")[:3] == ["[]", "modal_clip_dual.data.datasets.loading True", "[]"]
