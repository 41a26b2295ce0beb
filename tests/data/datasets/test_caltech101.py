"""Caltech-101."""

from dataset_template import CoopTemplate, TorchvisionTemplate, make_images, no_download  # noqa: F401


class TestCaltech101(CoopTemplate, TorchvisionTemplate):
    name = "caltech101"
    template = "a photo of a {}."
    folder, images, split_file = "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json"
    written = ["face", "yin_yang"]
    called = ["face", "yin yang"]
    files = ["Faces/image_0001.jpg", "yin_yang/image_0001.jpg"]
    sizes, labels = [4, 2], [0, 0, 1, 1]
    class_names = ["face", "yin yang"]
    split = "seeded"

    def make_torchvision(self, root):
        folder = root / "caltech101" / "101_ObjectCategories"
        for name in ("BACKGROUND_Google", "Faces", "Faces_easy", "yin_yang"):
            make_images(folder, *(f"{name}/image_000{number}.jpg" for number in (1, 2, 3)))
