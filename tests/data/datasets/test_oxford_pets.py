"""Oxford-IIIT Pets."""

import pytest
from dataset_template import ComparedTemplate, CoopTemplate, make_images, no_download, write  # noqa: F401

from modal_clip_dual.data import load_benchmark


class TestOxfordPets(CoopTemplate, ComparedTemplate):
    name = "oxford_pets"
    template = "a photo of a {}, a type of pet."
    folder, images, split_file = "oxford_pets", "images", "split_zhou_OxfordPets.json"
    written = ["abyssinian", "american_bulldog"]
    called = ["abyssinian", "american bulldog"]
    files = ["Abyssinian_1.jpg", "american_bulldog_1.jpg"]
    sizes, labels = [2, 1], [1, 0]
    class_names = ["abyssinian", "american bulldog"]
    theirs = {"train": "trainval", "test": "test"}
    named_after_class = True

    def make_torchvision(self, root):
        folder = root / "oxford-iiit-pet"
        names = ["Abyssinian_1", "american_bulldog_1", "Abyssinian_2"]
        make_images(folder / "images", *(f"{name}.jpg" for name in names))
        write(folder / "annotations" / "trainval.txt", f"{names[1]} 2 2 1\n{names[0]} 1 1 1\n")
        write(folder / "annotations" / "test.txt", f"{names[2]} 1 1 1\n")

    def test_broken_list(self, tmp_path):
        self.make_torchvision(tmp_path)
        trainval = tmp_path / "oxford-iiit-pet" / "annotations" / "trainval.txt"
        write(trainval, "Abyssinian_1\n")
        with pytest.raises(ValueError, match="trainval.txt', line 1, is 'Abyssinian_1'; expected"):
            load_benchmark("oxford_pets", tmp_path)
        write(trainval, "american_bulldog_1 3 2 1\n")
        with pytest.raises(ValueError, match="has 2 labels, the largest 2, but none is 1"):
            load_benchmark("oxford_pets", tmp_path)
