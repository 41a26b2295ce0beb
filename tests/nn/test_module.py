"""The trainable module and its batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skorch.dataset import Dataset

from modal_clip_dual.nn.batches import Batches
from modal_clip_dual.nn.module import DualPromptModule
from modal_clip_dual.nn.text_encoder import PromptedTextEncoder

NAMES = ["cat", "dog", "bird"]


@pytest.fixture
def module(tiny):
    """Function that makes a module of the small CLIP."""
    return lambda names=NAMES, n_context=4, **params: DualPromptModule(tiny(), names, n_context, **params)


def unit(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, 32, generator=generator), dim=-1)


def test_forward_is_the_formula(module):
    module = module().eval()
    encoder = module.text_encoder
    image = unit(5)
    positive, z = module(image * 3)[:2]  # length must not matter
    text = encoder(torch.stack([module.context_positive, module.context_negative])).detach()
    tau = 1 / encoder.backbone.logit_scale
    s_pos, s_neg = image @ text[0].T, image @ text[1].T
    torch.testing.assert_close(positive, s_pos / tau, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(z, (s_pos - s_neg) / tau, atol=1e-4, rtol=1e-5)


def test_only_the_contexts_are_parameters(module):
    module = module()
    assert set(module.state_dict()) == {"context_positive", "context_negative"}
    positive, z = module(unit(5))[:2]
    (positive.sum() + z.sum()).backward()
    assert module.context_positive.grad.abs().sum() > 0
    assert all(p.grad is None for p in module.backbone.model.parameters())


def test_initial_contexts(module):
    big = {"names": ["cat", "dog"], "n_context": 30}
    first = module(**big, seed=3)
    contexts = torch.stack([first.context_positive, first.context_negative]).detach()
    assert contexts.std().item() == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(*contexts)
    assert torch.equal(first.context_negative, module(**big, seed=3).context_negative)
    assert not torch.equal(first.context_negative, module(**big, seed=4).context_negative)


def test_context_starts_from_words(module, tiny):
    """With as many vectors as words have tokens, the positive prompt is the hand-written one."""
    backbone = tiny()
    made = module(n_context=4, context_init="a photo of a").eval()
    from modal_clip_dual.clip.templates import template_embeddings

    expected = template_embeddings(backbone, NAMES, ["a photo of a {}."])
    torch.testing.assert_close(made.text_embeddings()[0], expected, atol=1e-5, rtol=1e-5)
    random = module(n_context=4)
    assert torch.equal(made.context_negative, random.context_negative)  # which never starts from words
    longer, random = module(n_context=6, context_init="a photo of a"), module(n_context=6)
    assert torch.equal(longer.context_positive[:2], random.context_positive[:2])
    torch.testing.assert_close(longer.context_positive[2:], made.context_positive)
    with pytest.raises(ValueError, match="context_init='a photo of a' has 4 tokens; expected 1 to n_context=3"):
        module(n_context=3, context_init="a photo of a")
    with pytest.raises(ValueError, match="context_init='' has 0 tokens"):
        module(context_init="")


@pytest.mark.parametrize("kind", ["clip", "siglip", "coca"])
def test_class_specific_contexts(tiny, kind):
    """Each class is encoded as if its context were everybody's; started alike, all agree with the shared one."""
    backbone = tiny(kind)
    made = DualPromptModule(backbone, NAMES, 4, class_specific_context=True).eval()
    assert made.context_positive.shape == (3, 4, 64)
    assert made.text_encoder.path == ("full" if kind != "clip" else "truncated")
    text = made.text_embeddings()
    shared = PromptedTextEncoder(backbone, NAMES, 4)
    with torch.no_grad():
        for k in range(3):
            contexts = torch.stack([made.context_positive[k], made.context_negative[k]])
            torch.testing.assert_close(text[:, k], shared(contexts)[:, k], atol=1e-5, rtol=1e-4)
    positive = made.train()(unit(5)).positive
    positive[:, 1].sum().backward()
    gradient = made.context_positive.grad.abs().sum((1, 2))
    assert gradient[1] > 0
    assert gradient[0] == gradient[2] == 0


def test_class_specific_contexts_in_batches_of_classes(tiny):
    whole = DualPromptModule(tiny(), NAMES, 4, class_specific_context=True, text_batch_size=None)
    parts = DualPromptModule(tiny(), NAMES, 4, class_specific_context=True, text_batch_size=2)
    results = []
    for made in (whole, parts):
        made.train()(unit(5)).positive.square().sum().backward()
        results.append(made.context_positive.grad)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4 * results[0].abs().max().item())


def test_what_class_specific_contexts_exclude(tiny):
    with pytest.raises(ValueError, match=r"class_specific_context=True does not go with visual_prompts='maple'"):
        DualPromptModule(tiny(), NAMES, 4, class_specific_context=True, visual_prompts="maple")
    with pytest.raises(ValueError, match="'prefix-sharing'.*class_specific_context=True does not allow it"):
        DualPromptModule(tiny(), NAMES, 4, class_specific_context=True, text_encoding="prefix-sharing")
    DualPromptModule(tiny(), NAMES, 4, class_specific_context=True, visual_prompts="vpt-deep")


