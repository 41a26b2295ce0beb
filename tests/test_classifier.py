"""DualPromptClassifier: fitting, predicting, labels, input, state."""

import copy
import math
import pickle
import signal
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from precision import EPS, of_probabilities, of_products, of_tower
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from modal_clip_dual import DualPromptClassifier

METHODS = [
    "predict",
    "predict_proba",
    "clean_logits",
    "predict_clean_proba",
    "predict_correct_proba",
    "zero_shot_proba",
    "transform",
]


@pytest.fixture
def labelled(embeddings, digits):
    rows = np.random.default_rng(1).permutation(1797)[:40]
    return embeddings[rows], digits.target[rows]


# -------------------------------------------------------------------- formulas


def test_outputs_are_the_formulas(fitted, embeddings):
    """Every output from the contexts alone, by open_clip's embeddings and numpy."""
    module = fitted.net_.module_
    contexts = torch.stack([module.context_positive, module.context_negative])
    text = module.text_encoder(contexts).detach().numpy().astype(np.float64)
    tau = 1 / module.text_encoder.backbone.logit_scale
    s_pos, s_neg = embeddings @ text[0].T, embeddings @ text[1].T
    z = (s_pos - s_neg) / tau
    predicted = s_pos.argmax(axis=1)
    at_prediction = z[np.arange(len(z)), predicted]
    np.testing.assert_array_equal(fitted.predict(embeddings), predicted)
    np.testing.assert_allclose(fitted.predict_proba(embeddings), softmax(s_pos / tau, 1), atol=1e-5)
    np.testing.assert_allclose(fitted.clean_logits(embeddings), z, atol=1e-4)
    np.testing.assert_allclose(fitted.predict_clean_proba(embeddings), expit(z), atol=1e-5)
    np.testing.assert_allclose(
        fitted.predict_correct_proba(embeddings), expit(at_prediction - math.log(9)), atol=1e-5
    )


def test_hard_complements_need_no_deflation(classifier, labelled, embeddings):
    hard = classifier(complement="hard").fit(*labelled)
    z = hard.clean_logits(embeddings)
    at_prediction = z[np.arange(len(z)), hard.predict_proba(embeddings).argmax(1)]
    np.testing.assert_allclose(hard.predict_correct_proba(embeddings), expit(at_prediction), rtol=1e-6)


def test_shapes_and_types(fitted, embeddings):
    X = embeddings[:5]
    for method in ("predict_proba", "clean_logits", "predict_clean_proba", "zero_shot_proba"):
        output = getattr(fitted, method)(X)
        assert output.shape == (5, 10), method
        assert output.dtype == np.float32, method
    assert fitted.predict_correct_proba(X).shape == (5,)
    assert fitted.transform(X).shape == (5, 128)
    # Each of 10 probabilities is rounded, and each of the sums.
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1, atol=10 * EPS, rtol=0)


def test_zero_shot_is_open_clips(classifier, digits, demo):
    clf = classifier(template=["a photo of a {}.", "the {}."])
    images = digits.images[:50]
    pixels = torch.stack([demo.preprocess(Image.fromarray(image)) for image in images])
    with torch.no_grad():
        image = torch.nn.functional.normalize(demo.model.encode_image(pixels), dim=-1)
        text = sum(
            torch.nn.functional.normalize(
                demo.model.encode_text(demo.tokenizer([t.format(n) for n in digits.class_names])),
                dim=-1,
            )
            for t in clf.template
        )
        text = torch.nn.functional.normalize(text, dim=-1)
        expected = (demo.model.logit_scale.exp() * image @ text.T).softmax(1).numpy()
    np.testing.assert_allclose(clf.zero_shot_proba(images), expected, atol=1e-5)


def test_bundled_clip_reads_digits_zero_shot(classifier, digits):
    accuracy = (classifier().zero_shot_proba(digits.images).argmax(1) == digits.target).mean()
    assert 0.5 <= accuracy <= 0.76


# -------------------------------------------------------------------- learning


def test_learns(fitted, embeddings, digits):
    assert fitted.score(embeddings, digits.target) > 0.7
    losses = [row["train_loss"] for row in fitted.history_]
    assert len(losses) == 20
    assert losses[-1] < losses[0]


