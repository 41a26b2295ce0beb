"""Prompt embeddings against open_clip's own encode_text, for every kind of text tower."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from conftest import apart, tiny_config
from precision import of_tower

from modal_clip_dual.clip.templates import clean_name, template_embeddings
from modal_clip_dual.nn.text_encoder import PromptedTextEncoder

KINDS = ["clip", "custom", "siglip", "coca"]
NAMES = ["cat", "a very long-haired dog, asleep", "crane_bird", "x"]


def template_context(backbone, text):
    """Token embeddings (1, M, width) of a text, without start and end."""
    n = len(text.split())
    tokens = backbone.tokenizer([text])[0, 1 : n + 1]
    return backbone.text_tower.token_embedding(tokens.to(backbone.device)).detach()[None]


CAUSAL = [(kind, path) for kind in ("clip", "custom") for path in ("prefix-sharing", "truncated")]


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize(["kind", "path"], [*((kind, "full") for kind in KINDS), *CAUSAL])
def test_equals_encode_text(tiny, kind, path, batch_size):
    backbone = tiny(kind)
    encoder = PromptedTextEncoder(backbone, NAMES, 4, path, batch_size)
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


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize(["kind", "path"], [*((kind, "full") for kind in KINDS), *CAUSAL])
def test_offsets_make_one_name_of_another(tiny, kind, path, batch_size):
    """Names become others, token by token; what stands behind the end of a shorter one counts for nothing."""
    backbone = tiny(kind)
    names, others = ["cat", "a crane bird", "dog"], ["dog", "the old house", "x"]
    encoder = PromptedTextEncoder(backbone, names, 4, path, batch_size)
    assert encoder.n_name == 4
    start = encoder.start + 4
    texts = [[f"x x x x {name}." for name in those] for those in (names, others)]
    with torch.no_grad():
        before, after = (
            backbone.text_tower.token_embedding(backbone.tokenizer(those)[:, start : start + 4]) for those in texts
        )
    offsets = after - before
    offsets[[0, 2], 2:] = torch.randn(2, 2, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actual = encoder(template_context(backbone, "a photo of a"), offsets=offsets[None])[0]
        expected = backbone.model.encode_text(backbone.tokenizer([f"a photo of a {name}." for name in others]))
    torch.testing.assert_close(actual, F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


def plain(backbone, contexts, deep, offsets=None):
    """Unit embeddings (P, C, D) by open_clip's modules at full length, class by class."""
    tower = backbone.text_tower
    blocks = tower.transformer.resblocks
    rows = []
    for prompt, vectors in enumerate(contexts):
        n = len(vectors)
        for k, name in enumerate(NAMES):
            tokens = backbone.tokenizer([" ".join(["x"] * n) + f" {clean_name(name)}."])
            x = tower.token_embedding(tokens)
            x = torch.cat([x[:, :1], vectors[None], x[:, 1 + n :]], 1) + tower.positional_embedding
            if offsets is not None:
                n_tokens = int(tokens[0].argmax()) - 1 - n
                shift = torch.zeros_like(x)
                shift[0, 1 + n : 1 + n + n_tokens] = offsets[prompt, k, :n_tokens]
                x = x + shift
            for i, block in enumerate(blocks):
                if 1 <= i <= deep.shape[1]:
                    x = torch.cat([x[:, :1], deep[prompt, i - 1][None], x[:, 1 + n :]], 1)
                x = block(x, attn_mask=tower.attn_mask)
            x = tower.ln_final(x)[0, tokens[0].argmax()]
            projection = tower.text_projection
            is_linear = isinstance(projection, torch.nn.Linear)
            rows.append(projection(x) if is_linear else x @ projection)
    return F.normalize(torch.stack(rows).unflatten(0, (len(contexts), len(NAMES))), dim=-1)


