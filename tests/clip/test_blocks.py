"""Features of the blocks of the image tower: CLS tokens and CLS attention."""

import numpy as np
import pytest
import torch
from conftest import apart, write_checkpoint
from precision import EPS, of_tower

from modal_clip_dual import BayesAdapterClassifier, CLIPImageEncoder
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.clip.blocks import block_features
from modal_clip_dual.data.reading import ImageSource

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def by_hooks(backbone, images):
    """Inputs of the attention and outputs of each block, by hooks in a model of its own."""
    backbone = apart(backbone)
    tower, inputs, outputs = backbone.model.visual, [], []
    for block in tower.transformer.resblocks:
        block.ln_1.register_forward_hook(lambda module, given, out: inputs.append(out))
        block.register_forward_hook(lambda module, given, out: outputs.append(out))
    (pixels,) = ImageSource(images, backbone.preprocessing).read([np.arange(len(images))])
    with torch.no_grad():
        backbone.encode_images(pixels)
    return tower, inputs, outputs


@pytest.mark.parametrize("kind", ["clip", "custom", "siglip", "coca"])
def test_attention_is_that_of_torch(tiny, images, kind):
    backbone = tiny(kind)
    tower, inputs, _ = by_hooks(backbone, images)
    actual = block_features(backbone, images, "attention", cache=None, verbose=0)
    with torch.no_grad():
        expected = [
            block.attn(x, x, x, need_weights=True, average_attn_weights=False)[1][:, :, 0]
            for block, x in zip(tower.transformer.resblocks, inputs)
        ]
    assert actual.shape == (5, 2, 2, 17) and actual.dtype == np.float32
    np.testing.assert_allclose(actual, torch.stack(expected, 1).numpy(), atol=of_tower(64, 2), rtol=0)
    np.testing.assert_allclose(actual.sum(-1), 1, atol=17 * EPS)


def test_tokens_are_those_that_the_blocks_put_out(demo, digits):
    _, _, outputs = by_hooks(demo, digits.images[:5])
    actual = block_features(demo, digits.images[:5], batch_size=2, cache=None, verbose=0)
    expected = torch.stack([out[:, 0] for out in outputs], 1).numpy()
    assert actual.shape == (5, 4, 128) and actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=of_tower() * np.abs(expected).max())


def test_the_last_token_leads_to_the_embedding(demo, digits):
    """ln_post and the projection turn it into the embedding of the ordinary way."""
    tokens = block_features(demo, digits.images[:5], cache=None, verbose=0)
    tower = demo.model.visual
    with torch.no_grad():
        last = tower.ln_post(torch.from_numpy(tokens[:, -1])) @ tower.proj
    expected = CLIPImageEncoder(**DEMO).transform(digits.images[:5])
    np.testing.assert_allclose(torch.nn.functional.normalize(last, dim=1).numpy(), expected, rtol=0, atol=of_tower())


def test_embeddings_are_the_same_bit_for_bit(demo, digits):
    encoder = CLIPImageEncoder(**DEMO | {"cache": None})
    before = encoder.transform(digits.images[:20])
    for kind in ("tokens", "attention"):
        block_features(demo, digits.images[:20], kind, cache=None, verbose=0)
    assert np.array_equal(encoder.transform(digits.images[:20]), before)
    assert not any(block.ln_1._forward_pre_hooks for block in demo.model.visual.transformer.resblocks)


def test_each_image_goes_through_the_tower_once_per_kind(tmp_path, nothing_loaded, images, monkeypatch):
    """In memory and on disk, apart from the embeddings."""
    folder = write_checkpoint(tmp_path / "clip")
    seen = []

    def loaded():
        backbone = load_backbone(f"local-dir:{folder}", None, "cpu")
        def count(pixels):
            return seen.append(len(pixels)) or type(backbone).to_input(backbone, pixels)
        monkeypatch.setattr(backbone, "to_input", count)
        return backbone

    backbone, cache = loaded(), str(tmp_path / "cache")
    first = {kind: block_features(backbone, images, kind, verbose=0, cache=cache) for kind in ("tokens", "attention")}
    assert seen == [5, 5]
    for kind, features in first.items():
        assert np.array_equal(block_features(backbone, images[::-1], kind, verbose=0, cache=cache), features[::-1])
    assert seen == [5, 5] and len(backbone.embedding_cache) == 0
    nothing_loaded.clear()  # as in a new process
    for kind, features in first.items():
        assert np.array_equal(block_features(loaded(), images, kind, verbose=0, cache=cache), features)
    assert seen == [5, 5]


def test_methods_of_the_estimators(digits, demo):
    expected = block_features(demo, digits.images[:3], "attention", verbose=0)
    clf = BayesAdapterClassifier(digits.class_names, **DEMO)
    for estimator in (clf, CLIPImageEncoder(**DEMO)):
        assert np.array_equal(estimator.block_features(digits.images[:3], "attention"), expected)


def test_embeddings_and_unknown_kinds_are_refused(digits, embeddings):
    clf = BayesAdapterClassifier(digits.class_names, **DEMO)
    with pytest.raises(ValueError, match=r"shape \(1797, 128\), so it holds embeddings"):
        clf.block_features(embeddings)
    with pytest.raises(ValueError, match="kind='patches'; expected one of"):
        clf.block_features(digits.images[:3], "patches")


def test_other_towers_are_refused_by_name(demo, digits):
    import open_clip

    backbone = apart(demo)
    with torch.random.fork_rng():
        backbone.model.visual = open_clip.modified_resnet.ModifiedResNet([1, 1, 1, 1], 32, 8, 32, 16)
        with pytest.raises(ValueError, match=r"its image tower \(ModifiedResNet\) does not show"):
            block_features(backbone, digits.images[:3])
        blocks = open_clip.transformer.Transformer(64, 1, 2, qk_norm=True)
        backbone.model.visual = open_clip.transformer.VisionTransformer(32, 8, 64, 1, 2, 4.0)
        backbone.model.visual.transformer = blocks
        with pytest.raises(ValueError, match=r"\(VisionTransformer of CustomResidualAttentionBlock\)"):
            block_features(backbone, digits.images[:3])
