"""The pull to the hand-written text against NumPy, and what it is for: labels that lack classes."""

import numpy as np
import pytest
import torch

from modal_clip_dual.nn.criteria import criterion_of
from modal_clip_dual.nn.criteria.anchored import AnchoredLoss
from modal_clip_dual.nn.criteria.dual import DualPromptLoss
from modal_clip_dual.nn.module import DualPromptModule, Outputs
from modal_clip_dual.nn.text_penalty import choose_text_penalty

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
    n_k = counts or [1] * 4
    text, frozen_text = given.text.double().numpy(), given.frozen_text.double().numpy()
    per_class = sum(n_k) / 4
    of_text = sum(
        20**2 * ((text[k] - frozen_text[k]) ** 2).sum() * (1 + per_class) / (1 + n_k[k]) for k in range(4)
    ) / (2 * sum(n_k))
    share = np.mean([1 / (1 + n) for n in n_k])
    shift = np.abs(given.image.double().numpy() - given.frozen_image.double().numpy())
    of_image = share * 20 * shift.sum(1).mean() / np.sqrt(5)
    actual = AnchoredLoss(0.7, "all", counts=counts, text_penalty=0.3, image_weight=2.0)(given, TARGET).item()
    assert actual == pytest.approx(base + 0.3 * of_text + 2 * of_image, rel=1e-5)
    frozen_tower = given._replace(frozen_image=given.image)
    actual = AnchoredLoss(0.7, "all", counts=counts, text_penalty=0.3, image_weight=2.0)(frozen_tower, TARGET).item()
    assert actual == pytest.approx(base + 0.3 * of_text, rel=1e-5)
    usual = AnchoredLoss(0.7, "all", counts=counts)(frozen_tower, TARGET).item()
    assert usual == pytest.approx(base + 0.01 * of_text, rel=1e-5)


def test_pull_is_the_same_for_every_width_and_temperature():
    """Zeros beside the embeddings change nothing; half the cosines at twice the scale are the same logits."""
    given = outputs()
    without, with_ = (
        AnchoredLoss(0, text_penalty=penalty, counts=COUNTS, image_weight=0)(given, TARGET).item()
        for penalty in (0, 1)
    )

    def wider(rows, length):
        return torch.cat([length * rows, torch.zeros(len(rows), 7)], 1)

    same = given._replace(
        text=wider(given.text, 0.5), frozen_text=wider(given.frozen_text, 0.5), image=wider(given.image, 1),
        frozen_image=wider(given.frozen_image, 1), logit_scale=40.0,
    )  # fmt: skip
    again = AnchoredLoss(0, text_penalty=1.0, counts=COUNTS, image_weight=0)(same, TARGET).item()
    assert again - without == pytest.approx(with_ - without, rel=1e-5)


def test_weights_of_zero_are_the_loss_without():
    given = outputs()
    without = AnchoredLoss(seed=5, counts=COUNTS, text_penalty=0.0, image_weight=0.0)(given, TARGET)
    assert torch.equal(without, DualPromptLoss(seed=5)(given, TARGET))
    assert criterion_of("anchored") is AnchoredLoss
    with pytest.raises(ValueError, match="lack some of.*frozen_text"):
        AnchoredLoss()(given._replace(frozen_text=None), TARGET)


def test_negative_prompt_is_not_held(tiny):
    image = torch.nn.functional.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(1)), dim=-1)
    gradients = []
    for criterion in (DualPromptLoss(complement="all"), AnchoredLoss(complement="all", text_penalty=30.0)):
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


def test_penalty_is_chosen_by_the_labeled_samples_before_training(classifier, embeddings, digits):
    """Weights count as repeats do, pseudo-labels are not asked, and a number is taken as it is."""
    rows = np.random.default_rng(3).permutation(1797)[:30]
    X, y = embeddings[rows], digits.target[rows]
    clf = classifier(max_epochs=1, criterion="anchored").fit(X, y)
    text = clf._text(clf._fitted_backbone(), clf._names)
    scale = clf._fitted_backbone().logit_scale
    expected = choose_text_penalty(X, y, text, scale)
    assert clf.net_.criterion_.text_penalty_ == pytest.approx(expected, rel=1e-3) != 0.01
    clf.fit(X, y, X_pseudo=embeddings[:40], y_pseudo=digits.target[:40])
    assert clf.net_.criterion_.text_penalty_ == pytest.approx(expected, rel=1e-3)
    weight = np.repeat([0, 1, 2], 10)
    clf.fit(X, y, sample_weight=weight)
    weighted = choose_text_penalty(X[10:], y[10:], text, scale, weight[10:].astype(float))
    assert clf.net_.criterion_.text_penalty_ == pytest.approx(weighted, rel=1e-3) != expected
    clf.fit(None, None, X_pseudo=X, y_pseudo=y)
    assert clf.net_.criterion_.text_penalty_ == 0.01
    clf.set_params(net_params={"criterion__text_penalty": 0.5}).fit(X, y)
    assert clf.net_.criterion_.text_penalty_ == 0.5
    with pytest.raises(ValueError, match=r"'criterion__text_penalty'.*must be.*'auto'.*Got -1"):
        clf.set_params(net_params={"criterion__text_penalty": -1.0}).fit(X, y)
    with pytest.raises(ValueError, match=r"criterion__text_weight.*no such argument.*text_penalty"):
        clf.set_params(net_params={"criterion__text_weight": 20.0}).fit(X, y)


def test_images_are_asked_by_the_frozen_tower(classifier, digits):
    X, y = digits.images[:12], digits.target[:12]
    frozen = classifier().transform(X)
    for augment in ("auto", None):
        clf = classifier(visual_prompts="vpt-shallow", augment=augment, max_epochs=1, criterion="anchored").fit(X, y)
        text, scale = clf._text(clf._fitted_backbone(), clf._names), clf._fitted_backbone().logit_scale
        expected = choose_text_penalty(frozen, y, text, scale)
        assert clf.net_.criterion_.text_penalty_ == pytest.approx(expected, rel=1e-3)


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

    assert distance(0.8) < 0.8 * distance(0.0)
