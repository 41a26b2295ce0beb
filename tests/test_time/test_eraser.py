"""SpuriousFeatureEraser: each term of its loss, one image at a time, and prompts that are as before."""

import pickle

import numpy as np
import pytest
import torch
from conftest import LABELLED, make_classifier
from modAL.models import ActiveLearner
from modAL.uncertainty import margin_sampling
from precision import of_probabilities
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from modal_clip_dual import SpuriousFeatureEraser, TipAdapterClassifier
from modal_clip_dual.nn.module import module_of
from modal_clip_dual.test_time import eraser
from modal_clip_dual.test_time.eraser import divergence, divergence_from_uniform, entropy

SCALE = 21.8  # of the bundled CLIP's logits


@pytest.fixture(scope="module")
def small(digits, embeddings):
    """A classifier with few context vectors, so that its text tower is quick: not to be changed."""
    clf = make_classifier(digits, n_context=2, max_epochs=3)
    return clf.fit(embeddings[LABELLED], digits.target[LABELLED])


def test_terms_of_the_loss_are_torchs():
    draw = torch.Generator().manual_seed(0)
    log_p, log_q = torch.randn(2, 5, 7, dtype=torch.float64, generator=draw).log_softmax(2)
    p, q = (torch.distributions.Categorical(logits=part) for part in (log_p, log_q))
    uniform = torch.distributions.Categorical(logits=torch.zeros(5, 7, dtype=torch.float64))
    torch.testing.assert_close(entropy(log_p), p.entropy())
    torch.testing.assert_close(divergence(log_p, log_q), torch.distributions.kl_divergence(p, q))
    torch.testing.assert_close(divergence_from_uniform(log_p), torch.distributions.kl_divergence(uniform, p))


