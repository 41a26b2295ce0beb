"""Whoever sets prompts after the last step: what is computed with them is computed with these, not with others."""

import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Checkpoint, EarlyStopping
from skorch.dataset import ValidSplit

from modal_clip_dual import DualPromptClassifier, WeightAverage
from modal_clip_dual.nn.module import DualPromptModule


def early_stopping(folder):
    return {"callbacks": [EarlyStopping(patience=20, load_best=True, threshold=1e9, threshold_mode="abs")]}


def in_second_epoch(net):
    return len(net.history) == 2


def checkpoint(folder):
    return {"callbacks": [Checkpoint(dirname=folder, load_best=True, monitor=in_second_epoch)]}


def average(folder):
    return {"callbacks": [WeightAverage("beta")]}


@pytest.fixture
def trained(classifier, embeddings, digits, tmp_path):
    def train(params, criterion="dual", **others):
        net_params = {"train_split": ValidSplit(3), **params(tmp_path / "checkpoints")}
        clf = classifier(criterion=criterion, net_params=net_params, max_epochs=6, lr=0.5, **others)
        return clf.fit(embeddings[:40], digits.target[:40])

    return train


def text_of(clf):
    """Text embeddings (2, C, D) of the prompts in the net, in a new module that has encoded nothing before."""
    old = clf.net_.module_
    new = DualPromptModule(old.backbone, clf.class_names, len(old.context_positive), name_offsets=old.name_offsets)
    new.load_state_dict(old.state_dict())
    return new.eval().text_embeddings()


@pytest.mark.parametrize(
    ("params", "criterion"),
    [(early_stopping, "dual"), (checkpoint, "dual"), (average, "dual"), (lambda folder: {}, "promptsrc")],
)
def test_a_callback_sets_them_after_a_validation_step(trained, embeddings, tmp_path, params, criterion):
    """The text that the last validation step encoded is not that of the prompts that training ends with."""
    clf = trained(params, criterion)
    expected = clf.predict_proba(embeddings[40:440])
    text = text_of(clf)[0].numpy().astype(float)
    np.testing.assert_allclose(clf.coef_, text * clf.net_.module_.backbone.logit_scale, atol=1e-3)
    logits = embeddings[40:440].astype(float) @ text.T * clf.net_.module_.backbone.logit_scale
    proba = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(expected, proba / proba.sum(1, keepdims=True), atol=1e-4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(embeddings[40:440]), expected)
    if criterion == "promptsrc":  # callbacks are not in a file
        clf.save(tmp_path / "clf.npz")
        loaded = DualPromptClassifier.load(tmp_path / "clf.npz", net_params=clf.net_params)
        np.testing.assert_array_equal(loaded.predict_proba(embeddings[40:440]), expected)


def by_state_dict(module, values):
    module.load_state_dict(values)


def in_place(module, values):
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(values[name])


def past_autograd(module, values):
    for name, parameter in module.named_parameters():
        parameter.data.copy_(values[name])  # which torch does not count as a change


def replaced(module, values):
    for name, parameter in module.named_parameters():
        parameter.data = values[name].clone()


@pytest.mark.parametrize("put", [by_state_dict, in_place, past_autograd, replaced])
@pytest.mark.parametrize("again", [False, True], ids=["fitted", "unpickled"])
def test_a_user_sets_them(classifier, embeddings, digits, put, again):
    X = embeddings[40:240]
    one, other = (
        classifier(criterion="dual", random_state=seed).fit(embeddings[:40], digits.target[:40]) for seed in (0, 1)
    )
    if again:
        one = pickle.loads(pickle.dumps(one))
    before, expected = one.clean_logits(X), other.clean_logits(X)
    assert np.abs(before - expected).max() > 0.1
    put(one.net_.module_, other.net_.module_.state_dict())
    np.testing.assert_array_equal(one.clean_logits(X), expected)
    np.testing.assert_array_equal(one.coef_, other.coef_)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).clean_logits(X), expected)


def test_a_user_sets_visual_ones(classifier, digits):
    """Then the embeddings of images are others, too."""
    X, y = digits.images[:20], digits.target[:20]
    params = {"criterion": "dual", "visual_prompts": "vpt-shallow", "max_epochs": 1, "augment": None}
    one, other = (classifier(**params, random_state=seed).fit(X, y) for seed in (0, 1))
    before, expected = one.transform(X), other.transform(X)
    assert np.abs(before - expected).max() > 1e-3
    one.net_.module_.load_state_dict(other.net_.module_.state_dict())
    np.testing.assert_array_equal(one.transform(X), expected)
    np.testing.assert_array_equal(one.clean_logits(X), other.clean_logits(X))


def test_text_of_the_same_prompts_is_encoded_once(classifier, embeddings, digits, monkeypatch):
    calls, encode = [], DualPromptModule._encode_text
    clf = classifier(criterion="dual", max_epochs=1).fit(embeddings[:20], digits.target[:20])
    monkeypatch.setattr(DualPromptModule, "_encode_text", lambda *args, **kw: calls.append(1) or encode(*args, **kw))
    for _ in range(3):
        clf.predict(embeddings)
        clf.clean_logits(embeddings)
    assert len(calls) == 1