def test_clean_score_tells_right_from_wrong_only_with_the_negative_prompt(
    classifier, embeddings, digits
):
    """The corrected sign at work: AUROC of z, mean of 5 seeds on 60 random labels."""
    from modal_clip_dual.evaluation import auroc_of_correctness

    def auroc(weight):
        values = []
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(1797)
            train, test = order[:60], order[60:]
            clf = classifier(negative_weight=weight, random_state=seed, max_epochs=20, criterion="dual")
            clf.fit(embeddings[train], digits.target[train])
            proba, z = clf.predict_proba(embeddings[test]), clf.clean_logits(embeddings[test])
            k = proba.argmax(1)
            values.append(auroc_of_correctness(z[np.arange(len(k)), k], k == digits.target[test]))
        return np.mean(values)

    assert auroc(1.0) > 0.6
    assert abs(auroc(0.0) - 0.5) < 0.1


def test_all_columns_though_labels_are_few(classifier, embeddings, digits):
    rows = np.flatnonzero(digits.target < 2)[:6]
    clf = classifier().fit(embeddings[rows], digits.target[rows])
    np.testing.assert_array_equal(clf.classes_, np.arange(10))
    assert clf.predict_proba(embeddings[:3]).shape == (3, 10)
    clf.fit(embeddings[:1], digits.target[:1])
    assert clf.predict_proba(embeddings[:3]).shape == (3, 10)


def test_zero_negative_weight_is_coop(classifier, labelled):
    """The positive prompt is trained as if there were no negative one, which stays as drawn."""
    plain = classifier(negative_weight=0).fit(*labelled)
    other = classifier(negative_weight=0, complement="hard", detach_positive=True).fit(*labelled)
    np.testing.assert_array_equal(plain.predict_proba(labelled[0]), other.predict_proba(labelled[0]))
    untrained = classifier(negative_weight=0, lr=1e-12).fit(*labelled)
    torch.testing.assert_close(
        plain.net_.module_.context_negative, untrained.net_.module_.context_negative
    )


@pytest.mark.parametrize("complement", ["uniform", "all", "hard"])
def test_detached_positive_prompt_equals_coop(classifier, labelled, complement):
    # A few steps: one prompt's text is encoded alone and beside another, and training makes more of what that rounds.
    coop = classifier(negative_weight=0, max_epochs=1).fit(*labelled)
    detached = classifier(complement=complement, detach_positive=True, max_epochs=1).fit(*labelled)
    np.testing.assert_allclose(
        detached.predict_proba(labelled[0]), coop.predict_proba(labelled[0]), atol=1e-4
    )
    assert np.abs(detached.clean_logits(labelled[0]) - coop.clean_logits(labelled[0])).max() > 0.1


@pytest.mark.parametrize(
    "params",
    [
        {"complement": "all"},
        {"complement": "hard"},
        {"negative_weight": 0.1},
        {"detach_positive": True},
        {"lr": 0.1},
        {"max_epochs": 2},
        {"batch_size": 5},
        {"momentum": 0.0},
        {"weight_decay": 0.5},
        {"gradient_clip_value": None},
        {"n_context": 3},
        {"random_state": 1},
        {"net_params": {"optimizer": torch.optim.AdamW}},
    ],
)
def test_every_training_parameter_matters(classifier, labelled, params):
    default = classifier().fit(*labelled).clean_logits(labelled[0])
    changed = classifier(**params).fit(*labelled).clean_logits(labelled[0])
    assert np.abs(default - changed).max() > 1e-4


