"""The pull to the hand-written text against NumPy, and what it is for: labels that lack classes."""

import numpy as np
import pytest
import torch

from modal_clip_dual.nn.criteria import criterion_of
from modal_clip_dual.nn.criteria.anchored import AnchoredLoss
from modal_clip_dual.nn.criteria.dual import DualPromptLoss
from modal_clip_dual.nn.module import DualPromptModule, Outputs

TARGET = torch.tensor([0, 1, 2, 3, 1, 1])
COUNTS = [3, 0, 1, 20]
FEW_COUNTS = [1, 0, 0, 1]


def outputs(n=6, n_classes=4, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    image, frozen_image = unit(n, width), unit(n, width)
    text, frozen_text = unit(n_classes, width), unit(n_classes, width)
    clean = torch.randn(n, n_classes, generator=generator)
    return Outputs(20 * image @ text.T, clean, text, image, frozen_text, frozen_image, 20.0)


@pytest.mark.parametrize("counts", [COUNTS, FEW_COUNTS, [0, 0.5, 0, 0], None])
def test_terms_are_the_formula(counts):
    given = outputs()
    base = DualPromptLoss(0.7, "all")(given, TARGET).item()
    share = np.array([1 / (1 + n) for n in counts or [0] * 4])
    text, frozen_text = given.text.double().numpy(), given.frozen_text.double().numpy()
    per_class = max(sum(counts or [0]) / 4, 0.2)
    of_text = sum(share[k] * np.abs(text[k] - frozen_text[k]).sum() / 5 for k in range(4)) / 4
    of_text *= 1 + 1 / per_class**2
    of_image = share.mean() * np.abs(given.image.double().numpy() - given.frozen_image.double().numpy()).mean()
    actual = AnchoredLoss(0.7, "all", counts=counts, text_weight=3.0, image_weight=2.0)(given, TARGET).item()
    assert actual == pytest.approx(base + 3 * of_text + 2 * of_image, rel=1e-5)
    frozen_tower = given._replace(frozen_image=given.image)
    actual = AnchoredLoss(0.7, "all", counts=counts, text_weight=3.0, image_weight=2.0)(frozen_tower, TARGET).item()
    assert actual == pytest.approx(base + 3 * of_text, rel=1e-5)


def test_weights_of_zero_are_the_loss_without():
    given = outputs()
    without = AnchoredLoss(seed=5, counts=COUNTS, text_weight=0.0, image_weight=0.0)(given, TARGET)
    assert torch.equal(without, DualPromptLoss(seed=5)(given, TARGET))
    assert criterion_of("anchored") is AnchoredLoss
    with pytest.raises(ValueError, match="lack some of.*frozen_text"):
        AnchoredLoss()(given._replace(frozen_text=None), TARGET)


def test_negative_prompt_is_not_held(tiny):
    image = torch.nn.functional.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    gradients = []
    for criterion in (DualPromptLoss(complement="all"), AnchoredLoss(complement="all", text_weight=200.0)):
        module = DualPromptModule(tiny(), ["cat", "dog", "bird", "fish"], 4, needs=criterion.needs).train()
        criterion(module(image), TARGET).backward()
        gradients.append((module.context_negative.grad, module.context_positive.grad))
    (negative, positive), (held_negative, held_positive) = gradients
    torch.testing.assert_close(negative, held_negative, rtol=1e-4, atol=1e-5 * negative.abs().max().item())
    assert not torch.allclose(positive, held_positive, rtol=1e-2)


def test_counts_are_those_of_the_fit(classifier, embeddings, digits):
    """Pseudo-labels count, and a class without any has 0."""
    X, y = embeddings[:8], np.array([0, 0, 0, 1, 1, 2, 5, 5])
    clf = classifier(max_epochs=1, criterion="anchored").fit(X, y)
    assert clf.net_.criterion_.counts == [3, 2, 1, 0, 0, 2, 0, 0, 0, 0]
    clf.fit(X, y, X_pseudo=X[:2], y_pseudo=[9, 0])
    assert clf.net_.criterion_.counts == [4, 2, 1, 0, 0, 2, 0, 0, 0, 1]
    with pytest.raises(ValueError, match=r"net_params\['criterion__counts'\].*follows"):
        classifier(criterion="anchored", net_params={"criterion__counts": [1]}).fit(X, y)


@pytest.mark.parametrize("rows", ["two of two classes", "six of one class"])
def test_labels_that_lack_classes_do_not_ruin_the_others(classifier, embeddings, digits, rows):
    """The texts of the others stay much nearer to the hand-written ones than without the pull."""
    y = digits.target
    chosen = np.flatnonzero(y == 3)[:6]
    if rows == "two of two classes":
        chosen = np.array([np.flatnonzero(y == k)[0] for k in (3, 8)])
    rest = np.setdiff1d(np.arange(1797), chosen)
    absent = np.setdiff1d(np.arange(10), y[chosen])
    moved = {}
    for criterion in ("anchored", "dual"):
        clf = classifier(max_epochs=40, criterion=criterion).fit(embeddings[chosen], y[chosen])
        text = clf.coef_ / np.linalg.norm(clf.coef_, axis=1, keepdims=True)
        moved[criterion] = np.abs(text - clf._text(clf._fitted_backbone(), clf._names))[absent].mean()
        if criterion == "anchored":
            zero_shot = (clf.zero_shot_proba(embeddings[rest]).argmax(1) == y[rest]).mean()
            assert clf.score(embeddings[rest], y[rest]) > zero_shot - 0.03
    assert moved["anchored"] < 0.7 * moved["dual"]


def test_image_tower_is_held(classifier, digits):
    """With visual prompts the embeddings stay nearer to those of the frozen tower."""
    X, y = digits.images[:10], digits.target[:10]
    params = {"visual_prompts": "vpt-shallow", "n_visual_tokens": 4, "augment": None, "max_epochs": 15}
    frozen = classifier().transform(X)

    def distance(weight):
        clf = classifier(**params, net_params={"criterion__image_weight": weight, "module__n_visual_tokens": 4})
        return np.abs(clf.fit(X, y).transform(X) - frozen).mean()

    assert distance(200.0) < 0.8 * distance(0.0)
