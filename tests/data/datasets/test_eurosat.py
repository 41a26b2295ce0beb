"""EuroSAT."""

from dataset_template import ComparedTemplate, CoopTemplate, make_images, no_download  # noqa: F401


class TestEuroSAT(CoopTemplate, ComparedTemplate):
    name = "eurosat"
    template = "a centered satellite photo of {}."
    folder, images, split_file = "eurosat", "2750", "split_zhou_EuroSAT.json"
    written = ["Annual Crop Land", "SeaLake"]
    called = ["Annual Crop Land", "Sea or Lake"]
    files = ["AnnualCrop/AnnualCrop_1.jpg", "SeaLake/SeaLake_1.jpg"]
    sizes, labels = [4, 2], [0, 0, 1, 1]
    class_names = ["Annual Crop Land", "Sea or Lake"]
    split = "seeded"

    def make_torchvision(self, root):
        for name in ("SeaLake", "AnnualCrop"):
            make_images(root / "eurosat" / "2750", *(f"{name}/{name}_{k}.jpg" for k in (1, 2, 3)))
