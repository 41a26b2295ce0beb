"""Benchmark data sets by name: small copies of every layout."""

import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from modal_clip_dual.data import available_benchmarks, load_benchmark
from modal_clip_dual.data._benchmark_facts import BENCHMARKS, flower_names
from modal_clip_dual.data._benchmark_layouts import seeded_split

REAL = {
    name: getattr(torchvision.datasets, benchmark.torchvision.cls)
    for name, benchmark in BENCHMARKS.items()
    if benchmark.torchvision
}
shades = itertools.cycle(range(0, 256, 8))  # so that the images of a small data set differ


def make_images(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), next(shades)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


def relative(data, root):
    """Paths of the parts, relative to the root; they are to be absolute and there."""
    parts = {}
    for part in ("train", "val", "test"):
        X, y = data[f"X_{part}"], data[f"y_{part}"]
        if X is None:
            assert y is None
            continue
        assert X.dtype == object and y.dtype.kind == "i" and len(X) == len(y)
        assert all(os.path.isabs(path) and os.path.isfile(path) for path in X)
        parts[part] = [Path(path).relative_to(root).as_posix() for path in X]
    return parts


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """torchvision's data sets do not run, unless a test puts something else in their place."""

    def refuse(*args, **kwargs):
        raise AssertionError("torchvision was called")

    for cls in REAL.values():
        monkeypatch.setattr(torchvision.datasets, cls.__name__, refuse)


# CoOp's layout.  name: folder, folder of the images, split file, its class names by label, what they
# are to be called, an image of each class.
COOP = {
    "caltech101": (
        "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json",
        ["face", "yin_yang"], ["face", "yin yang"],
        ["Faces/image_0001.jpg", "yin_yang/image_0001.jpg"],
    ),
    "dtd": (
        "dtd", "images", "split_zhou_DescribableTextures.json",
        ["banded", "polka-dotted"], ["banded", "polka-dotted"],
        ["banded/banded_0002.jpg", "polka-dotted/polka-dotted_0001.jpg"],
    ),
    "eurosat": (
        "eurosat", "2750", "split_zhou_EuroSAT.json",
        ["Annual Crop Land", "SeaLake"], ["Annual Crop Land", "Sea or Lake"],
        ["AnnualCrop/AnnualCrop_1.jpg", "SeaLake/SeaLake_1.jpg"],
    ),
    "oxford_flowers": (
        "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json",
        ["pink primrose", "pink-yellow dahlia?"], ["pink primrose", "pink-yellow dahlia"],
        ["image_00001.jpg", "image_00002.jpg"],
    ),
    "ucf101": (
        "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json",
        ["Apply_Eye_Makeup", "YoYo"], ["Apply Eye Makeup", "Yo Yo"],
        ["Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg", "Yo_Yo/v_YoYo_g01_c01.jpg"],
    ),
    "oxford_pets": (
        "oxford_pets", "images", "split_zhou_OxfordPets.json",
        ["abyssinian", "american_bulldog"], ["abyssinian", "american bulldog"],
        ["Abyssinian_1.jpg", "american_bulldog_1.jpg"],
    ),
    "food101": (
        "food-101", "images", "split_zhou_Food101.json",
        ["apple_pie", "sushi"], ["apple pie", "sushi"],
        ["apple_pie/1.jpg", "sushi/1.jpg"],
    ),
    "stanford_cars": (
        "stanford_cars", ".", "split_zhou_StanfordCars.json",
        ["2000 AM General Hummer SUV", "Acura RL Sedan 2012"],
        ["2000 AM General Hummer SUV", "2012 Acura RL Sedan"],
        ["cars_train/00001.jpg", "cars_test/00001.jpg"],
    ),
    "sun397": (
        "sun397", "SUN397", "split_zhou_SUN397.json",
        ["abbey", "outdoor church"], ["abbey", "outdoor church"],
        ["a/abbey/sun_a.jpg", "c/church/outdoor/sun_b.jpg"],
    ),
}  # fmt: skip


def make_coop(root, name):
    folder, images, split_file, written, _, files = COOP[name]
    make_images(root / folder / images, *files)
    entries = [[file, label, written[label]] for label, file in enumerate(files)]
    write(root / folder / split_file, {"train": entries[::-1], "val": entries[:1], "test": entries})
    return root / folder


