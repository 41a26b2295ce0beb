"""What every benchmark data set has to do; the test class of each inherits it."""

import itertools
import json
import os
from pathlib import Path

import pytest
import torchvision
from PIL import Image

from modal_clip_dual.data import available_benchmarks, load_benchmark
from modal_clip_dual.data.datasets.loading import data_sets

REAL = {
    name: getattr(torchvision.datasets, dataset.torchvision.cls)
    for name, dataset in data_sets().items()
    if dataset.torchvision
}
KEYS = [
    "name", "X_train", "y_train", "X_val", "y_val", "X_test", "y_test", "class_names", "template",
    "split",
]  # fmt: skip
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


def as_torchvision_reads(dataset):
    """Shade and class of all images, by what torchvision makes public."""
    return [(image.getpixel((0, 0))[0], dataset.classes[label]) for image, label in dataset]


def as_we_read(data, part, classes):
    found = [Image.open(path).convert("RGB").getpixel((0, 0))[0] for path in data[f"X_{part}"]]
    return [(shade, classes[label]) for shade, label in zip(found, data[f"y_{part}"])]


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """torchvision's data sets do not run, unless a test puts something else in their place."""

    def refuse(*args, **kwargs):
        raise AssertionError("torchvision was called")

    for cls in REAL.values():
        monkeypatch.setattr(torchvision.datasets, cls.__name__, refuse)


class DataSetTemplate:
    """Set `name` and `template`, the data set's prompt."""

    name = ""
    template = ""

    def test_it_is_listed_with_its_template(self):
        assert self.name in available_benchmarks()
        assert data_sets()[self.name].template == self.template
        assert self.template.count("{}") == 1


class CoopTemplate(DataSetTemplate):
    """A data set with one of CoOp's split files; `make_coop` writes a small one.

    Set `written`, class names by label as the split file has them, `called`, what they are to be
    called, and `files`, an image of each class below the folder of the images.
    """

    folder = images = split_file = ""
    written: tuple = ()
    called: tuple = ()
    files: tuple = ()

    def make_coop(self, root):
        folder = root / self.folder
        make_images(folder / self.images, *self.files)
        entries = [[file, label, self.written[label]] for label, file in enumerate(self.files)]
        split = {"train": entries[::-1], "val": entries[:1], "test": entries}
        write(folder / self.split_file, split)
        return folder

    def test_coop(self, tmp_path, monkeypatch):
        self.make_coop(tmp_path)
        data = load_benchmark(self.name, tmp_path)
        assert list(data) == KEYS
        below = [(Path(self.folder) / self.images / file).as_posix() for file in self.files]
        assert relative(data, tmp_path) == {"train": below[::-1], "val": below[:1], "test": below}
        assert data.y_train.tolist() == [1, 0]
        assert data.y_val.tolist() == [0]
        assert data.y_test.tolist() == [0, 1]
        assert data.class_names == list(self.called)
        assert (data.name, data.split) == (self.name, "coop")
        # the data set's own folder, a relative one, and the layout by name
        monkeypatch.chdir(tmp_path)
        for root in (tmp_path / self.folder, str(tmp_path / self.folder), ".", self.folder):
            again = load_benchmark(self.name, root, layout="coop")
            assert again.X_train.tolist() == data.X_train.tolist()

    def test_every_part_of_the_layout_is_asked_for(self, tmp_path):
        check_every_part_is_asked_for(self.name, self.make_coop, tmp_path)


def check_every_part_is_asked_for(name, make, tmp_path):
    coop = data_sets()[name].coop
    for number, entry in enumerate(coop.needs):
        folder = make(tmp_path / str(number))
        os.rename(folder / entry, tmp_path / f"away{number}")
        for root in (folder, folder.parent):
            with pytest.raises(FileNotFoundError) as error:
                load_benchmark(name, root, layout="coop")
            shown = str(error.value).splitlines()
            expected = [f"    |-- {e}" + "  (missing)" * (e == entry) for e in coop.needs]
            assert shown[2 : 3 + len(expected)] == [f"    {folder}{os.sep}", *expected]
            assert shown[-1].startswith("How to get it: https://github.com/KaiyangZhou/CoOp/")


