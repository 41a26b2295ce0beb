"""Callbacks of skorch's and other settings of the net: they see predictions, and what does not fit is refused."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit

from modal_clip_dual.clip import backbone


class Recorded(Callback):
    """Notes what callbacks are given."""

    def on_train_begin(self, net, **kwargs):
        self.epochs = []

    def on_epoch_begin(self, net, **kwargs):
        self.epochs.append({True: [], False: []})

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        self.epochs[-1][training].append((batch[1].clone(), y_pred.clone()))


CASES = {
    "embeddings": {},
    "visual": {"visual_prompts": "vpt-shallow", "augment": None},
    "images beside their embeddings": {"visual_prompts": "vpt-shallow", "augment": None, "criterion": "promptsrc"},
}


@pytest.mark.parametrize("on_train", [False, True])
@pytest.mark.parametrize("case", [*CASES, "weights", "pseudo-labels"])
def test_scores_of_an_epoch(classifier, embeddings, digits, case, on_train):
    """The score is scikit-learn's of the same predictions; these are (n, C) logits beside labels."""
    X, y = (digits.images if "visual_prompts" in CASES.get(case, {}) else embeddings)[:40], digits.target[:40]
    more = {"sample_weight": np.linspace(0.5, 1, 40)} if case == "weights" else {}
    if case == "pseudo-labels":
        more = {"X_pseudo": embeddings[40:80], "y_pseudo": digits.target[40:80]}
    seen = Recorded()
    callbacks = [EpochScoring("accuracy", on_train=on_train, name="scored", lower_is_better=False), seen]
    net_params = {"train_split": ValidSplit(3), "callbacks": callbacks}
    clf = classifier(max_epochs=2, net_params=net_params, **{"criterion": "dual"} | CASES.get(case, {}))
    clf.fit(X, y, **more)
    assert len(clf.history_) == 2
    for row, epoch in zip(clf.history_, seen.epochs):
        labels, logits = (torch.cat(parts).numpy() for parts in zip(*epoch[on_train]))
        assert logits.shape == (len(labels), 10)
        assert row["scored"] == accuracy_score(labels, logits.argmax(1))


def test_the_last_score_is_that_of_the_classifier(classifier, embeddings, digits):
    X, y = embeddings[:60], digits.target[:60]
    split = ValidSplit(3, stratified=True)  # which draws nothing
    scored = EpochScoring("accuracy", name="scored")
    clf = classifier(max_epochs=3, net_params={"train_split": split, "callbacks": [scored]}).fit(X, y)
    dataset = clf.net_.get_dataset(X, torch.from_numpy(y))
    rows = np.asarray(split(dataset, torch.from_numpy(y))[1].indices)
    assert clf.history_[-1]["scored"] == clf.score(X[rows], y[rows])


@pytest.mark.parametrize(
    ("net_params", "message"),
    [
        ({"optimizer": "adamw"}, r"net_params\['optimizer'\]='adamw'; expected a class"),
        ({"optimizer": None}, r"net_params\['optimizer'\]=None"),
        ({"train_split": 5}, r"net_params\['train_split'\]=5; expected None or a split, such as skorch.data"),
        ({"optimzer": 1}, r"net_params\['optimzer'\]: skorch's NeuralNetClassifier has no such argument"),
        ({"optimzer__lr": 1}, r"net_params\['optimzer__lr'\].*optimizer__"),
        ({"callbacks": ["stop"]}, r"net_params\['callbacks'\] holds 'stop'; expected skorch's callbacks"),
        ({"callbacks": [EarlyStopping()]}, r"EarlyStopping\(monitor='valid_loss'\).*train_split.*'train_loss'"),
        ({"callbacks": [("own", EarlyStopping)]}, r"EarlyStopping\(monitor='valid_loss'\)"),
        ({"callbacks": [Checkpoint()]}, r"Checkpoint\(monitor='valid_loss_best'\).*'train_loss_best'"),
        ({"callbacks": [("cosine_decay", LRScheduler())]}, "second callback called 'cosine_decay'.*: None} turns"),
    ],
)
def test_settings_of_the_net_that_do_not_fit(classifier, embeddings, digits, monkeypatch, net_params, message):
    monkeypatch.setattr(backbone, "_loaded", {})
    monkeypatch.setattr(backbone, "_load", lambda *args: pytest.fail("a CLIP was loaded"))
    with pytest.raises(ValueError, match=message):
        classifier(net_params=net_params).fit(embeddings[:20], digits.target[:20])


def test_settings_of_the_net_that_fit(classifier, embeddings, digits):
    stop = {"callbacks": [("mine", EarlyStopping())], "train_split": ValidSplit(3)}
    for net_params in (stop, {"callbacks": [EarlyStopping(monitor="train_loss")]}):
        classifier(max_epochs=1, net_params=net_params).fit(embeddings[:30], digits.target[:30])


def test_the_schedule_can_be_turned_off(classifier, embeddings, digits):
    rates = []

    class Rates(Callback):
        def on_grad_computed(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    net_params = {"callbacks__cosine_decay": None, "callbacks": [Rates()]}
    classifier(max_epochs=2, lr=0.02, net_params=net_params).fit(embeddings[:40], digits.target[:40])
    assert rates == [0.02] * 6