@pytest.mark.parametrize("name", COOP)
def test_coop(tmp_path, name, monkeypatch):
    folder, images, _, _, called, files = COOP[name]
    make_coop(tmp_path, name)
    data = load_benchmark(name, tmp_path)
    assert list(data) == [
        "name", "X_train", "y_train", "X_val", "y_val", "X_test", "y_test", "class_names", "template",
        "split",
    ]  # fmt: skip
    below = [(Path(folder) / images / file).as_posix() for file in files]
    parts = relative(data, tmp_path)
    assert parts == {"train": below[::-1], "val": below[:1], "test": below}
    assert data.y_train.tolist() == [1, 0]
    assert data.y_val.tolist() == [0]
    assert data.y_test.tolist() == [0, 1]
    assert data.class_names == called
    assert (data.name, data.split) == (name, "coop")
    # the data set's own folder, a relative one, and the layout by name
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path / folder, str(tmp_path / folder), ".", folder):
        again = load_benchmark(name, root, layout="coop")
        assert again.X_train.tolist() == data.X_train.tolist()


def test_templates_take_the_class_name():
    assert {name: benchmark.template for name, benchmark in BENCHMARKS.items()} == {
        "caltech101": "a photo of a {}.",
        "dtd": "{} texture.",
        "eurosat": "a centered satellite photo of {}.",
        "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
        "oxford_flowers": "a photo of a {}, a type of flower.",
        "ucf101": "a photo of a person doing {}.",
        "oxford_pets": "a photo of a {}, a type of pet.",
        "food101": "a photo of {}, a type of food.",
        "stanford_cars": "a photo of a {}.",
        "sun397": "a photo of a {}.",
        "imagenet": "a photo of a {}.",
        "cifar10": "a photo of a {}.",
        "cifar100": "a photo of a {}.",
        "digits": "a photo of a {}.",
        "folder": "a photo of a {}.",
    }
    assert available_benchmarks() == list(BENCHMARKS)


def make_aircraft(folder):
    make_images(folder / "images", *(f"{number}.jpg" for number in range(1, 5)))
    write(folder / "variants.txt", "Boeing 717\nF-16A/B\n")
    write(folder / "images_variant_train.txt", "1 F-16A/B\n2 Boeing 717\n")
    write(folder / "images_variant_val.txt", "3 Boeing 717\n")
    write(folder / "images_variant_test.txt", "4 F-16A/B\n")


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


def make_imagenet(folder):
    wnids = ["n01440764", "n03773504", "n04008634"]
    for part in ("train", "val"):
        make_images(folder / "images" / part, *(f"{wnid}/{part}_1.JPEG" for wnid in wnids))
    write(
        folder / "classnames.txt",
        "n01440764 tench\nn03773504 missile\nn04008634 missile\nn09999999 not there\n",
    )


def test_imagenet(tmp_path):
    make_imagenet(tmp_path / "imagenet")
    data = load_benchmark("imagenet", tmp_path)
    assert relative(data, tmp_path)["test"][1] == "imagenet/images/val/n03773504/val_1.JPEG"
    assert data.X_val is None
    assert data.y_train.tolist() == data.y_test.tolist() == [0, 1, 2]
    # CLIP's list, and so CoOp's, has two pairs of equal names.
    assert data.class_names == ["tench", "missile", "projectile"]
    assert data.split == "coop"


def test_imagenet_refused(tmp_path):
    make_imagenet(tmp_path)
    write(tmp_path / "classnames.txt", "n01440764 tench\nn03773504\n")
    with pytest.raises(ValueError, match="classnames.txt' has no name for 2 folders.*'n03773504'"):
        load_benchmark("imagenet", tmp_path)
    make_imagenet(tmp_path)
    make_images(tmp_path / "images" / "val", "n09999999/1.JPEG")
    with pytest.raises(ValueError, match="val' has the class folder 'n09999999', which .*train' has not"):
        load_benchmark("imagenet", tmp_path)


# torchvision's layouts: a function that makes a small copy each.


def make_dtd(root):
    folder = root / "dtd" / "dtd"
    for number, part in enumerate(("train", "val", "test")):
        names = [f"{name}/{name}_{number}.jpg" for name in ("zigzagged", "banded")]
        make_images(folder / "images", *names)
        write(folder / "labels" / f"{part}1.txt", "\n".join(names) + "\n")


def make_flowers(root):
    folder = root / "flowers-102"
    make_images(folder / "jpg", *(f"image_{number:05d}.jpg" for number in (1, 2, 3, 4)))
    savemat(folder / "imagelabels.mat", {"labels": [[60, 1, 102, 1]]})
    savemat(folder / "setid.mat", {"trnid": [[2, 1]], "valid": [[3]], "tstid": [[4]]})