def test_learning_rate_decays_along_a_cosine_per_step(classifier, labelled):
    clf = classifier(lr=0.1, batch_size=10, max_epochs=3).fit(*labelled)
    rates = [step["event_lr"] for row in clf.history_ for step in row["batches"]]
    expected = [0.05 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_gradient_of_each_context_is_clipped(classifier, labelled):
    """One step of plain SGD moves a context by lr times its gradient, clipped to the norm."""
    one_step = {"max_epochs": 1, "batch_size": 40, "momentum": 0.0, "weight_decay": 0.0}

    def moved(value):
        contexts = []
        for lr in (1e-30, 1.0):  # the same initial contexts, not moved and moved
            clf = classifier(**one_step, lr=lr, gradient_clip_value=value).fit(*labelled)
            contexts.append([p.detach().clone() for p in clf.net_.module_.parameters()])
        return [(b - a).norm().item() for a, b in zip(*contexts)]

    norms = moved(None)
    between = sum(norms) / len(norms)
    assert moved(min(norms) / 4) == pytest.approx([min(norms) / 4] * len(norms), rel=1e-3)
    assert moved(between) == pytest.approx([min(n, between) for n in norms], rel=1e-3)
    assert moved(max(norms) * 4) == pytest.approx(norms, rel=1e-3)


def test_no_backbone_weight_moves(classifier, labelled, demo):
    before = {key: value.clone() for key, value in demo.model.state_dict().items()}
    classifier().fit(*labelled)
    assert all(torch.equal(before[key], value) for key, value in demo.model.state_dict().items())
    assert all(parameter.grad is None for parameter in demo.model.parameters())


def test_net_params_reach_skorch(classifier, labelled):
    from skorch.callbacks import Callback

    class Count(Callback):
        epochs = 0

        def on_epoch_end(self, net, **kwargs):
            Count.epochs += 1

    from torch.utils.data import DataLoader

    params = {"callbacks": [("count", Count())], "iterator_train": DataLoader}
    clf = classifier(net_params=params).fit(*labelled)
    assert Count.epochs == 5
    assert len(clf.history_) == 5


# -------------------------------------------------------------------- random state


def test_same_seed_same_result_and_global_state_untouched(classifier, labelled):
    np.random.seed(0)
    torch.manual_seed(0)
    states = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = classifier().fit(*labelled).clean_logits(labelled[0])
    classifier(random_state=None).fit(*labelled)
    np.testing.assert_array_equal(np.random.get_state()[1], states[0])
    assert torch.equal(torch.get_rng_state(), states[1])
    np.random.seed(7)
    torch.manual_seed(7)
    np.testing.assert_array_equal(classifier().fit(*labelled).clean_logits(labelled[0]), first)


def test_random_state_none_and_instance_vary(classifier, labelled):
    for state in (None, np.random.RandomState(0)):
        clf = classifier(random_state=state)
        outputs = [clf.fit(*labelled).clean_logits(labelled[0]) for _ in range(2)]
        assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_fit_starts_anew_and_partial_fit_goes_on(classifier, labelled):
    clf = classifier().fit(*labelled)
    first = clf.clean_logits(labelled[0])
    clf.partial_fit(*labelled)
    assert len(clf.history_) == 10
    assert [row["epoch"] for row in clf.history_] == list(range(1, 11))
    losses = [row["train_loss"] for row in clf.history_]  # single epochs draw their complements
    assert np.mean(losses[5:]) < 0.7 * np.mean(losses[:5]) and losses[5] < losses[1]
    np.testing.assert_array_equal(clf.fit(*labelled).clean_logits(labelled[0]), first)
    assert len(clf.history_) == 5


def test_partial_fit_from_nothing_is_fit(classifier, labelled):
    a = classifier().fit(*labelled).clean_logits(labelled[0])
    b = classifier().partial_fit(*labelled).clean_logits(labelled[0])
    np.testing.assert_array_equal(a, b)


def test_partial_fit_classes(digits, embeddings):
    def fresh():
        return DualPromptClassifier(
            model_name="demo", pretrained="bundled", device="cpu", max_epochs=1
        )

    names = np.array(digits.class_names)
    clf = fresh().partial_fit(embeddings[:4], names[digits.target[:4]], classes=names)
    np.testing.assert_array_equal(clf.classes_, np.sort(names))
    with pytest.raises(ValueError, match=r"classes=\['one'\] differs"):
        clf.partial_fit(embeddings[:1], ["one"], classes=["one"])
    with pytest.raises(ValueError, match=r"y\[0\] is 'ten'"):
        clf.partial_fit(embeddings[:1], ["ten"])


# -------------------------------------------------------------------- forms of X


def test_images_paths_and_embeddings_agree(fitted, digits, embeddings, tmp_path):
    images = digits.images[:20]
    paths = [str(tmp_path / f"{k}.png") for k in range(20)]
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    colour = np.repeat(images[..., None], 3, axis=3)
    expected = fitted.predict_proba(embeddings[:20])
    forms = [images, colour, torch.from_numpy(images), paths, np.array(paths)]
    forms += [pd.DataFrame({"path": paths}), embeddings[:20].astype(float), embeddings[:20] * 7]
    forms += [torch.tensor(embeddings[:20], requires_grad=True), list(images)]
    for form in forms:
        np.testing.assert_allclose(fitted.predict_proba(form), expected, atol=1e-4)
    np.testing.assert_allclose(fitted.transform(paths), embeddings[:20], atol=of_tower(), rtol=0)
    np.testing.assert_allclose(fitted.transform(embeddings[:20] * 7), embeddings[:20], atol=of_products(128), rtol=0)


def test_fit_on_images_equals_fit_on_embeddings(classifier, digits, embeddings):
    a = classifier().fit(digits.images[:30], digits.target[:30])
    b = classifier().fit(embeddings[:30], digits.target[:30])
    np.testing.assert_allclose(a.predict_proba(embeddings), b.predict_proba(embeddings), atol=1e-4)
    assert b.n_features_in_ == 128
    assert not hasattr(a, "n_features_in_")


def test_memory_mapped_embeddings_are_not_copied(fitted, embeddings, tmp_path):
    np.save(tmp_path / "pool.npy", embeddings)
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    array, _ = fitted._prepare(mapped)
    assert np.shares_memory(array, mapped)
    np.testing.assert_array_equal(fitted.predict(mapped), fitted.predict(embeddings))


def test_prediction_in_batches(fitted, embeddings, monkeypatch):
    expected = fitted.clean_logits(embeddings)
    for module in ("inference", "training"):
        monkeypatch.setattr(f"modal_clip_dual.nn.{module}.PREDICTION_BATCH", 100)
    batched = copy.deepcopy(fitted)  # its net is made anew
    assert len(batched.net_.get_iterator(batched.net_.get_dataset(embeddings))) == 18
    np.testing.assert_allclose(batched.clean_logits(embeddings), expected, atol=1e-4)


def test_the_net_alone_predicts_the_same(fitted, embeddings):
    scale = fitted.net_.module_.text_encoder.backbone.logit_scale
    np.testing.assert_allclose(
        fitted.net_.predict_proba(embeddings[:50]), fitted.predict_proba(embeddings[:50]),
        atol=of_probabilities(scale), rtol=0,
    )  # fmt: skip


def test_feature_names(classifier, embeddings, digits):
    frame = pd.DataFrame(embeddings[:30], columns=[f"e{k}" for k in range(128)])
    clf = classifier().fit(frame, digits.target[:30])
    assert clf.feature_names_in_[3] == "e3"
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.rename(columns={"e0": "other"}))


