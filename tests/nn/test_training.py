"""How long training takes, and its learning rate."""

import numpy as np
import pytest
from skorch.callbacks import Callback

from modal_clip_dual import PAPER_SETTINGS
from modal_clip_dual.nn.training import number_of_epochs, steps_per_epoch


class Rates(Callback):
    """Note the learning rate of every step."""

    def initialize(self):
        self.rates = []
        return self

    def on_grad_computed(self, net, **kwargs):
        self.rates.append(net.optimizer_.param_groups[0]["lr"])


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 60, 200, 1000])
def test_least_number_of_steps(n):
    per_epoch = -(-n // 16)
    assert steps_per_epoch(n, 0, 16) == per_epoch
    assert number_of_epochs(7, 400, per_epoch) == 7  # a number is taken as it is
    epochs = number_of_epochs("auto", 400, per_epoch)
    assert epochs >= 20
    assert epochs * per_epoch >= 400
    assert epochs == 20 or (epochs - 1) * per_epoch < 400


def test_longer_of_two_sets_counts():
    assert steps_per_epoch(30, 640, 16, 64) == 10
    assert steps_per_epoch(300, 64, 16, 64) == 19
    assert steps_per_epoch(0, 65, 16, 64) == 2


def test_steps_of_a_fit(classifier, embeddings, digits):
    X, y = embeddings[:40], digits.target[:40]
    clf = classifier(max_epochs="auto", min_steps=65).fit(X, y)
    assert len(clf.history_) == 22  # of 3 steps each
    assert len(clf.set_params(max_epochs=3).fit(X, y).history_) == 3
    assert len(clf.set_params(max_epochs="auto", min_steps=1).partial_fit(X, y).history_) == 3 + 20
    with pytest.raises(ValueError, match="'min_steps' parameter"):
        clf.set_params(min_steps=0).fit(X, y)


def test_learning_rates(classifier, embeddings, digits):
    """A cosine over all steps; with a warm-up 1e-5 in the first epoch and a cosine over the others."""
    X, y = embeddings[:40], digits.target[:40]
    noted = Rates()
    params = {"max_epochs": 4, "lr": 0.02}
    classifier(**params, net_params={"callbacks": [noted]}).fit(X, y)
    np.testing.assert_allclose(noted.rates, 0.01 * (1 + np.cos(np.pi * np.arange(12) / 12)), rtol=1e-6)
    warm = {"callbacks__cosine_decay__warmup": True, "callbacks": [noted]}
    clf = classifier(**params, net_params=warm).fit(X, y)
    expected = np.r_[[1e-5] * 3, 0.01 * (1 + np.cos(np.pi * np.arange(9) / 9))]
    np.testing.assert_allclose(noted.rates, expected, rtol=1e-6)
    clf.set_params(max_epochs=1).fit(X, y)  # a single epoch is no warm-up
    np.testing.assert_allclose(noted.rates, 0.01 * (1 + np.cos(np.pi * np.arange(3) / 3)), rtol=1e-6)
    with pytest.raises(ValueError, match="warmup"):
        clf.set_params(net_params={"callbacks__cosine_decay__warmup": 3}).fit(X, y)


@pytest.mark.parametrize(
    ["params", "expected"],
    [
        ({}, True),
        ({"net_params": {"module__name_offsets": "auto"}}, True),
        ({"net_params": {"module__name_offsets": False}}, False),
        ({"criterion": "dual"}, False),
        (PAPER_SETTINGS, False),
        ({"criterion": "promptsrc"}, False),
        ({"criterion": "dual", "net_params": {"module__name_offsets": True}}, True),
        ({"net_params": {"module__class_specific_context": True}}, False),
        ({"net_params": {"module__class_specific_context": True, "module__name_offsets": True}}, True),
    ],
)
def test_who_learns_offsets_of_names(classifier, embeddings, digits, params, expected):
    """Classes learn for themselves where a pull holds each, and where they have no contexts of their own."""
    clf = classifier(**{**params, "max_epochs": 1}).fit(embeddings[:20], digits.target[:20])
    learned = "offsets_positive" in clf.net_.module_.state_dict()
    assert learned == expected
    if expected:
        assert clf.net_.module_.offsets_positive.abs().max() > 0


def test_a_wrong_answer_about_offsets_is_refused(classifier, embeddings, digits):
    with pytest.raises(ValueError, match="'module__name_offsets' parameter of net_params must be .*'yes'"):
        classifier(net_params={"module__name_offsets": "yes"}).fit(embeddings[:20], digits.target[:20])


def test_paper_settings_are_arguments_of_the_classifier(classifier):
    """Under their name are the settings that docs/method.md tells, all of them arguments of the constructor."""
    assert PAPER_SETTINGS == {
        "n_context": 16, "context_init": None, "criterion": "dual", "augment": "coop", "lr": 0.01, "max_epochs": 20,
    }  # fmt: skip
    params = classifier(**PAPER_SETTINGS).get_params()
    assert {name: params[name] for name in PAPER_SETTINGS} == PAPER_SETTINGS
    assert len(params) <= 24
