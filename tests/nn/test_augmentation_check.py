"""The question to the frozen CLIP before training with augmented images."""

import warnings

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from modal_clip_dual.nn import augmentation_check


@pytest.fixture
def visual(classifier):
    params = {"visual_prompts": "vpt-shallow", "n_visual_tokens": 1, "max_epochs": 1, "verbose": 0}
    return lambda **more: classifier(**(params | more))


@pytest.mark.parametrize("n", [12, 100])
@pytest.mark.parametrize("augment", ["auto", None])
def test_mild_changes_are_not_warned_of(visual, digits, augment, n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        visual(augment=augment).fit(digits.images[:n], digits.target[:n])


@pytest.mark.parametrize(
    ("augment", "advice"),
    [
        ("coop", "try augment='auto'.*or augment=None"),
        (lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), "try augment='auto'"),
    ],
)
def test_warning_has_the_figures(visual, digits, demo, augment, advice):
    """The figures are those of CLIP asked by hand about the images that training would see first."""
    from modal_clip_dual.data.reading import ImageSource

    X, y = digits.images[:30], digits.target[:30]
    clf = visual(augment=augment)
    with pytest.warns(UserWarning, match=advice) as caught:
        clf.fit(X, y)
    assert len(caught) == 1
    before = clf.zero_shot_proba(X).argmax(1)
    source = clf._source(X, demo)
    assert isinstance(source, ImageSource)
    changed = next(source.read([np.arange(30)], seed=0)).numpy()
    after = visual(augment=None).zero_shot_proba(changed).argmax(1)
    same = int((before == after).sum())
    message = str(caught[0].message)
    assert f"of 30 images, {same} ({same / 30:.0%})" in message
    assert f"{(before == y).mean():.0%} of its answers" in message
    assert f"{(after == y).mean():.0%} after" in message


@pytest.mark.parametrize("n", [1, 4, 12, 60, 256])
def test_level_of_the_test(monkeypatch, n):
    """The warning comes exactly where SciPy's one-sided binomial test rejects that 75% stay."""
    warned = []
    for n_same in range(n + 1):
        before = np.zeros(n, dtype=int)
        after = np.where(np.arange(n) < n_same, 0, 1)

        class Source:
            def read(self, batches, seed):
                return iter(batches)

        class Clip:
            def encode_images(self, rows):
                import torch

                return torch.eye(2)[after[rows]]

        import torch

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            augmentation_check.warn_of_augmentation(before, before, Source(), Clip(), torch.eye(2), "coop")
        warned.append(bool(caught))
    expected = [binomtest(k, n, 0.75, alternative="less").pvalue < 0.01 for k in range(n + 1)]
    assert warned == expected
    assert any(warned) == (n >= 4)  # a few images prove nothing


def test_at_most_so_many_rows():
    assert augmentation_check.rows_to_ask(1).tolist() == [0]
    assert augmentation_check.rows_to_ask(256).tolist() == list(range(256))
    rows = augmentation_check.rows_to_ask(10_000)
    assert len(rows) == 256
    assert (rows[0], rows[-1]) == (0, 9_999)
    assert np.diff(rows).max() <= 40