# -------------------------------------------------------------------- labels


@pytest.mark.parametrize("as_type", [list, np.array, np.int8, float, pd.Series])
def test_integer_labels_are_positions(classifier, embeddings, digits, as_type):
    y = digits.target[:30]
    y = as_type(y) if as_type in (list, np.array, pd.Series) else y.astype(as_type)
    clf = classifier().fit(embeddings[:30], y)
    np.testing.assert_array_equal(clf.classes_, np.arange(10))
    assert clf.predict(embeddings[:2]).dtype.kind == "i"


def test_names_as_labels_are_sorted(classifier, embeddings, digits):
    names = np.array(digits.class_names)
    # Exact complements, so that the two differ in nothing but the order of the columns.
    by_name, by_number = classifier(complement="all"), classifier(complement="all")
    by_name.set_params(max_epochs=1).fit(embeddings[:40], names[digits.target[:40]])
    by_number.set_params(max_epochs=1).fit(embeddings[:40], digits.target[:40])
    np.testing.assert_array_equal(by_name.classes_, np.sort(names))
    order = np.argsort(names)
    for method, tolerance in (("zero_shot_proba", 1e-5), ("predict_proba", 1e-3)):
        expected = getattr(by_number, method)(embeddings)[:, order]
        np.testing.assert_allclose(getattr(by_name, method)(embeddings), expected, atol=tolerance)
    assert (by_name.predict(embeddings) == names[by_number.predict(embeddings)]).mean() > 0.99


