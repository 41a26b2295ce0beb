"""What X may be, and reading it."""

import gc
import io
import os
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from modal_clip_dual.data.images import UnreadableImagesError, as_array, check_files, image_key, kind_of, read_image


@pytest.mark.parametrize(
    ("X", "kind", "shape"),
    [
        (np.zeros((4, 8)), "embeddings", (4, 8)),
        (np.zeros((4, 8), dtype=np.int64), "embeddings", (4, 8)),
        ([[1.0, 2.0], [3.0, 4.0]], "embeddings", (2, 2)),
        (pd.DataFrame(np.zeros((4, 8))), "embeddings", (4, 8)),
        (torch.zeros(4, 8, requires_grad=True), "embeddings", (4, 8)),
        (np.zeros((4, 6, 5), dtype=np.uint8), "images", (4, 6, 5)),
        (np.zeros((4, 6, 5, 3), dtype=np.uint8), "images", (4, 6, 5, 3)),
        (np.zeros((4, 6, 5, 1), dtype=np.uint8), "images", (4, 6, 5, 1)),
        (torch.zeros(4, 6, 5, dtype=torch.uint8), "images", (4, 6, 5)),
        (["a.png", "b.png"], "paths", (2,)),
        (np.array(["a.png", "b.png"]), "paths", (2,)),
        (np.array(["a.png", "b.png"], dtype=object), "paths", (2,)),
        (np.array([["a.png"], ["b.png"]]), "paths", (2,)),
        (pd.DataFrame({"path": ["a.png", "b.png"]}), "paths", (2,)),
        (pd.Series(["a.png", "b.png"]), "paths", (2,)),
        (pd.Series([[0.5, 1.5], [2.5, 3.5], [4.5, 5.5]], index=[7, 8, 9]), "embeddings", (3, 2)),
        (pd.Series(list(np.zeros((3, 2), dtype=np.float32))), "embeddings", (3, 2)),
        (pd.DataFrame({"embedding": [(0.5, 1.5), (2.5, 3.5)]}), "embeddings", (2, 2)),
        (pd.Series(list(np.zeros((3, 6, 5), dtype=np.uint8))), "images", (3, 6, 5)),
        (pd.DataFrame({"number": [0.5, 1.5]}), "embeddings", (2, 1)),
        (pd.DataFrame({"number": np.array([0.5, 1.5], dtype=object)}), "embeddings", (2, 1)),
        (pd.Series(["a.png", "b.png"], dtype="string"), "paths", (2,)),
    ],
)
def test_kinds(X, kind, shape):
    array = as_array(X)
    assert kind_of(array) == kind
    assert array.shape == shape


def test_path_objects(tmp_path):
    array = as_array([tmp_path / "a.png", "b.png"])
    assert array.tolist() == [str(tmp_path / "a.png"), "b.png"]
    assert type(as_array(np.array(["a.png"]))[0]) is str


def test_nothing_is_copied():
    for X in (np.zeros((4, 8), dtype=np.float32), np.zeros((4, 6, 5), dtype=np.uint8)):
        assert as_array(X) is X


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((0, 8, 8), dtype=np.uint8), ValueError, r"X is empty.*0 sample\(s\)"),
        (np.zeros(5), ValueError, r"shape \(5,\).*expected image embeddings"),
        (np.zeros((2, 3, 4, 5, 6)), ValueError, r"shape \(2, 3, 4, 5, 6\)"),
        (np.full((2, 8, 8), 0.5), ValueError, r"dtype float64 with values from 0.5 to 0.5.*uint8"),
        (np.zeros((2, 3, 8, 8), dtype=np.uint8), ValueError, r"looks like channels first"),
        (np.zeros((2, 8, 8, 2), dtype=np.uint8), ValueError, r"channels last$"),
        (np.zeros((2, 0, 8), dtype=np.uint8), ValueError, r"no pixels"),
        (["a.png", 3], TypeError, r"X\[1\] is 3 \(int\); expected a file path"),
        (np.array([None, None]), ValueError, r"shape \(2,\) and dtype object"),
        (pd.Series([[0.5, 1.5], [2.5]]), ValueError, r"X\[1\] has the shape \(1,\), X\[0\] the shape \(2,\)"),
        (pd.DataFrame({"e": [[0.5, 1.5], None]}), ValueError, r"X\[1\] is None, X\[0\] the shape \(2,\); expected"),
        (torch.zeros(5), ValueError, r"shape \(5,\).*expected image embeddings"),
        (np.zeros((2, 2), dtype=complex), ValueError, r"Complex data not supported"),
    ],
)
def test_refused(X, error, message):
    with pytest.raises(error, match=message):
        as_array(X)


