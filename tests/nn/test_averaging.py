"""Averages along training against offline averages of saved weights, with scipy's densities."""

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm
from skorch.callbacks import Callback, EarlyStopping

from modal_clip_dual import DualPromptClassifier, DualPromptLearner, WeightAverage


class Saver(Callback):
    """Saves the prompts at the start, after every step and after every epoch, in float64."""

    def on_train_begin(self, net, **kwargs):
        self.steps, self.epochs = [self.weights(net)], []

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.steps.append(self.weights(net))

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(self.weights(net))

    @staticmethod
    def weights(net):
        return {name: value.detach().double().numpy().copy() for name, value in net.module_.named_parameters()}


@pytest.fixture
def labeled(embeddings, digits):
    return embeddings[:40], digits.target[:40]


@pytest.fixture
def trained(classifier, labeled):
    """Function that trains with callbacks; returns the classifier, its prompts and what was saved."""

    def fit(average, *others, X=None, **params):
        saver = Saver()
        callbacks = [saver, *([average] if average else []), *others]
        clf = classifier(criterion="dual", net_params={"callbacks": callbacks}, max_epochs=6, **params)
        clf.fit(*labeled, **({} if X is None else X))
        return clf, saver.weights(clf.net_), saver

    return fit


def averaged(saved, weights):
    weights = np.asarray(weights) / np.sum(weights)
    return {name: sum(w * point[name] for w, point in zip(weights, saved)) for name in saved[0]}


def assert_close(actual, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-6 * abs(value).max() + 1e-8)


@pytest.mark.parametrize(
    ("params", "mean", "scale"),
    [({}, 4.5, 0.3), ({"mean": 0.5, "scale": 0.4}, 3, 2.4), ({"mean": 2, "scale": 1, "unit": "epoch"}, 2, 1)],
)
def test_gaussian_over_epochs(trained, params, mean, scale):
    clf, actual, saver = trained(WeightAverage("gaussian", **params))
    assert len(saver.epochs) == 6
    expected = averaged(saver.epochs, norm(mean, scale).pdf(np.arange(1, 7)))
    assert_close(actual, expected)
    assert np.abs(actual["context_positive"] - saver.epochs[-1]["context_positive"]).max() > 1e-4
    assert len(clf.history_) == 6


@pytest.mark.parametrize("b", [0.1, 0.5, 1.0, 2.0])
def test_beta_over_steps_from_the_start(trained, b):
    _, actual, saver = trained(WeightAverage("beta", beta=b))
    n = len(saver.steps) - 1
    assert n == 6 * 3  # 40 samples, 16 at a time
    weights = np.ones(n + 1) if b == 1 else beta(b, b).pdf((np.arange(n + 1) + 0.5) / (n + 1))
    assert_close(actual, averaged(saver.steps, weights))


def test_densities_of_scipy():
    gaussian = WeightAverage("gaussian", mean=0.6, scale=0.2)
    ours = np.array([gaussian.log_weight(e, 50) for e in range(1, 51)])
    theirs = norm(30, 10).logpdf(np.arange(1, 51))
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], rtol=1e-12, atol=1e-12)
    average = WeightAverage("beta", beta=0.3)
    ours = np.array([average.log_weight(t, 20) for t in range(21)])
    theirs = beta(0.3, 0.3).logpdf((np.arange(21) + 0.5) / 21)
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], rtol=1e-10, atol=1e-12)


def test_weights_of_ones_own(trained):
    _, actual, saver = trained(WeightAverage(lambda t, n: float(t == n - 1)))
    assert_close(actual, saver.steps[-2])
    with pytest.raises(ValueError, match=r"kind\(0, 18\) returned -1.0; expected a weight"):
        trained(WeightAverage(lambda t, n: -1.0))


def test_one_epoch_is_no_average(classifier, labeled):
    params = {"max_epochs": 1, "batch_size": 40}
    plain = classifier(**params).fit(*labeled)
    gaussian = classifier(**params, net_params={"callbacks": [WeightAverage()]}).fit(*labeled)
    np.testing.assert_array_equal(gaussian.clean_logits(labeled[0]), plain.clean_logits(labeled[0]))
    # One step of Beta has two points, the start and the end, which count alike.
    saver = Saver()
    clf = classifier(**params, net_params={"callbacks": [saver, WeightAverage("beta", beta=0.2)]}).fit(*labeled)
    assert_close(saver.weights(clf.net_), averaged(saver.steps, [1, 1]))


