"""Visual prompts against the papers' formulas, block by block, and open_clip's encode_image."""

import copy
import pickle

import open_clip
import pytest
import torch
import torch.nn.functional as F
from conftest import apart, tiny_config
from scipy.stats import kstest

from modal_clip_dual.clip.backbone import Backbone, load_backbone
from modal_clip_dual.nn.image_encoder import PromptedImageEncoder
from modal_clip_dual.nn.module import DualPromptModule
from modal_clip_dual.nn.prompts import VISUAL_PROMPTS, visual_prompts_of
from modal_clip_dual.nn.prompts._deep_contexts import resolve_depth
from modal_clip_dual.nn.text_encoder import PromptedTextEncoder

NAMES = ["cat", "a very long-haired dog, asleep", "bird"]


@pytest.fixture
def pixels():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=generator)


def module(backbone, kind, **params):
    """A module far from its initial values, where many terms are too small to be seen."""
    made = DualPromptModule(backbone, NAMES, params.pop("n_context", 4), visual_prompts=kind, **params).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * 0.3
    return made


# --------------------------------------------------- the slow way, from the formulas


def attend(w, x, n_heads, mask=None):
    """Multi-head attention written out, head by head."""
    q, k, v = (x @ w["attn.in_proj_weight"].T + w["attn.in_proj_bias"]).chunk(3, dim=-1)
    d = q.shape[-1] // n_heads
    heads = []
    for h in range(n_heads):
        part = slice(h * d, (h + 1) * d)
        weights = q[..., part] @ k[..., part].transpose(-1, -2) / d**0.5
        if mask is not None:
            weights = weights + mask
        heads.append(weights.softmax(-1) @ v[..., part])
    return torch.cat(heads, -1) @ w["attn.out_proj.weight"].T + w["attn.out_proj.bias"]


def norm(w, name, x):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def block(w, x, n_heads, mask=None):
    x = x + attend(w, norm(w, "ln_1", x), n_heads, mask)
    hidden = norm(w, "ln_2", x) @ w["mlp.c_fc.weight"].T + w["mlp.c_fc.bias"]
    return x + F.gelu(hidden) @ w["mlp.c_proj.weight"].T + w["mlp.c_proj.bias"]


def weights_of(tower):
    return {name: value.double() for name, value in tower.state_dict().items()}


def within(w, prefix):
    return {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}


def image_reference(backbone, pixels, tokens, through_ln_pre=False):
    """[x_i, _, E_i] = L_i([x_{i-1}, P_{i-1}, E_{i-1}]), Eq. 5 of VPT; float64."""
    w = weights_of(backbone.model.visual)
    mean, std = (torch.tensor(v).double() for v in ([0.4] * 3, [0.3] * 3))
    image = ((pixels.double() / 255 - mean) / std).permute(0, 3, 1, 2)
    patches = F.unfold(image, 8, stride=8).transpose(1, 2) @ w["conv1.weight"].flatten(1).T
    start = w["class_embedding"].expand(len(image), 1, -1)
    x = norm(w, "ln_pre", torch.cat([start, patches], 1) + w["positional_embedding"])
    n, extra = x.shape[1], None
    for i in range(2):
        if i < len(tokens):
            extra = tokens[i].double()
            if i == 0 and through_ln_pre:
                extra = norm(w, "ln_pre", extra)
            extra = extra.expand(len(x), -1, -1)
        x = block(within(w, f"transformer.resblocks.{i}."), torch.cat([x[:, :n], extra], 1), 2)
        x, extra = x[:, :n], x[:, n:]
    return F.normalize(norm(w, "ln_post", x[:, 0]) @ w["proj"], dim=-1)


def text_reference(backbone, names, context, deep, causal=True):
    """[W_i, _] with the contexts put anew in front of each of the first J blocks; float64."""
    w = weights_of(backbone.text_tower)
    m = len(context)
    tokens = backbone.tokenizer([f"{' '.join('x' * m)} {name}." for name in names])
    x = w["token_embedding.weight"][tokens]
    x = torch.cat([x[:, :1], context.double().expand(len(x), -1, -1), x[:, m + 1 :]], 1)
    x = x + w["positional_embedding"]
    mask = torch.full((x.shape[1],) * 2, float("-inf")).triu(1).double() if causal else None
    for i in range(3):
        if 1 <= i <= len(deep):
            x = torch.cat([x[:, :1], deep[i - 1].double().expand(len(x), -1, -1), x[:, m + 1 :]], 1)
        x = block(within(w, f"transformer.resblocks.{i}."), x, 4, mask)
    x = norm(w, "ln_final", x)
    end = tokens.argmax(1) if causal else torch.full((len(x),), x.shape[1] - 1)
    x = x[torch.arange(len(x)), end]
    if causal:
        return F.normalize(x @ w["text_projection"], dim=-1)
    return F.normalize(x @ w["text_projection.weight"].T + w["text_projection.bias"], dim=-1)