def test_sparse_is_refused():
    from scipy.sparse import csr_matrix

    with pytest.raises(TypeError, match="X is a sparse matrix"):
        as_array(csr_matrix((3, 3)))


def test_name_of_the_argument_is_in_the_message():
    with pytest.raises(ValueError, match="X_pool has shape"):
        as_array(np.zeros(3), name="X_pool")


def test_missing_file_is_named_with_its_row(tmp_path):
    present = tmp_path / "a.png"
    present.touch()
    paths = as_array([str(present), str(tmp_path / "b.png"), str(tmp_path / "c.png")])
    with pytest.raises(FileNotFoundError, match=r"X\[1\].*b\.png.*2 of 3 are missing"):
        check_files(paths)
    with pytest.raises(FileNotFoundError, match=r"X\[0\]"):
        check_files(as_array([str(tmp_path)]))  # a folder is no file


def read(path):
    return read_image(as_array([str(path)]), 0)


def refused(path, why=""):
    with pytest.raises(ValueError, match=rf"X\[0\]: cannot read .*{path.name}.*{why}"):
        read(path)


@pytest.fixture
def colour():
    """An RGB image that survives 8-bit formats without loss."""
    return np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\nbroken"])
@pytest.mark.parametrize("name", ["bad.png", "bad.jpg"])
def test_unreadable_file_is_named_with_its_row(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "expected one of PNG, JPEG")


def test_row_of_a_part_is_called_by_its_number(tmp_path):
    (tmp_path / "bad.png").touch()
    with pytest.raises(ValueError, match=r"X_pool\[7\]: cannot read"):
        read_image(as_array([str(tmp_path / "bad.png")]), 0, name="X_pool", number=7)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.webp", "cut.gif", "cut.tiff", "cut.bmp"])
def test_truncated_file_is_refused(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.tiff", "a.ppm"])
def test_lossless_formats(tmp_path, colour, name):
    Image.fromarray(colour).save(tmp_path / name, **({"lossless": True} if "webp" in name else {}))
    np.testing.assert_array_equal(np.asarray(read(tmp_path / name)), colour)


def test_grey_modes(tmp_path, colour):
    grey = colour[..., 0]
    three = np.repeat(grey[..., None], 3, axis=2)
    alpha = Image.fromarray(np.full_like(grey, 255))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.merge("LA", [Image.fromarray(grey), alpha]).save(tmp_path / "alpha.png")
    for name in ("grey.png", "alpha.png"):
        np.testing.assert_array_equal(np.asarray(read(tmp_path / name)), three)
    Image.fromarray(grey > 127).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "bit.png")), (three > 127) * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_images_lie_on_black(tmp_path, colour, mode):
    """What nobody can see decides nothing: files that look alike are the same image, as PIL images too."""
    alpha = np.zeros(colour.shape[:2], dtype=np.uint8)
    alpha[:8], alpha[8:16] = 255, 51
    image = Image.fromarray(colour).convert(mode[:-1])
    image.putalpha(Image.fromarray(alpha))
    hidden = np.asarray(image).copy()
    hidden[alpha == 0, :-1] = 255 - hidden[alpha == 0, :-1]
    seen = np.asarray(image.convert("RGBA"))[..., :3] * (alpha / 255)[..., None]
    for name, one in (("a.png", image), ("b.webp", image), ("c.png", Image.fromarray(hidden))):
        one.save(tmp_path / name, **({"lossless": True} if "webp" in name else {}))
        for found in (read(tmp_path / name), as_array([Image.open(tmp_path / name)])[0]):
            np.testing.assert_allclose(np.asarray(found), seen, atol=1)
            assert not np.asarray(found)[16:].any()


