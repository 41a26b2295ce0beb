"""Augmentation: torchvision's crops, and decided by the seed alone."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from modal_clip_dual.data.augmentation import AUGMENTATIONS, RandomResizedCrop, augmented
from modal_clip_dual.data.preprocessing import Preprocessing

PREPROCESSING = Preprocessing((32, 32), False, int(Image.Resampling.BICUBIC), (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["auto", "coop"])
@pytest.mark.parametrize("size", [(90, 60), (400, 30), (30, 400), (1, 1), (1, 9)])
def test_crops_are_distributed_as_torchvisions(size, kind):
    """Quantiles of area, aspect and position of 3,000 boxes each."""
    rng = np.random.default_rng(0)
    scale = {"auto": (0.8, 1.0), "coop": (0.08, 1.0)}[kind]
    augment = RandomResizedCrop((32, 32), **AUGMENTATIONS[kind])
    ours = np.array([augment.box(size, rng) for _ in range(3000)])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = []
        for _ in range(3000):
            blank = torch.empty(3, *size[::-1])
            top, left, h, w = T.RandomResizedCrop.get_params(blank, scale, (3 / 4, 4 / 3))
            theirs.append((left, top, left + w, top + h))
    theirs = np.array(theirs)
    assert ours.min() >= 0
    assert (ours[:, 2:] <= size).all()
    assert (ours[:, 2:] > ours[:, :2]).all()
    for a, b in zip(ours.T, theirs.T):
        quantiles = np.linspace(0.1, 0.9, 9)
        difference = np.quantile(a, quantiles) - np.quantile(b, quantiles)
        assert np.abs(difference).max() <= 0.06 * max(size) + 1


def test_crop_and_flip(image):
    augment = RandomResizedCrop((32, 24), **AUGMENTATIONS["coop"])
    results = [augment(image, np.random.default_rng(seed)) for seed in range(40)]
    assert {result.size for result in results} == {(24, 32)}
    rng = np.random.default_rng(3)
    expected = T.functional.resize(
        image.crop(augment.box(image.size, rng)), (32, 24), T.InterpolationMode.BICUBIC
    )
    expected = T.functional.hflip(expected) if rng.random() < 0.5 else expected
    np.testing.assert_array_equal(np.asarray(results[3]), np.asarray(expected))
    # A symmetric image shows by itself nothing of a flip; this one is dark on the left.
    ramp = Image.fromarray(np.tile(np.arange(90, dtype=np.uint8), (60, 1))).convert("RGB")
    mild = RandomResizedCrop((32, 24), **AUGMENTATIONS["auto"])
    flipped = []
    for seed in range(200):
        results = [np.asarray(change(ramp, np.random.default_rng(seed))).astype(int) for change in (augment, mild)]
        flipped.append([result[:, 0].mean() > result[:, -1].mean() for result in results])
    assert 0.4 < np.mean(flipped, axis=0)[0] < 0.6
    assert not np.any(flipped, axis=0)[1]


@pytest.mark.parametrize(
    "augment",
    [
        T.RandomRotation(90),
        lambda image: image.rotate(random.uniform(0, 90)),
        lambda image: image.rotate(np.random.uniform(0, 90)),
        RandomResizedCrop((32, 32)),
    ],
)
def test_seed_decides_and_global_generators_are_as_before(image, augment):
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.random(), np.random.random(), torch.rand(()).item()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    first = augmented(augment, image, (1, 2), PREPROCESSING)
    assert (random.random(), np.random.random(), torch.rand(()).item()) == expected
    np.testing.assert_array_equal(augmented(augment, image, (1, 2), PREPROCESSING), first)
    for other in ((1, 3), (2, 2)):
        assert (augmented(augment, image, other, PREPROCESSING) != first).any()
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8


def test_result_passes_through_the_preprocessing(image):
    actual = augmented(lambda im: im.convert("L"), image, (0, 0), PREPROCESSING)
    np.testing.assert_array_equal(actual, PREPROCESSING(image.convert("L").convert("RGB")))


def test_tensor_is_taken_as_finished(image):
    finished = T.Compose([T.Resize((32, 32)), T.ToTensor()])
    actual = augmented(finished, image, (0, 0), PREPROCESSING)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, finished(image).numpy())


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (lambda im: None, TypeError, "augment returned NoneType.*expected a PIL image"),
        (np.asarray, TypeError, "augment returned ndarray"),
        (T.ToTensor(), ValueError, r"shape \(3, 60, 90\).*expected floats of shape \(3, 32, 32\)"),
        (lambda im: torch.zeros(3, 32, 32, dtype=torch.uint8), ValueError, "torch.uint8"),
    ],
)
def test_other_results_are_refused(image, augment, error, message):
    with pytest.raises(error, match=message):
        augmented(augment, image, (0, 0), PREPROCESSING)
