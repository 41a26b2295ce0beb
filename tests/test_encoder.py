"""Encoding images: open_clip's own preprocessing and tower, each image once."""

import json
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from joblib import parallel_config
from PIL import Image
from precision import of_products, of_tower
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from modal_clip_dual import CLIPImageEncoder
from modal_clip_dual.clip import embedding
from modal_clip_dual.clip.embedding import encode
from modal_clip_dual.data import reading
from modal_clip_dual.data.reading import uses_engine


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 255, (7, 20, 30, 3), dtype=np.uint8)


@pytest.fixture
def backbone(tiny):
    backbone = tiny("custom")
    backbone.embedding_cache.clear()
    return backbone


@pytest.fixture
def encoded(backbone, monkeypatch):
    """Numbers of images that the tower has seen, call by call."""
    sizes = []
    original = type(backbone).encode_images
    monkeypatch.setattr(
        type(backbone),
        "encode_images",
        lambda self, batch: sizes.append(len(batch)) or original(self, batch),
    )
    return sizes


def test_equals_open_clip(backbone, images):
    pixels = torch.stack([backbone.preprocess(Image.fromarray(image)) for image in images])
    with torch.no_grad():
        expected = F.normalize(backbone.model.encode_image(pixels), dim=-1)
    actual = encode(backbone, images, batch_size=3)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected.numpy(), atol=of_tower(64, 2), rtol=0)


def test_every_image_is_encoded_once(backbone, images, encoded):
    first = encode(backbone, images, batch_size=3)
    assert encoded == [3, 3, 1]
    order = np.array([4, 0, 4])
    np.testing.assert_array_equal(encode(backbone, images[order]), first[order])
    assert encoded == [3, 3, 1]


def test_equal_images_of_one_call_are_encoded_once(backbone, images, encoded):
    encode(backbone, np.concatenate([images, images]))
    assert encoded == [7]


def test_files_give_the_same_as_arrays(backbone, images, tmp_path):
    paths = np.array([str(tmp_path / f"{k}.png") for k in range(7)], dtype=object)
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    np.testing.assert_allclose(encode(backbone, paths), encode(backbone, images), atol=of_tower(64, 2), rtol=0)


def test_changed_file_is_encoded_again(backbone, images, tmp_path):
    path = str(tmp_path / "a.png")
    paths = np.array([path], dtype=object)
    Image.fromarray(images[0]).save(path)
    before = encode(backbone, paths)
    Image.fromarray(images[1][:10]).save(path)
    assert np.abs(encode(backbone, paths) - before).max() > 1e-3


def test_work_before_a_broken_file_is_kept(backbone, images, tmp_path, encoded):
    paths = np.array([str(tmp_path / f"{k}.png") for k in range(3)], dtype=object)
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    (tmp_path / "2.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"X\[2\]: cannot read"):
        encode(backbone, paths, batch_size=1)
    assert encoded == [1, 1]
    encode(backbone, paths[:2])
    assert encoded == [1, 1]


def test_full_cache_warns_and_stays_right(backbone, images, monkeypatch):
    expected = encode(backbone, images)
    backbone.embedding_cache.clear()
    monkeypatch.setattr(backbone.embedding_cache, "limit", 4 * 32 * 5)
    with pytest.warns(UserWarning, match="2 embeddings do not fit"):
        actual = encode(backbone, images, batch_size=3)
    np.testing.assert_allclose(actual, expected, atol=of_tower(64, 2), rtol=0)
    assert len(backbone.embedding_cache) == 5


@pytest.mark.parametrize(("verbose", "delay", "shown"), [(1, 0, True), (0, 0, False), (1, 3, False)])
def test_progress_bar(backbone, images, capsys, monkeypatch, verbose, delay, shown):
    monkeypatch.setattr(embedding, "BAR_DELAY", delay)
    encode(backbone, images, verbose=verbose)
    assert ("Encoding images" in capsys.readouterr().err) == shown


# -------------------------------------------------------------------- CLIPImageEncoder


@pytest.fixture
def paths(images, tmp_path):
    paths = [str(tmp_path / f"{k}.png") for k in range(len(images))]
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture
def make(checkpoints):
    """Function that makes a CLIPImageEncoder on the small model of `backbone`."""

    def make(**params):
        name = f"local-dir:{checkpoints['custom']}"
        return CLIPImageEncoder(name, None, **{"device": "cpu"} | params)

    return make


def test_encoder_forms_of_x(backbone, make, images, paths):
    expected = encode(backbone, images)
    encoder = make(batch_size=3)
    for X in (images, paths, np.array(paths), pd.DataFrame({"file": paths}), expected * 7):
        actual = encoder.transform(X)
        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected, atol=of_tower(64, 2), rtol=0)
        np.testing.assert_allclose(encoder.fit_transform(X), expected, atol=of_tower(64, 2), rtol=0)
    np.testing.assert_allclose(np.linalg.norm(actual, axis=1), 1, atol=of_products(32), rtol=0)