@pytest.mark.parametrize("background", ["low-attention", "border", "shuffle", lambda image: image.rotate(90)])
def test_without_steps_it_is_the_wrapped_classifier(small, digits, background):
    X = digits.images[:4]
    erased = SpuriousFeatureEraser(small, background, n_steps=0, random_state=0)
    np.testing.assert_allclose(erased.predict_proba(X), small.predict_proba(X), atol=10 * of_probabilities(SCALE))
    changed = erased.set_params(n_steps=2, lr=0.01).predict_proba(X)
    assert np.abs(changed - small.predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("keep", ["entropy", "prediction"])
def test_is_the_loop_for_one_image(small, digits, embeddings, keep):
    """The loss written out with torch's own distributions, and torch's AdamW on one context."""
    image, behind = embeddings[300], embeddings[301]
    erased = SpuriousFeatureEraser(small, n_steps=4, lr=2e-3, keep=keep)
    proba, losses = erased.erase(embeddings[300:302], np.stack([behind, behind]))
    module = module_of(small.net_)
    context = module.context_positive.detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([context], lr=2e-3)
    scale = module.backbone.logit_scale
    expected, start = [], None
    for _ in range(5):
        text = module.text_encoder(context[None], offsets=module.offsets(False))[0]
        seen, hidden = (
            torch.distributions.Categorical(logits=scale * text @ torch.from_numpy(v)) for v in (image, behind)
        )
        start = start or torch.distributions.Categorical(logits=seen.logits.detach())
        uniform = torch.distributions.Categorical(logits=torch.zeros(10))
        kept = seen.entropy() if keep == "entropy" else torch.distributions.kl_divergence(start, seen)
        loss = torch.distributions.kl_divergence(uniform, hidden) + kept
        expected.append(float(loss.detach()))
        last = seen.probs.detach().numpy()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # AdamW divides by the size of the gradient, so that roundings of a small one count in full; a step moves logits
    # by some hundredths, and four of them are compared.
    np.testing.assert_allclose(losses[0], expected, atol=2e-2)
    np.testing.assert_allclose(proba[0], last, atol=1e-2)


def test_a_batch_is_its_images_one_by_one(small, embeddings):
    X, behind = embeddings[300:305], embeddings[310:315]
    whole = SpuriousFeatureEraser(small, n_steps=3).predict_proba(X, behind)
    for size in (1, 2):
        parts = SpuriousFeatureEraser(small, n_steps=3, batch_size=size).predict_proba(X, behind)
        np.testing.assert_allclose(parts, whole, atol=1e-2)
    alone = SpuriousFeatureEraser(small, n_steps=3).predict_proba(X[2:3], behind[2:3])
    np.testing.assert_allclose(alone[0], whole[2], atol=1e-2)
    other = SpuriousFeatureEraser(small, n_steps=3, lr=0.05).predict_proba(X, behind)
    assert np.abs(other - whole).max() > 0.05  # what is compared above does change


def test_the_loss_falls_step_by_step(small, digits):
    _, losses = SpuriousFeatureEraser(small, n_steps=6, lr=1e-4).erase(digits.images[:3])
    assert losses.shape == (3, 7)
    assert (np.diff(losses, axis=1) < 0).all()


@pytest.mark.parametrize("visual_prompts", ["vpt-shallow", "maple"])
def test_visual_prompts(digits, visual_prompts):
    clf = make_classifier(digits, visual_prompts=visual_prompts, n_context=2, max_epochs=1, augment=None)
    clf.fit(digits.images[:20], digits.target[:20])
    X = digits.images[30:33]
    erased = SpuriousFeatureEraser(clf, "border", n_steps=0)
    np.testing.assert_allclose(erased.predict_proba(X), clf.predict_proba(X), atol=1e-4)
    assert erased.set_params(n_steps=2).predict(X).shape == (3,)


def test_the_wrapped_classifier_is_not_changed(small, digits):
    before = {name: value.copy() for name, value in small.fitted_state()[1].items()}
    proba, params = small.predict_proba(digits.images[:9]), small.get_params()
    module = module_of(small.net_)
    text = module.text_embeddings().clone()
    SpuriousFeatureEraser(small, n_steps=3, lr=0.1).predict(digits.images[:5])
    for name, value in small.fitted_state()[1].items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(small.predict_proba(digits.images[:9]), proba)
    assert small.get_params() == params
    assert torch.equal(module.text_embeddings(), text)
    revived = pickle.loads(pickle.dumps(small))
    np.testing.assert_allclose(
        SpuriousFeatureEraser(revived, n_steps=1).predict_proba(digits.images[:3]),
        SpuriousFeatureEraser(small, n_steps=1).predict_proba(digits.images[:3]),
        atol=1e-2,
    )


def test_backgrounds_of_pixels():
    pixels = np.random.default_rng(0).random((2, 3, 32, 32)).astype(np.float32) + 0.1
    border = eraser.without_middle(pixels)
    assert (border[:, :, 8:24, 8:24] == 0).all()
    border[:, :, 8:24, 8:24] = pixels[:, :, 8:24, 8:24]
    np.testing.assert_array_equal(border, pixels)
    mixed = eraser.shuffled(pixels, np.random.default_rng(1))
    cells = lambda part: sorted(part[0, 0, y : y + 8, x : x + 8].tobytes() for y in range(0, 32, 8) for x in range(0, 32, 8))  # noqa: E731, E501
    assert cells(mixed) == cells(pixels) and (mixed != pixels).mean() > 0.5
    attention = np.random.default_rng(2).random((2, 16))
    hidden = eraser.without_attended(pixels, attention)
    for k in range(2):
        for patch in range(16):
            y, x = divmod(patch, 4)
            cell = hidden[k, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
            attended = (attention[k] > attention[k, patch]).sum() < 8
            expected = np.zeros_like(cell) if attended else pixels[k, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
            np.testing.assert_array_equal(cell, expected)


def test_low_attention_is_the_last_blocks(small, digits):
    X = digits.images[:2]
    erased = SpuriousFeatureEraser(small, n_steps=1)
    attention = small.block_features(X, "attention")[:, -1, :, 1:].mean(axis=1)
    pixels = eraser.without_attended(small.input_pixels(X), attention)
    by_hand = erased.predict_proba(small.transform(X), small.embeddings_of_pixels(pixels))
    np.testing.assert_allclose(erased.predict_proba(X), by_hand, atol=1e-2)
    seen = []
    callables = SpuriousFeatureEraser(small, lambda image: seen.append(image) or image, n_steps=1)
    callables.predict(X)
    assert [image.size for image in seen] == [(8, 8)] * 2 and seen[0].mode == "RGB"


def test_in_a_learner(digits):
    clf = SpuriousFeatureEraser(make_classifier(digits, n_context=2, max_epochs=1), "border", n_steps=1)
    learner = ActiveLearner(clf, margin_sampling, X_training=digits.images[:20], y_training=digits.target[:20])
    rows, images = learner.query(digits.images[20:30], n_instances=2)
    learner.teach(images, digits.target[20:30][rows])
    assert learner.predict(digits.images[:3]).shape == (3,)
    assert clone(clf).set_params(estimator__n_context=4).estimator.n_context == 4


def test_bad_input_is_refused(small, digits, embeddings):
    erased = SpuriousFeatureEraser(small)
    with pytest.raises(ValueError, match=r"holds embeddings, which show no background; .* or X_background"):
        erased.predict(embeddings[:3])
    with pytest.raises(ValueError, match=r"X_background has shape \(2, 128\) and X \(3, 128\)"):
        erased.predict(embeddings[:3], embeddings[:2])
    with pytest.raises(ValueError, match="X_background was passed with images"):
        erased.predict(digits.images[:3], embeddings[:3])
    with pytest.raises(ValueError, match=r"background returned ndarray for X\[0\]; expected a PIL image"):
        SpuriousFeatureEraser(small, np.asarray).predict(digits.images[:3])
    with pytest.raises(TypeError, match="TipAdapterClassifier, which has no prompts to tune"):
        SpuriousFeatureEraser(TipAdapterClassifier()).predict(digits.images[:3])
    with pytest.raises(NotFittedError, match="no prompt to tune"):
        SpuriousFeatureEraser(make_classifier(digits)).predict(digits.images[:3])
    for name, wrong in {"background": "blur", "n_steps": -1, "lr": 0, "keep": "both", "batch_size": 0}.items():
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            SpuriousFeatureEraser(small, **{name: wrong}).predict(digits.images[:3])