@pytest.mark.parametrize(
    "labels", [list("jihgfedcba"), list(range(-5, 5)), [10**15 + k for k in range(10)]]
)
def test_mapping_of_labels(digits, embeddings, labels):
    class_names = dict(zip(labels, digits.class_names))
    y = [labels[k] for k in digits.target[:60]]
    clf = DualPromptClassifier(
        class_names, model_name="demo", pretrained="bundled", max_epochs=20, random_state=0, device="cpu"
    ).fit(embeddings[:60], y)
    assert clf.classes_.tolist() == sorted(labels)
    truth = np.array([labels[k] for k in digits.target])
    assert (clf.predict(embeddings) == truth).mean() > 0.6
    zero_shot = clf.classes_[clf.zero_shot_proba(embeddings).argmax(1)]
    assert (zero_shot == truth).mean() > 0.5


def test_classes_from_labels(digits, embeddings):
    names = np.array(digits.class_names)[digits.target[:60]]
    clf = DualPromptClassifier(
        model_name="demo", pretrained="bundled", max_epochs=20, random_state=0, device="cpu"
    ).fit(embeddings[:60], names)
    assert clf.classes_.tolist() == sorted(digits.class_names)
    assert clf.score(embeddings, np.array(digits.class_names)[digits.target]) > 0.6


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 10, 3], r"y\[2\] is 10, which is not a label of class_names.*\[0, 1, 2"),
        ([0, 1, -1, 3], r"y\[2\] is -1"),
        (["zero", "ten", "two", "two"], r"y\[1\] is 'ten'.*'eight'"),
        ([0, 1, 2], r"X has 4 rows but y has 3 labels"),
        ([0, 1, np.nan, 3], r"y\[2\] is missing"),
        ([0.5, 1, 2, 3], r"Unknown label type"),
        (None, r"requires y to be passed"),
        ([0, 1, None, 3], r"y\[2\] is missing"),
        ([0, "one", 2, 3], r"y\[0\] is"),
    ],
)
def test_wrong_labels(classifier, embeddings, y, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(embeddings[:4], y)


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (["zero"], r"names 1 class\(es\): \['zero'\]; expected at least two"),
        ([], r"names 0 class"),
        (["zero", ""], r"class_names contains ''"),
        (["zero", "_"], r"class_names contains '_'"),
        (["zero", 1], r"class_names contains 1; expected a non-empty string"),
        (["zero", "one", "zero"], r"class_names contains 'zero' more than once"),
        (["zero", "Zero"], r"'zero' and 'Zero' give the same tokens"),
        ({0: "zero", "one": "one"}, r"class_names has labels of several types"),
        ({1: "a", "1": "b", "2": "c"}, r"class_names has labels of several types"),
        (["zero", "number " * 80], r"class name 'number .* is too long"),
        ("zero", r"'class_names' parameter"),
    ],
)
def test_wrong_class_names(embeddings, class_names, message):
    clf = DualPromptClassifier(class_names, model_name="demo", pretrained="bundled", device="cpu")
    with pytest.raises(ValueError, match=message):
        clf.fit(embeddings[:4], [0, 1, 0, 1])


def test_one_class_without_names(embeddings):
    clf = DualPromptClassifier(model_name="demo", pretrained="bundled")
    with pytest.raises(ValueError, match="y contains one class only"):
        clf.fit(embeddings[:4], [1, 1, 1, 1])
    with pytest.raises(NotFittedError, match="pass class_names"):
        clf.zero_shot_proba(embeddings[:4])


# -------------------------------------------------------------------- wrong input


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda X: X[:, :64],
            ValueError,
            r"X has 64 features.*expecting 128.*model_name='demo', pretrained='bundled'",
        ),
        (lambda X: np.where(X > 0.1, np.nan, X), ValueError, "X contains NaN"),
        (lambda X: np.where(X > 0.1, np.inf, X), ValueError, "X contains infinity"),
        (lambda X: X[:0], ValueError, r"0 sample\(s\)"),
        (lambda X: ["no/such/file.png"], FileNotFoundError, r"X\[0\].*no/such/file\.png"),
        (lambda X: X.reshape(-1, 8, 16), ValueError, "expected uint8"),
    ],
)
def test_wrong_X(fitted, embeddings, method, make, error, message):
    with pytest.raises(error, match=message):
        getattr(fitted, method)(make(embeddings[:5]))


