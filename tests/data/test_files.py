"""Files are looked at once per piece of work, read once, and known by their bytes."""

import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from modAL.models import ActiveLearner
from PIL import Image

from modal_clip_dual import (
    BayesAdapterClassifier,
    CLIPImageEncoder,
    DualPromptClassifier,
    DualPromptLearner,
    badge_sampling,
    random_sampling,
)
from modal_clip_dual.clip.inputs import digest_cache
from modal_clip_dual.data import files
from modal_clip_dual.heads.tip_adapter import TipAdapterClassifier

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(files, "_digests", {})


@pytest.fixture
def paths(tmp_path):
    for k in range(5):
        (tmp_path / f"{k}").write_bytes(bytes([k % 4]) * (k % 4 + 1))
    return [str(tmp_path / f"{k}") for k in range(5)]


@pytest.fixture
def looks(monkeypatch):
    """Every path that the file system was asked about."""
    asked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, *args, **kwargs: asked.append(path) or stat(path, *args, **kwargs))
    return asked


@pytest.fixture
def reads(monkeypatch):
    """Every path that was read for its checksum."""
    read, digest = [], files._digest
    monkeypatch.setattr(files, "_digest", lambda place: read.append(place) or digest(place))
    return read


def test_digests_are_those_of_the_bytes(paths, monkeypatch, tmp_path):
    expected = [blake2b(Path(path).read_bytes(), digest_size=16).digest() for path in paths]
    assert files.digests_of(paths) == expected and expected[0] == expected[4] != expected[1]
    monkeypatch.chdir(tmp_path)
    assert files.digests_of(["3"]) == [expected[3]]
    monkeypatch.setattr(files, "READ_BYTES", 2)
    monkeypatch.setattr(files, "_digests", {})
    assert files.digests_of(paths) == expected
    with pytest.raises(FileNotFoundError, match="no such thing"):
        files.digests_of(["no such thing"])


def test_files_are_read_again_only_if_they_changed(paths, reads):
    files.digests_of(paths)
    first = files.digests_of(paths)
    assert reads == paths
    with open(paths[2], "ab") as file:
        file.write(b"more")
    os.utime(paths[3], (1, 1))
    again = files.digests_of(paths)
    assert reads[5:] == paths[2:4]
    assert [a == b for a, b in zip(first, again)] == [True, True, False, True, True]


def test_the_disk_remembers_for_the_next_process(paths, reads, monkeypatch, tmp_path):
    first = files.digests_of(paths, digest_cache(tmp_path / "cache"))
    monkeypatch.setattr(files, "_digests", {})  # another process
    assert files.digests_of(paths, digest_cache(tmp_path / "cache")) == first
    assert reads == paths
    assert digest_cache("memory") is digest_cache(None) is None


def test_looking_once(paths, looks):
    with files.looking_once(), files.looking_once():
        found = files.look_at([*paths, "no such thing", paths[0]])
        assert files.look_at(paths) == found[:5] and found[5] is None and found[6] == found[0]
        files.digests_of(paths)
        assert len(looks) == 6
    files.look_at(paths)
    assert len(looks) == 11
    assert found[1] == (os.path.getsize(paths[1]), os.stat(paths[1]).st_mtime_ns)


def test_many_files_are_looked_at_in_threads(paths, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 2)
    assert files.look_at(paths) == [files._look(path) for path in paths]
    assert files.digests_of(paths) == [files._digest(path) for path in paths]


def test_folders_and_odd_names_are_no_files(tmp_path):
    assert files.look_at([str(tmp_path), "a\0b", ""]) == [None, None, None]


def test_what_is_remembered_is_bounded(paths, monkeypatch):
    monkeypatch.setattr(files, "MOST_DIGESTS", 3)
    first = files.digests_of(paths[:2])
    assert files.digests_of(paths)[:2] == first and len(files._digests) == 3
    assert files.digests_of(paths[2:4]) and len(files._digests) == 3


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_known_by_its_place(paths):
    os.chmod(paths[0], 0)
    assert files.digests_of(paths[:1]) != files.digests_of(paths[4:])


def test_a_round_looks_at_every_file_twice_at_most_and_reads_none(digits, tmp_path, looks, reads):
    X = []
    for k, image in enumerate(digits.images[:30]):
        Image.fromarray(image).save(tmp_path / f"{k}.png")
        X.append(str(tmp_path / f"{k}.png"))
    clf = TipAdapterClassifier(digits.class_names, **DEMO)
    learner = DualPromptLearner(clf, X, query_strategy=random_sampling, path=tmp_path / "state.npz")
    rows, images = learner.query(n_instances=3)
    of_files = np.array([path in set(X) for path in looks])
    assert of_files.sum() <= 3 * 30 and sorted(reads) == sorted(X)
    looks.clear()
    learner.teach(images, digits.target[rows])
    learner.query(n_instances=3)
    assert sum(path in set(X) for path in looks) <= 2 * 30 and len(reads) == 30


@pytest.fixture
def images(digits, tmp_path):
    places = [str(tmp_path / f"{k}.png") for k in range(20)]
    for place, image in zip(places, digits.images):
        Image.fromarray(image).save(place)
    return places


@pytest.mark.parametrize("n_classifier", range(4))
def test_a_call_looks_at_a_file_once(images, digits, looks, n_classifier):
    quick = {"max_epochs": 1, "min_steps": 1, "random_state": 0, **DEMO}
    clf = [
        TipAdapterClassifier(digits.class_names, **DEMO),
        DualPromptClassifier(digits.class_names, **quick),
        DualPromptClassifier(digits.class_names, visual_prompts="vpt-shallow", **quick),
        BayesAdapterClassifier(digits.class_names, max_epochs=1, random_state=0, **DEMO),
    ][n_classifier]
    y = digits.target[:20]
    calls = [
        lambda: clf.zero_shot_proba(images),
        lambda: clf.fit(images, y),
        lambda: clf.predict(images),
        lambda: clf.predict_correct_proba(images),
        lambda: clf.transform(images),
        lambda: CLIPImageEncoder(**DEMO).transform(images),
    ]
    calls += [lambda: clf.partial_fit(images, y)] if n_classifier else []
    for k, call in enumerate(calls):
        looks.clear()
        call()
        assert sum(place in set(images) for place in looks) <= 20, k


def test_a_round_of_modals_learner(images, digits, looks):
    X, y = np.array(images), digits.target[:20]
    learner = ActiveLearner(TipAdapterClassifier(digits.class_names, **DEMO), badge_sampling, X[:5], y[:5])
    looks.clear()
    rows, new = learner.query(X, n_instances=3)
    learner.teach(new, y[rows])
    assert sum(place in set(images) for place in looks) <= 3 * 20
