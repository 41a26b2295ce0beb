"""ImageNet."""

import pytest
from dataset_template import (  # noqa: F401
    DataSetTemplate,
    check_every_part_is_asked_for,
    make_images,
    no_download,
    relative,
    write,
)

from modal_clip_dual.data import load_benchmark


class TestImageNet(DataSetTemplate):
    name = "imagenet"
    template = "a photo of a {}."


def make_imagenet(folder):
    wnids = ["n01440764", "n03773504", "n04008634"]
    for part in ("train", "val"):
        make_images(folder / "images" / part, *(f"{wnid}/{part}_1.JPEG" for wnid in wnids))
    write(
        folder / "classnames.txt",
        "n01440764 tench\nn03773504 missile\nn04008634 missile\nn09999999 not there\n",
    )
    return folder


def test_imagenet(tmp_path):
    make_imagenet(tmp_path / "imagenet")
    data = load_benchmark("imagenet", tmp_path)
    assert relative(data, tmp_path)["test"][1] == "imagenet/images/val/n03773504/val_1.JPEG"
    assert data.X_val is None
    assert data.y_train.tolist() == data.y_test.tolist() == [0, 1, 2]
    # CLIP's list, and so CoOp's, has two pairs of equal names.
    assert data.class_names == ["tench", "missile", "projectile"]
    assert data.split == "coop"


def test_imagenet_refused(tmp_path):
    make_imagenet(tmp_path)
    write(tmp_path / "classnames.txt", "n01440764 tench\nn03773504\n")
    with pytest.raises(ValueError, match="classnames.txt' has no name for 2 folders.*'n03773504'"):
        load_benchmark("imagenet", tmp_path)
    make_imagenet(tmp_path)
    make_images(tmp_path / "images" / "val", "n09999999/1.JPEG")
    with pytest.raises(ValueError, match="val' has the class folder 'n09999999', which .*train' has not"):
        load_benchmark("imagenet", tmp_path)


def test_every_part_of_the_layout_is_asked_for(tmp_path):
    check_every_part_is_asked_for("imagenet", lambda root: make_imagenet(root / "imagenet"), tmp_path)