def test_encoder_is_stateless(make, images):
    encoder = make()
    before = dict(vars(encoder))
    check_is_fitted(encoder)  # needs no fit
    fitted = encoder.fit(images)
    assert fitted is encoder
    assert vars(encoder) == before
    assert clone(encoder).get_params() == encoder.get_params()
    assert len(pickle.dumps(encoder)) < 1000
    frame = make().set_output(transform="pandas").fit_transform(images)
    assert list(frame.columns) == [f"clipimageencoder{k}" for k in range(32)]


def test_encoder_batch_size(make, images, backbone, encoded):
    make(batch_size=2).transform(images)
    assert encoded == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"cache": 3}, "'cache' parameter"),
        ({"cache": "ram"}, "cache='ram'; expected 'memory', 'disk', None, or a folder.*'./ram'"),
        ({"cache": __file__}, "cache=.* is a file; expected"),
        ({"cache": "~/clip"}, f"cache='~/clip': ~ is the shell's; expected '{Path.home()}/clip'"),
        ({"cache": Path("~/clip")}, f"cache='~/clip': ~ is the shell's; expected '{Path.home()}/clip'"),
        ({"cache": ""}, "cache='' is empty; expected 'memory', 'disk', None or a folder"),
        ({"n_jobs": 0}, "n_jobs=0; expected 'auto'"),
        ({"n_jobs": "all"}, "'n_jobs' parameter"),
        ({"precision": "int8"}, "'precision' parameter"),
        ({"device": "tpu9"}, "device='tpu9' cannot be used"),
        ({"model_name": "ViT-B-99"}, "model_name='ViT-B-99' is not known"),
    ],
)
def test_encoder_refuses(make, images, encoded, params, message):
    for method in ("fit", "transform"):
        with pytest.raises(ValueError, match=message):
            getattr(make().set_params(**params), method)(images)
    assert encoded == []


def test_encoder_refuses_other_x(make, paths):
    with pytest.raises(ValueError, match="X has 3 features, but CLIPImageEncoder is expecting 32"):
        make().transform(np.ones((2, 3)))
    with pytest.raises(FileNotFoundError, match=r"X\[1\].*none\.png"):
        make().transform([paths[0], "none.png"])


@pytest.mark.parametrize("kind", ["images", "paths"])
def test_disk_cache_serves_the_next_process(make, images, paths, backbone, encoded, tmp_path, kind):
    X = images if kind == "images" else paths
    disk = {"cache": tmp_path / "cache"}
    first = make(**disk).transform(X)
    assert sum(encoded) == 7
    backbone.embedding_cache.clear()  # as in a new process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "read_image", None)  # reads no image
        np.testing.assert_array_equal(make(**disk).transform(X), first)
    assert sum(encoded) == 7
    make(cache=tmp_path / "other").transform(X)
    assert sum(encoded) == 7  # still in memory, and now on disk there too
    assert len(list((tmp_path / "other").glob("embeddings-*"))) == 1


def test_no_cache(make, images, encoded, backbone):
    for _ in range(2):
        make(cache=None).transform(images)
    assert sum(encoded) == 14
    assert len(backbone.embedding_cache) == 0