@pytest.mark.parametrize("kind", ["vpt-deep", "vpt-shallow"])
@pytest.mark.parametrize("n_tokens", [1, 5])
def test_vpt_is_the_formula(tiny, pixels, kind, n_tokens):
    vpt = module(tiny(), kind, n_visual_tokens=n_tokens)
    assert vpt.visual.tokens.shape == (2 if kind == "vpt-deep" else 1, n_tokens, 64)
    expected = image_reference(tiny(), pixels, vpt.visual.tokens.detach())
    with torch.no_grad():
        actual = vpt.image_embeddings(pixels)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, atol=1e-5, rtol=0)
    assert (actual - tiny().encode_images(pixels)).norm(dim=1).min() > 1e-2  # they do matter


@pytest.mark.parametrize("depth", [1, 2])
def test_maple_is_the_formula(tiny, pixels, depth):
    maple = module(tiny(), "maple", prompt_depth=depth)
    with torch.no_grad():
        contexts = [maple.context_positive, *maple.visual.deep_positive]
        tokens = [c @ w + b for c, w, b in zip(contexts, maple.visual.weight, maple.visual.bias)]
        expected = image_reference(tiny(), pixels, tokens, through_ln_pre=True)
        torch.testing.assert_close(
            maple.image_embeddings(pixels).double(), expected, atol=1e-5, rtol=0
        )
        for row, prompt in enumerate(("positive", "negative")):
            context, deep = getattr(maple, f"context_{prompt}"), getattr(maple.visual, f"deep_{prompt}")
            assert len(deep) == depth - 1
            expected = text_reference(tiny(), NAMES, context, deep)
            torch.testing.assert_close(
                maple.text_embeddings()[row].double(), expected, atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("n_tokens", [None, 1])
def test_ivlp_is_the_formula(tiny, pixels, depth, n_tokens):
    ivlp = module(tiny(), "ivlp", n_context=5, prompt_depth=depth, n_visual_tokens=n_tokens)
    tokens = ivlp.visual.tokens.detach()
    assert tokens.shape == (depth, n_tokens or 4, 64)
    with torch.no_grad():
        expected = image_reference(tiny(), pixels, tokens, through_ln_pre=True)
        torch.testing.assert_close(ivlp.image_embeddings(pixels).double(), expected, atol=1e-5, rtol=0)
        for row, prompt in enumerate(("positive", "negative")):
            context, deep = getattr(ivlp, f"context_{prompt}"), getattr(ivlp.visual, f"deep_{prompt}")
            assert deep.shape == (depth - 1, 5, 64)
            expected = text_reference(tiny(), NAMES, context, deep)
            torch.testing.assert_close(ivlp.text_embeddings()[row].double(), expected, atol=1e-5, rtol=0)


def test_towers_of_ivlp_are_independent(tiny, pixels):
    """Contexts do not move images, and tokens do not move texts."""
    ivlp = module(tiny(), "ivlp")
    image, text = ivlp.image_embeddings(pixels).detach(), ivlp.text_embeddings().clone()
    with torch.no_grad():
        ivlp.context_positive *= -2
        ivlp.visual.deep_positive *= -2
    assert torch.equal(ivlp.image_embeddings(pixels), image)
    ivlp.train().eval()
    moved = ivlp.text_embeddings().clone()
    assert not torch.allclose(moved[0], text[0], atol=1e-2)
    with torch.no_grad():
        ivlp.visual.tokens *= -2
    ivlp.train().eval()
    assert torch.equal(ivlp.text_embeddings(), moved)
    assert not torch.allclose(ivlp.image_embeddings(pixels), image, atol=1e-2)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_deep_contexts_at_full_length_are_the_formula(tiny, kind):
    backbone = tiny(kind)
    encoder = PromptedTextEncoder(backbone, NAMES, 4, path="full")
    contexts, deep = torch.randn(1, 4, 64), torch.randn(1, 2, 4, 64)
    with torch.no_grad():
        actual = encoder(contexts, deep)[0].double()
    expected = text_reference(backbone, NAMES, contexts[0], deep[0], causal=kind == "clip")
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["clip", "custom", "siglip", "coca"])
def test_without_tokens_it_is_encode_image(tiny, pixels, kind):
    backbone = tiny(kind)
    encoder = PromptedImageEncoder(backbone)
    with torch.no_grad():
        features = backbone.model.encode_image(backbone.to_input(pixels))
        expected = F.normalize(features, dim=-1)
        for depth in (0, 1, 2):
            tokens = torch.zeros(max(depth, 1), 0, 64)
            torch.testing.assert_close(encoder(pixels, tokens), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["vpt-deep", "maple", "ivlp"])