@pytest.mark.parametrize(
    ("X", "y", "error"),
    [
        (["no/such/file.png"], [0], FileNotFoundError),
        (np.full((2, 128), np.nan), [0, 1], ValueError),
        (np.ones((2, 128)), [0], ValueError),
        (np.ones((2, 128)), [0, 10], ValueError),
        (np.ones((2, 8, 8)), [0, 1], ValueError),
    ],
)
def test_wrong_input_is_refused_before_the_clip_is_loaded(classifier, monkeypatch, X, y, error):
    def fail(*args):
        raise AssertionError("the CLIP was loaded")

    monkeypatch.setattr("modal_clip_dual.clip.backbone.load_backbone", fail)
    with pytest.raises(error):
        classifier().fit(X, y)


def test_fitted_estimator_keeps_what_it_was_fitted_with(classifier, labelled, digits):
    clf = classifier().fit(*labelled)
    X = digits.images[:5]
    methods = ("clean_logits", "predict_correct_proba", "transform", "zero_shot_proba")
    before = [getattr(clf, method)(X) for method in methods]
    clf.set_params(model_name="RN50", pretrained=None, complement="hard", n_context=3)
    for again in (clf, pickle.loads(pickle.dumps(clf))):
        for method, expected in zip(methods, before):
            np.testing.assert_array_equal(getattr(again, method)(X), expected)


def test_refit_on_images_forgets_the_columns_of_embeddings(classifier, digits, embeddings):
    frame = pd.DataFrame(embeddings[:30]).add_prefix("e")
    clf = classifier(max_epochs=1).fit(frame, digits.target[:30])
    clf.fit(digits.images[:30], digits.target[:30])
    assert not hasattr(clf, "feature_names_in_")
    clf.predict(embeddings[:3])


def test_validation_split_and_early_stopping_of_skorch(classifier, embeddings, digits):
    from skorch.callbacks import EarlyStopping
    from skorch.dataset import ValidSplit

    params = {"train_split": ValidSplit(3), "callbacks": [("stop", EarlyStopping(patience=2))]}
    clf = classifier(net_params=params, lr=1e-9, max_epochs=30)
    clf.fit(embeddings[:60], digits.target[:60])
    assert len(clf.history_) < 30
    assert all(np.isfinite(row["valid_loss"]) for row in clf.history_)


def test_wrong_X_in_fit_leaves_a_fitted_estimator_as_it_was(classifier, labelled):
    X, y = labelled
    clf = classifier().fit(X, y)
    before = clf.clean_logits(X)
    state = {key: id(value) for key, value in vars(clf).items()}
    for bad_X, bad_y in ((X[:, :64], y), (X * np.nan, y), (X, y + 100), (X[:3], y)):
        with pytest.raises(ValueError):
            clf.fit(bad_X, bad_y)
    with pytest.raises(TypeError, match="no_such"):
        clf.set_params(net_params={"optimizer__no_such": 1}).fit(X, y)
    clf.set_params(net_params=None)
    assert {key: id(value) for key, value in vars(clf).items()} == state
    np.testing.assert_array_equal(clf.clean_logits(X), before)


def test_interrupted_fit_leaves_the_estimator_as_it_was(classifier, labelled):
    from skorch.callbacks import Callback

    class Interrupt(Callback):
        def on_epoch_end(self, net, **kwargs):
            signal.raise_signal(signal.SIGINT)  # what Ctrl-C does

    clf = classifier()
    interrupted = clone(clf).set_params(net_params={"callbacks": [Interrupt()]})
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(*labelled)
    with pytest.raises(NotFittedError):
        interrupted.predict(labelled[0])
    clf.fit(*labelled)
    before = clf.clean_logits(labelled[0])
    clf.set_params(net_params={"callbacks": [Interrupt()]})
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*labelled)
    np.testing.assert_array_equal(clf.clean_logits(labelled[0]), before)