def make_pets(root):
    folder = root / "oxford-iiit-pet"
    names = ["Abyssinian_1", "american_bulldog_1", "Abyssinian_2"]
    make_images(folder / "images", *(f"{name}.jpg" for name in names))
    write(folder / "annotations" / "trainval.txt", f"{names[1]} 2 2 1\n{names[0]} 1 1 1\n")
    write(folder / "annotations" / "test.txt", f"{names[2]} 1 1 1\n")


def make_food(root):
    folder = root / "food-101"
    make_images(folder / "images", "sushi/1.jpg", "apple_pie/1.jpg", "apple_pie/2.jpg")
    write(folder / "meta" / "train.json", {"sushi": ["sushi/1"], "apple_pie": ["apple_pie/2"]})
    write(folder / "meta" / "test.json", {"apple_pie": ["apple_pie/1"], "sushi": []})


def make_cars(root):
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


def make_sun(root):
    folder = root / "SUN397"
    write(folder / "ClassName.txt", "/a/abbey\n/c/church/outdoor\n")
    make_images(folder, *(f"a/abbey/sun_{number}.jpg" for number in (1, 2, 3)))
    make_images(folder, *(f"c/church/outdoor/sun_{number}.jpg" for number in (1, 2, 3)), "c/church/x.jpg")


def make_caltech(root):
    folder = root / "caltech101" / "101_ObjectCategories"
    for name in ("BACKGROUND_Google", "Faces", "Faces_easy", "yin_yang"):
        make_images(folder, *(f"{name}/image_000{number}.jpg" for number in (1, 2, 3)))


def make_eurosat(root):
    for name in ("SeaLake", "AnnualCrop"):
        make_images(root / "eurosat" / "2750", *(f"{name}/{name}_{k}.jpg" for k in (1, 2, 3)))


SHARED = {"eurosat": make_eurosat, "food101": make_food, "stanford_cars": make_cars}
# name: maker, number of images per part, labels for training, class names (None: not compared here), split
TORCHVISION = {
    "caltech101": (make_caltech, [4, 2], [0, 0, 1, 1], ["face", "yin yang"], "seeded"),
    "dtd": (make_dtd, [2, 2, 2], [1, 0], ["banded", "zigzagged"], "torchvision"),
    "eurosat": (make_eurosat, [4, 2], [0, 0, 1, 1], ["Annual Crop Land", "Sea or Lake"], "seeded"),
    "oxford_flowers": (make_flowers, [2, 1, 1], [0, 59], None, "torchvision"),
    "oxford_pets": (make_pets, [2, 1], [1, 0], ["abyssinian", "american bulldog"], "torchvision"),
    "food101": (make_food, [2, 1], [1, 0], ["apple pie", "sushi"], "torchvision"),
    "stanford_cars": (
        make_cars, [2, 2], [1, 0], ["2000 AM General Hummer SUV", "2012 Acura RL Sedan"], "torchvision",
    ),
    "sun397": (make_sun, [4, 2], [0, 0, 1, 1], ["abbey", "outdoor church"], "seeded"),
}  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_layout_is_read_where_it_is(tmp_path, name):
    make, sizes, labels, class_names, split = TORCHVISION[name]
    make(tmp_path)
    data = load_benchmark(name, tmp_path, layout="torchvision")
    parts = relative(data, tmp_path)
    assert [len(paths) for paths in parts.values()] == sizes
    assert data.y_train.tolist() == labels
    if class_names:
        assert data.class_names == class_names
    assert data.split == split
    for part, paths in parts.items():  # files are named after their class, in most data sets
        for path, label in zip(paths, data[f"y_{part}"]):
            if name in ("dtd", "oxford_pets", "sun397", "food101"):
                word = data.class_names[label].split()[-1].lower()
                assert word in path.lower()


def as_torchvision_reads(dataset):
    """Shade and class of all images, by what torchvision makes public."""
    return [(image.getpixel((0, 0))[0], dataset.classes[label]) for image, label in dataset]


def as_we_read(data, part, classes):
    shades = [Image.open(path).convert("RGB").getpixel((0, 0))[0] for path in data[f"X_{part}"]]
    return [(shade, classes[label]) for shade, label in zip(shades, data[f"y_{part}"])]


