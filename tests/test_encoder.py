"""Encoding images: open_clip's own preprocessing and tower, each image once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from modal_clip_dual import encoder
from modal_clip_dual.encoder import encode


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
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-6)


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
    np.testing.assert_allclose(encode(backbone, paths), encode(backbone, images), atol=1e-6)


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
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert len(backbone.embedding_cache) == 5


@pytest.mark.parametrize(("verbose", "delay", "shown"), [(1, 0, True), (0, 0, False), (1, 3, False)])
def test_progress_bar(backbone, images, capsys, monkeypatch, verbose, delay, shown):
    monkeypatch.setattr(encoder, "BAR_DELAY", delay)
    encode(backbone, images, verbose=verbose)
    assert ("Encoding images" in capsys.readouterr().err) == shown