def test_diverging_training_is_an_error(classifier, labelled):
    with pytest.raises(FloatingPointError, match="smaller lr"):
        classifier(lr=1e38).fit(*labelled)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_context": 0}, "'n_context' parameter"),
        ({"negative_weight": -1}, "'negative_weight' parameter"),
        ({"complement": "none"}, "'complement' parameter"),
        ({"lr": 0}, "'lr' parameter"),
        ({"max_epochs": 0}, "'max_epochs' parameter"),
        ({"batch_size": 1.5}, "'batch_size' parameter"),
        ({"momentum": 1}, "'optimizer__momentum' parameter"),
        ({"gradient_clip_value": 0}, "'gradient_clip_value' parameter"),
        ({"precision": "float32"}, "'precision' parameter"),
        ({"device": "gpu"}, "device='gpu' cannot be used"),
        ({"n_context": 76}, "n_context=76 is too long"),
        ({"net_params": {"lr": 1}}, r"net_params\['lr'\].*argument of DualPromptClassifier"),
        ({"net_params": {"criterion": 1}}, r"net_params\['criterion'\]"),
        ({"net_params": {"predict_nonlinearity": None}}, r"net_params\['predict_nonlinearity'\]"),
        ({"net_params": {"callbacks": "disable"}}, r"expected a list of callbacks"),
        ({"net_params": {"module__seed": 1}}, r"net_params\['module__seed'\]"),
    ],
)
def test_wrong_parameters(classifier, labelled, params, message):
    with pytest.raises(ValueError, match=message):
        classifier(**params).fit(*labelled)


@pytest.mark.parametrize("template", ["a photo", [], ["{}", 3], "{} {}", "{} {x}", "{{}}", "{"])
def test_wrong_template(classifier, embeddings, template):
    with pytest.raises(ValueError, match="template"):
        classifier(template=template).zero_shot_proba(embeddings[:2])


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("zero_shot_proba", "transform")])
def test_not_fitted(classifier, embeddings, method):
    with pytest.raises(NotFittedError):
        getattr(classifier(), method)(embeddings[:2])
    with pytest.raises(AttributeError, match="not fitted"):
        classifier().net_


# -------------------------------------------------------------------- state


def test_clone_and_params(classifier, labelled):
    clf = classifier(lr=0.3).fit(*labelled)
    copied = clone(clf)
    assert copied.get_params() == clf.get_params()
    assert not hasattr(copied, "classes_")
    assert "lr=0.3" in repr(copied)


@pytest.mark.parametrize("dump", ["pickle", "joblib", "deepcopy"])
def test_saved_estimator_is_small_and_predicts_the_same(fitted, embeddings, tmp_path, dump):
    if dump == "pickle":
        data = pickle.dumps(fitted)
        assert len(data) < 100_000
        again = pickle.loads(data)
    elif dump == "joblib":
        joblib.dump(fitted, tmp_path / "clf.joblib")
        assert (tmp_path / "clf.joblib").stat().st_size < 100_000
        again = joblib.load(tmp_path / "clf.joblib")
    else:
        again = copy.deepcopy(fitted)
    np.testing.assert_array_equal(again.clean_logits(embeddings), fitted.clean_logits(embeddings))
    assert [row["train_loss"] for row in again.history_] == [
        row["train_loss"] for row in fitted.history_
    ]
    again.partial_fit(embeddings[:30], np.arange(30) % 10)
    assert len(again.history_) == 40
    assert len(fitted.history_) == 20


def test_pickle_holds_no_backbone_weight(fitted, demo):
    data = pickle.dumps(fitted)
    for parameter in demo.model.state_dict().values():
        raw = parameter.numpy().tobytes()
        assert raw[:64] not in data or len(raw) < 64


def test_loaded_in_another_process(fitted, embeddings, tmp_path):
    """Nothing of the first process is needed: the backbone is loaded by name on first use."""
    import subprocess
    import sys

    joblib.dump(fitted, tmp_path / "clf.joblib")
    np.save(tmp_path / "X.npy", embeddings[:50])
    code = (
        "import joblib, numpy as np, sys; clf = joblib.load('clf.joblib');"
        "assert 'open_clip' not in sys.modules;"
        "np.save('z.npy', clf.clean_logits(np.load('X.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    np.testing.assert_allclose(
        np.load(tmp_path / "z.npy"), fitted.clean_logits(embeddings[:50]), atol=1e-4
    )