def test_cache_of_other_weights_precision_or_preprocessing_is_not_used(
    tmp_path, images, checkpoints, make
):
    from conftest import write_checkpoint

    folder = write_checkpoint(tmp_path / "model", "custom", seed=0)
    disk = {"cache": tmp_path / "cache", "device": "cpu"}

    def files():
        return len(list((tmp_path / "cache").glob("embeddings-*")))

    def encoder(**params):
        return CLIPImageEncoder(f"local-dir:{folder}", None, **disk, **params)

    first = encoder().transform(images)
    assert files() == 1
    np.testing.assert_array_equal(make(**disk).transform(images), first)
    assert files() == 1  # the same weights, preprocessing and tower, in another folder
    encoder(precision="bf16").transform(images)
    assert files() == 2
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.1] * 3
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert np.abs(encoder().transform(images) - first).max() > 1e-3
    assert files() == 3
    write_checkpoint(folder, "custom", seed=1)
    assert np.abs(encoder().transform(images) - first).max() > 1e-2
    assert files() == 4


def test_killed_process_leaves_a_cache_that_serves(make, paths, backbone, tmp_path):
    """Another process encodes to the same cache and is killed after its first batch."""
    code = f"""
import os, signal, sys
from modal_clip_dual import CLIPImageEncoder
from modal_clip_dual.clip.backbone import Backbone
original, calls = Backbone.encode_images, []
def encode(self, pixels):
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(1)
    return original(self, pixels)
Backbone.encode_images = encode
encoder = CLIPImageEncoder({backbone.model_name!r}, None, batch_size=2, device="cpu",
                           cache={str(tmp_path / "cache")!r})
encoder.transform({paths!r})
"""
    process = subprocess.run([sys.executable, "-c", code], timeout=120)
    assert process.returncode == -signal.SIGKILL
    expected = make(cache=None).transform(paths)
    with pytest.MonkeyPatch.context() as patch:
        sizes = []
        original = type(backbone).encode_images
        patch.setattr(
            type(backbone),
            "encode_images",
            lambda self, batch: sizes.append(len(batch)) or original(self, batch),
        )
        actual = make(cache=tmp_path / "cache").transform(paths)
    np.testing.assert_allclose(actual, expected, atol=of_tower(64, 2), rtol=0)
    assert 1 <= sum(sizes) <= 5  # at least the first batch of two was there


def test_pipeline_equals_the_classifier_on_images(classifier, digits, tmp_path):
    X, y = digits.images[:40], digits.target[:40]
    encoder = CLIPImageEncoder("demo", "bundled", device="cpu")
    pipeline = make_pipeline(encoder, classifier()).fit(X, y)
    expected = classifier().fit(X, y).predict_proba(digits.images)
    np.testing.assert_array_equal(pipeline.predict_proba(digits.images), expected)
    search = GridSearchCV(pipeline, {"dualpromptclassifier__lr": [0.01, 0.03]}, cv=2).fit(X, y)
    assert search.predict(X).shape == (40,)


# -------------------------------------------------------------------- engines


@pytest.fixture
def dask_client():
    from dask.distributed import Client, LocalCluster

    with (
        warnings.catch_warnings(),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_dask_workers_encode(make, backbone, images, paths, encoded, dask_client, tmp_path):
    """Chunks of paths are encoded in the engine's processes, by a CLIP of their own; a broken file has its row."""
    expected = encode(backbone, images)
    encoded.clear()
    disk = {"cache": tmp_path / "cache"}
    for X in (paths, images):
        backbone.embedding_cache.clear()
        with parallel_config(backend="dask"):
            assert uses_engine()
            actual = make(batch_size=1, **disk).transform(X)
        np.testing.assert_allclose(actual, expected, atol=of_tower(64, 2), rtol=0)
    assert encoded == []  # none in this process
    backbone.embedding_cache.clear()
    make(**disk).transform(paths)
    assert encoded == []
    (tmp_path / "bad.png").touch()
    with parallel_config(backend="dask"):
        with pytest.raises(ValueError, match=r"X\[5\]: cannot read .*bad\.png"):
            make(batch_size=1, cache=None).transform([*paths[:5], str(tmp_path / "bad.png")])
