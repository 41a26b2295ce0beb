"""Our preprocessing against open_clip's own transforms, pixel by pixel."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision import transforms as T

from modal_clip_dual.data.preprocessing import (
    OpenClipPreprocessing,
    Preprocessing,
    preprocessing_of,
)

SIZES = [(1, 1), (1, 50), (50, 1), (224, 224), (500, 333), (333, 500), (37, 900), (31, 33), (640, 480)]


def image_of(size):
    rng = np.random.default_rng(size[0])
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def reference(cfg):
    return image_transform_v2(PreprocessCfg(**cfg), is_train=False)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, 224, (24, 40)])
def test_equals_open_clip(size, resize_mode, interpolation):
    cfg = {"size": size, "resize_mode": resize_mode, "interpolation": interpolation}
    transform = reference(cfg | {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)})
    ours = preprocessing_of(transform)
    recognised = resize_mode == "squash" or (resize_mode == "shortest" and size != (24, 40))
    assert type(ours) is (Preprocessing if recognised else OpenClipPreprocessing)
    assert ours.size == (size if isinstance(size, tuple) else (size, size))
    before = T.Compose(transform.transforms[:-2])
    # open_clip itself cannot shrink the longer side of these: the shorter becomes 0 pixels
    too_thin = [(1, 50), (50, 1)] if resize_mode == "longest" else []
    for image in map(image_of, [shape for shape in SIZES if shape not in too_thin]):
        pixels = ours(image)
        assert pixels.dtype == np.uint8
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        np.testing.assert_array_equal(pixels, np.asarray(before(image)))
        values = (pixels / 255 - ours.mean) / ours.std
        np.testing.assert_allclose(values.transpose(2, 0, 1), transform(image).numpy(), atol=1e-6)


def test_fingerprint_is_that_of_the_settings():
    settings = [
        {},
        {"size": 32},
        {"resize_mode": "squash"},
        {"resize_mode": "longest"},
        {"resize_mode": "longest", "fill_color": 9},
        {"interpolation": "bilinear"},
        {"mean": (0.5,) * 3},
        {"std": (0.5,) * 3},
    ]
    prints = [preprocessing_of(reference(cfg)).fingerprint for cfg in settings]
    assert len(set(prints)) == len(prints)
    assert prints == [preprocessing_of(reference(cfg)).fingerprint for cfg in settings]
    assert not any(" at 0x" in text for text in prints)


def test_unknown_transforms_are_refused():
    for transform in (T.Compose([T.Resize(8), T.ToTensor()]), lambda image: image):
        with pytest.raises(ValueError, match="is not understood; expected .*Normalize"):
            preprocessing_of(transform)


def test_backbone_takes_pixels_or_finished_tensors(demo):
    image = image_of((50, 40))
    expected = demo.preprocess(image)[None]
    pixels = torch.from_numpy(demo.preprocessing(image))[None]
    torch.testing.assert_close(demo.to_input(pixels), expected, atol=1e-6, rtol=0)
    assert torch.equal(demo.to_input(expected), expected)


def test_worker_needs_no_torch(tmp_path):
    """What a worker unpickles and runs imports neither torch nor scikit-learn."""
    from modal_clip_dual.data.reading import read_chunk

    image_of((50, 40)).save(tmp_path / "a.png")
    paths = np.array([str(tmp_path / "a.png")], dtype=object)
    task = read_chunk, (paths, np.arange(1), preprocessing_of(reference({"size": 32})))
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    code = (
        "import pickle, sys; task, arguments = pickle.load(open(sys.argv[1], 'rb')); "
        "print(task(*arguments)[0][0].shape, {'torch', 'sklearn', 'open_clip'} & set(sys.modules))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "task")], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "(32, 32, 3) set()"
