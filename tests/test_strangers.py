"""Files from strangers: whatever is read, nothing in it is run, and odd files are refused by name."""

import gc
import io
import json
import os
import pickle
import sqlite3
import sys
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from conftest import TINY, write_checkpoint
from PIL import Image
from precision import of_tower

from modal_clip_dual import DualPromptClassifier, DualPromptLearner
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.data import load_benchmark, load_image_folder
from modal_clip_dual.data.cache import DiskCache
from modal_clip_dual.data.images import as_array, check_files, image_key, read_image
from modal_clip_dual.evaluation import paper_table, read_results


class Evil:
    """Touches a file where it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


class Trips:
    """Makes torch's restricted unpickler raise TypeError, after which old loaders tried again without."""

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, ()


@pytest.fixture
def evil(tmp_path):
    marker = tmp_path / "ran"
    yield Evil(marker)
    assert not marker.exists(), "something in the file was run"


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


# -------------------------------------------------------------------- weights


def torch_bytes(thing, **how):
    buffer = io.BytesIO()
    torch.save(thing, buffer, **how)
    return buffer.getvalue()


def torchscript_bytes(evil):
    """What torch takes for TorchScript, by the name of a member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version"):
            archive.writestr(f"archive/{name}", pickle.dumps(evil))
    return buffer.getvalue()


def npz_bytes(evil):
    buffer = io.BytesIO()
    np.savez(buffer, **{"params/t": np.array([evil], dtype=object)})
    return buffer.getvalue()


MALICIOUS = {
    "a plain pickle": lambda evil: pickle.dumps(evil),
    "an object": lambda evil: torch_bytes(evil),
    "an object of the old format": lambda evil: torch_bytes(evil, _use_new_zipfile_serialization=False),
    "a state dict": lambda evil: torch_bytes({"state_dict": {"logit_scale": evil}}),
    "after a TypeError": lambda evil: torch_bytes([Trips(), evil]),
    "after a TypeError, old format": lambda evil: torch_bytes(
        [Trips(), evil], _use_new_zipfile_serialization=False
    ),
    "TorchScript": torchscript_bytes,
    "arrays": npz_bytes,
}


@pytest.fixture
def architecture(monkeypatch):
    """A small model under a name of open_clip's list, for ``pretrained=FILE``."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-stranger", json.loads(json.dumps(TINY)))
    return "tiny-stranger"


# Where reading fails, numpy and open_clip leave files open until the error is forgotten.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".npz", ""])
@pytest.mark.parametrize("content", MALICIOUS)
def test_checkpoint_file(evil, architecture, tmp_path, nothing_loaded, content, suffix):
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(MALICIOUS[content](evil))
    with pytest.raises(Exception) as caught:  # each library has its own errors
        load_backbone(architecture, str(file), "cpu")
    assert not isinstance(caught.value, AssertionError)
    assert not nothing_loaded
    del caught
    gc.collect()  # here, and not in a later test


def test_weights_that_are_read_without_restriction_run_what_is_in_them(tmp_path):
    """The control: these files would do it."""
    for name in ("an object", "an object of the old format", "a state dict"):
        (tmp_path / "weights.pt").write_bytes(MALICIOUS[name](Evil(tmp_path / "ran")))
        loaded = torch.load(tmp_path / "weights.pt", weights_only=False)
        (loaded["state_dict"]["logit_scale"] if isinstance(loaded, dict) else loaded).close()
        (tmp_path / "ran").unlink()


@pytest.mark.parametrize("content", MALICIOUS)
def test_open_clip_gets_no_second_try(evil, architecture, tmp_path, nothing_loaded, monkeypatch, content):
    """After a TypeError it would drop ``weights_only=True``; what was not read with it does not get there."""
    load, tries = torch.load, []

    def restricted(*args, **kwargs):
        tries.append("weights_only" in kwargs)
        if tries[-1]:
            raise TypeError
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", restricted)
    (tmp_path / "weights.pt").write_bytes(MALICIOUS[content](evil))
    with pytest.raises(Exception, match=r"."):
        load_backbone(architecture, str(tmp_path / "weights.pt"), "cpu")
    refused_before = content in ("TorchScript", "arrays")
    assert tries == ([] if refused_before else [True])


