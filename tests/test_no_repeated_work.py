"""What is computed once is not computed again: counted calls of both towers."""

import numpy as np
import pytest
import torch

from modal_clip_dual import DualPromptLearner, get_strategy, mine_confident
from modal_clip_dual.active import Protocol
from modal_clip_dual.clip.backbone import Backbone
from modal_clip_dual.data import reading
from modal_clip_dual.nn.image_encoder import PromptedImageEncoder
from modal_clip_dual.nn.text_encoder import PromptedTextEncoder


def spy(monkeypatch, owner, method, note):
    """Note something of every call of a method."""
    original = getattr(owner, method)
    notes = []

    def spying(self, *args, **kwargs):
        notes.append(note(*args))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, method, spying)
    return notes


@pytest.fixture
def texts(monkeypatch):
    """A note per forward of the text tower with prompts: whether gradients are wanted."""
    return spy(monkeypatch, PromptedTextEncoder, "__call__", lambda *a: torch.is_grad_enabled())


@pytest.fixture
def images(monkeypatch, demo):
    """Images per forward of the frozen image tower, whose cache is empty at first."""
    demo.embedding_cache.clear()
    return spy(monkeypatch, Backbone, "encode_images", len)


@pytest.fixture
def prompted(monkeypatch):
    """Images per forward of the image tower with prompts, and whether it was training."""
    reading.memory_of_pixels.clear()
    return spy(
        monkeypatch,
        PromptedImageEncoder,
        "__call__",
        lambda pixels, *args: (len(pixels), torch.is_grad_enabled()),
    )


def distinct(images):
    return len(np.unique(images.reshape(len(images), -1), axis=0))


METHODS = ["predict", "predict_proba", "predict_logits", "clean_logits", "predict_clean_proba",
           "predict_correct_proba"]  # fmt: skip


def test_text_is_encoded_once_per_fit_for_prediction(classifier, embeddings, digits, texts):
    clf = classifier(max_epochs=2).fit(embeddings[:32], digits.target[:32])
    assert texts == [True] * 4  # 2 epochs of 2 steps
    texts.clear()
    for _ in range(2):
        for method in METHODS:
            getattr(clf, method)(embeddings[:50])
        clf.coef_  # computed at access
        mine_confident(clf, embeddings[:50], 2)
    assert texts == [False]
    clf.fit(embeddings[:32], digits.target[:32])
    texts.clear()
    clf.predict(embeddings[:5])
    assert texts == [False]  # of the new prompts


@pytest.mark.parametrize("n_pseudo", [0, 2])
def test_frozen_images_are_encoded_once_for_all_rounds_and_epochs(
    classifier, digits, images, n_pseudo
):
    pool = digits.images[:300]
    learner = DualPromptLearner(classifier(max_epochs=2), pool, n_per_class=n_pseudo)
    learner.run(digits.target[:300], protocol=Protocol(3, per_class=1))
    learner.estimator.transform(pool)
    assert sum(images) == distinct(pool)


def test_one_forward_per_image_and_round_with_visual_prompts(classifier, digits, prompted):
    """Probabilities, scores, embeddings and mining come from the same pass."""
    pool = digits.images[:200]
    clf = classifier(visual_prompts="vpt-deep", augment=None, n_visual_tokens=2, max_epochs=1)
    learner = DualPromptLearner(clf, pool, n_per_class=2)
    learner.start()
    for _ in range(2):
        rows, _ = learner.query(n_instances=10)
        clf.transform(pool)
        clf.predict_proba(pool)
        learner.teach(rows=rows, y=digits.target[rows])
    scored = sum(n for n, training in prompted if not training)
    assert scored == 3 * distinct(pool)  # after round 0 and after each of the two others


@pytest.mark.parametrize(
    "name", ["negative-prompt", "badge", "cec", "alfa-mix", "pcb-badge", "dropquery", "typiclust"]
)
def test_strategies_share_the_pass(classifier, digits, prompted, name):
    from modAL.models import ActiveLearner

    clf = classifier(visual_prompts="vpt-shallow", augment=None, n_visual_tokens=2, max_epochs=1)
    X = digits.images
    learner = ActiveLearner(clf, X_training=X[:20], y_training=digits.target[:20])
    prompted.clear()
    get_strategy(name)(learner, X[20:200], 10)
    # Those that compare with the labelled samples embed these too.
    assert sum(n for n, _ in prompted) in (distinct(X[20:200]), distinct(X[:200]))
