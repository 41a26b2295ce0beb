"""A folder of class folders."""

import os
import sys
import types
from pathlib import Path

import pytest
from PIL import Image

from modal_clip_dual.data import list_images, load_image_folder
from modal_clip_dual.data.images import read_image


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def relative(root, paths):
    return [Path(path).relative_to(root).as_posix() for path in paths]


def test_layout(tmp_path):
    touch(tmp_path, "dog/b.PNG", "dog/a.jpeg", "cat/deep/er/c.webp", "cat/notes.txt", "cat/.hidden.png")
    touch(tmp_path, ".git/x.png", "cat/.thumbs/y.png", "readme.md", "beside.png")
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match=r"1 files that are no images by their names: 1 \.txt; 1 images beside"):
        data = load_image_folder(tmp_path)
    paths, target, class_names = data.values()
    assert class_names == ["cat", "dog", "empty"]
    assert relative(tmp_path, paths) == ["cat/deep/er/c.webp", "dog/a.jpeg", "dog/b.PNG"]
    assert target.tolist() == [0, 1, 1]
    assert list(data) == ["paths", "target", "class_names"]
    assert paths.dtype == object
    with pytest.warns(UserWarning, match="passed over"):
        assert load_image_folder(str(tmp_path)).paths.tolist() == paths.tolist()


@pytest.mark.parametrize("read", [load_image_folder, list_images])
def test_what_names_no_folder(tmp_path, monkeypatch, read):
    """The empty text, of a variable that is not set, is not the folder where one is."""
    for wrong in (None, 3, b"/tmp", ["/tmp"]):
        with pytest.raises(TypeError, match="folder=.*; expected the path of a folder"):
            read(wrong)
    with pytest.raises(NotADirectoryError, match="folder='' names no folder"):
        read("")
    (tmp_path / "pets").mkdir()
    (tmp_path / "cat.png").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NotADirectoryError, match="'~/pets' is not a folder; ~ is the shell's, expected '/.*/pets'"):
        read("~/pets")
    with pytest.raises(NotADirectoryError, match=r"cat.png' is not a folder; it is a file"):
        read(tmp_path / "cat.png")
    with pytest.raises(NotADirectoryError, match="'gone' is not a folder, seen from '/"):
        read("gone")
    for extensions in (3, [], [1]):
        with pytest.raises(TypeError, match=r"extensions=.*; expected a sequence such as"):
            read(tmp_path, extensions)


def test_extensions(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.dat")
    with pytest.warns(UserWarning, match=r"passed over 1 files .*: 1 \.png"):
        assert relative(tmp_path, load_image_folder(tmp_path, [".DAT"]).paths) == ["a/2.dat"]
    with pytest.raises(TypeError, match="extensions='.png'; expected a sequence"):
        load_image_folder(tmp_path, ".png")


def test_links(tmp_path):
    touch(tmp_path, "a/1.png", "elsewhere.png")
    os.symlink(tmp_path / "elsewhere.png", tmp_path / "a" / "linked.png")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    with pytest.warns(UserWarning, match="passed over the folders a/loop; 1 images beside"):
        assert relative(tmp_path, load_image_folder(tmp_path).paths) == ["a/1.png", "a/linked.png"]


def test_refused(tmp_path):
    touch(tmp_path, "1.png", "2.png")
    with pytest.raises(ValueError, match="has 0 folders with no image in them, and 2 images beside"):
        load_image_folder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="has 1 folders .*expected a folder per class"):
        load_image_folder(tmp_path)
    for wrong in (tmp_path / "1.png", tmp_path / "nothing"):
        with pytest.raises(NotADirectoryError, match="folder='.*' is not a folder"):
            load_image_folder(wrong)


def test_labels_and_paths_go_through_the_classifier(tmp_path, digits):
    from PIL import Image

    from modal_clip_dual import DualPromptClassifier

    for k in range(20):
        name = digits.class_names[digits.target[k]]
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(digits.images[k]).save(tmp_path / name / f"{k}.png")
    paths, y, names = load_image_folder(tmp_path).values()
    clf = DualPromptClassifier(
        names, model_name="demo", pretrained="bundled", device="cpu", max_epochs=1
    ).fit(paths, y)
    assert clf.predict(paths).shape == (20,)


SYSTEM = ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "@Recycle"]


