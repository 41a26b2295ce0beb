"""A folder of class folders."""

import os
from pathlib import Path

import pytest

from modal_clip_dual.data import load_image_folder


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
    data = load_image_folder(tmp_path)
    paths, target, class_names = data.values()
    assert class_names == ["cat", "dog", "empty"]
    assert relative(tmp_path, paths) == ["cat/deep/er/c.webp", "dog/a.jpeg", "dog/b.PNG"]
    assert target.tolist() == [0, 1, 1]
    assert list(data) == ["paths", "target", "class_names"]
    assert paths.dtype == object
    assert load_image_folder(str(tmp_path)).paths.tolist() == paths.tolist()


def test_extensions(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.dat")
    assert relative(tmp_path, load_image_folder(tmp_path, [".DAT"]).paths) == ["a/2.dat"]
    with pytest.raises(TypeError, match="extensions='.png'; expected a sequence"):
        load_image_folder(tmp_path, ".png")


def test_links(tmp_path):
    touch(tmp_path, "a/1.png", "elsewhere.png")
    os.symlink(tmp_path / "elsewhere.png", tmp_path / "a" / "linked.png")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
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
