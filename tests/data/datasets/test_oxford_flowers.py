"""Oxford Flowers 102."""

from pathlib import Path

import pytest
from dataset_template import REAL, CoopTemplate, TorchvisionTemplate, make_images, no_download  # noqa: F401
from scipy.io import savemat

from modal_clip_dual.data import load_benchmark
from modal_clip_dual.data.datasets.oxford_flowers import class_names


class TestOxfordFlowers(CoopTemplate, TorchvisionTemplate):
    name = "oxford_flowers"
    template = "a photo of a {}, a type of flower."
    folder, images, split_file = "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json"
    written = ["pink primrose", "pink-yellow dahlia?"]
    called = ["pink primrose", "pink-yellow dahlia"]
    files = ["image_00001.jpg", "image_00002.jpg"]
    sizes, labels = [2, 1, 1], [0, 59]

    def make_torchvision(self, root):
        folder = root / "flowers-102"
        make_images(folder / "jpg", *(f"image_{number:05d}.jpg" for number in (1, 2, 3, 4)))
        savemat(folder / "imagelabels.mat", {"labels": [[60, 1, 102, 1]]})
        savemat(folder / "setid.mat", {"trnid": [[2, 1]], "valid": [[3]], "tstid": [[4]]})

    def test_flowers_know_their_names(self, tmp_path):
        self.make_torchvision(tmp_path)
        data = load_benchmark("oxford_flowers", tmp_path)
        names = class_names()
        assert len(data.class_names) == len(set(names)) == 102
        assert names == getattr(REAL["oxford_flowers"], "classes", names)  # older ones have none
        assert (names[0], names[20], names[101]) == ("pink primrose", "fire lily", "blackberry lily")
        assert data.class_names[59] == "pink-yellow dahlia"
        assert data.y_val.tolist() == [101]
        assert Path(data.X_val[0]).name == "image_00003.jpg"

    def test_broken_list(self, tmp_path):
        self.make_torchvision(tmp_path)
        savemat(tmp_path / "flowers-102" / "imagelabels.mat", {"labels": [[60, 103, 102, 1]]})
        with pytest.raises(ValueError, match="labels from 59 to 102, but 102 class names"):
            load_benchmark("oxford_flowers", tmp_path)