def test_transparent_images_are_close_to_those_of_open_clip(tmp_path):
    """It resizes with transparency, where Pillow makes what is transparent black, and drops it afterward."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision import transforms as T

    from modal_clip_dual.data.preprocessing import preprocessing_of

    transform = image_transform_v2(PreprocessCfg(size=128), is_train=False)
    y, x = np.mgrid[:200, :240]
    disc = (y - 100) ** 2 + (x - 120) ** 2 < 80**2
    pixels = np.stack([x, y, 255 - y, 255 * disc], axis=2).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    pixels[~disc, :3] = noise[~disc, :3]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    theirs = np.asarray(T.Compose(transform.transforms[:-2])(Image.open(tmp_path / "a.png")), dtype=float)
    ours = preprocessing_of(transform)(read(tmp_path / "a.png"))
    difference = np.abs(ours - theirs).max(axis=2)
    assert (difference > 2).mean() < 0.04  # the edge of the disc, which is darker here
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("transparency", [{}, {"transparency": 0}, {"transparency": bytes([0, 9, 255])}])
def test_palette(tmp_path, transparency):
    index = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    palette = [[200, 10, 0], [0, 100, 30], [5, 6, 250]]
    image = Image.fromarray(index)
    image.putpalette(sum(palette, []))
    image.save(tmp_path / "p.png", **transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = np.asarray(read(tmp_path / "p.png"))
    alpha = transparency.get("transparency", bytes([255] * 3)) or bytes([0, 255, 255])
    seen = np.array(palette) * np.array(list(alpha))[:, None] / 255
    np.testing.assert_allclose(found, seen[index], atol=1)


def test_cmyk(tmp_path):
    ink = np.zeros((16, 16, 4), dtype=np.uint8)
    ink[:8, :, 0] = 255  # cyan above, black ink of half strength below
    ink[8:, :, 3] = 128
    Image.fromarray(ink, mode="CMYK").save(tmp_path / "ink.jpg", quality=100)
    pixels = np.asarray(read(tmp_path / "ink.jpg")).astype(int)
    assert np.abs(pixels[:8] - [0, 255, 255]).max() <= 3
    assert np.abs(pixels[8:] - 127).max() <= 3


def test_sixteen_bit_colour(tmp_path, colour):
    """A PNG written by hand, since Pillow writes none: the high byte of each value is kept."""
    import struct
    import zlib

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    deep = (colour.astype(">u2") << 8).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", 20, 24, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*p) for p in parts))
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "deep.png")), colour)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tiff"])
def test_first_picture_of_an_animation(tmp_path, name):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    lossless = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **lossless)
    np.testing.assert_array_equal(np.asarray(read(tmp_path / name)), np.asarray(frames[0]))


def test_tiny(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert np.asarray(read(tmp_path / "dot.png")).tolist() == [[[1, 2, 3]]]


def test_huge_is_refused(tmp_path):
    """A bomb: a small file whose header claims 2.5 billion pixels."""
    import struct

    Image.new("L", (8, 8)).save(tmp_path / "bomb.bmp")
    content = bytearray((tmp_path / "bomb.bmp").read_bytes())
    content[18:26] = struct.pack("<ii", 50_000, 50_000)
    (tmp_path / "bomb.bmp").write_bytes(content)
    refused(tmp_path / "bomb.bmp", "exceeds limit")


def test_too_elongated_is_refused(tmp_path):
    Image.new("L", (2002, 2)).save(tmp_path / "line.png")
    refused(tmp_path / "line.png", "2002 x 2 pixels: too elongated")
    Image.new("L", (2000, 2)).save(tmp_path / "line.png")
    assert read(tmp_path / "line.png").size == (2000, 2)
    with pytest.raises(ValueError, match=r"X has shape \(1, 2, 2001\).*too elongated"):
        as_array(np.zeros((1, 2, 2001), dtype=np.uint8))


@pytest.mark.parametrize("name", ["a.eps", "a.ico", "a.pdf"])
def test_other_formats_are_refused(tmp_path, name):
    Image.new("RGB", (16, 16)).save(tmp_path / name)
    refused(tmp_path / name, "expected one of PNG, JPEG")


def test_files_are_closed(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif", save_all=True)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ResourceWarning of a file that is left open
        read(tmp_path / "a.gif")
        refused(tmp_path / "b.png")
        gc.collect()


def test_grey_colour_and_files_agree(tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (2, 6, 5), dtype=np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=3)
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for path, pixels in zip(paths, grey):
        Image.fromarray(pixels).save(path)
    for form in (grey, grey[..., None], colour, grey[:, ::1], [str(p) for p in paths]):
        image = read_image(as_array(form), 1)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), colour[1])


def test_exif_rotation_is_applied(tmp_path):
    image = Image.fromarray(np.zeros((6, 4, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read(tmp_path / "turned.jpg").size == (6, 4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage" * 3, b"Exif\0\0MM\0*\xff\xff\xff\xff"])
def test_broken_exif_does_not_matter(tmp_path, exif):
    Image.new("RGB", (6, 4)).save(tmp_path / "odd.jpg", exif=exif)
    assert read(tmp_path / "odd.jpg").size == (6, 4)


def test_key_is_the_identity_of_an_image(tmp_path, monkeypatch):
    images = np.zeros((3, 4, 4), dtype=np.uint8)
    images[2] = 1
    assert image_key(images, 0) == image_key(images, 1) != image_key(images, 2)
    assert image_key(images, 0) != image_key(images.reshape(3, 2, 8), 0)
    strided = np.zeros((3, 8, 4), dtype=np.uint8)[:, ::2]
    assert image_key(strided, 0) == image_key(images, 0)
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    paths = as_array([str(path)])
    key = image_key(paths, 0)
    monkeypatch.chdir(tmp_path)
    for same in ("a.png", os.path.join("..", tmp_path.name, "a.png")):
        assert image_key(as_array([same]), 0) == key
    (tmp_path / "b.png").write_bytes(b"1")
    assert image_key(as_array(["b.png"]), 0) == key  # the same bytes, wherever they lie
    path.write_bytes(b"12")
    assert image_key(paths, 0) != key


def test_list_of_images_without_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array = as_array([np.zeros((4, 4), dtype=np.uint8)] * 3)
    assert kind_of(array) == "images"


@pytest.mark.parametrize("shape", [(20, 20), (16, 24)])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, shape):
    values = np.linspace(0, 65535, shape[0] * shape[1]).reshape(shape).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    pixels = np.asarray(read_image(as_array([str(tmp_path / "deep.png")]), 0))
    np.testing.assert_allclose(pixels[..., 0], values / 257, atol=1)


def test_floating_point_image_is_refused_with_its_name(tmp_path):
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r"cannot read .*float\.tiff.*mode 'F'"):
        read_image(as_array([str(tmp_path / "float.tiff")]), 0)


def test_lists_of_integer_images_as_modal_makes_them():
    images = np.random.default_rng(0).integers(0, 255, (3, 4, 4), dtype=np.uint8)
    np.testing.assert_array_equal(as_array(images.tolist()), images)
    assert as_array(images.tolist()).dtype == np.uint8
    with pytest.raises(ValueError, match="expected uint8"):
        as_array((images.astype(int) * 2).tolist())


def test_low_precision_tensor():
    assert as_array(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == np.float32


# ---------------------------------------------------------------- forms of X that NumPy would misread


class Endless:
    """Asked for items by NumPy, it would give them for ever."""

    def __getitem__(self, k):
        raise AssertionError("an item was asked for")


class SizedEndless(Endless):
    def __len__(self):
        return 3


def test_data_sets_loaders_and_iterators_are_refused_without_asking_for_items():
    from torch.utils.data import DataLoader, Dataset, TensorDataset

    class Photos(Dataset, SizedEndless):
        pass

    tensors = TensorDataset(torch.rand(5, 128))
    for X in (Endless(), SizedEndless(), Photos(), tensors, DataLoader(tensors), iter([1]), (k for k in "ab")):
        with pytest.raises(TypeError, match=rf"X is a .*({type(X).__name__}|Dataset).*expected image embeddings"):
            as_array(X)


def test_sequences_that_know_their_length_are_read(tmp_path):
    from collections import UserList, deque

    rows = [[0.0, 1.0], [2.0, 3.0]]
    for X in (UserList(rows), deque(rows)):
        np.testing.assert_array_equal(as_array(X), rows)


@pytest.mark.parametrize("channels", [3, 4])
def test_single_color_image_is_refused(channels):
    image = np.zeros((40, 60, channels), dtype=np.uint8) + 99
    with pytest.raises(ValueError, match=r"looks like one color image \(H, W"):
        as_array(image)
    assert kind_of(as_array(image[None])) == "images"
    with pytest.raises(ValueError, match="channels first"):
        as_array(torch.from_numpy(image[..., :3]).permute(2, 0, 1))
    with pytest.raises(TypeError, match="X is one PIL image"):
        as_array(Image.fromarray(image))


MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "HSV", "YCbCr", "LAB")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [[(6, 4), (6, 4)], [(6, 4), (5, 9)]])
def test_pil_images_are_converted_by_mode(mode, sizes):
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
        for width, height in sizes
    ]
    table = np.empty(2, dtype=object)
    table[:] = images
    for X in (images, tuple(images), table, table[:, None]):
        array = as_array(X)
        assert kind_of(array) == "images"
        for row, image in enumerate(images):
            np.testing.assert_array_equal(read_image(array, row), image.convert("RGB"))
            assert image_key(array, row) == image_key(np.asarray(image.convert("RGB"))[None], 0)


def test_pil_image_of_sixteen_bits_is_scaled():
    values = np.array([[0, 257], [257 * 128, 65535]], dtype=np.uint16)
    array = as_array([Image.fromarray(values)])
    np.testing.assert_array_equal(array[0, ..., 0], [[0, 1], [128, 255]])


def test_pil_images_among_others_are_refused():
    image = Image.new("RGB", (4, 4), "white")
    with pytest.raises(TypeError, match=r"X\[1\] is 'a.png' \(str\); expected a PIL image"):
        as_array([image, "a.png"])


def pictures_of(kind, tmp_path):
    """A PIL image that looks like any other until its pixels are asked for."""
    if kind == "empty":
        return Image.new("RGB", (0, 4))
    path = tmp_path / f"{kind}.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    if kind == "broken":
        return Image.open(io.BytesIO(path.read_bytes()[:900]))
    image = Image.open(path)
    if kind == "closed":
        image.close()
    return image


@pytest.mark.parametrize("kind", ["broken", "closed", "empty"])
@pytest.mark.parametrize("form", [list, tuple, pd.Series])
def test_pil_images_that_cannot_be_read_are_named(tmp_path, kind, form):
    good = Image.new("RGB", (40, 40), "white")
    with pytest.raises(UnreadableImagesError, match=r"^X\[1\]: a PIL image that cannot be converted: ") as info:
        as_array(form([good, pictures_of(kind, tmp_path), good]))
    assert info.value.rows.tolist() == [1] and not info.value.paths
    bad = pictures_of(kind, tmp_path)
    both = r"^2 of 3 images cannot be converted: y\[0\]: a PIL .*; y\[2\]: a PIL .*\. All rows: 0, 2$"
    with pytest.raises(UnreadableImagesError, match=both) as info:
        as_array(form([bad, good, bad]), "y")
    assert info.value.rows.tolist() == [0, 2]


def test_tables_of_paths_and_labels():
    """A list of files often comes with its labels beside."""
    table = pd.DataFrame({"file": ["a/0.png", "a/1.png"], "label": ["cat", "dog"]})
    expected = r"X has 2 columns, and text in column 0 \('a/0.png'\); expected one column of file paths, as {} may be"
    for X, one in (
        (table, r"X\['file'\]"),
        (table.to_numpy(), r"X\[:, 0\]"),
        (table.to_numpy().astype(str), r"X\[:, 0\]"),
        (table.to_numpy().tolist(), r"\[row\[0\] for row in X\]"),
    ):
        with pytest.raises(ValueError, match=expected.format(one)):
            as_array(X)
    with pytest.raises(ValueError, match=r"text in column 1 \('a/0.png'\).* X\['file'\]"):
        as_array(pd.DataFrame({"label": [1, 2], "file": ["a/0.png", "a/1.png"]}))
    numbers = np.array([["1", "2.5"]], dtype=object)
    assert as_array(numbers) is numbers  # scikit-learn takes these


# ---------------------------------------------------------------- the file system is asked once


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"X\[0\]: .*'a' \(4 of 4 are missing; X\[1\]: 'b', X\[2\]: 'c'\)"):
        check_files(as_array(list("abcd")))


def test_missing_files_and_what_was_meant(tmp_path, monkeypatch):
    """One character beside the file that is there; a link that leads nowhere; a pipe; bytes."""
    cat = str(tmp_path / "a cat.png")
    Image.new("L", (4, 4)).save(cat)
    monkeypatch.setenv("HOME", str(tmp_path))
    os.symlink(tmp_path / "gone.png", tmp_path / "link.png")
    os.mkfifo(tmp_path / "pipe.png")
    for wrong in (f"{cat}\n", f" {cat}", f'"{cat}"', cat.replace("/", "\\"), "~/a cat.png"):
        with pytest.raises(FileNotFoundError) as caught:
            check_files(as_array([wrong]))
        assert str(caught.value) == f"X[0]: there is no file {wrong!r}; {cat!r} is one"
    with pytest.raises(FileNotFoundError, match=r"link.png' is a link to '.*gone.png', which is not there$"):
        check_files(as_array([tmp_path / "link.png"]))
    with pytest.raises(FileNotFoundError, match=r"pipe.png' is no regular file"):
        check_files(as_array([tmp_path / "pipe.png"]))
    with pytest.raises(FileNotFoundError, match=r"there is no file 'C:.*cat.png'$"):
        check_files(as_array(["C:\\Users\\me\\cat.png"]))
    for wrong in ([os.fsencode(cat)], np.array([os.fsencode(cat)]), pd.Series([b"\x89PNG"])):
        with pytest.raises(TypeError, match=r"^X holds bytes; expected .*os.fsdecode\(path\).*PIL.Image.open"):
            as_array(wrong)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty .0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 60515\n", "it is a pointer of Git LFS"),
        (b"\n<!doctype html><title>404</title>", "it is a web page"),
        ("für später".encode() * 99, "it is text that begins with 'für später"),
        (bytes(50), "expected one of PNG, JPEG"),
    ],
)
def test_what_stands_where_an_image_should(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"X\[0\]: cannot read '.*a.png' as an image .*{message}"):
        read_image(as_array([tmp_path / "a.png"]), 0)
