"""Hand-written prompts: strings, functions, and texts for each class."""

import re

import numpy as np
import open_clip
import pytest
import torch.nn.functional as F
from scipy.special import softmax
from sklearn.base import clone

from modal_clip_dual import DualPromptClassifier
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.heads.tip_adapter import TipAdapterClassifier

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}
NAMES = ["zero", "one_digit", "two"]


def classifier(template, names=NAMES, cls=TipAdapterClassifier, **params):
    return cls(names, template=template, **DEMO, **params)


def expected(texts, X):
    """Each class is the mean of the unit embeddings of its own texts."""
    backbone = load_backbone("demo", "bundled", "cpu")
    text = F.normalize(backbone.encode_texts(texts[0]).mean(0), dim=0)[None].repeat(len(texts), 1)
    for k, own in enumerate(texts):
        text[k] = F.normalize(backbone.encode_texts(own).mean(0), dim=0)
    logits = backbone.logit_scale * (X @ text.numpy().T)
    return softmax(logits, axis=1)


TEXTS = {"zero": ["a ring"], "one_digit": ["a line", "a stroke of the pen"], "two": ["a swan", "a hook", "a duck"]}
CASES = {
    "string": ("the {}.", [["the zero."], ["the one digit."], ["the two."]]),
    "function": (lambda name: f"say {name}", [["say zero"], ["say one digit"], ["say two"]]),
    "both": (["the {}.", lambda n: f"say {n}"], [[f"the {n}.", f"say {n}"] for n in ("zero", "one digit", "two")]),
    "open_clip": (
        open_clip.OPENAI_IMAGENET_TEMPLATES[:3],
        [[t(n) for t in open_clip.OPENAI_IMAGENET_TEMPLATES[:3]] for n in ("zero", "one digit", "two")],
    ),
    "texts": (TEXTS, list(TEXTS.values())),
    "one each": ({"zero": "a ring", "one digit": "a line", "two": "a swan"}, [["a ring"], ["a line"], ["a swan"]]),
}


@pytest.mark.parametrize("case", CASES)
def test_templates_in_every_form(embeddings, case):
    template, texts = CASES[case]
    clf = clone(classifier(template))
    np.testing.assert_allclose(clf.zero_shot_proba(embeddings[:50]), expected(texts, embeddings[:50]), atol=1e-4)
    clf.fit(embeddings[:6], [0, 1, 2, 0, 1, 2])
    assert np.isfinite(clf.predict_proba(embeddings[:5])).all()


def test_texts_are_the_anchor_of_promptsrc(embeddings):
    params = {"cls": DualPromptClassifier, "criterion": "promptsrc", "max_epochs": 1, "random_state": 0}
    both = [classifier(template, **params) for template in (TEXTS, "a photo of a {}.")]
    fits = [one.fit(embeddings[:6], [0, 1, 2, 0, 1, 2]).predict_proba(embeddings) for one in both]
    assert np.abs(fits[0] - fits[1]).max() > 1e-4


def test_texts_are_saved_functions_have_to_be_passed(embeddings, tmp_path):
    clf = classifier(TEXTS).fit(embeddings[:6], [0, 1, 2, 0, 1, 2])
    clf.save(tmp_path / "a")
    assert TipAdapterClassifier.load(tmp_path / "a").template == TEXTS
    classifier(open_clip.SIMPLE_IMAGENET_TEMPLATES).fit(embeddings[:6], [0, 1, 2, 0, 1, 2]).save(tmp_path / "b")
    with pytest.raises(ValueError, match="cannot hold the saved template"):
        TipAdapterClassifier.load(tmp_path / "b")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"zero": ["a"], "two": ["b"]}, "template is a dict without texts for 1 of 3 classes: ['one_digit']"),
        ({**TEXTS, "two": []}, "template['two']=[]; expected a list of whole texts"),
        ({**TEXTS, "two": [3]}, "template['two']=[3]; expected"),
        ({**TEXTS, "two": 3}, "template['two']=3; expected"),
        ({**TEXTS, "two": ["a photo of a {}."]}, "without {}"),
        ({}, "template is an empty dict"),
        (lambda name: "a digit", "expected a string with one {} for the class name, or a function"),
        (lambda: "a digit", "or a function that puts the name into a text"),
        ([str.upper, 3], "template=3; expected a string"),
        ({**TEXTS, "two": ["word " * 100]}, "template['two'][0]='word"),
        (lambda name: "word " * 100 + name, "split it into several texts, of which the embeddings are averaged"),
    ],
)
def test_templates_that_are_refused(embeddings, template, message):
    for call in (lambda clf: clf.zero_shot_proba(embeddings[:5]), lambda clf: clf.fit(embeddings[:3], [0, 1, 2])):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(classifier(template))