def test_offsets_of_names(module):
    """They are 0 at first, both prompts have their own, and a class's embedding depends on its own alone."""
    names = ["cat", "a red fox"]
    plain, made = module(names=names), module(names=names, name_offsets=True)
    assert set(made.state_dict()) == {*plain.state_dict(), "offsets_positive", "offsets_negative"}
    assert made.offsets_positive.shape == (2, 4, 64)
    assert torch.equal(made.context_positive, plain.context_positive)
    torch.testing.assert_close(made.eval().text_embeddings(), plain.eval().text_embeddings())
    outputs = made.train()(unit(5))
    outputs.positive[:, 1].sum().backward()
    gradient = made.offsets_positive.grad.abs().sum(2)
    assert (gradient[1] > 0).all()
    assert (gradient[0] == 0).all()
    assert (made.offsets_negative.grad == 0).all()
    made(unit(5)).clean[:, 0].sum().backward()
    of_cat = made.offsets_negative.grad[0].abs().sum(1)
    assert (of_cat[:2] > 0).all()  # the word and its period
    assert (of_cat[2:] == 0).all()


def gradients(module):
    z = module.train()(unit(5)).clean
    z.square().sum().backward()
    return module.context_positive.grad, module.context_negative.grad


def test_detach_positive_keeps_l2_from_the_positive_prompt(module):
    positive, negative = gradients(module())
    assert positive.abs().sum() > 0
    detached, same = gradients(module(detach_positive=True))
    assert detached is None or detached.abs().sum() == 0
    torch.testing.assert_close(same, negative)


def test_without_negative_prompt_training_skips_it(module, monkeypatch):
    module = module(negative=False)
    seen = []
    monkeypatch.setattr(
        PromptedTextEncoder,
        "__call__",
        lambda self, contexts, deep, offsets: seen.append(len(contexts)) or torch.ones(len(contexts), 3, 32),
    )
    assert module.train()(unit(2))[1] is None
    assert module.eval()(unit(2))[1].shape == (2, 3)
    assert seen == [1, 2]


def test_text_is_encoded_once_while_evaluating(module, monkeypatch):
    module = module()
    calls = []
    original = PromptedTextEncoder.__call__
    monkeypatch.setattr(
        PromptedTextEncoder,
        "__call__",
        lambda self, *args: calls.append(1) or original(self, *args),
    )
    module.eval()
    first = module(unit(2))[0]
    module(unit(3))
    assert len(calls) == 1
    module.train()
    module(unit(2))
    with torch.no_grad():
        module.context_positive += 1
    module.eval()
    assert not torch.equal(module(unit(2))[0], first)
    assert len(calls) == 3


def test_only_what_is_needed_is_computed(module, tiny):
    from modal_clip_dual.clip.templates import template_embeddings

    plain = module()(unit(2))
    assert plain.text is plain.image is plain.frozen_text is plain.frozen_image is None
    needs = {"text", "image", "frozen_text", "frozen_image"}
    made = module(needs=needs, templates=["a {}.", "the {}"])
    full = made(unit(2) * 3)
    torch.testing.assert_close(full.positive, plain.positive, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(full.image, unit(2))
    torch.testing.assert_close(full.frozen_image, unit(2))
    torch.testing.assert_close(full.frozen_text, template_embeddings(tiny(), NAMES, ["a {}.", "the {}"]))
    torch.testing.assert_close(full.positive, full.logit_scale * full.image @ full.text.T)


def test_frozen_images_are_those_of_the_tower_without_prompts(module, tiny):
    pixels = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = module(visual_prompts="vpt-deep", needs={"frozen_image", "image"})
    outputs = made(pixels)
    torch.testing.assert_close(outputs.frozen_image, tiny().encode_images(pixels))
    assert not torch.allclose(outputs.image, outputs.frozen_image)


def batches(n=10, **params):
    X = torch.arange(n, dtype=torch.float32)[:, None]
    return Batches(Dataset(X, torch.arange(n)), **params)


def test_batches_are_a_partition_in_order():
    iterator = batches(batch_size=4)
    assert len(iterator) == 3
    rows = [y.tolist() for _, y in iterator]
    assert rows == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(torch.equal(X[:, 0], y.float()) for X, y in iterator)


def test_shuffled_batches_are_a_partition_from_the_generator_alone():
    def orders():
        iterator = batches(batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(0))
        return [torch.cat([y for _, y in iterator]).tolist() for _ in range(2)]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second = orders()
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert orders() == [first, second]
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_of_read_only_arrays(recwarn):
    X = np.ones((5, 2), dtype=np.float32)
    X.flags.writeable = False
    parts = [X for X, _ in Batches(Dataset(X), batch_size=2)]
    assert [len(part) for part in parts] == [2, 2, 1]
    assert not recwarn.list