@pytest.mark.parametrize(
    ("name", "make", "parts"),
    [
        ("dtd", make_dtd, {"train": "train", "val": "val", "test": "test"}),
        ("oxford_pets", make_pets, {"train": "trainval", "test": "test"}),
        ("food101", make_food, {"train": "train", "test": "test"}),
        ("stanford_cars", make_cars, {"train": "train", "test": "test"}),
        (
            "fgvc_aircraft",
            lambda root: make_aircraft(root / "fgvc-aircraft-2013b" / "data"),
            {"train": "train", "val": "val", "test": "test"},
        ),
        ("eurosat", make_eurosat, None),
        ("sun397", make_sun, None),
    ],
)
def test_same_as_torchvision(tmp_path, name, make, parts):
    make(tmp_path)
    data = load_benchmark(name, tmp_path, layout="torchvision")
    for part, theirs in (parts or {}).items():
        dataset = REAL[name](tmp_path, split=theirs)
        assert as_we_read(data, part, dataset.classes) == as_torchvision_reads(dataset) != []
    if parts is None:  # theirs is not divided
        dataset = REAL[name](tmp_path)
        ours = [row for part in ("train", "test") for row in as_we_read(data, part, dataset.classes)]
        assert sorted(ours) == sorted(as_torchvision_reads(dataset)) != []


@pytest.mark.parametrize("name", TORCHVISION)
def test_coop_comes_first(tmp_path, name):
    TORCHVISION[name][0](tmp_path)
    make_coop(tmp_path, name)
    assert load_benchmark(name, tmp_path).split == "coop"
    assert load_benchmark(name, tmp_path, download=True).split == "coop"
    assert load_benchmark(name, tmp_path, layout="torchvision").split == TORCHVISION[name][-1]


@pytest.mark.parametrize("name", sorted(set(TORCHVISION) - set(SHARED)))
def test_torchvision_layout_without_being_asked_for(tmp_path, name):
    TORCHVISION[name][0](tmp_path)
    assert load_benchmark(name, tmp_path).split == TORCHVISION[name][-1]
    with pytest.raises(FileNotFoundError, match="Expected, as in CoOp:"):
        load_benchmark(name, tmp_path, layout="coop")


@pytest.mark.parametrize("name", SHARED)
def test_missing_split_file_is_no_reason_for_another_split(tmp_path, name):
    SHARED[name](tmp_path)
    split_file = BENCHMARKS[name].split
    with pytest.raises(FileNotFoundError, match="How to use what is there.*layout='torchvision'") as error:
        load_benchmark(name, tmp_path)
    assert f"    |-- {split_file}  (missing)" in str(error.value).splitlines()
    assert "do not compare with CoOp's" in str(error.value)
    # Asked for a download, torchvision would find everything there: so it is not called.
    assert load_benchmark(name, tmp_path, download=True).split == TORCHVISION[name][-1]


def test_flowers_know_their_names(tmp_path):
    make_flowers(tmp_path)
    data = load_benchmark("oxford_flowers", tmp_path)
    names = flower_names()
    assert len(data.class_names) == len(set(names)) == 102
    assert names == getattr(REAL["oxford_flowers"], "classes", names)  # older ones have none
    assert (names[0], names[20], names[101]) == ("pink primrose", "fire lily", "blackberry lily")
    assert data.class_names[59] == "pink-yellow dahlia"
    assert data.y_val.tolist() == [101]
    assert Path(data.X_val[0]).name == "image_00003.jpg"


def test_broken_lists_of_torchvision(tmp_path):
    make_pets(tmp_path)
    trainval = tmp_path / "oxford-iiit-pet" / "annotations" / "trainval.txt"
    write(trainval, "Abyssinian_1\n")
    with pytest.raises(ValueError, match="trainval.txt', line 1, is 'Abyssinian_1'; expected"):
        load_benchmark("oxford_pets", tmp_path)
    write(trainval, "american_bulldog_1 3 2 1\n")
    with pytest.raises(ValueError, match="has 2 labels, the largest 2, but none is 1"):
        load_benchmark("oxford_pets", tmp_path)
    make_dtd(tmp_path)
    write(tmp_path / "dtd/dtd/labels/val1.txt", "dotted/1.jpg\n")
    with pytest.raises(ValueError, match="val1.txt', line 1, has the class 'dotted'"):
        load_benchmark("dtd", tmp_path)
    make_food(tmp_path)
    write(tmp_path / "food-101/meta/test.json", ["sushi/1"])
    with pytest.raises(ValueError, match="test.json' holds .'sushi/1'.; expected a mapping"):
        load_benchmark("food101", tmp_path, layout="torchvision")
    write(tmp_path / "food-101/meta/test.json", {"sushi": ["../../secret"]})
    with pytest.raises(ValueError, match="test.json has the path '../../secret.jpg'"):
        load_benchmark("food101", tmp_path, layout="torchvision")
    make_flowers(tmp_path)
    savemat(tmp_path / "flowers-102" / "imagelabels.mat", {"labels": [[60, 103, 102, 1]]})
    with pytest.raises(ValueError, match="labels from 59 to 102, but 102 class names"):
        load_benchmark("oxford_flowers", tmp_path)


