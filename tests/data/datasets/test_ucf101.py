"""UCF101."""

from dataset_template import CoopTemplate, no_download  # noqa: F401


class TestUCF101(CoopTemplate):
    name = "ucf101"
    template = "a photo of a person doing {}."
    folder, images, split_file = "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json"
    written = ["Apply_Eye_Makeup", "YoYo"]
    called = ["Apply Eye Makeup", "Yo Yo"]
    files = ["Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg", "Yo_Yo/v_YoYo_g01_c01.jpg"]