@pytest.mark.parametrize(["depth", "with_offsets"], [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize("batch_size", [None, 3, 1])
@pytest.mark.parametrize("path", ["prefix-sharing", "truncated", "full"])
@pytest.mark.parametrize("kind", ["clip", "custom"])
@pytest.mark.parametrize("n_context", [1, 16])
def test_no_path_changes_output_or_gradient(tiny, kind, n_context, path, batch_size, depth, with_offsets):
    backbone = tiny(kind)
    encoder = PromptedTextEncoder(backbone, NAMES, n_context, path, batch_size)
    generator = torch.Generator().manual_seed(0)
    contexts = torch.randn(2, n_context, 64, generator=generator).requires_grad_()
    deep = torch.randn(2, depth, n_context, 64, generator=generator).requires_grad_()
    weight = torch.randn(2, len(NAMES), 32, generator=generator)
    of = [contexts, deep] if depth else [contexts]
    offsets = None
    if with_offsets:
        offsets = torch.randn(2, len(NAMES), encoder.n_name, 64, generator=generator).requires_grad_()
        of.append(offsets)
    outputs, gradients = [], []
    for function in (encoder, lambda *args: plain(backbone, *args)):
        outputs.append(function(contexts, deep, offsets))
        gradients.append(torch.autograd.grad((outputs[-1] * weight).sum(), of))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)
    for actual, expected in zip(*gradients):
        assert (actual - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("kind", ["siglip", "coca"])
def test_encoding_some_classes_at_a_time_changes_neither_output_nor_gradient(tiny, kind):
    contexts = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(2, len(NAMES), 32, generator=torch.Generator().manual_seed(1))
    outputs, gradients = [], []
    for batch_size in (None, 3):
        encoder = PromptedTextEncoder(tiny(kind), NAMES, 4, batch_size=batch_size)
        outputs.append(encoder(contexts))
        gradients.append(torch.autograd.grad((outputs[-1] * weight).sum(), contexts)[0])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


def test_sequences_are_cut_behind_the_longest_end_of_text(tiny):
    backbone, lengths = tiny(), []
    block = backbone.text_tower.transformer.resblocks[0]
    handle = block.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[1]))
    PromptedTextEncoder(backbone, ["cat", "big cat"], 4, "truncated")(torch.ones(1, 4, 64))
    PromptedTextEncoder(backbone, ["cat", "big cat"], 4, "full")(torch.ones(1, 4, 64))
    handle.remove()
    assert lengths == [9, 40]  # start, 4 contexts, "big cat", full stop, end


def test_activations_of_many_classes_are_not_kept(tiny):
    names = [f"{a} {b}" for a in "red green blue grey pink".split() for b in "cat dog cow ox".split()]
    contexts = torch.zeros(1, 4, 64).requires_grad_()
    kept = {}
    for batch_size in (None, 5):
        sizes = []
        encoder = PromptedTextEncoder(tiny(), names, 4, batch_size=batch_size)
        keep = torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.append(x.numel()) or x, lambda x: x
        )
        with keep:
            encoder(contexts)
        kept[batch_size] = sum(sizes)
    assert kept[5] < 0.5 * kept[None]  # of both, the prefix's are part


@pytest.mark.parametrize(
    ["kind", "path"], [("siglip", "prefix-sharing"), ("siglip", "truncated"), ("coca", "truncated")]
)
def test_a_path_is_refused_where_it_would_be_wrong(tiny, kind, path):
    message = f"text_encoding='{path}': the text tower of .* expected one of \\('auto', 'full'\\)"
    with pytest.raises(ValueError, match=message):
        PromptedTextEncoder(tiny(kind), NAMES, 4, path=path)


def test_blocks_of_another_make_are_truncated(tiny):
    backbone = apart(tiny())

    class Block(type(backbone.text_tower.transformer.resblocks[1])):
        pass

    backbone.model.transformer.resblocks[1].__class__ = Block
    encoder = PromptedTextEncoder(backbone, NAMES, 4)
    assert encoder.path == "truncated"
    assert "path='truncated'" in repr(encoder)
    contexts = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0))
    expected = PromptedTextEncoder(tiny(), NAMES, 4, "full")(contexts)
    torch.testing.assert_close(encoder(contexts), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("path", ["truncated", "full"])
def test_blocks_that_take_the_sequence_first(tiny, path, depth):
    """open_clip's Transformer(batch_first=False)."""
    backbone = apart(tiny())
    transformer = backbone.model.transformer
    transformer.batch_first = False
    for block in transformer.resblocks:
        block.attn.batch_first = False
    contexts = torch.randn(2, 4, 64, generator=torch.Generator().manual_seed(0))
    deep = torch.randn(2, depth, 4, 64, generator=torch.Generator().manual_seed(1))
    actual = PromptedTextEncoder(backbone, NAMES, 4, path)(contexts, deep)
    torch.testing.assert_close(actual, plain(tiny(), contexts, deep), atol=1e-5, rtol=0)


@pytest.mark.parametrize("path", ["prefix-sharing", "truncated", "full"])
def test_tower_without_projection(tiny, path):
    backbone = apart(tiny())
    backbone.model.text_projection = None
    actual = PromptedTextEncoder(backbone, NAMES, 4, path)(template_context(backbone, "a photo of a"))[0]
    with torch.no_grad():
        tokens = backbone.tokenizer([f"a photo of a {clean_name(name)}." for name in NAMES])
        expected = F.normalize(backbone.model.encode_text(tokens), dim=-1)
    assert expected.shape == (len(NAMES), 64)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_tokenizer_without_the_placeholder_is_refused(tiny):
    """Contexts stand where the tokenizer puts the placeholder: one that splits words at random cannot do."""
    backbone = apart(tiny())

    class Reversing(type(backbone.tokenizer)):
        def __call__(self, texts, context_length=None):
            return super().__call__([" ".join(reversed(text.split())) for text in texts], context_length)

    backbone.tokenizer = Reversing(context_length=40)
    with pytest.raises(ValueError, match="its tokenizer does not map"):
        PromptedTextEncoder(backbone, NAMES, 4)


def test_embeddings_of_a_few_class_lists_are_kept(tiny, monkeypatch):
    backbone = apart(tiny())
    first = template_embeddings(backbone, ["cat", "dog"], ["a {}."])
    for k in range(40):
        template_embeddings(backbone, ["cat", f"dog {k}"], ["a {}."])
    assert 1 <= len(backbone.text_cache) <= 32
    again = template_embeddings(backbone, ["cat", "dog"], ["a {}."])
    assert again is not first
    torch.testing.assert_close(again, first)


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
    backbone = apart(tiny())
    monkeypatch.setattr(type(backbone), "text_tower", torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"text tower \(Linear\) takes no learnable context"):
        PromptedTextEncoder(backbone, NAMES, 2)


def test_pickle_is_a_recipe(tiny):
    encoder = PromptedTextEncoder(tiny(), NAMES, 4, "truncated", 3)
    data = pickle.dumps(encoder)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.backbone is encoder.backbone
    assert repr(again) == repr(encoder) and "batches=2" in repr(encoder)
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
    torch.testing.assert_close(actual, F.normalize(sum(single), dim=-1), atol=of_tower(64, 3), rtol=0)


def test_too_long_template_is_refused(tiny):
    with pytest.raises(ValueError, match=r"class name 'cat' in template='very"):
        template_embeddings(tiny(), ["cat", "dog"], ["very " * 60 + "{}"])


@pytest.mark.parametrize("path", ["prefix-sharing", "truncated", "full"])
def test_low_precision_towers_give_float32_embeddings_near_the_full_ones(demo, path):
    from modal_clip_dual.clip.backbone import load_backbone

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


def test_paths_of_other_threads_on_one_tower(tiny):
    """The full path puts its contexts in by a hook on the tower that all share."""
    from concurrent.futures import ThreadPoolExecutor

    contexts = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(0))
    encoders = [PromptedTextEncoder(tiny(), NAMES, 4, path) for path in ("full", "truncated", "prefix-sharing")]
    expected = encoders[0](contexts)
    with ThreadPoolExecutor(3) as threads:
        coming = [threads.submit(encoders[k % 3], contexts) for k in range(90)]
        for future in coming:
            torch.testing.assert_close(future.result(), expected, atol=1e-5, rtol=0)