# Downloads


@pytest.mark.parametrize("name", sorted(set(TORCHVISION) - {"stanford_cars"}))
def test_download_only_when_asked_for(tmp_path, monkeypatch, name):
    calls = []

    def fetch(root, **kwargs):
        calls.append((root, kwargs))
        TORCHVISION[name][0](Path(root))

    monkeypatch.setattr(torchvision.datasets, BENCHMARKS[name].torchvision.cls, fetch)
    with pytest.raises(FileNotFoundError, match="pass download=True"):
        load_benchmark(name, tmp_path)
    with pytest.raises(FileNotFoundError, match="Expected, as in CoOp:") as error:
        load_benchmark(name, tmp_path, download=True, layout="coop")
    assert "download=True" not in str(error.value)
    assert calls == [] and list(tmp_path.iterdir()) == []
    data = load_benchmark(name, tmp_path, download=True)
    assert calls == [(str(tmp_path), {"download": True})]
    assert data.split == TORCHVISION[name][-1]
    load_benchmark(name, tmp_path, download=True)
    assert len(calls) == 1


def test_download_of_aircraft_is_as_good_as_coop(tmp_path, monkeypatch):
    def fetch(root, **kwargs):
        make_aircraft(Path(root) / "fgvc-aircraft-2013b" / "data")

    monkeypatch.setattr(torchvision.datasets, "FGVCAircraft", fetch)
    with pytest.raises(FileNotFoundError, match="How to get it: pass download=True"):
        load_benchmark("fgvc_aircraft", tmp_path)
    assert load_benchmark("fgvc_aircraft", tmp_path, download=True).split == "coop"


def test_failing_downloads(tmp_path, monkeypatch):
    def offline(root, **kwargs):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "DTD", offline)
    with pytest.raises(OSError, match="could not fetch 'dtd' into .*no route to host"):
        load_benchmark("dtd", tmp_path, download=True)
    monkeypatch.setattr(torchvision.datasets, "DTD", lambda root, **kwargs: None)
    with pytest.raises(FileNotFoundError, match="delete what is left of an earlier download"):
        load_benchmark("dtd", tmp_path, download=True)
    with pytest.raises(FileNotFoundError, match="torchvision cannot download it any more"):
        load_benchmark("stanford_cars", tmp_path, download=True)
    with pytest.raises(FileNotFoundError, match="DATASETS.md#ucf101") as error:
        load_benchmark("ucf101", tmp_path, download=True)
    assert "torchvision" not in str(error.value)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path, monkeypatch, name):
    cls, key = REAL[name], {"cifar10": "labels", "cifar100": "fine_labels"}[name]
    monkeypatch.setattr(torchvision.datasets, cls.__name__, cls)
    with pytest.raises(FileNotFoundError, match=f"{cls.base_folder}/  .missing.\nHow to get it: pass") as e:
        load_benchmark(name, tmp_path)
    assert "CoOp" not in str(e.value)

    folder = tmp_path / cls.base_folder
    folder.mkdir()
    pixels = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8)
    for part, _ in cls.train_list + cls.test_list:
        (folder / part).write_bytes(pickle.dumps({"data": pixels, key: [1, 0]}))
    meta = {cls.meta["key"]: ["aquarium_fish", "train"]}
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps(meta))
    # Files that are not torchvision's are not unpickled.
    with pytest.raises(ValueError, match="is incomplete or damaged .*delete it and pass download=True"):
        load_benchmark(name, tmp_path)
    for lists in ("train_list", "test_list"):
        monkeypatch.setattr(cls, lists, [[file, None] for file, _ in getattr(cls, lists)])
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": None})
    data = load_benchmark(name, tmp_path)
    assert data.X_train.shape == (2 * len(cls.train_list), 32, 32, 3)
    assert data.X_train.dtype == data.X_test.dtype == np.uint8
    assert data.X_test[1, 0, 1].tolist() == pixels[1, [1, 1025, 2049]].tolist()
    assert (data.X_val, data.y_test.tolist()) == (None, [1, 0])
    assert data.class_names == ["aquarium fish", "train"]
    assert data.split == "torchvision"


# Digits and folders


def test_digits(digits):
    data = load_benchmark("digits")
    assert data.X_train.shape == (1198, 8, 8) and data.X_test.shape == (599, 8, 8)
    assert data.X_train.dtype == np.uint8
    assert (data.X_val, data.y_val) == (None, None)
    assert data.class_names == digits.class_names
    assert data.split == "seeded"
    together = np.concatenate([data.X_train, data.X_test]).reshape(1797, 64)
    assert sorted(map(tuple, together)) == sorted(map(tuple, digits.images.reshape(1797, 64)))
    share = np.bincount(data.y_test) / np.bincount(digits.target)
    assert np.all(abs(share - 1 / 3) < 0.005)
    assert load_benchmark("digits", "/does/not/exist").y_test.tolist() == data.y_test.tolist()