def test_blocks_that_take_the_sequence_first(tiny, pixels, kind):
    """open_clip's Transformer(batch_first=False)."""
    backbone = apart(tiny())
    backbone.model.visual.transformer.batch_first = False
    for block_ in backbone.model.visual.transformer.resblocks:
        block_.attn.batch_first = False
    with torch.no_grad():
        actual = module(backbone, kind).image_embeddings(pixels)
        expected = module(tiny(), kind).image_embeddings(pixels)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("vision", [{"pool_type": "avg"}, {"no_ln_pre": True}, {"ls_init_value": 0.5}])
def test_other_forms_of_the_tower(pixels, vision):
    """Average pooling leaves the tokens out; layer scale and a missing ln_pre are kept."""
    config = tiny_config()
    config["vision_cfg"] |= vision
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**config)
    transform = open_clip.image_transform(32, is_train=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=40)
    backbone = Backbone(model, transform, tokenizer, 32, ("x", None, "cpu", "fp32"))
    encoder = PromptedImageEncoder(backbone)
    with torch.no_grad():
        expected = F.normalize(model.encode_image(backbone.to_input(pixels)), dim=-1)
        same = encoder(pixels, torch.zeros(2, 0, 64))
        torch.testing.assert_close(same, expected, atol=1e-5, rtol=0)
        if "pool_type" in vision:  # the mean over patches alone, of blocks run by open_clip
            tokens = torch.randn(2, 5, 64)
            x = model.visual._embeds(backbone.to_input(pixels))
            for block_, extra in zip(model.visual.transformer.resblocks, tokens):
                x = block_(torch.cat([x, extra.expand(3, -1, -1)], 1))[:, :17]
            pooled = model.visual.ln_post(x)[:, 1:].mean(1) @ model.visual.proj
            torch.testing.assert_close(
                encoder(pixels, tokens), F.normalize(pooled, dim=-1), atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("kind", ["vpt-deep", "vpt-shallow", "maple", "ivlp"])
def test_gradient_reaches_prompts_alone(tiny, pixels, kind):
    backbone = tiny()
    made = module(backbone, kind).train()
    positive, z = made(pixels)[:2]
    (positive.square().sum() + z.square().sum()).backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in backbone.model.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not any(key.startswith(("text_encoder", "image_encoder")) for key in made.state_dict())


@pytest.mark.parametrize("kind", ["vpt-deep", "maple", "ivlp"])
def test_gradients_equal_finite_differences(tiny, pixels, kind):
    made = module(tiny(), kind, n_context=2, n_visual_tokens=2).train()

    def loss():
        positive, z = made(pixels[:1])[:2]
        return (positive.sum() + 0.5 * z.sum()) / 50

    loss().backward()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in made.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator)
        direction /= direction.norm()
        expected = (parameter.grad * direction).sum().item()
        values = []
        for step in (1e-2, -2e-2, 1e-2):
            with torch.no_grad():
                parameter += step * direction
            values.append(loss().item())
        numeric = (values[0] - values[1]) / 2e-2
        assert numeric == pytest.approx(expected, abs=2e-3 + 0.05 * abs(expected)), name


@pytest.mark.parametrize("kind", ["vpt-deep", "maple", "ivlp"])
def test_detach_positive_sends_l2_to_the_negative_prompt_alone(tiny, pixels, kind):
    made = module(tiny(), kind, detach_positive=True).train()
    z = made(pixels).clean
    z.square().sum().backward()
    for name, parameter in made.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert reached == ("negative" in name), name


