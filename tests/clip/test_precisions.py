"""Every kind of CLIP in every half precision, on the CPU: embeddings near those in float32, and training."""

import numpy as np
import pytest
import torch
from conftest import write_checkpoint

from modal_clip_dual import DualPromptClassifier
from modal_clip_dual.clip.backbone import load_backbone

KINDS = ["clip", "custom", "siglip", "coca", "demo"]
# Bits of the mantissa, and the implicit one.
EPS = {"bf16": 2.0**-8, "fp16": 2.0**-11, "pure_bf16": 2.0**-8, "pure_fp16": 2.0**-11}


@pytest.fixture(scope="module")
def name(checkpoints):
    return lambda kind: ("demo", "bundled") if kind == "demo" else (f"local-dir:{checkpoints[kind]}", None)


@pytest.mark.parametrize("precision", EPS)
@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_are_those_in_float32(name, kind, precision):
    exact, half = (load_backbone(*name(kind), "cpu", one) for one in ("fp32", precision))
    assert half.precision == precision
    pixels = torch.randint(0, 256, (6, *exact.preprocessing.size, 3), dtype=torch.uint8)
    texts = ["a photo of a cat.", "a drawing of two dogs"]
    for one, other in ((b.encode_images(pixels), b.encode_texts(texts)) for b in (exact, half)):
        assert one.dtype == other.dtype == torch.float32
    for embeddings in ("encode_images", "encode_texts"):
        given = pixels if embeddings == "encode_images" else texts
        one, other = getattr(exact, embeddings)(given), getattr(half, embeddings)(given)
        # About ten layers of products, each rounded, and amplified by the norms between them.
        assert (one - other).norm(dim=1).max() < 30 * EPS[precision]


@pytest.mark.parametrize("visual_prompts", [None, "vpt-deep"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_trained(name, kind, precision, visual_prompts):
    model_name, pretrained = name(kind)
    X, y = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8), np.arange(9) % 3
    params = {"max_epochs": 1, "criterion": "dual", "augment": None, "random_state": 0, "device": "cpu"}
    half, exact = (
        DualPromptClassifier(
            ["cat", "dog", "bird"], model_name=model_name, pretrained=pretrained, precision=one,
            visual_prompts=visual_prompts, **params,
        ).fit(X, y)
        for one in (precision, "fp32")
    )  # fmt: skip
    assert {value.dtype for value in half.net_.module_.parameters()} == {torch.float32}
    np.testing.assert_allclose(half.predict_proba(X), exact.predict_proba(X), atol=0.3)


def test_a_saved_classifier_goes_on_in_its_precision(tmp_path, nothing_loaded):
    """What open_clip is asked for follows from the model, so the weights have the same checksum."""
    folder = write_checkpoint(tmp_path / "coca", "coca")
    X, y = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), np.arange(6) % 2
    params = {"precision": "bf16", "device": "cpu", "max_epochs": 1}
    clf = DualPromptClassifier(["cat", "dog"], model_name=f"local-dir:{folder}", pretrained=None, **params).fit(X, y)
    expected = clf.predict_proba(X)
    clf.save(tmp_path / "clf.npz")
    nothing_loaded.clear()
    np.testing.assert_array_equal(DualPromptClassifier.load(tmp_path / "clf.npz").predict_proba(X), expected)