def test_seeded_split_is_the_same_everywhere():
    labels = np.array([1, 0, 1, 0, 1, 0, 1, 2])
    train, test = seeded_split(labels, 4)
    assert (train.tolist(), test.tolist()) == ([0, 1, 2, 3, 6, 7], [4, 5])


def test_folder_with_parts(tmp_path):
    make_images(tmp_path, "train/big_cat/1.png", "train/dog/1.jpg", "test/dog/2.jpg", "val/big_cat/3.png")
    data = load_benchmark("folder", tmp_path)
    assert relative(data, tmp_path) == {
        "train": ["train/big_cat/1.png", "train/dog/1.jpg"],
        "val": ["val/big_cat/3.png"],
        "test": ["test/dog/2.jpg"],
    }
    assert (data.y_train.tolist(), data.y_val.tolist(), data.y_test.tolist()) == ([0, 1], [0], [1])
    assert data.class_names == ["big cat", "dog"]
    assert (data.name, data.split, data.template) == (tmp_path.name, "folders", "a photo of a {}.")
    make_images(tmp_path, "test/Dog/2.jpg")
    with pytest.raises(ValueError, match="test' has the class folder 'Dog', which .*train' has not"):
        load_benchmark("folder", tmp_path)


def test_folder_divided(tmp_path):
    make_images(tmp_path, *(f"{name}/{k}.png" for name in ("cat", "train") for k in range(6)))
    data = load_benchmark("folder", tmp_path)
    parts = relative(data, tmp_path)
    assert (data.class_names, data.split) == (["cat", "train"], "seeded")
    assert data.y_train.tolist() == [0] * 4 + [1] * 4
    assert sorted(parts["train"] + parts["test"]) == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*.png")
    )
    assert load_benchmark("folder", tmp_path).X_test.tolist() == data.X_test.tolist()


def test_folder_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="is no folder; .*'train' and 'test':\n .*\n .*train/CLASS/IMAGE"
    ):
        load_benchmark("folder", tmp_path / "nothing")
    make_images(tmp_path, "a/train/cat/1.png", "a/val/cat/2.png", "b/cat/1.png", "b/dog/1.png")
    with pytest.raises(ValueError, match="holds the folders train, val; expected both 'train' and 'test'"):
        load_benchmark("folder", tmp_path / "a")
    with pytest.raises(ValueError, match="has 2 images of 2 classes, which leaves none to test"):
        load_benchmark("folder", tmp_path / "b")
    make_images(tmp_path / "c", "big_cat/1.png", "big_cat/2.png", "Big cat/1.png", "Big cat/2.png")
    with pytest.raises(
        ValueError, match=r"'Big cat' \(label 0\) and 'big_cat' \(label 1\) would both be called 'big cat'"
    ):
        load_benchmark("folder", tmp_path / "c")


# What is refused


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load_benchmark("dtd", tmp_path / "data")
    root = tmp_path / "data"
    assert str(error.value).splitlines() == [
        f"load_benchmark('dtd'): the data set is not complete in root={str(root)!r}.",
        "Expected, as in CoOp:",
        f"    {root / 'dtd'}{os.sep}  (missing)",
        "    |-- images/  (missing)",
        "    |-- split_zhou_DescribableTextures.json  (missing)",
        "How to get it: https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md#dtd",
        "Expected, as in torchvision.datasets.DTD:",
        f"    {root}{os.sep}  (missing)",
        "    |-- dtd/dtd/images/  (missing)",
        "    |-- dtd/dtd/labels/train1.txt  (missing)",
        "    |-- dtd/dtd/labels/val1.txt  (missing)",
        "    |-- dtd/dtd/labels/test1.txt  (missing)",
        "How to get it, with torchvision's split, whose figures do not compare with CoOp's: "
        + "pass download=True.",
    ]