@pytest.mark.parametrize("name", SYSTEM)
def test_system_folders_are_no_classes(tmp_path, name):
    touch(tmp_path, "cat/1.png", "dog/2.png", f"{name}/cat/3.png", f"cat/{name}/4.png")
    touch(tmp_path, "cat/Thumbs.db", "dog/desktop.ini", "dog/.DS_Store", "cat/._1.png")
    with pytest.warns(UserWarning, match=r"passed over the folders [^;]*$") as caught:
        data = load_image_folder(tmp_path)
    assert name in str(caught[0].message)
    assert data.class_names == ["cat", "dog"]
    assert relative(tmp_path, data.paths) == ["cat/1.png", "dog/2.png"]


def test_folder_of_images_alone_is_no_warning(tmp_path):
    touch(tmp_path, "cat/1.png", "dog/2.JFIF", "dog/Thumbs.db", ".git/x")
    assert relative(tmp_path, load_image_folder(tmp_path).paths) == ["cat/1.png", "dog/2.JFIF"]


def test_what_is_passed_over_is_counted_by_ending(tmp_path):
    touch(tmp_path, "cat/1.png", "cat/2.HEIC", "dog/3.heic", "dog/4.mov", "dog/no_ending")
    with pytest.warns(UserWarning, match="4 files .*: 2 .heic, 1 .*pip install pillow-heif"):
        load_image_folder(tmp_path)
    (tmp_path / "cat" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"no image in them \(2 \.heic, "):
        load_image_folder(tmp_path)


def test_folder_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
    touch(tmp_path, "cat/1.png", "cat/closed/2.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.warns(UserWarning, match=r"closed \(Permission denied\)"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "dev")])
def test_parts_of_a_data_set_are_no_classes(tmp_path, names):
    touch(tmp_path, *(f"{name}/cat/1.png" for name in names))
    with pytest.raises(ValueError, match="which are parts of a data set and no classes.*load_benchmark"):
        load_image_folder(tmp_path)
    touch(tmp_path, "dog/1.png")  # a class may be called so beside others
    assert load_image_folder(tmp_path).class_names == sorted([*names, "dog"])


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Valid", "Test"),
        ("training_set", "validation", "testing"),
        ("TRAIN", "dev", "eval"),
    ],
)
def test_names_of_parts(tmp_path, train, val, test):
    from modal_clip_dual.data import load_benchmark

    touch(tmp_path, f"{train}/cat/1.png", f"{train}/dog/2.png", f"{val}/cat/3.png", f"{test}/dog/4.png")
    data = load_benchmark("folder", tmp_path)
    assert data.class_names == ["cat", "dog"]
    assert relative(tmp_path, data.X_train) == [f"{train}/cat/1.png", f"{train}/dog/2.png"]
    assert relative(tmp_path, data.X_val) == [f"{val}/cat/3.png"]
    assert relative(tmp_path, data.X_test) == [f"{test}/dog/4.png"]
    assert data.y_test.tolist() == [1]


def test_two_folders_for_one_part_are_refused(tmp_path):
    from modal_clip_dual.data import load_benchmark

    touch(tmp_path, *(f"{part}/cat/1.png" for part in ("train", "test", "val", "valid")))
    with pytest.raises(ValueError, match="'val' and 'valid', which both mean 'val'"):
        load_benchmark("folder", tmp_path)


@pytest.mark.parametrize("registered", [True, False])
def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, monkeypatch, registered):
    """A stand-in for pillow-heif registers itself as the true one does."""
    Image.init()  # before: it fills the tables once per process
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))

    def register_heif_opener():
        Image.init()
        opener, _ = Image.OPEN["PNG"]
        Image.register_open("HEIF", opener, lambda prefix: prefix.startswith(b"\x89PNG"))

    module = types.ModuleType("pillow_heif")
    module.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    if registered:
        register_heif_opener()
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "cat" / "a.png")
    os.rename(tmp_path / "cat" / "a.png", tmp_path / "cat" / "a.HEIC")
    paths = load_image_folder(tmp_path).paths
    assert relative(tmp_path, paths) == ["cat/a.HEIC"]
    Image.OPEN.pop("PNG")  # now it is this opener that reads it
    assert read_image(paths, 0).getpixel((0, 0)) == (10, 20, 30)
