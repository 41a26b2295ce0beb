"""Stanford Cars."""

import numpy as np
from dataset_template import ComparedTemplate, CoopTemplate, make_images, no_download  # noqa: F401
from scipy.io import savemat


class TestStanfordCars(CoopTemplate, ComparedTemplate):
    name = "stanford_cars"
    template = "a photo of a {}."
    folder, images, split_file = "stanford_cars", ".", "split_zhou_StanfordCars.json"
    written = ["2000 AM General Hummer SUV", "Acura RL Sedan 2012"]
    called = ["2000 AM General Hummer SUV", "2012 Acura RL Sedan"]
    files = ["cars_train/00001.jpg", "cars_test/00001.jpg"]
    sizes, labels = [2, 2], [1, 0]
    class_names = ["2000 AM General Hummer SUV", "2012 Acura RL Sedan"]
    theirs = {"train": "train", "test": "test"}

    def make_torchvision(self, root):
        folder = root / "stanford_cars"
        make_images(folder, "cars_train/1.jpg", "cars_train/2.jpg", "cars_test/1.jpg", "cars_test/2.jpg")
        (folder / "devkit").mkdir()
        names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], dtype=object)
        savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})

        def annotate(path, *rows):
            table = np.empty(len(rows), dtype=[("fname", "O"), ("class", "O")])
            table[:] = list(rows)
            savemat(path, {"annotations": table})

        annotate(folder / "devkit" / "cars_train_annos.mat", ("2.jpg", 2), ("1.jpg", 1))
        annotate(folder / "cars_test_annos_withlabels.mat", ("1.jpg", 2), ("2.jpg", 1))
