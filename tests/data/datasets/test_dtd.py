"""DTD."""

import pytest
from dataset_template import ComparedTemplate, CoopTemplate, make_images, no_download, write  # noqa: F401

from modal_clip_dual.data import load_benchmark


class TestDTD(CoopTemplate, ComparedTemplate):
    name = "dtd"
    template = "{} texture."
    folder, images, split_file = "dtd", "images", "split_zhou_DescribableTextures.json"
    written = ["banded", "polka-dotted"]
    called = ["banded", "polka-dotted"]
    files = ["banded/banded_0002.jpg", "polka-dotted/polka-dotted_0001.jpg"]
    sizes, labels = [2, 2, 2], [1, 0]
    class_names = ["banded", "zigzagged"]
    theirs = {"train": "train", "val": "val", "test": "test"}
    named_after_class = True

    def make_torchvision(self, root):
        folder = root / "dtd" / "dtd"
        for number, part in enumerate(("train", "val", "test")):
            names = [f"{name}/{name}_{number}.jpg" for name in ("zigzagged", "banded")]
            make_images(folder / "images", *names)
            write(folder / "labels" / f"{part}1.txt", "\n".join(names) + "\n")

    def test_broken_list(self, tmp_path):
        self.make_torchvision(tmp_path)
        write(tmp_path / "dtd/dtd/labels/val1.txt", "dotted/1.jpg\n")
        with pytest.raises(ValueError, match="val1.txt', line 1, has the class 'dotted'"):
            load_benchmark("dtd", tmp_path)
