"""Numbers of images that do not fill their type: what is warned of, and advice that can be followed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib import parallel_config
from PIL import Image

from modal_clip_dual.data.images import as_array, read_image


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-2.0, 2.0, np.float32),
        (0.0, 1.0, np.float64),
        (0, 1023, np.uint16),
        (0, 4095, np.uint16),
        (0, 65535, np.int64),
        (0, 255, np.int64),
        (0, 15, np.int32),
        (0.0, 16.0, np.float32),
        (0.0, 1.0 + 1e-6, np.float64),
        (0, 1, bool),
        (-1000, 3000, np.int16),
        (0.0, 255.0, float),
    ],
)
@pytest.mark.parametrize("form", ["array", "tensor", "channels first", "list of arrays"])
def test_advice_for_other_ranges_can_be_followed(low, high, dtype, form):
    """What the message says, run as it is, gives the image that a linear map to 0 to 255 gives."""
    values = np.linspace(low, high, 2 * 8 * 8).reshape(2, 8, 8).astype(dtype)
    expected = 255 * (values.astype(float) - low) / (high - low)
    X = values
    if form != "array":
        X = torch.from_numpy(values if dtype is not np.uint16 else values.astype(np.int32))
    if form == "channels first":
        X, expected = X[:, None].expand(2, 3, 8, 8), np.repeat(expected[..., None], 3, axis=3)
    if form == "list of arrays":
        X = list(values)
        if np.dtype(dtype).kind == "i" and low >= 0 and high <= 255:  # modAL makes such lists; they are taken
            return
    with pytest.raises(ValueError, match="expected uint8 from 0 to 255") as caught:
        as_array(X)
    advice = re.split("example |range: ", str(caught.value))[-1]
    followed = eval(advice, {"X": X, "numpy": np})
    np.testing.assert_allclose(followed, expected, atol=1)
    assert followed.dtype == np.uint8 and followed.shape == expected.shape


def test_advice_is_one_factor_for_all_images():
    """Of 12 bits in 16 white is 4095, whatever the largest number of these images."""
    with pytest.raises(ValueError, match=r"\(X / 4095 \* 255\)"):
        as_array(np.full((2, 8, 8), 3000, dtype=np.uint16))
    with pytest.raises(ValueError, match=r"\(X / X.max\(\) \* 255\)"):
        as_array(np.full((2, 8, 8), 300, dtype=np.uint16))


def test_range_of_pil_images(tmp_path):
    """As of files: 8 bits in 32 are black, and warned of; of floats nothing is known, so they are refused."""
    values = np.arange(64, dtype=np.int32).reshape(8, 8)
    with pytest.warns(UserWarning, match=r"2 images of X have 16 bits .* 8-bit data.*values.astype\('uint8'\)"):
        as_array([Image.fromarray(values), Image.fromarray(values + 100)])
    with pytest.warns(UserWarning, match=r"2 images of X have 16 bits .* 12-bit data.*values / 4095"):
        as_array([Image.fromarray((values * 64).astype(np.uint16)), Image.fromarray(values.astype(np.uint16))])
    image = Image.fromarray((values / 63).astype(np.float32))
    image.save(tmp_path / "a.tif")
    advice = r"mode 'F' with values from 0 to 1; expected 8 or 16 bits, for example \(255 \* values\).round\(\)"
    with pytest.raises(ValueError, match=rf"X\[1\]: a PIL image that cannot be converted: {advice}"):
        as_array([Image.fromarray(values.astype(np.uint8)), image])
    with pytest.raises(ValueError, match=advice):
        read_image(as_array([tmp_path / "a.tif"]), 0)


@pytest.mark.parametrize(("bits", "mode"), [(8, "L"), (10, "L"), (12, "L"), (12, "RGB")])
def test_sixteen_bits_that_are_not_filled_are_warned_of(tmp_path, bits, mode):
    from modal_clip_dual.data import reading

    paths = np.empty(3, dtype=object)
    for k in range(3):
        values = np.full((8, 8), 2**bits - 1 - k, dtype=np.uint16)
        if mode == "L":
            paths[k] = str(tmp_path / f"{k}.tif")
            Image.fromarray(values).save(paths[k])
        else:
            paths[k] = str(tmp_path / f"{k}.png")
            write_png16(paths[k], values)
    source = reading.ImageSource(paths, lambda image: np.asarray(image))
    source.preprocessing.__dict__["fingerprint"] = "plain"
    with pytest.warns(UserWarning, match=f"3 files have 16 bits .* {bits}-bit data"):
        list(source.read([np.arange(2), np.arange(2, 3)]))


def write_png16(path, values):
    """A PNG of 16 bits per channel of color, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_sixteen_bits_that_are_filled_are_no_warning(tmp_path):
    from modal_clip_dual.data import reading

    for k, high in enumerate((100, 65535)):  # a dark one among others is just dark
        Image.fromarray(np.full((8, 8), high, dtype=np.uint16)).save(tmp_path / f"{k}.tif")
    paths = np.array([str(tmp_path / "0.tif"), str(tmp_path / "1.tif")], dtype=object)
    source = reading.ImageSource(paths, lambda image: np.asarray(image))
    source.preprocessing.__dict__["fingerprint"] = "plain"
    assert len(list(source.read([np.arange(2)]))) == 1


@pytest.mark.parametrize("high", [1, 16])
def test_black_arrays_are_warned_of(high):
    X = np.zeros((20, 8, 8), dtype=np.uint8)
    with pytest.warns(UserWarning, match="all 20 images of X are black: every value is 0"):
        as_array(X)
    assert as_array(X[:5]).max() == 0
    X[19, 3, 3] = high
    with pytest.warns(UserWarning, match=f"values up to {high} only"):
        as_array(X)
    X[19, 3, 3] = 200
    assert as_array(X) is X


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_black_files_are_warned_of(tmp_path, n_jobs):
    """Masks and maps of classes, saved as they are; 1-bit files and palettes have colors."""
    from modal_clip_dual.data import reading

    def read(name, image_of):
        paths = np.array([str(tmp_path / f"{name}{k}.png") for k in range(40)], dtype=object)
        for k, path in enumerate(paths):
            image_of(k).save(path)
        source = reading.ImageSource(paths, lambda image: np.asarray(image), n_jobs=n_jobs)
        with parallel_config("threading"):
            return torch.cat(list(source.read([np.arange(25), np.arange(25, 40)])))

    mask = np.eye(8, dtype=np.uint8)
    with pytest.warns(UserWarning, match="no pixel of 40 files is above 1 of 255: they are black to CLIP"):
        read("mask", lambda k: Image.fromarray(mask))
    assert read("bits", lambda k: Image.fromarray(mask > 0)).max() == 255
    palette = Image.fromarray(mask)
    palette.putpalette([0, 0, 0, 200, 90, 90])
    assert read("palette", lambda k: palette).max() == 200
    assert read("night", lambda k: Image.fromarray(mask * (1 if k else 200))).max() == 200
    assert read("black", lambda k: Image.fromarray(mask * 0)).max() == 0
