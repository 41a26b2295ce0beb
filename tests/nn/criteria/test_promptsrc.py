"""PromptSRC's text terms against NumPy and torch.distributions."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from modal_clip_dual.nn.criteria import CRITERIA, criterion_of
from modal_clip_dual.nn.criteria.dual import DualPromptLoss
from modal_clip_dual.nn.criteria.promptsrc import PromptSRCLoss
from modal_clip_dual.nn.module import Outputs


def outputs(n=6, n_classes=4, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    image, frozen_image = unit(n, width), unit(n, width)
    text, frozen_text = unit(n_classes, width), unit(n_classes, width)
    positive = 20 * image @ text.T
    clean = torch.randn(n, n_classes, generator=generator)
    return Outputs(positive, clean, text, image, frozen_text, frozen_image, 20.0)


TARGET = torch.tensor([0, 1, 2, 3, 1, 1])


def test_found_by_the_name_of_the_file():
    assert {"dual", "promptsrc"} <= set(CRITERIA)
    assert criterion_of("promptsrc") is PromptSRCLoss
    assert criterion_of(DualPromptLoss) is DualPromptLoss


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 0.5, 0.25, 0.25, 0.25, 0.25])])
def test_terms_are_the_formulas(weight):
    given = outputs()
    target = TARGET if weight is None else (TARGET, weight)
    base = DualPromptLoss(0.7, "all")(given, target).item()
    moved = np.abs(given.image.numpy() - given.frozen_image.numpy()).mean(axis=1)
    text = np.abs(given.text.numpy() - given.frozen_text.numpy()).mean()
    frozen = Categorical(logits=20 * given.frozen_image @ given.frozen_text.T)
    divergence = kl_divergence(frozen, Categorical(logits=given.positive)).double().numpy()
    weights = np.full(6, 1 / 6) if weight is None else weight.numpy()
    logits, image = (weights * divergence).sum() / 4, (weights * moved).sum()
    for factors in ((3.0, 2.0, 5.0), (3.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 5.0)):
        actual = PromptSRCLoss(0.7, "all", 0, *factors)(given, target).item()
        expected = base + np.dot(factors, (text, logits, image))
        assert actual == pytest.approx(expected, rel=1e-5)
    defaults = PromptSRCLoss(0.7, "all")(given, target).item()
    assert defaults == pytest.approx(base + 25 * text + logits + 10 * image, rel=1e-5)


ZERO = {"text_weight": 0.0, "logits_weight": 0.0, "image_weight": 0.0, "margin": 0.0}


def test_weights_of_zero_are_the_loss_without():
    given = outputs()
    bare = Outputs(given.positive, given.clean)  # nothing else is read
    assert torch.equal(PromptSRCLoss(seed=5, **ZERO)(bare, TARGET), DualPromptLoss(seed=5)(given, TARGET))
    assert PromptSRCLoss.needed(**ZERO) == frozenset()
    assert PromptSRCLoss.callbacks(average=None) == []


@pytest.mark.parametrize(
    ("params", "needed"),
    [
        ({}, {"text", "image", "frozen_text", "frozen_image"}),
        (ZERO | {"text_weight": 1.0}, {"text", "frozen_text"}),
        (ZERO | {"image_weight": 1.0}, {"image", "frozen_image"}),
        (ZERO | {"logits_weight": 1.0}, {"frozen_text", "frozen_image"}),
        (ZERO | {"margin": 1.0}, {"frozen_text"}),
    ],
)
def test_only_what_is_read_is_computed(params, needed):
    assert PromptSRCLoss.needed(**params) == needed
    given = outputs()
    kept = {name: getattr(given, name) for name in needed}
    only = Outputs(given.positive, given.clean, logit_scale=given.logit_scale, **kept)
    assert torch.equal(PromptSRCLoss(**params)(only, TARGET), PromptSRCLoss(**params)(given, TARGET))
    for name in needed:
        with pytest.raises(ValueError, match=f"outputs lack.*{name}"):
            PromptSRCLoss(**params)(only._replace(**{name: None}), TARGET)


def test_without_visual_prompts_the_image_term_is_zero():
    """There the module gives the same tensor for both."""
    given = outputs()
    same = given._replace(frozen_image=given.image)
    with_, without = (PromptSRCLoss(image_weight=w)(same, TARGET) for w in (10.0, 0.0))
    assert torch.equal(with_, without)


def test_no_divergence_from_itself():
    given = outputs()
    positive = 20 * given.frozen_image @ given.frozen_text.T
    same = given._replace(text=given.frozen_text, image=given.frozen_image.clone(), positive=positive)
    base = DualPromptLoss(complement="all")(same, TARGET).item()
    assert PromptSRCLoss(complement="all")(same, TARGET).item() == pytest.approx(base, rel=1e-6)


@pytest.mark.parametrize("kind", [None, "vpt-deep", "ivlp"])
def test_negative_prompt_is_not_held(tiny, kind):
    """Its gradient is that of L2 alone; contexts and tokens of the positive prompt are held."""
    from modal_clip_dual.nn.module import DualPromptModule

    generator = torch.Generator().manual_seed(1)
    image = torch.nn.functional.normalize(torch.randn(6, 32, generator=generator), dim=-1)
    if kind is not None:
        image = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=generator)
    gradients = []
    for criterion in (DualPromptLoss(complement="all"), PromptSRCLoss(complement="all", margin=0.5)):
        module = DualPromptModule(
            tiny(), ["cat", "dog", "bird", "fish"], 4, visual_prompts=kind, needs=criterion.needs
        ).train()
        with torch.no_grad():  # where no term is at its kink
            for parameter in module.parameters():
                parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.1
        criterion(module(image), TARGET).backward()
        gradients.append({name: value.grad for name, value in module.named_parameters()})
    for name, plain in gradients[0].items():
        if "negative" in name:
            torch.testing.assert_close(plain, gradients[1][name], rtol=1e-4, atol=1e-5 * plain.abs().max().item())
        else:
            assert not torch.allclose(plain, gradients[1][name], rtol=1e-2), name


def test_subclasses_keep_what_they_need():
    class Own(DualPromptLoss):
        needs = frozenset({"image"})

    assert Own.needed() == {"image"}
    assert Own.needed(margin=0.2) == {"image", "frozen_text"}
    assert DualPromptLoss.needed() == DualPromptLoss.needed(margin=0.0) == set()


@pytest.mark.parametrize("weight", [None, torch.tensor([0.5, 0.5, 0.25, 0.25, 0.25, 0.25])])
@pytest.mark.parametrize("Criterion", [DualPromptLoss, PromptSRCLoss])
def test_margin_is_the_formula_and_stays_in_l1(Criterion, weight):
    given = outputs()
    others = {"complement": "all"} | ({"average": None} if Criterion is PromptSRCLoss else {})
    target = TARGET if weight is None else (TARGET, weight)
    weights = np.full(6, 1 / 6) if weight is None else weight.numpy()
    similar = given.frozen_text.double().numpy() @ given.frozen_text.double().numpy().T
    logits, plain, moved = given.positive.double().numpy(), 0.0, 0.0
    for row, label in enumerate(TARGET.tolist()):
        # The rival k gets s * margin * (1 - <t_y, t_k>), the label nothing.
        harder = [logits[row, k] + 20 * 0.3 * (1 - similar[label, k]) for k in range(4)]
        moved += weights[row] * (np.log(np.exp(harder).sum()) - harder[label])
        plain += weights[row] * (np.log(np.exp(logits[row]).sum()) - logits[row, label])
    without = Criterion(**others)(given, target).item()
    assert Criterion(**others, margin=0.3)(given, target).item() == pytest.approx(without - plain + moved, rel=1e-5)
    assert torch.equal(Criterion(**others, margin=0.0)(given, target), Criterion(**others)(given, target))
    # Labels that the margin leaves alone: texts that are all the same.
    same = given._replace(frozen_text=given.frozen_text[:1].expand(4, -1))
    with_, bare = (DualPromptLoss(complement="all", margin=m)(same, TARGET).item() for m in (0.3, 0.0))
    assert with_ == pytest.approx(bare, rel=1e-5)


def test_margin_through_the_classifier(classifier, embeddings, digits):
    X, y = embeddings[:40], digits.target[:40]

    def trained(**params):
        settings = {"criterion": "dual", "negative_weight": 0, "net_params": params or None}
        return classifier(**settings).fit(X, y).clean_logits(X)

    np.testing.assert_array_equal(trained(criterion__margin=0.0), trained())
    assert np.abs(trained(criterion__margin=0.3) - trained()).max() > 1e-3
    for params in ({"criterion__margin": -0.1}, {"criterion__margin": "large"}):
        with pytest.raises(ValueError, match="'criterion__margin' parameter of net_params must be a float"):
            trained(**params)


@pytest.mark.parametrize("augment", [None, "auto"])
def test_frozen_embeddings_once_per_image_unless_augmented(classifier, digits, monkeypatch, augment):
    """With augmentation they are those of the changed image, which is another one at every step."""
    from modal_clip_dual.clip.backbone import Backbone, load_backbone
    from modal_clip_dual.nn.criteria import promptsrc

    load_backbone("demo", "bundled", "cpu").embedding_cache.clear()
    sizes, pairs = [], []
    encode, forward = Backbone.encode_images, promptsrc.PromptSRCLoss.forward
    monkeypatch.setattr(
        Backbone, "encode_images", lambda self, pixels: sizes.append(len(pixels)) or encode(self, pixels)
    )

    def seen(self, outputs, target):
        pairs.append((outputs.image, outputs.frozen_image))
        return forward(self, outputs, target)

    monkeypatch.setattr(promptsrc.PromptSRCLoss, "forward", seen)
    settings = {"module__n_visual_tokens": 2, "criterion__average": None}
    params = {"visual_prompts": "vpt-shallow", "criterion": "promptsrc", "max_epochs": 2, "augment": augment}
    X, y = digits.images[:20], digits.target[:20]
    clf = classifier(**params, net_params=settings, lr=1e-30).fit(X, y)
    assert sum(sizes) == 20 if augment is None else sum(sizes) >= 40
    assert len(pairs) == 4
    # The prompts stay as they were drawn, so frozen embeddings belong to their images if they are near in each row.
    for image, frozen in pairs:
        cosines = image.detach() @ frozen.T
        assert (cosines.argmax(1) == torch.arange(len(image))).float().mean() > 0.8
    if augment is None:
        more = {"X_pseudo": digits.images[20:60], "y_pseudo": digits.target[20:60]}
        clf.fit(X, y, **more)
        assert sum(sizes) == 60
        bare = classifier(**params | {"criterion": "dual"}, net_params={"module__n_visual_tokens": 2})
        zero = {f"criterion__{name}": value for name, value in ZERO.items()}
        held = classifier(**params, net_params=settings | zero)
        sizes.clear()
        expected = bare.fit(X, y, **more).clean_logits(X)
        np.testing.assert_array_equal(held.fit(X, y, **more).clean_logits(X), expected)
        assert sizes == []


def test_classifier_stays_nearer_to_the_text(classifier, embeddings, digits):
    def distance(**params):
        clf = classifier(max_epochs=20, **params).fit(embeddings[:40], digits.target[:40])
        frozen = clf.zero_shot_proba(embeddings[40:])
        return np.abs(clf.predict_proba(embeddings[40:]) - frozen).mean()

    strong = {"criterion__text_weight": 500.0, "criterion__logits_weight": 20.0}
    assert distance(criterion="promptsrc", net_params=strong) < 0.5 * distance(criterion="dual")
    same = {f"criterion__{name}": value for name, value in ZERO.items()} | {"criterion__average": None}
    assert distance(criterion="promptsrc", net_params=same) == distance(criterion="dual")
    clf = classifier(criterion="promptsrc", net_params={"criterion__distance": 1})
    message = r"net_params\['criterion__distance'\].*'promptsrc'.*logits_weight.*text_weight"
    with pytest.raises(ValueError, match=message):
        clf.fit(embeddings[:9], digits.target[:9])


def test_outputs_that_are_missing_are_named():
    with pytest.raises(ValueError, match="lack some of.*frozen_text"):
        PromptSRCLoss()(outputs()._replace(frozen_text=None), TARGET)
    with pytest.raises(ValueError, match="lack 'frozen_text', which margin=0.5 needs"):
        DualPromptLoss(margin=0.5)(outputs()._replace(frozen_text=None), TARGET)


def test_reference_is_the_average_of_templates(classifier, embeddings, digits):
    """A list of templates, such as open_clip's for ImageNet, is averaged in the frozen text."""
    import open_clip

    templates = list(open_clip.OPENAI_IMAGENET_TEMPLATES[:5])
    clf = classifier(criterion="promptsrc", template=templates, max_epochs=1).fit(embeddings[:10], digits.target[:10])
    module = clf.net_.module_
    texts = [[template(name) for template in templates] for name in digits.class_names]
    mean = torch.stack([module.backbone.encode_texts(own).double().mean(0) for own in texts])
    expected = torch.nn.functional.normalize(mean, dim=-1)
    torch.testing.assert_close(module(torch.ones(1, 128)).frozen_text.double(), expected, atol=1e-5, rtol=0)


def test_a_criterion_of_ones_own(classifier, embeddings, digits):
    from modal_clip_dual.nn import criteria

    class Plain(criteria.PromptCriterion):
        def __init__(self, negative_weight, complement, seed, factor=1.0):
            super().__init__()
            self.factor = factor

        def forward(self, outputs, target):
            return self.factor * torch.nn.functional.cross_entropy(outputs.positive, target)

    X, y = embeddings[:40], digits.target[:40]
    ours = classifier(criterion=Plain).fit(X, y).predict_proba(X)
    plain = classifier(negative_weight=0, criterion="dual").fit(X, y)
    np.testing.assert_allclose(ours, plain.predict_proba(X), atol=1e-3)
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        criteria.Other  # the access is the test