def test_initial_values(tiny):
    vpt = DualPromptModule(tiny(), NAMES, visual_prompts="vpt-deep", n_visual_tokens=200, seed=3)
    bound = (6 / (3 * 8 * 8 + 64)) ** 0.5
    values = vpt.visual.tokens.detach()
    assert values.abs().max() <= bound
    assert values.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)  # that of U(-a, a)
    plain = DualPromptModule(tiny(), NAMES, seed=3)
    assert torch.equal(vpt.context_positive, plain.context_positive)  # the same draws come first
    maple = DualPromptModule(tiny(), NAMES, visual_prompts="maple", seed=3)
    assert maple.visual.deep_positive.shape == (1, 16, 64)
    assert maple.visual.deep_positive.std().item() == pytest.approx(0.02, rel=0.1)
    assert not torch.equal(maple.visual.deep_positive, maple.visual.deep_negative)
    for values in (maple.visual.weight, maple.visual.bias):  # as torch.nn.Linear(64, 64) draws both
        assert values.abs().max() <= 1 / 8
        assert kstest(values.detach().flatten().numpy(), "uniform", args=(-1 / 8, 2 / 8)).pvalue > 0.01
    again = DualPromptModule(tiny(), NAMES, visual_prompts="maple", seed=3)
    assert torch.equal(again.visual.weight, maple.visual.weight)
    ivlp = DualPromptModule(tiny(), NAMES, visual_prompts="ivlp", seed=3, n_visual_tokens=50)
    assert ivlp.visual.tokens.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(ivlp.visual.deep_negative, maple.visual.deep_negative)


def test_kinds_are_found_by_the_name_of_their_file():
    assert VISUAL_PROMPTS == ["ivlp", "maple", "vpt-deep", "vpt-shallow"]
    for kind in VISUAL_PROMPTS:
        assert visual_prompts_of(kind).__module__ == f"modal_clip_dual.nn.prompts.{kind.replace('-', '_')}"


def test_depth():
    assert resolve_depth(None, 12, 12) == 9
    assert resolve_depth(None, 4, 3) == 3
    assert resolve_depth(2, 4, 3) == 2
    with pytest.raises(ValueError, match="prompt_depth=4; expected at most 3.*4 blocks.*tower 3"):
        resolve_depth(4, 4, 3)


@pytest.mark.parametrize(
    ("model_name", "tower"),
    [("RN50", "ModifiedResNet"), ("convnext_base", "TimmModel around ConvNeXt")],
)
def test_other_towers_are_named_and_so_is_what_works(model_name, tower, nothing_loaded):
    with pytest.warns(UserWarning, match="random weights"):
        backbone = load_backbone(model_name, None, "cpu")
    with pytest.raises(ValueError, match=rf"{model_name}.*\({tower}\).*'ViT-B-16'.*visual_prompts=None"):
        PromptedImageEncoder(backbone)


@pytest.mark.parametrize("kind", ["vpt-deep", "maple", "ivlp"])
def test_low_precision_tower(checkpoints, pixels, kind):
    name = f"local-dir:{checkpoints['clip']}"
    exact = module(load_backbone(name, None, "cpu"), kind)
    for precision in ("bf16", "pure_bf16"):
        coarse = module(load_backbone(name, None, "cpu", precision), kind)
        with torch.no_grad():
            a, b = exact(pixels)[0], coarse(pixels)[0]
        assert b.dtype == torch.float32
        assert (a - b).abs().max() < 4  # of logits up to 50; bfloat16 has 8 bits
        coarse.train()(pixels)[1].sum().backward()
        assert all(p.grad.dtype == torch.float32 for p in coarse.parameters())


def test_shared_model_is_untouched(tiny, pixels):
    backbone = tiny()
    before = backbone.encode_images(pixels)
    transformer = backbone.model.visual.transformer
    with torch.no_grad():
        module(backbone, "vpt-deep")(pixels)
    assert backbone.model.visual.transformer is transformer
    assert torch.equal(backbone.encode_images(pixels), before)


def test_copies_and_pickles_hold_no_weight(tiny):
    encoder = PromptedImageEncoder(tiny())
    assert copy.deepcopy(encoder) is encoder
    assert len(pickle.dumps(encoder)) < 1000
    assert repr(encoder) == "PromptedImageEncoder(2 blocks, width=64)"
