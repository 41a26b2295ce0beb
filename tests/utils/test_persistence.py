"""Files of arrays and settings on their own; what is kept in them is tested with its owners."""

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from modal_clip_dual import __version__
from modal_clip_dual.utils import persistence
from modal_clip_dual.utils.persistence import (
    check_target,
    describe_versions,
    params_of,
    plain,
    plain_params,
    read_state,
    versions,
    write_state,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def other_settings(path):
    """Function that writes a file with other settings, or other members."""

    def write(settings=None, how=np.savez, **members):
        text = json.dumps({"schema": 1, "kind": "learner", **(settings or {})})
        with open(path, "wb") as file:
            how(file, **({"settings": np.array(text)} | members))

    return write


def test_round_trip(path):
    arrays = {"a": np.arange(3, dtype=np.int16), "b": np.array(["x", "yz"]), "c": np.zeros((0, 2))}
    settings = {"name": "ä\n", "value": [1, None, 2.5, {"k": True}]}
    write_state(path, "learner", settings, arrays)
    read, found = read_state(path, "learner")
    assert read.pop("versions") == versions()
    assert read == settings
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with zipfile.ZipFile(path) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    assert [entry.name for entry in path.parent.iterdir()] == ["state"]


def test_written_whole_or_not_at_all(path, monkeypatch):
    write_state(str(path), "learner", {"n": 1}, {})
    before = path.read_bytes()
    calls = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor):
        calls.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def replaced(source, target):
        assert Path(source).parent == path.parent  # on another file system it could not be replaced
        assert str(os.getpid()) in Path(source).name
        calls.append(("replace", Path(source).stat().st_size))
        raise OSError("no space left")

    monkeypatch.setattr(persistence.os, "fsync", flushed)
    monkeypatch.setattr(persistence.os, "replace", replaced)
    with pytest.raises(OSError, match="no space left"):
        write_state(path, "learner", {"n": 22}, {})
    assert [name for name, _ in calls] == ["fsync", "replace"]
    assert len({size for _, size in calls}) == 1  # all of it was on the disk before it got its name
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["state"]
    monkeypatch.setattr(persistence.os, "replace", replace)
    write_state(path, "learner", {"n": 22}, {})
    assert read_state(path, "learner")[0]["n"] == 22


def test_what_cannot_be_written_leaves_nothing(path):
    with pytest.raises(TypeError):
        write_state(path, "learner", {"n": object()}, {})
    assert list(path.parent.iterdir()) == []


def test_kinds_and_schemas(path, other_settings):
    write_state(path, "classifier", {}, {})
    read_state(path, "classifier")
    expected = "state' is not a saved learner but a classifier, for DualPromptClassifier.load$"
    with pytest.raises(ValueError, match=expected):
        read_state(path, "learner")
    other_settings({"kind": "committee"})
    with pytest.raises(ValueError, match="is not a saved learner but a committee, for a newer version$"):
        read_state(path, "learner")
    for schema in (0, 3, "1", None):
        other_settings({"schema": schema})
        with pytest.raises(ValueError, match=f"has schema {schema}; this .* reads 2$"):
            read_state(path, "learner")
    other_settings({"schema": 3, "versions": {"torch": "9.9", "modal-clip-dual": "4"}})
    with pytest.raises(ValueError, match=r"reads 2 \(written with torch 9.9, modal-clip-dual 4\)$"):
        read_state(path, "learner")


def test_file_without_a_kind_is_a_learners(path):
    with open(path, "wb") as file:
        np.savez(file, settings=np.array('{"schema": 1, "n": 3}'), a=np.arange(2))
    assert read_state(path, "learner")[0] == {"n": 3}
    with pytest.raises(ValueError, match="not a saved classifier but a learner, for DualPromptLearner.resume$"):
        read_state(path, "classifier")


@pytest.mark.parametrize(
    "content", [b"", b"x" * 100, b"PK\x03\x04", b"\x93NUMPY", b'{"schema": 1}', b"\x80\x04N."]
)
def test_other_files(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="state' is not a saved state of a classifier"):
        read_state(path, "classifier")


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"schema": 1', "[" * 100_000])
def test_damaged_settings(path, text):
    with open(path, "wb") as file:
        np.savez(file, settings=np.array(text))
    with pytest.raises(ValueError, match="is not a saved state of a learner"):
        read_state(path, "learner")


def test_no_settings(path):
    with open(path, "wb") as file:
        np.savez(file, a=np.arange(2))
    with pytest.raises(ValueError, match="is not a saved state of a learner .*settings"):
        read_state(path, "learner")


def test_no_file(path):
    with pytest.raises(FileNotFoundError):
        read_state(path, "learner")


def test_bombs(path, other_settings):
    other_settings(how=np.savez_compressed, a=np.zeros(1000))
    with pytest.raises(ValueError, match=r"'settings.npy' is compressed"):
        read_state(path, "learner")
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(1000))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", buffer.getvalue())
        archive.filelist[0].file_size *= 2
        archive.filelist[0].compress_size *= 2
    with pytest.raises(ValueError, match=r"\(it claims to hold more than its size\)$"):
        read_state(path, "learner")


