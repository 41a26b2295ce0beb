"""CIFAR-10 and CIFAR-100."""

import pickle

import numpy as np
import pytest
import torchvision
from dataset_template import REAL, DataSetTemplate, no_download  # noqa: F401

from modal_clip_dual.data import load_benchmark


class TestCIFAR10(DataSetTemplate):
    name = "cifar10"
    template = "a photo of a {}."


class TestCIFAR100(DataSetTemplate):
    name = "cifar100"
    template = "a photo of a {}."


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path, monkeypatch, name):
    cls, key = REAL[name], {"cifar10": "labels", "cifar100": "fine_labels"}[name]
    monkeypatch.setattr(torchvision.datasets, cls.__name__, cls)
    with pytest.raises(FileNotFoundError, match=f"{cls.base_folder}/  .missing.\nHow to get it: pass") as e:
        load_benchmark(name, tmp_path)
    assert "CoOp" not in str(e.value)

    folder = tmp_path / cls.base_folder
    folder.mkdir()
    pixels = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8)
    for part, _ in cls.train_list + cls.test_list:
        (folder / part).write_bytes(pickle.dumps({"data": pixels, key: [1, 0]}))
    meta = {cls.meta["key"]: ["aquarium_fish", "train"]}
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps(meta))
    # Files that are not torchvision's are not unpickled.
    with pytest.raises(ValueError, match="is incomplete or damaged .*delete it and pass download=True"):
        load_benchmark(name, tmp_path)
    for lists in ("train_list", "test_list"):
        monkeypatch.setattr(cls, lists, [[file, None] for file, _ in getattr(cls, lists)])
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": None})
    data = load_benchmark(name, tmp_path)
    assert data.X_train.shape == (2 * len(cls.train_list), 32, 32, 3)
    assert data.X_train.dtype == data.X_test.dtype == np.uint8
    assert data.X_test[1, 0, 1].tolist() == pixels[1, [1, 1025, 2049]].tolist()
    assert (data.X_val, data.y_test.tolist()) == (None, [1, 0])
    assert data.class_names == ["aquarium fish", "train"]
    assert data.split == "torchvision"