@pytest.mark.parametrize("name", [*COOP, "imagenet", "fgvc_aircraft"])
def test_every_part_of_the_layout_is_asked_for(tmp_path, name):
    makers = {"imagenet": make_imagenet, "fgvc_aircraft": make_aircraft}
    benchmark = BENCHMARKS[name]
    for number, entry in enumerate(benchmark.needs):
        folder = tmp_path / str(number) / benchmark.folder
        makers[name](folder) if name in makers else make_coop(folder.parent, name)
        os.rename(folder / entry, tmp_path / f"away{number}")
        for root in (folder, folder.parent):
            with pytest.raises(FileNotFoundError) as error:
                load_benchmark(name, root, layout="coop")
            shown = str(error.value).splitlines()
            expected = [f"    |-- {e}" + "  (missing)" * (e == entry) for e in benchmark.needs]
            assert shown[2 : 3 + len(expected)] == [f"    {folder}{os.sep}", *expected]
            assert shown[-1].startswith("How to get it: https://github.com/KaiyangZhou/CoOp/")


def test_split_in_two_places(tmp_path):
    make_coop(tmp_path, "dtd")
    write(tmp_path / BENCHMARKS["dtd"].split, {})
    with pytest.raises(ValueError, match="is ambiguous: split_zhou_DescribableTextures.json is in it and"):
        load_benchmark("dtd", tmp_path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["../../etc/passwd", 0, "banded"], "has the path '../../etc/passwd'; expected one relative to"),
        (["a/../../x.jpg", 0, "banded"], "has the path 'a/../../x.jpg'"),
        (["a\\..\\..\\x.jpg", 0, "banded"], "has the path "),
        (["a/.. /x.jpg", 0, "banded"], "has the path 'a/.. /x.jpg'"),
        (["/etc/passwd", 0, "banded"], "has the path '/etc/passwd'"),
        (["\\\\host\\x.jpg", 0, "banded"], "has the path "),
        (["C:x.jpg", 0, "banded"], "has the path 'C:x.jpg'"),
        (["a\0b.jpg", 0, "banded"], "has the path "),
        (["", 0, "banded"], "has the path ''"),
        (["a.jpg", 0], "is .'a.jpg', 0.; expected CoOp's"),
        (["a.jpg", "0", "banded"], "is .'a.jpg', '0', 'banded'.; expected"),
        (["a.jpg", True, "banded"], "is .'a.jpg', True, 'banded'.; expected"),
        (["a.jpg", -1, "banded"], "is .'a.jpg', -1, 'banded'.; expected"),
        (["a.jpg", 0, " "], "is .'a.jpg', 0, ' '.; expected"),
        ({"path": "a.jpg"}, "is {'path': 'a.jpg'}; expected"),
        (["a.jpg", 0, "dotted"], "gives label 0 the class name 'dotted', but .*entry 1 of 'train', gives it"),
    ],
)
def test_entries_refused(tmp_path, entry, message):
    path = make_coop(tmp_path, "dtd") / BENCHMARKS["dtd"].split
    split = json.loads(path.read_text())
    split["test"].append(entry)
    write(path, split)
    with pytest.raises(ValueError, match=rf"split_zhou_Desc.*json', entry 2 of 'test', {message}"):
        load_benchmark("dtd", tmp_path)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("{", 'is no JSON file .*; expected CoOp\'s {"train"'),
        ("[" * 100_000, "is no JSON file"),
        ([], r"holds \[\]; expected CoOp's"),
        ({"train": []}, "holds {'train': ..}; expected"),
        ({"train": [], "test": []}, "has no image for 'train'; expected at least one"),
        ({"train": [["banded/banded_0002.jpg", 0, "a"]], "test": []}, "has no image for 'test'"),
        (
            {"train": [["banded/banded_0002.jpg", 0, "a"]], "test": [["banded/banded_0002.jpg", 2, "b"]]},
            "has 2 labels, the largest 2, but none is 1; expected every integer from 0 to 1",
        ),
        (
            {"train": [["banded/banded_0002.jpg", 0, "a_b"]], "test": [["banded/banded_0002.jpg", 1, "A b"]]},
            r"classes 'a_b' \(label 0\) and 'A b' \(label 1\) would both be called 'A b'",
        ),
    ],
)
def test_split_files_refused(tmp_path, split, message):
    write(make_coop(tmp_path, "dtd") / BENCHMARKS["dtd"].split, split)
    with pytest.raises(ValueError, match=message):
        load_benchmark("dtd", tmp_path)


def test_validation_may_be_missing(tmp_path):
    path = make_coop(tmp_path, "dtd") / BENCHMARKS["dtd"].split
    split = json.loads(path.read_text())
    for val in ({"val": []}, {}):
        write(path, {part: split[part] for part in ("train", "test")} | val)
        data = load_benchmark("dtd", tmp_path)
        assert (data.X_val, data.y_val, len(data.X_test)) == (None, None, 2)


