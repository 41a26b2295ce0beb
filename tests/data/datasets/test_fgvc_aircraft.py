"""FGVC Aircraft."""

from pathlib import Path

import pytest
import torchvision
from dataset_template import (  # noqa: F401
    REAL,
    DataSetTemplate,
    as_torchvision_reads,
    as_we_read,
    check_every_part_is_asked_for,
    make_images,
    no_download,
    relative,
    write,
)

from modal_clip_dual.data import load_benchmark


class TestAircraft(DataSetTemplate):
    name = "fgvc_aircraft"
    template = "a photo of a {}, a type of aircraft."


def make_aircraft(folder):
    make_images(folder / "images", *(f"{number}.jpg" for number in range(1, 5)))
    write(folder / "variants.txt", "Boeing 717\nF-16A/B\n")
    write(folder / "images_variant_train.txt", "1 F-16A/B\n2 Boeing 717\n")
    write(folder / "images_variant_val.txt", "3 Boeing 717\n")
    write(folder / "images_variant_test.txt", "4 F-16A/B\n")
    return folder


@pytest.mark.parametrize("folder", ["fgvc_aircraft", "fgvc-aircraft-2013b/data"])
def test_aircraft(tmp_path, folder):
    make_aircraft(tmp_path / folder)
    data = load_benchmark("fgvc_aircraft", tmp_path)
    below = {part: [Path(path).name for path in paths] for part, paths in relative(data, tmp_path).items()}
    assert below == {"train": ["1.jpg", "2.jpg"], "val": ["3.jpg"], "test": ["4.jpg"]}
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([1, 0], [1])
    # The same split, whoever unpacked it.
    assert (data.class_names, data.split) == (["Boeing 717", "F-16A/B"], "coop")


def test_aircraft_refused(tmp_path):
    make_aircraft(tmp_path)
    write(tmp_path / "images_variant_test.txt", "4 F-16A/B\n\n3 Zeppelin\n")
    with pytest.raises(
        ValueError, match="images_variant_test.txt', line 3, has the class 'Zeppelin', which is none"
    ):
        load_benchmark("fgvc_aircraft", tmp_path)
    write(tmp_path / "images_variant_test.txt", "../4 F-16A/B\n")
    with pytest.raises(ValueError, match="line 1, has the path '../4.jpg'"):
        load_benchmark("fgvc_aircraft", tmp_path)


def test_download_of_aircraft_is_as_good_as_coop(tmp_path, monkeypatch):
    def fetch(root, **kwargs):
        make_aircraft(Path(root) / "fgvc-aircraft-2013b" / "data")

    monkeypatch.setattr(torchvision.datasets, "FGVCAircraft", fetch)
    with pytest.raises(FileNotFoundError, match="How to get it: pass download=True"):
        load_benchmark("fgvc_aircraft", tmp_path)
    assert load_benchmark("fgvc_aircraft", tmp_path, download=True).split == "coop"


def test_same_as_torchvision(tmp_path):
    make_aircraft(tmp_path / "fgvc-aircraft-2013b" / "data")
    data = load_benchmark("fgvc_aircraft", tmp_path, layout="torchvision")
    for part in ("train", "val", "test"):
        dataset = REAL["fgvc_aircraft"](tmp_path, split=part)
        assert as_we_read(data, part, dataset.classes) == as_torchvision_reads(dataset) != []


def test_every_part_of_the_layout_is_asked_for(tmp_path):
    check_every_part_is_asked_for(
        "fgvc_aircraft", lambda root: make_aircraft(root / "fgvc_aircraft"), tmp_path
    )