def test_checkpoint_file_that_is_one(architecture, tmp_path, nothing_loaded):
    """The same way with weights: the refusals above are about the content."""
    model = open_clip.create_model(architecture)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    backbone = load_backbone(architecture, str(tmp_path / "weights.pt"), "cpu")
    assert torch.equal(backbone.model.visual.conv1.weight, model.visual.conv1.weight)


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "open_clip_model.safetensors", "other.pth"])
@pytest.mark.parametrize("content", MALICIOUS)
def test_local_folder(evil, tmp_path, nothing_loaded, content, name):
    folder = write_checkpoint(tmp_path / "clip")
    (folder / "open_clip_pytorch_model.bin").unlink()
    (folder / name).write_bytes(MALICIOUS[content](evil))
    clf = DualPromptClassifier(["a", "b"], model_name=f"local-dir:{folder}", pretrained=None, device="cpu")
    with pytest.raises(Exception) as caught:
        clf.fit(np.zeros((4, 8, 8), dtype=np.uint8), [0, 1, 0, 1])
    assert not isinstance(caught.value, AssertionError)
    assert not nothing_loaded


def test_configuration_that_asks_for_code(tmp_path, nothing_loaded, monkeypatch):
    """open_clip hands tokenizer_kwargs to transformers, which would run a file of the folder."""
    folder = write_checkpoint(tmp_path / "clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {
        "hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda *a, **k: pytest.fail("was asked for"))
    with pytest.raises(ValueError, match="has trust_remote_code in tokenizer_kwargs"):
        load_backbone(f"local-dir:{folder}", None, "cpu")


# -------------------------------------------------------------------- states, caches, data sets


@pytest.mark.parametrize("read", [DualPromptClassifier.load, DualPromptLearner.resume])
@pytest.mark.parametrize("content", ["a plain pickle", "an object", "arrays", "TorchScript"])
def test_saved_state(evil, tmp_path, read, content):
    (tmp_path / "state").write_bytes(MALICIOUS[content](evil))
    with pytest.raises(ValueError, match="state' is not a saved state of a"):
        read(tmp_path / "state")


def test_saved_classifier_with_one_array_replaced(evil, fitted, tmp_path):
    fitted.save(tmp_path / "clf")
    with np.load(tmp_path / "clf") as file:
        arrays = dict(file)
    for name in arrays:
        with open(tmp_path / "clf", "wb") as stream:
            np.savez(stream, **(arrays | {name: np.array([evil], dtype=object)}))
        with pytest.raises(ValueError, match="is not a saved state of a classifier"):
            DualPromptClassifier.load(tmp_path / "clf")


def test_state_that_would_fill_the_memory(fitted, tmp_path):
    fitted.save(tmp_path / "clf")
    with np.load(tmp_path / "clf") as file:
        arrays = dict(file)
    with open(tmp_path / "clf", "wb") as stream:
        np.savez_compressed(stream, **arrays, bomb=np.zeros(10**7))
    with pytest.raises(ValueError, match="is compressed"):
        DualPromptClassifier.load(tmp_path / "clf")
    with zipfile.ZipFile(tmp_path / "clf", "w") as archive:  # members that share their bytes
        archive.writestr("settings.npy", b"0" * 1000)
        archive.filelist.append(archive.filelist[0])
    with pytest.raises(ValueError, match=r"claims to hold more|[Oo]verlap|[Dd]uplicate"):
        DualPromptClassifier.load(tmp_path / "clf")


@pytest.mark.parametrize("shape", ["1", "1 " * 100, "-1", "0 99999999999999999999", "x", "9" * 5000, None, 3])
def test_cache_holds_bytes_and_no_objects(evil, tmp_path, shape):
    cache = DiskCache(tmp_path, "pixels", "1", np.uint8)
    data = pickle.dumps(evil) if shape == "1" else b"" if shape and "0 9" in str(shape) else b"\x80"
    with sqlite3.connect(cache.path) as connection:
        connection.execute("INSERT INTO arrays VALUES (?, ?, ?)", (b"key", shape, data))
    connection.close()
    assert cache.get([b"key"]) == {}
    cache.put({b"key": np.arange(3, dtype=np.uint8)})
    with sqlite3.connect(cache.path) as connection:
        row = str(len(pickle.dumps(evil))), pickle.dumps(evil)
        connection.execute("UPDATE arrays SET shape = ?, data = ?", row)
    connection.close()
    assert cache.get([b"key"])[b"key"].tobytes() == row[1]  # no more than bytes


def test_cache_that_is_a_pickle(evil, tmp_path):
    (tmp_path / "pixels-1.sqlite").write_bytes(pickle.dumps(evil) * 50)
    with pytest.raises(ValueError, match="cache: .* is damaged or no cache of this package"):
        DiskCache(tmp_path, "pixels", "1", np.uint8)


def test_split_file(evil, tmp_path):
    (tmp_path / "eurosat" / "2750").mkdir(parents=True)
    (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").write_bytes(pickle.dumps(evil))
    with pytest.raises(ValueError, match=r"split_zhou_EuroSAT\.json' is no JSON file"):
        load_benchmark("eurosat", tmp_path)


def test_batches_of_cifar(evil, tmp_path):
    """They are pickles; torchvision opens none whose checksum is not the known one."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(evil))
    with pytest.raises(ValueError, match="is incomplete or damaged"):
        load_benchmark("cifar10", tmp_path)


@pytest.mark.parametrize("damaged", ["imagelabels.mat", "setid.mat"])
def test_matlab_files(evil, tmp_path, damaged):
    from scipy.io import savemat

    folder = tmp_path / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    savemat(folder / "imagelabels.mat", {"labels": [[1, 2]]})
    savemat(folder / "setid.mat", {"trnid": [[1]], "valid": [[2]], "tstid": [[3]]})
    with pytest.raises(ValueError, match=r"setid\.mat' has numbers from 3 to 3 in 'tstid'; expected 1 to 2"):
        load_benchmark("oxford_flowers", tmp_path)
    (folder / damaged).write_bytes(pickle.dumps(evil) * 20)
    with pytest.raises(ValueError, match=f"{damaged}' is no MATLAB file with .*, or damaged"):
        load_benchmark("oxford_flowers", tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"\x80\x04\x95", b"seed,accuracy\n1,__import__('os')\n", b"seed,accuracy\n1\n", b"seed\n1,2\n"],
)
def test_results(evil, tmp_path, content):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a.csv").write_bytes(content + (pickle.dumps(evil) if b"\x80" in content else b""))
    with pytest.raises(ValueError, match=r"a\.csv' is not a file of results, or damaged"):
        read_results(tmp_path)


# -------------------------------------------------------------------- images


def test_image_that_is_a_pickle(evil, tmp_path):
    (tmp_path / "a.png").write_bytes(pickle.dumps(evil))
    with pytest.raises(ValueError, match=r"X\[0\]: cannot read .*expected one of PNG"):
        read_image(as_array([str(tmp_path / "a.png")]), 0)


def test_decompression_bombs(tmp_path, monkeypatch):
    """Beyond twice Pillow's limit refused by name; between that and the limit read, with its warning."""
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    X = as_array([str(tmp_path / "a.png")])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 449)
    with pytest.raises(ValueError, match=r"X\[0\]: cannot read .*a\.png.*exceeds limit of 898 pixels"):
        read_image(X, 0)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 450)
    with pytest.warns(Image.DecompressionBombWarning):
        assert read_image(X, 0).size == (30, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    assert read_image(X, 0).size == (30, 30)


ABSENT = [
    "http://example.org/a.png", "https://example.org/a.png", "file:///etc/passwd", "ftp://x/a.png",
    "\\\\server\\share\\a.png", "a\0b.png", "\ud800.png", "x" * 5000, "-rf", "--help", "a\nb.png", "", ".",
    "/dev/zero", "|id", "$(id)", "`id`",
]  # fmt: skip


@pytest.mark.parametrize("name", ABSENT)
def test_path_is_a_path(name, tmp_path, monkeypatch):
    """No address is fetched, no device read, no command started: there is just no such file."""
    import socket
    import subprocess

    monkeypatch.chdir(tmp_path)
    for module, call in ((socket, "socket"), (socket, "create_connection"), (subprocess, "Popen")):
        monkeypatch.setattr(module, call, lambda *a, **k: pytest.fail("tried"))
    monkeypatch.setattr(os, "system", lambda *a: pytest.fail("tried"))
    what = "there is no file"
    if "://" in name:
        what = ".* is an address"
    elif name == ".":
        what = ".* is a folder"
    elif name.startswith("/dev/"):
        what = ".* is no regular file"
    with pytest.raises(FileNotFoundError, match=rf"X\[0\]: {what}") as caught:
        check_files(as_array([name]))
    assert "\n" not in str(caught.value)
    str(caught.value).encode()  # can be printed


ODD = ["-rf.png", "a\nb.png", "tab\t.png", " .png", "'\".png", "ä€😀.png", "%s{}.png", os.fsdecode(b"\xff\xfe.png")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow all of these names")
@pytest.mark.parametrize("name", [*ODD, "x" * 251 + ".png"])
def test_odd_names(digits, classifier, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(digits.images[0]).save("plain.png")
    os.rename("plain.png", name)
    X = as_array([name])
    check_files(X)
    assert read_image(X, 0).size == (8, 8)
    assert len(image_key(X, 0)) == 16
    clf = classifier(cache=tmp_path / "cache", verbose=0)
    np.testing.assert_allclose(clf.transform([name]), clf.transform(digits.images[:1]), atol=of_tower(), rtol=0)
    learner = DualPromptLearner(clf.set_params(max_epochs=1), [name] * 12, path="s", n_per_class=1).start()
    resumed = DualPromptLearner.resume("s")
    assert resumed.X_pool == [os.path.abspath(name)] * 12 == [os.path.abspath(p) for p in learner._pool]


def test_links(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "link.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "cat" / "circle.png").symlink_to(tmp_path / "cat" / "circle.png")
    (tmp_path / "cat" / "dangling.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)  # is not followed
    assert read_image(as_array([str(tmp_path / "cat" / "link.png")]), 0).size == (4, 4)
    for name in ("circle.png", "dangling.png"):
        with pytest.raises(FileNotFoundError, match=f"{name}' is a link to .*, which is not there"):
            check_files(as_array([str(tmp_path / "cat" / name)]))
    with pytest.warns(UserWarning, match="passed over the folders cat/up"):
        paths = load_image_folder(tmp_path).paths
    assert sorted(Path(path).name for path in paths) == ["circle.png", "dangling.png", "link.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileNotFoundError, match="is no regular file"):
        check_files(as_array([str(tmp_path / "pipe.png")]))


# -------------------------------------------------------------------- what is shown

SCRIPT = "<script>alert(1)</script>"


def test_html_is_escaped(embeddings):
    names = [f"{SCRIPT} {k}" for k in range(10)]
    clf = DualPromptClassifier(names, model_name="demo", pretrained="bundled", max_epochs=1, device="cpu")
    learner = DualPromptLearner(clf, embeddings[:30], n_per_class=1).start()
    learner.estimator.__class__ = type(SCRIPT, (DualPromptClassifier,), {})
    for shown in (learner, DualPromptLearner(learner.estimator, embeddings[:30])):
        assert SCRIPT not in shown._repr_mimebundle_().get("text/html", "")
    learner.log_[0]["kappa"] = SCRIPT
    html = learner._repr_mimebundle_()["text/html"]
    assert SCRIPT not in html
    assert "&lt;script&gt;" in html
    assert SCRIPT not in clf._repr_html_()


def test_tables_are_escaped():
    frame = pd.DataFrame({
        "data": SCRIPT + " | x", "strategy": "a|b*c\nd & 50% $x$", "seed": [0, 1], "round": 1,
        "n_labels": 10, "budget": 0.01, "accuracy": [0.5, 0.6],
    })  # fmt: skip
    markdown = paper_table(frame, rounds=(1,))
    assert SCRIPT not in markdown
    assert {line.replace("\\|", "").count("|") for line in markdown.splitlines()} == {3}
    latex = paper_table(frame, rounds=(1,), format="latex")
    assert r"50\% \$x\$" in latex
    assert r"a\textbar{}b*c d \&" in latex


def test_csv_is_quoted(tmp_path):
    from modal_clip_dual.evaluation.results import RoundFile

    names = {"data": 'a,"b"\n=1+1', "estimator": "x;y\r", "loop": "'", "strategy": SCRIPT, "seed": 3}
    (tmp_path / "runs").mkdir()
    file = RoundFile(tmp_path / "runs" / "a.csv")
    for round_ in range(2):
        file.write({**names, "round": round_, "accuracy": 0.1})
    file.finish()
    frame = read_results(tmp_path)
    assert frame[list(names)].to_dict("records") == [names] * 2
