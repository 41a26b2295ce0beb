"""Food-101."""

import pytest
from dataset_template import ComparedTemplate, CoopTemplate, make_images, no_download, write  # noqa: F401

from modal_clip_dual.data import load_benchmark


class TestFood101(CoopTemplate, ComparedTemplate):
    name = "food101"
    template = "a photo of {}, a type of food."
    folder, images, split_file = "food-101", "images", "split_zhou_Food101.json"
    written = ["apple_pie", "sushi"]
    called = ["apple pie", "sushi"]
    files = ["apple_pie/1.jpg", "sushi/1.jpg"]
    sizes, labels = [2, 1], [1, 0]
    class_names = ["apple pie", "sushi"]
    theirs = {"train": "train", "test": "test"}
    named_after_class = True

    def make_torchvision(self, root):
        folder = root / "food-101"
        make_images(folder / "images", "sushi/1.jpg", "apple_pie/1.jpg", "apple_pie/2.jpg")
        write(folder / "meta" / "train.json", {"sushi": ["sushi/1"], "apple_pie": ["apple_pie/2"]})
        write(folder / "meta" / "test.json", {"apple_pie": ["apple_pie/1"], "sushi": []})

    def test_broken_list(self, tmp_path):
        self.make_torchvision(tmp_path)
        write(tmp_path / "food-101/meta/test.json", ["sushi/1"])
        with pytest.raises(ValueError, match="test.json' holds .'sushi/1'.; expected a mapping"):
            load_benchmark("food101", tmp_path, layout="torchvision")
        write(tmp_path / "food-101/meta/test.json", {"sushi": ["../../secret"]})
        with pytest.raises(ValueError, match="test.json has the path '../../secret.jpg'"):
            load_benchmark("food101", tmp_path, layout="torchvision")
