"""Files that cannot be read: all are named at once, before training, and can be left out."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from modal_clip_dual import CLIPImageEncoder, DualPromptClassifier
from modal_clip_dual.data import UnreadableImagesError, drop_unreadable, reading
from modal_clip_dual.data.images import unreadable_error

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}
BROKEN = [1, 6, 11]


@pytest.fixture
def files(digits, tmp_path):
    paths = []
    for k in range(12):
        paths.append(str(tmp_path / f"{k}.png"))
        Image.fromarray(digits.images[k]).save(paths[-1])
    for k in BROKEN:
        Path(paths[k]).write_bytes(b"no image")
    return paths


@pytest.mark.parametrize("batch_size", [1, 4, 256])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_all_unreadable_files_are_in_one_error(files, batch_size, n_jobs, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", 2)
    with pytest.raises(UnreadableImagesError, match=r"3 of 12 files .*X\[1\]: .*X\[6\]: .*X\[11\]: ") as caught:
        CLIPImageEncoder(**DEMO, batch_size=batch_size, n_jobs=n_jobs).transform(files)
    assert caught.value.rows.tolist() == BROKEN
    assert all("1.png" in reason or "6.png" in reason for reason in caught.value.reasons)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.rows.tolist() == BROKEN


@pytest.mark.parametrize(
    ("visual_prompts", "augment", "cache"),
    [(None, "auto", "memory"), ("vpt-deep", "auto", "memory"), ("vpt-deep", None, None)],
)
def test_unreadable_files_are_told_before_training(files, digits, monkeypatch, visual_prompts, augment, cache):
    from modal_clip_dual.nn import training

    trained = []
    monkeypatch.setattr(training, "train", lambda *args: trained.append(args))
    clf = DualPromptClassifier(
        digits.class_names, **DEMO, visual_prompts=visual_prompts, augment=augment, cache=cache, max_epochs=1
    )
    with pytest.raises(UnreadableImagesError) as caught:
        clf.fit(files, digits.target[:12])
    assert caught.value.rows.tolist() == BROKEN
    assert not trained


def test_many_rows_are_cut_in_the_message():
    files = {row: f"{row}.png" for row in range(1, 51)}
    error = unreadable_error({row: f"cannot read '{row}'" for row in range(50, 0, -1)}, 100, files=files)
    assert str(error).startswith("50 of 100 files cannot be read as images: X[1]: cannot read '1'; X[2]: ")
    assert "and 47 more" in str(error)
    assert error.rows.tolist() == list(range(1, 51))


def test_dropped_rows_leave_paths_and_labels_in_step(files, digits):
    Path(files[3]).unlink()
    left = [1, 3, 6, 11]
    labels, table = digits.target[:12].tolist(), pd.Series(digits.target[:12], index=list("abcdefghijkl"))
    with pytest.warns(UserWarning, match=r"4 of 12 files are left out: paths\[1\]: .*; and 1 more"):
        paths, y, series, left_out = drop_unreadable(files, labels, table)
    kept = [k for k in range(12) if k not in left]
    assert left_out.tolist() == left
    assert paths.tolist() == [files[k] for k in kept]
    assert y == [labels[k] for k in kept]
    assert series.tolist() == y
    assert CLIPImageEncoder(**DEMO).transform(paths).shape == (8, 128)


def test_nothing_to_drop_is_no_warning(files):
    good = [path for k, path in enumerate(files) if k not in BROKEN]
    paths, left_out = drop_unreadable(good)
    assert paths.tolist() == good
    assert left_out.tolist() == []


def test_what_drop_unreadable_refuses(files):
    with pytest.raises(ValueError, match=r"arrays\[0\], behind paths, has 2 rows, paths 12"):
        drop_unreadable(files, [0, 1])
    with pytest.raises(TypeError, match=r"arrays\[1\], behind paths, is None; expected 12 labels"):
        drop_unreadable(files, list(range(12)), None)
    with pytest.raises(ValueError, match="none of 1 files"):
        drop_unreadable(files[1:2])
    with pytest.raises(ValueError, match="expected a 1-d array of file paths"):
        drop_unreadable(np.zeros((3, 4)))
