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
    text = np.abs(given.text.numpy() - given.frozen_text.numpy()).mean()
    frozen = Categorical(logits=20 * given.frozen_image @ given.frozen_text.T)
    divergence = kl_divergence(frozen, Categorical(logits=given.positive)).double().numpy()
    weights = np.full(6, 1 / 6) if weight is None else weight.numpy()
    logits = (weights * divergence).sum() / 4
    actual = PromptSRCLoss(0.7, "all", text_weight=3.0, logits_weight=2.0)(given, target).item()
    assert actual == pytest.approx(base + 3 * text + 2 * logits, rel=1e-5)
    only_text = PromptSRCLoss(0.7, "all", text_weight=3.0, logits_weight=0.0)(given, target).item()
    assert only_text == pytest.approx(base + 3 * text, rel=1e-5)


def test_weights_of_zero_are_the_loss_without():
    given = outputs()
    without = PromptSRCLoss(seed=5, text_weight=0.0, logits_weight=0.0)(given, TARGET)
    assert torch.equal(without, DualPromptLoss(seed=5)(given, TARGET))


def test_no_divergence_from_itself():
    given = outputs()
    same = given._replace(text=given.frozen_text, positive=20 * given.frozen_image @ given.frozen_text.T)
    base = DualPromptLoss(complement="all")(same, TARGET).item()
    assert PromptSRCLoss(complement="all")(same, TARGET).item() == pytest.approx(base, rel=1e-6)


def test_negative_prompt_is_not_held(tiny):
    """Its gradient is that of L2 alone."""
    from modal_clip_dual.nn.module import DualPromptModule

    image = torch.nn.functional.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    gradients = []
    for criterion in (DualPromptLoss(complement="all"), PromptSRCLoss(complement="all")):
        module = DualPromptModule(tiny(), ["cat", "dog", "bird", "fish"], 4, needs=criterion.needs).train()
        criterion(module(image), TARGET).backward()
        gradients.append((module.context_negative.grad, module.context_positive.grad))
    (negative, positive), (held_negative, held_positive) = gradients
    torch.testing.assert_close(negative, held_negative, rtol=1e-4, atol=1e-5 * negative.abs().max().item())
    assert not torch.allclose(positive, held_positive, rtol=1e-2)


def test_classifier_stays_nearer_to_the_text(classifier, embeddings, digits):
    def distance(**params):
        clf = classifier(max_epochs=20, **params).fit(embeddings[:40], digits.target[:40])
        frozen = clf.zero_shot_proba(embeddings[40:])
        return np.abs(clf.predict_proba(embeddings[40:]) - frozen).mean()

    strong = {"criterion__text_weight": 500.0, "criterion__logits_weight": 20.0}
    assert distance(criterion="promptsrc", net_params=strong) < 0.5 * distance(criterion="dual")
    same = {"criterion__text_weight": 0.0, "criterion__logits_weight": 0.0}
    assert distance(criterion="promptsrc", net_params=same) == distance(criterion="dual")
    clf = classifier(criterion="promptsrc", net_params={"criterion__margin": 1})
    message = r"net_params\['criterion__margin'\].*'promptsrc'.*logits_weight.*text_weight"
    with pytest.raises(ValueError, match=message):
        clf.fit(embeddings[:9], digits.target[:9])


def test_outputs_that_are_missing_are_named():
    with pytest.raises(ValueError, match="lack some of.*frozen_text"):
        PromptSRCLoss()(outputs()._replace(frozen_text=None), TARGET)


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
