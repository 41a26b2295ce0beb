"""Prompt embeddings against open_clip's own encode_text, for every kind of text tower."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from modal_clip_dual.nn.text_prompts import PromptedTextEncoder, clean_name, template_embeddings

KINDS = ["clip", "custom", "siglip", "coca"]
NAMES = ["cat", "a very long-haired dog, asleep", "crane_bird", "x"]


def template_context(backbone, text):
    """Token embeddings (1, M, width) of a text, without start and end."""
    n = len(text.split())
    tokens = backbone.tokenizer([text])[0, 1 : n + 1]
    return backbone.text_tower.token_embedding(tokens.to(backbone.device)).detach()[None]


@pytest.mark.parametrize("path", ["auto", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_encode_text(tiny, kind, path):
    backbone = tiny(kind)
    encoder = PromptedTextEncoder(backbone, NAMES, n_context=4, path=path)
    actual = encoder(template_context(backbone, "a photo of a"))[0]
    texts = [f"a photo of a {clean_name(name)}." for name in NAMES]
    with torch.no_grad():
        expected = F.normalize(backbone.model.encode_text(backbone.tokenizer(texts)), dim=-1)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_equals_encode_text_on_the_bundled_model(demo):
    names = ["zero", "capital letter a"]
    encoder = PromptedTextEncoder(demo, names, n_context=4)
    actual = encoder(template_context(demo, "a photo of the"))[0]
    with torch.no_grad():
        tokens = demo.tokenizer([f"a photo of the {name}." for name in names])
        expected = F.normalize(demo.model.encode_text(tokens), dim=-1)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_path_is_chosen_by_the_tower(tiny, kind):
    encoder = PromptedTextEncoder(tiny(kind), NAMES, n_context=2)
    assert encoder.path == ("prefix-sharing" if kind in ("clip", "custom") else "full")


@pytest.mark.parametrize("kind", ["clip", "custom"])
@pytest.mark.parametrize("n_context", [1, 16])
def test_sharing_the_prefix_changes_neither_output_nor_gradient(tiny, kind, n_context):
    backbone = tiny(kind)
    shared = PromptedTextEncoder(backbone, NAMES, n_context)
    full = PromptedTextEncoder(backbone, NAMES, n_context, path="full")
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(2, n_context, 64, generator=generator).requires_grad_()
    weight = torch.randn(2, len(NAMES), 32, generator=generator)
    outputs, gradients = [], []
    for encoder in (shared, full):
        outputs.append(encoder(contexts))
        gradients.append(torch.autograd.grad((outputs[-1] * weight).sum(), contexts)[0])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


def test_sharing_is_refused_where_it_would_be_wrong(tiny):
    with pytest.raises(ValueError, match="cannot share a prefix"):
        PromptedTextEncoder(tiny("siglip"), NAMES, 4, path="prefix-sharing")


def test_hook_is_gone_afterwards(tiny):
    backbone = tiny("siglip")
    before = backbone.encode_texts(["a cat."])
    PromptedTextEncoder(backbone, NAMES, 4)(torch.ones(1, 4, 64))
    assert torch.equal(backbone.encode_texts(["a cat."]), before)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_too_long_name_is_refused_with_its_name(tiny, kind):
    long_name = "dog " * 30
    with pytest.raises(ValueError, match=r"'dog dog .* is too long: .*49 tokens.* at most 40"):
        PromptedTextEncoder(tiny(kind), ["cat", long_name], n_context=16)


def test_longest_name_that_fits_is_taken(tiny):
    # start + 16 contexts + name + full stop + end = 40
    encoder = PromptedTextEncoder(tiny(), ["cat", "dog " * 21], n_context=16)
    assert encoder(torch.zeros(1, 16, 64)).shape == (1, 2, 32)
    with pytest.raises(ValueError, match="41 tokens"):
        PromptedTextEncoder(tiny(), ["cat", "dog " * 22], n_context=16)


def test_names_that_cannot_be_told_apart_are_refused(tiny):
    with pytest.raises(ValueError, match="'Big Cat' and 'big_cat' give the same tokens"):
        PromptedTextEncoder(tiny(), ["dog", "Big Cat", "big_cat"], n_context=2)


def test_tower_without_token_embedding_is_refused(tiny, monkeypatch):
    backbone = copy.copy(tiny())
    monkeypatch.setattr(type(backbone), "text_tower", torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"text tower \(Linear\) takes no learnable context"):
        PromptedTextEncoder(backbone, NAMES, 2)


def test_pickle_is_a_recipe(tiny):
    encoder = PromptedTextEncoder(tiny(), NAMES, 4)
    data = pickle.dumps(encoder)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.backbone is encoder.backbone
    assert repr(again) == repr(encoder)
    assert copy.deepcopy(encoder) is encoder


def test_template_embeddings_are_the_mean_over_templates(tiny):
    backbone = tiny()
    templates = ["a photo of a {}.", "the {}"]
    actual = template_embeddings(backbone, NAMES, templates)
    single = [
        F.normalize(
            backbone.model.encode_text(backbone.tokenizer([t.format(clean_name(n)) for n in NAMES])),
            dim=-1,
        )
        for t in templates
    ]
    torch.testing.assert_close(actual, F.normalize(sum(single), dim=-1), atol=1e-6, rtol=0)


def test_too_long_template_is_refused(tiny):
    with pytest.raises(ValueError, match=r"class name 'cat' in template='very"):
        template_embeddings(tiny(), ["cat", "dog"], ["very " * 60 + "{}"])


@pytest.mark.parametrize("path", ["prefix-sharing", "full"])
def test_low_precision_towers_give_float32_embeddings_near_the_full_ones(demo, path):
    from modal_clip_dual.nn.backbone import load_backbone

    names = ["zero", "one", "capital letter a"]
    contexts = torch.randn(2, 16, 128, generator=torch.Generator().manual_seed(0)) * 0.02
    half = load_backbone("demo", "bundled", "cpu", "bf16")
    with torch.no_grad():
        actual = PromptedTextEncoder(half, names, 16, path)(contexts)
        expected = PromptedTextEncoder(demo, names, 16)(contexts)
    assert actual.dtype == torch.float32
    assert (actual * expected).sum(-1).min() > 0.999


def test_contexts_do_not_leak_into_texts_of_other_threads(tiny):
    from concurrent.futures import ThreadPoolExecutor

    backbone = tiny("siglip")
    encoder = PromptedTextEncoder(backbone, NAMES, 4)
    expected = backbone.encode_texts(NAMES)
    contexts = torch.ones(1, 4, 64) * 5
    with ThreadPoolExecutor(2) as pool:
        prompted = [pool.submit(encoder, contexts) for _ in range(30)]
        plain = [pool.submit(backbone.encode_texts, NAMES) for _ in range(30)]
        for future in plain:
            torch.testing.assert_close(future.result(), expected)
        first = prompted[0].result()
        assert all(torch.equal(future.result(), first) for future in prompted)