def test_target(tmp_path, monkeypatch):
    assert check_target(str(tmp_path / "a")) == tmp_path / "a"
    monkeypatch.chdir(tmp_path)
    assert check_target("a") == Path("a")
    with pytest.raises(ValueError, match="path='no/a': there is no such folder to write to"):
        check_target("no/a")
    with pytest.raises(ValueError, match=r"path='\.' is a folder; expected the name of a file"):
        check_target(".")


@pytest.mark.parametrize("use", [check_target, lambda path: read_state(path, "learner")])
def test_what_is_no_path(tmp_path, monkeypatch, use):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for wrong in (None, 3, b"state", ["state"]):
        with pytest.raises(TypeError, match="path=.* is a .*; expected the path of a file, str or path-like"):
            use(wrong)
    with pytest.raises(ValueError, match="path='' is empty"):
        use("")
    with pytest.raises(ValueError, match=f"path='~/state': ~ is the shell's; expected '{tmp_path}/state'"):
        use("~/state")
    (tmp_path / "~").mkdir()  # what a shell that was not asked made
    with pytest.raises(FileNotFoundError) if use is not check_target else nullcontext():
        use("~/state")


def test_versions(monkeypatch):
    found = versions()
    assert list(found)[:2] == ["python", "modal-clip-dual"]
    assert found["modal-clip-dual"] == __version__
    assert found["numpy"] == np.__version__
    assert found["python"].count(".") == 2 and " " not in found["python"]
    assert list(found)[2:] == ["torch", "open_clip_torch", "numpy", "scikit-learn", "skorch"]
    assert "unknown" not in found.values()
    monkeypatch.setattr(persistence, "PACKAGES", ("no-such-package",))
    assert versions.__wrapped__()["no-such-package"] == "unknown"
    assert describe_versions({"a": 1, "b": "2"}) == "a 1, b 2"
    assert describe_versions([1]) == "unknown versions"
    assert len(describe_versions({f"{k}" * 100: "9" * 100 for k in range(99)})) < 20 * 85
    assert describe_versions({"n" * 50: "9" * 50}) == "n" * 40 + " " + "9" * 40
    assert describe_versions(dict.fromkeys(range(25), "")).count(",") == 19


class Anything(BaseEstimator):
    def __init__(self, class_names=None, value=None, random_state=0):
        self.class_names, self.value, self.random_state = class_names, value, random_state


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3), ("x", "x"), (None, None), (2.5, 2.5), (True, True), ([1, "a"], [1, "a"]),
        ((1, 2), [1, 2]), (np.int64(3), 3), (np.float64(0.1), 0.1), (np.bool_(True), True),
        (np.arange(2), [0, 1]), (Path("a") / "b", os.path.join("a", "b")), ({"k": [1]}, {"k": [1]}),
    ],
)  # fmt: skip
def test_plain_values(value, expected):
    saved = json.loads(json.dumps(plain_params(Anything(value=value))))
    assert saved == {"params": {"class_names": None, "value": expected, "random_state": 0}, "missing": []}
    assert params_of(saved)["value"] == expected


@pytest.mark.parametrize("value", [print, object(), {1: 2}, {"k": (1, 2)}, [print], {"o": dict}, b"x", {1}])
def test_values_that_are_not(value):
    saved = plain_params(Anything(value=value))
    assert saved == {"params": {"class_names": None, "random_state": 0}, "missing": ["value"]}


def test_parameters_of_parameters_are_theirs():
    assert plain_params(Anything(value=Anything()))["missing"] == ["value"]
    assert "value__value" not in plain_params(Anything(value=Anything()))["params"]


def test_pickled_objects_are_refused(path, tmp_path, other_settings):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    other_settings(a=np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match="is not a saved state of a learner"):
        read_state(path, "learner")
    assert not (tmp_path / "ran").exists()


def test_parameters_left_out():
    saved = plain_params(Anything(value=print), without=("value", "random_state"))
    assert saved == {"params": {"class_names": None}, "missing": []}


@pytest.mark.parametrize("names", [{3: "a", 5: "b"}, {"x": "a", "y": "b"}, {np.int64(3): "a", np.int64(4): "b"}])
def test_mapping_of_class_names(names):
    saved = json.loads(json.dumps(plain_params(Anything(class_names=names))))
    assert params_of(saved)["class_names"] == names
def test_other_mappings_are_as_they_are():
    assert plain_params(Anything(value={"x": "a"}))["params"]["value"] == {"x": "a"}


def test_plain_labels():
    labels = np.array(["a", "b"], dtype=object)
    assert plain(labels).dtype.kind == "U"
    numbers = np.arange(3)
    assert plain(numbers) is numbers


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    """A process that was killed while it saved; others that are alive, and young files, are left alone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old = time.time() - 3600
    gone, alive = ended.pid, os.getppid()
    names = [f"state.npz.{gone}.tmp", f"state.npz.{alive}.tmp", "state.npz.copy.tmp", f"other.npz.{gone}.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (old, old))
    young = tmp_path / names[0]
    os.utime(young)
    write_state(tmp_path / "state.npz", "classifier", {}, {})
    assert young.exists()
    os.utime(young, (old, old))
    write_state(tmp_path / "state.npz", "classifier", {}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["state.npz", *names[1:]])