class WordTokenizer:
    """Words numbered as they come; ``start`` is None for a tokenizer without a start token."""

    def __init__(self, start, end, pad, context_length=40):
        self.start, self.end, self.pad = start, end, pad
        self.context_length = context_length
        self.words = {}

    def __call__(self, texts, context_length=None):
        rows, length = [], context_length or self.context_length
        for text in texts:
            words = text.lower().replace(".", " .").split()
            ids = [self.words.setdefault(word, 10 + len(self.words)) for word in words]
            ids = ([] if self.start is None else [self.start]) + [*ids, self.end]
            rows.append((ids + [self.pad] * length)[:length])
        return torch.tensor(rows)


@pytest.mark.parametrize(
    ["tokenizer", "text", "path"],
    [
        # Ends are found by their number, which is neither the largest nor unlike the padding's.
        (WordTokenizer(1, 2, 0), {"pool_type": "eos", "eos_id": 2}, "prefix-sharing"),
        (WordTokenizer(None, 9000, 0), {}, "prefix-sharing"),  # no start token
        (WordTokenizer(None, 1, 1), {"pool_type": "last", "no_causal_mask": True}, "full"),
        (WordTokenizer(1, 2, 0), {"pool_type": "last"}, "full"),  # reads the padding
    ],
)
def test_other_tokenizers(tokenizer, text, path):
    import open_clip

    from modal_clip_dual.clip.backbone import Backbone

    config = tiny_config("custom")
    del config["custom_text"]
    config["text_cfg"] |= {"vocab_size": 9001, **text}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CustomTextCLIP(**config)
        for parameter in model.parameters():
            parameter.data += torch.randn_like(parameter) * 0.05
    backbone = Backbone(model, None, tokenizer, 32, ("words", None, "cpu", "fp32"))
    encoder = PromptedTextEncoder(backbone, NAMES, 3)
    assert encoder.path == path
    tokens = tokenizer(["of a x"])[0, encoder.start :][:3]
    words = model.text.token_embedding(tokens).detach()[None].requires_grad_()
    actual = encoder(words)
    with torch.no_grad():
        texts = tokenizer([f"of a x {clean_name(name)}." for name in NAMES])
        expected = F.normalize(model.encode_text(texts), dim=-1)
    torch.testing.assert_close(actual[0], expected, atol=1e-5, rtol=0)
    for other in {"prefix-sharing": ["truncated", "full"]}.get(path, []):
        again = PromptedTextEncoder(backbone, NAMES, 3, other)(words)
        gradients = [torch.autograd.grad(x.square()[..., :5].sum(), words)[0] for x in (actual, again)]
        assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()
        actual = encoder(words)