class TorchvisionTemplate(DataSetTemplate):
    """A data set in torchvision's layout; `make_torchvision` writes a small one.

    Set `sizes`, the images of each part, `labels`, those for training, `class_names`, and whose
    `split` it is.
    """

    sizes: tuple = ()
    labels: tuple = ()
    class_names: tuple = ()
    split = "torchvision"
    named_after_class = False  # whether paths hold the last word of the class name

    def make_torchvision(self, root):
        raise NotImplementedError

    def test_torchvision_layout_is_read_where_it_is(self, tmp_path):
        self.make_torchvision(tmp_path)
        data = load_benchmark(self.name, tmp_path, layout="torchvision")
        parts = relative(data, tmp_path)
        assert [len(paths) for paths in parts.values()] == list(self.sizes)
        assert data.y_train.tolist() == list(self.labels)
        if self.class_names:
            assert data.class_names == list(self.class_names)
        assert data.split == self.split
        for part, paths in parts.items() if self.named_after_class else ():
            for path, label in zip(paths, data[f"y_{part}"]):
                assert data.class_names[label].split()[-1].lower() in path.lower()

    def test_coop_comes_first(self, tmp_path):
        self.make_torchvision(tmp_path)
        self.make_coop(tmp_path)
        assert load_benchmark(self.name, tmp_path).split == "coop"
        assert load_benchmark(self.name, tmp_path, download=True).split == "coop"
        assert load_benchmark(self.name, tmp_path, layout="torchvision").split == self.split

    def test_torchvision_layout_without_being_asked_for(self, tmp_path):
        self.make_torchvision(tmp_path)
        dataset = data_sets()[self.name]
        if not dataset.torchvision.shared:
            assert load_benchmark(self.name, tmp_path).split == self.split
            with pytest.raises(FileNotFoundError, match="Expected, as in CoOp:"):
                load_benchmark(self.name, tmp_path, layout="coop")
            return
        # A missing split file is no reason for another split.
        with pytest.raises(FileNotFoundError, match="How to use what is there.*layout='torchvision'") as error:
            load_benchmark(self.name, tmp_path)
        assert f"    |-- {dataset.coop.split}  (missing)" in str(error.value).splitlines()
        assert "do not compare with CoOp's" in str(error.value)
        # Asked for a download, torchvision would find everything there: so it is not called.
        assert load_benchmark(self.name, tmp_path, download=True).split == self.split

    def test_download_only_when_asked_for(self, tmp_path, monkeypatch):
        calls = []

        def fetch(root, **kwargs):
            calls.append((root, kwargs))
            self.make_torchvision(Path(root))

        dataset = data_sets()[self.name].torchvision
        monkeypatch.setattr(torchvision.datasets, dataset.cls, fetch)
        advice = "pass download=True" if dataset.fetches else "torchvision cannot download it any more"
        with pytest.raises(FileNotFoundError, match=advice):
            load_benchmark(self.name, tmp_path)
        with pytest.raises(FileNotFoundError, match="Expected, as in CoOp:") as error:
            load_benchmark(self.name, tmp_path, download=True, layout="coop")
        assert "download=True" not in str(error.value)
        assert calls == [] and list(tmp_path.iterdir()) == []
        if not dataset.fetches:
            with pytest.raises(FileNotFoundError, match=advice):
                load_benchmark(self.name, tmp_path, download=True)
            assert calls == []
            return
        data = load_benchmark(self.name, tmp_path, download=True)
        assert calls == [(str(tmp_path), {"download": True})]
        assert data.split == self.split
        load_benchmark(self.name, tmp_path, download=True)
        assert len(calls) == 1


class ComparedTemplate(TorchvisionTemplate):
    """A data set whose class names torchvision makes public, so that its own reader is compared with.

    Set `theirs`: what torchvision calls each part; None where it does not divide the data set.
    """

    theirs: dict | None = None

    def test_same_as_torchvision(self, tmp_path):
        self.make_torchvision(tmp_path)
        data = load_benchmark(self.name, tmp_path, layout="torchvision")
        for part, theirs in (self.theirs or {}).items():
            dataset = REAL[self.name](tmp_path, split=theirs)
            assert as_we_read(data, part, dataset.classes) == as_torchvision_reads(dataset) != []
        if self.theirs is None:  # not divided
            dataset = REAL[self.name](tmp_path)
            ours = [row for part in ("train", "test") for row in as_we_read(data, part, dataset.classes)]
            assert sorted(ours) == sorted(as_torchvision_reads(dataset)) != []
