"""A folder of one's own as a data set."""

import pytest
from dataset_template import DataSetTemplate, make_images, relative

from modal_clip_dual.data import load_benchmark


class TestFolder(DataSetTemplate):
    name = "folder"
    template = "a photo of a {}."


def test_folder_with_parts(tmp_path):
    make_images(tmp_path, "train/big_cat/1.png", "train/dog/1.jpg", "test/dog/2.jpg", "val/big_cat/3.png")
    data = load_benchmark("folder", tmp_path)
    assert relative(data, tmp_path) == {
        "train": ["train/big_cat/1.png", "train/dog/1.jpg"],
        "val": ["val/big_cat/3.png"],
        "test": ["test/dog/2.jpg"],
    }
    assert (data.y_train.tolist(), data.y_val.tolist(), data.y_test.tolist()) == ([0, 1], [0], [1])
    assert data.class_names == ["big cat", "dog"]
    assert (data.name, data.split, data.template) == (tmp_path.name, "folders", "a photo of a {}.")
    make_images(tmp_path, "test/Dog/2.jpg")
    with pytest.raises(ValueError, match="test' has the class folder 'Dog', which .*train' has not"):
        load_benchmark("folder", tmp_path)


def test_folder_divided(tmp_path):
    make_images(tmp_path, *(f"{name}/{k}.png" for name in ("cat", "train") for k in range(6)))
    data = load_benchmark("folder", tmp_path)
    parts = relative(data, tmp_path)
    assert (data.class_names, data.split) == (["cat", "train"], "seeded")
    assert data.y_train.tolist() == [0] * 4 + [1] * 4
    assert sorted(parts["train"] + parts["test"]) == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*.png")
    )
    assert load_benchmark("folder", tmp_path).X_test.tolist() == data.X_test.tolist()


def test_folder_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="is no folder; .*'train' and 'test':\n .*\n .*train/CLASS/IMAGE"
    ):
        load_benchmark("folder", tmp_path / "nothing")
    make_images(tmp_path, "a/train/cat/1.png", "a/val/cat/2.png", "b/cat/1.png", "b/dog/1.png")
    with pytest.raises(ValueError, match="holds the folders train, val; expected both 'train' and 'test'"):
        load_benchmark("folder", tmp_path / "a")
    with pytest.raises(ValueError, match="has 2 images of 2 classes, which leaves none to test"):
        load_benchmark("folder", tmp_path / "b")
    make_images(tmp_path / "c", "big_cat/1.png", "big_cat/2.png", "Big cat/1.png", "Big cat/2.png")
    with pytest.raises(
        ValueError, match=r"'Big cat' \(label 0\) and 'big_cat' \(label 1\) would both be called 'big cat'"
    ):
        load_benchmark("folder", tmp_path / "c")