def test_far_from_the_mean_the_nearest_epoch_counts(trained):
    """Where every weight is 0 in floating point."""
    _, actual, saver = trained(WeightAverage(mean=100, scale=0.01, unit="epoch"))
    assert norm(100, 0.01).pdf(6) == 0
    assert_close(actual, saver.epochs[-1])


def test_early_stop(trained):
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs")
    clf, actual, saver = trained(WeightAverage("gaussian", mean=0.5, scale=1.0), stop)
    n = len(clf.history_)
    assert 1 < n < 6
    assert_close(actual, averaged(saver.epochs, norm(3, 6).pdf(np.arange(1, n + 1))))


def test_partial_fit_averages_anew(trained, labeled):
    clf, before, saver = trained(WeightAverage("beta"))
    clf.partial_fit(*labeled)
    assert_close(saver.steps[0], before)
    n = len(saver.steps) - 1
    weights = beta(0.5, 0.5).pdf((np.arange(n + 1) + 0.5) / (n + 1))
    assert_close(saver.weights(clf.net_), averaged(saver.steps, weights))


def test_with_pseudo_labels(trained, embeddings, digits):
    more = {"X_pseudo": embeddings[40:340], "y_pseudo": digits.target[40:340]}
    _, actual, saver = trained(WeightAverage("beta"), X=more)
    n = len(saver.steps) - 1
    assert n == 6 * 5  # 300 pseudo-labels, 64 at a time
    assert_close(actual, averaged(saver.steps, beta(0.5, 0.5).pdf((np.arange(n + 1) + 0.5) / (n + 1))))


def test_an_interrupted_training_leaves_nothing(trained, labeled):
    class Stop(Callback):
        armed = False

        def on_epoch_end(self, net, **kwargs):
            if self.armed:
                raise RuntimeError("stop")

    average, stop = WeightAverage(), Stop()
    clf, before, _ = trained(average, stop)
    stop.armed = True
    with pytest.raises(RuntimeError, match="stop"):
        clf.fit(*labeled)
    assert_close(Saver.weights(clf.net_), before)
    assert len(pickle.dumps(average)) < 300
    stop.armed = False
    assert_close(Saver.weights(clf.fit(*labeled).net_), before)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kind": "ema"}, "'kind' parameter"),
        ({"scale": 0}, "'scale' parameter"),
        ({"unit": "step"}, "'unit' parameter"),
        ({"beta": -1}, "'beta' parameter"),
    ],
)
def test_refused_before_training(trained, params, message):
    with pytest.raises(ValueError, match=f"{message} of WeightAverage"):
        trained(WeightAverage(**params))


def test_brought_by_the_criterion_saved_and_resumed(classifier, digits, embeddings, labeled, tmp_path):
    """The arguments are plain values, so that files hold them; an interrupted loop goes on to the same end."""
    params = {"criterion__average": "beta", "criterion__average_beta": 0.4, "criterion__image_weight": 0.0}
    clf = classifier(criterion="promptsrc", net_params=params).fit(*labeled)
    last = classifier(criterion="promptsrc", net_params=params | {"criterion__average": None}).fit(*labeled)
    assert np.abs(clf.clean_logits(labeled[0]) - last.clean_logits(labeled[0])).max() > 1e-2
    own = {name: value for name, value in params.items() if "average" not in name}
    own |= {"criterion__average": None, "callbacks": [WeightAverage("beta", beta=0.4)]}
    same = classifier(criterion="promptsrc", net_params=own).fit(*labeled)
    np.testing.assert_array_equal(same.clean_logits(labeled[0]), clf.clean_logits(labeled[0]))
    clf.save(tmp_path / "clf.npz")
    loaded = DualPromptClassifier.load(tmp_path / "clf.npz")
    np.testing.assert_array_equal(loaded.clean_logits(labeled[0]), clf.clean_logits(labeled[0]))
    assert loaded.get_params()["net_params"] == params

    X, y = embeddings[:80], digits.target[:80]

    def learner(path):
        made = DualPromptLearner(classifier(criterion="promptsrc", net_params=params), X, n_per_class=3, path=path)
        made.query(n_instances=10)
        made.teach(rows=np.arange(10), y=y[:10])
        return made

    whole = learner(None)
    learner(tmp_path / "loop.npz").close()
    resumed = DualPromptLearner.resume(tmp_path / "loop.npz", X)
    for one in (whole, resumed):
        one.teach(rows=np.arange(10, 20), y=y[10:20])
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


def test_half_of_a_tower_is_not_copied(trained):
    """Only what is trained is averaged, and no copy outlives training."""
    average = WeightAverage()
    clf, _, _ = trained(average)
    assert not average.average_
    assert all(torch.isfinite(value).all() for value in clf.net_.module_.state_dict().values())