def test_parameters_changed_after_pickling_do_not_reach_the_prompts(fitted, embeddings):
    again = pickle.loads(pickle.dumps(fitted))
    again.set_params(n_context=4, random_state=np.random.RandomState(0))
    np.testing.assert_array_equal(again.clean_logits(embeddings), fitted.clean_logits(embeddings))


# -------------------------------------------------------------------- scikit-learn around it


def test_pipeline_grid_search_and_cross_validation(classifier, embeddings, digits):
    X, y = embeddings[:90], digits.target[:90]
    pipeline = make_pipeline(FunctionTransformer(), classifier(max_epochs=2))
    values, folds = [2, 5], KFold(2)
    search = GridSearchCV(pipeline, {"dualpromptclassifier__n_context": values}, cv=folds)
    search.fit(X, y)
    expected = [
        np.mean(
            [
                classifier(max_epochs=2, n_context=n).fit(X[a], y[a]).score(X[b], y[b])
                for a, b in folds.split(X)
            ]
        )
        for n in values
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected)
    assert search.best_params_ == {"dualpromptclassifier__n_context": values[np.argmax(expected)]}
    assert search.predict_proba(X).shape == (90, 10)
    scores = cross_val_score(classifier(max_epochs=2), X, y, cv=folds, scoring="neg_log_loss")
    losses = [
        log_loss(y[b], classifier(max_epochs=2).fit(X[a], y[a]).predict_proba(X[b]), labels=range(10))
        for a, b in folds.split(X)
    ]
    np.testing.assert_allclose(scores, np.negative(losses))


def test_verbose_prints_epochs_only_when_asked(classifier, labelled, capsys):
    classifier(max_epochs=1).fit(*labelled)
    assert capsys.readouterr() == ("", "")
    classifier(max_epochs=1, verbose=2).fit(*labelled)
    assert "train_loss" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["clip", "custom", "siglip", "coca"])
def test_every_kind_of_text_tower(checkpoints, kind):
    images = np.random.default_rng(0).integers(0, 255, (12, 16, 16), dtype=np.uint8)
    clf = DualPromptClassifier(
        ["cat", "dog"],
        model_name=f"local-dir:{checkpoints[kind]}",
        pretrained=None,
        n_context=4,
        max_epochs=2,
        device="cpu",
        random_state=0,
    ).fit(images, np.arange(12) % 2)
    assert np.isfinite(clf.clean_logits(images)).all()
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(images), clf.predict_proba(images))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_gpu_agrees_with_cpu(classifier, embeddings, digits, precision):
    X, y = embeddings[:60], digits.target[:60]
    params = {"complement": "all", "max_epochs": 20}
    cpu = classifier(**params).fit(X, y)
    gpu = classifier(**params, device="cuda", precision=precision).fit(X, y)
    again = pickle.loads(pickle.dumps(gpu)).set_params(device="cpu", precision="fp32")
    tolerance = 1e-2 if precision == "fp32" else 2.0
    assert np.abs(gpu.clean_logits(embeddings) - cpu.clean_logits(embeddings)).max() < tolerance
    assert np.abs(again.clean_logits(embeddings) - gpu.clean_logits(embeddings)).max() < tolerance
    assert gpu.predict_proba(embeddings).dtype == np.float32


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's own, while it traces
def test_compiled_module(classifier, embeddings, digits, monkeypatch):
    """skorch's ``compile`` wraps the module; the compiler itself is not needed here."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    plain = classifier().fit(embeddings[:60], digits.target[:60])
    clf = classifier(net_params={"compile": True}).fit(embeddings[:60], digits.target[:60])
    assert hasattr(clf.net_.module_, "_orig_mod")
    expected = plain.predict_proba(embeddings[:100])
    for compiled in (clf, pickle.loads(pickle.dumps(clf))):
        np.testing.assert_allclose(compiled.predict_proba(embeddings[:100]), expected, atol=1e-5)
        np.testing.assert_allclose(compiled.coef_, plain.coef_, atol=1e-4)
    clf.partial_fit(embeddings[:60], digits.target[:60])
    assert clf.score(embeddings, digits.target) > 0.5
