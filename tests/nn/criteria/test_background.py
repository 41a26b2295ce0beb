"""The background term against torch.distributions, and what it does to a trained prompt."""

import numpy as np
import pytest
import torch
from conftest import LABELLED, make_classifier

from modal_clip_dual.nn.criteria.background import BackgroundLoss
from modal_clip_dual.nn.criteria.dual import DualPromptLoss
from modal_clip_dual.nn.module import Outputs


def outputs(seed=0, n=6, n_classes=4, width=8):
    draw = torch.Generator().manual_seed(seed)
    positive, clean = torch.randn(2, n, n_classes, generator=draw)
    text = torch.nn.functional.normalize(torch.randn(n_classes, width, generator=draw), dim=1)
    return Outputs(positive, clean, text=text, logit_scale=7.0), torch.arange(n) % n_classes, draw


def test_term_is_the_divergence_from_uniform():
    out, target, draw = outputs()
    background = torch.randn(5, 8, generator=draw)
    plain = DualPromptLoss(complement="all")(out, target)
    loss = BackgroundLoss(complement="all", background=background.numpy(), background_weight=3.0)(out, target)
    unit = background.double() / background.double().norm(dim=1, keepdim=True)
    p = torch.distributions.Categorical(logits=7.0 * unit @ out.text.double().T)
    uniform = torch.distributions.Categorical(logits=torch.zeros(4, dtype=torch.float64))
    expected = torch.stack([torch.distributions.kl_divergence(uniform, torch.distributions.Categorical(logits=row))
                            for row in p.logits]).mean()
    torch.testing.assert_close((loss - plain).double(), 3 * expected, rtol=1e-5, atol=1e-5)
    without = BackgroundLoss(complement="all", background=background, background_weight=0.0)(out, target)
    assert torch.equal(without, plain)


def test_backgrounds_tell_less_after_training(digits, embeddings):
    X, y = embeddings[LABELLED], digits.target[LABELLED]
    backgrounds = embeddings[200:230]  # the digits stand for backgrounds: nothing is to be read from them

    def divergence(**params):
        clf = make_classifier(digits, criterion="background", net_params=params, max_epochs=5).fit(X, y)
        return -np.log(10) - np.log(clf.predict_proba(backgrounds)).mean(axis=1).mean()

    with_term = divergence(criterion__background=backgrounds, criterion__background_weight=5.0)
    without = divergence(criterion__background=backgrounds, criterion__background_weight=0.0)
    assert with_term < 0.7 * without


def test_what_is_missing_is_named(digits, embeddings):
    X, y = embeddings[LABELLED], digits.target[LABELLED]
    for params, message in (
        (None, "criterion__background': array of shape"),
        ({"criterion__background": embeddings[:0]}, r"shape \(0, 128\); expected embeddings \(m, D\)"),
        ({"criterion__background": embeddings[:2, :5]}, "5 columns; expected 128"),
    ):
        with pytest.raises(ValueError, match=message):
            make_classifier(digits, criterion="background", net_params=params, max_epochs=1).fit(X, y)