def test_missing_images(tmp_path):
    folder = make_coop(tmp_path, "dtd")
    split = json.loads((folder / BENCHMARKS["dtd"].split).read_text())
    split["test"] += [[f"banded/{k}.jpg", 0, "banded"] for k in range(4)]
    split["val"].append(["nowhere/0.jpg", 0, "banded"])
    write(folder / BENCHMARKS["dtd"].split, split)
    with pytest.raises(FileNotFoundError, match="names 2 images, of which 1 are missing: '.*nowhere/0.jpg'"):
        load_benchmark("dtd", tmp_path)
    del split["val"][-1]
    write(folder / BENCHMARKS["dtd"].split, split)
    with pytest.raises(
        FileNotFoundError,
        match="json' names 6 images, of which 4 are missing: '.*0.jpg', '.*1.jpg', '.*2.jpg', ...; are all",
    ):
        load_benchmark("dtd", tmp_path)
    (folder / "images" / "banded" / "0.jpg").mkdir()  # no file either
    make_images(folder / "images" / "banded", "1.jpg", "2.jpg")
    os.symlink(folder / "images" / "banded" / "1.jpg", folder / "images" / "banded" / "3.jpg")
    with pytest.raises(FileNotFoundError, match="of which 1 are missing: '[^']*banded/0.jpg'; are all"):
        load_benchmark("dtd", tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("flowers102", "did you mean 'oxford_flowers'?"),
        ("caltech-101", "did you mean 'caltech101'?"),
        ("CIFAR", "did you mean 'cifar10'"),
        ("dtdd", "did you mean 'dtd'?"),
        ("mnist", "is no benchmark; expected one of caltech101, dtd"),
        (None, "name=None is no benchmark"),
        (["dtd"], "is no benchmark"),
    ],
)
def test_unknown_name(tmp_path, name, hint):
    with pytest.raises(ValueError) as error:
        load_benchmark(name, tmp_path)
    assert hint in str(error.value)
    assert ", ".join(available_benchmarks()) in str(error.value)


def test_arguments_refused(tmp_path):
    for root in (None, "", 3, b"/data"):
        with pytest.raises(ValueError, match=r"root=.*; load_benchmark\('caltech101'\) expects the folder "
                           "that holds 'caltech-101'"):  # fmt: skip
            load_benchmark("caltech101", root)
    with pytest.raises(ValueError, match="root=None; .*holds 'cifar-10-batches-py'"):
        load_benchmark("cifar10")
    with pytest.raises(ValueError, match="root=None; .*expects a folder of class folders"):
        load_benchmark("folder")
    with pytest.raises(ValueError, match="layout='zhou'; expected None, 'coop' or 'torchvision'"):
        load_benchmark("dtd", tmp_path, layout="zhou")
    for name, layout, allowed in (
        ("ucf101", "torchvision", "None or 'coop'"),
        ("cifar10", "coop", "None or 'torchvision'"),
        ("digits", "coop", "None"),
    ):
        with pytest.raises(
            ValueError, match=f"layout='{layout}' does not exist for '{name}'; expected {allowed}"
        ):
            load_benchmark(name, tmp_path, layout=layout)


# With the rest of the package


def test_classifier_reads_what_is_loaded(tmp_path, digits):
    from modal_clip_dual import DualPromptClassifier

    split = {"train": [], "val": [], "test": []}
    for label in range(10):
        for k, row in enumerate(np.flatnonzero(digits.target == label)[:6]):
            path = tmp_path / "caltech-101" / "101_ObjectCategories" / f"{label}/{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digits.images[row]).save(path)
            part = "train" if k < 2 else "test"
            split[part].append([f"{label}/{k}.png", label, digits.class_names[label]])
    write(tmp_path / "caltech-101" / "split_zhou_Caltech101.json", split)
    data = load_benchmark("caltech101", tmp_path)
    clf = DualPromptClassifier(
        data.class_names,
        model_name="demo",
        pretrained="bundled",
        device="cpu",
        template=data.template,
        cache=None,
    )
    predicted = clf.zero_shot_proba(data.X_test).argmax(axis=1)
    assert predicted.shape == data.y_test.shape == (40,)
    assert np.mean(predicted == data.y_test) > 0.3  # chance: 0.1


def test_importing_stays_light():
    heavy = ("torch", "torchvision", "sklearn", "scipy", "open_clip", "modal_clip_dual.data.benchmarks")
    code = f"import modal_clip_dual.data as d, sys; print([m for m in {heavy} if m in sys.modules])"
    code += "\nprint(d.load_benchmark.__module__, 'load_benchmark' in dir(d))"
    code += f"\nprint([m for m in {heavy[:-1]} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split("\n")[:3] == ["[]", "modal_clip_dual.data.benchmarks True", "[]"]
