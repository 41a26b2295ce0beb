"""SUN397."""

from dataset_template import ComparedTemplate, CoopTemplate, make_images, no_download, write  # noqa: F401


class TestSUN397(CoopTemplate, ComparedTemplate):
    name = "sun397"
    template = "a photo of a {}."
    folder, images, split_file = "sun397", "SUN397", "split_zhou_SUN397.json"
    written = ["abbey", "outdoor church"]
    called = ["abbey", "outdoor church"]
    files = ["a/abbey/sun_a.jpg", "c/church/outdoor/sun_b.jpg"]
    sizes, labels = [4, 2], [0, 0, 1, 1]
    class_names = ["abbey", "outdoor church"]
    split = "seeded"
    named_after_class = True

    def make_torchvision(self, root):
        folder = root / "SUN397"
        write(folder / "ClassName.txt", "/a/abbey\n/c/church/outdoor\n")
        make_images(folder, *(f"a/abbey/sun_{number}.jpg" for number in (1, 2, 3)))
        make_images(folder, *(f"c/church/outdoor/sun_{number}.jpg" for number in (1, 2, 3)), "c/church/x.jpg")
