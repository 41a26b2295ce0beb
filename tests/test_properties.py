"""Inputs of every form: the same answer as for plain float32 rows, or an error that names the argument.

docs/inputs.md tells what comes out of each; `test_the_table_is_backed` holds the two together.
"""

import re
import warnings
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LABELLED, make_classifier
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import DataConversionWarning

from modal_clip_dual import (
    CLIPImageEncoder,
    DualPromptClassifier,
    TipAdapterClassifier,
    mine_confident,
    negative_prompt_sampling,
    random_sampling,
)
from modal_clip_dual._compat import query_returns_metrics
from modal_clip_dual.strategies import available_strategies, get_strategy
from modal_clip_dual.utils import selection, validation
from modal_clip_dual.utils.labels import check_labels, encode_labels, resolve_labels

METHODS = (
    "predict",
    "predict_proba",
    "clean_logits",
    "predict_correct_proba",
    "transform",
    "zero_shot_proba",
)
D = 128
# Nothing is drawn from the clock: a failure here is a failure everywhere.
few = settings(
    max_examples=25, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
many = settings(few, max_examples=200)


def unaligned(X):
    raw = bytearray(1 + X.nbytes)
    view = np.frombuffer(raw, dtype=np.uint8)[1:].view(np.uint8)
    view[:] = np.ascontiguousarray(X).view(np.uint8).ravel()
    return np.ndarray(X.shape, X.dtype, buffer=raw, offset=1)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


# How the rows are given -> function that makes it of float32 rows, and the tolerance of the answers.
FORMS = {
    "float16": (lambda X: X.astype(np.float16), 2e-1),
    "float64": (lambda X: X.astype(np.float64), 1e-6),
    "longdouble": (lambda X: X.astype(np.longdouble), 1e-6),
    "big-endian": (lambda X: X.astype(">f4"), 1e-6),
    "object": (lambda X: X.astype(object), 1e-6),
    "Fortran order": (np.asfortranarray, 1e-6),
    "every second row": (lambda X: np.repeat(X, 2, axis=0)[::2], 1e-6),
    "every second column": (lambda X: np.repeat(X, 2, axis=1)[:, ::2], 1e-6),
    "backwards": (lambda X: X[::-1, ::-1].copy()[::-1, ::-1], 1e-6),
    "unaligned": (unaligned, 1e-6),
    "read-only": (read_only, 1e-6),
    "list of lists": (lambda X: X.tolist(), 1e-6),
    "list of arrays": (list, 1e-6),
    "tuple": (lambda X: tuple(map(tuple, X.tolist())), 1e-6),
    "DataFrame": (pd.DataFrame, 1e-6),
    "DataFrame with an odd index": (lambda X: pd.DataFrame(X, index=[7] * len(X)), 1e-6),
    "torch": (torch.tensor, 1e-6),
    "torch with requires_grad": (lambda X: torch.tensor(X, requires_grad=True), 1e-6),
    "torch, a graph behind it": (lambda X: torch.tensor(X, requires_grad=True) * 1, 1e-6),
    "torch float64": (lambda X: torch.tensor(X).double(), 1e-6),
    "torch bfloat16": (lambda X: torch.tensor(X).bfloat16(), 2e0),
    "torch, transposed": (lambda X: torch.tensor(X.T.copy()).T, 1e-6),
    "one row twice (stride 0)": (lambda X: np.broadcast_to(X[:1], X.shape), None),
    "scaled by 1e-10": (lambda X: X * np.float32(1e-10), 1e-4),
    "scaled by 1e17": (lambda X: X * np.float32(1e17), 1e-4),
    "float64 scaled by 1e17": (lambda X: X.astype(float) * 1e17, 1e-4),
}


def plain(X):
    """Float32, C-contiguous, writeable: what every form means."""
    return np.array(X, dtype=np.float32, order="C")


def copied(X):
    """The values, whatever holds them, in an array of its own."""
    X = X.detach().double().numpy() if hasattr(X, "detach") else X
    return np.array(X, dtype=np.float64)


def answers(clf, X):
    return {method: getattr(clf, method)(X) for method in METHODS}


def assert_close(actual, expected, tolerance):
    for method, output in expected.items():
        assert type(actual[method]) is np.ndarray
        assert actual[method].shape == output.shape
        if output.dtype.kind == "f":
            scale = 100 if method == "clean_logits" else 1
            np.testing.assert_allclose(actual[method], output, atol=tolerance * scale, err_msg=method)


# -------------------------------------------------------------------- X


@pytest.mark.parametrize("form", FORMS)
@settings(few, max_examples=4)
@given(n=st.integers(1, 50), start=st.integers(0, 1700))
def test_embeddings_in_every_form(fitted, embeddings, form, n, start):
    make, tolerance = FORMS[form]
    X = embeddings[start : start + n]
    given_X = make(X)
    before = copied(given_X)
    if tolerance is None:
        X, tolerance = copied(given_X).astype(np.float32), 1e-6
    assert_close(answers(fitted, given_X), answers(fitted, plain(X)), tolerance)
    after = copied(given_X)
    np.testing.assert_array_equal(after, before)  # and X is not written to


@pytest.mark.parametrize("form", [name for name in FORMS if "1e17" not in name and name != "object"])
def test_training_on_every_form(classifier, embeddings, digits, form):
    make, tolerance = FORMS[form]
    X, y = embeddings[LABELLED[:16]], digits.target[LABELLED[:16]]
    given_X = make(X)
    X = copied(given_X).astype(np.float32) if tolerance is None else X
    expected = classifier(max_epochs=1, complement="all").fit(plain(X), y)
    clf = classifier(max_epochs=1, complement="all").fit(given_X, y)
    tolerance = tolerance or 1e-6
    tolerance = 1e-5 if tolerance < 1e-4 else 10 * tolerance
    np.testing.assert_allclose(
        clf.predict_proba(embeddings[:50]), expected.predict_proba(embeddings[:50]), atol=tolerance
    )


@few
@given(
    values=hnp.arrays(
        dtype=st.sampled_from([np.int8, np.uint8, np.int16, np.int32, np.uint64, np.int64]),
        shape=st.tuples(st.integers(1, 6), st.just(D)),
        elements={"min_value": 0, "max_value": 100},
    )
)
def test_whole_numbers_as_embeddings(fitted, values):
    assert_close(answers(fitted, values), answers(fitted, plain(values)), 1e-6)


@few
@given(
    row=st.integers(0, 4),
    exponent=st.integers(-45, 300),
    dtype=st.sampled_from([np.float32, np.float64]),
    training=st.booleans(),
)
def test_lengths_beyond_float32_are_right_or_refused(
    fitted, classifier, embeddings, digits, row, exponent, dtype, training
):
    """Embeddings of any length: scaled right, or refused with the row; never to zero or inf."""
    X = embeddings[:5].astype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        X[row] = X[row].astype(np.float64) * 10.0**exponent

    def use(X):
        if training:
            return classifier(max_epochs=1, complement="all").fit(X, digits.target[:5]).transform(X)
        return fitted.transform(X)

    largest = np.abs(X[row].astype(np.longdouble)).max()
    if largest == 0:  # has become zero before it came here
        assert use(X)[row].max() == 0
    elif np.isfinite(largest) and 1e-11 < largest < 1e17:
        np.testing.assert_allclose(use(X), embeddings[:5], atol=1e-5)
    elif 1e-13 < largest < 1e-11 or 1e17 < largest < 1e19:  # either, next to the limits
        try:
            np.testing.assert_allclose(use(X), embeddings[:5], atol=1e-5)
        except ValueError as error:
            assert f"X[{row}]" in str(error)
    else:
        with pytest.raises(ValueError, match=rf"X\[{row}\] has values up to|X contains infinity"):
            use(X)


def test_lengths_of_mapped_files_are_checked_too(fitted, embeddings, tmp_path):
    pool = embeddings[:40].copy()
    pool[33] *= 1e20
    np.save(tmp_path / "pool.npy", pool)
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    with pytest.raises(
        ValueError, match=r"X\[33\] has values up to .*e\+19.*expected embeddings of a length"
    ):
        fitted.predict(mapped)
    with pytest.raises(ValueError, match=r"X\[33\] has values up to"):
        negative_prompt_sampling(fitted, mapped, 3)


def test_row_of_zeros_has_no_direction_and_every_class_is_as_likely(fitted, embeddings):
    X = embeddings[:3].copy()
    X[1] = 0
    np.testing.assert_allclose(fitted.predict_proba(X)[1], 0.1, atol=1e-6)
    assert not fitted.transform(X)[1].any()


@settings(few, max_examples=100)
@given(
    shape=hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    dtype=st.sampled_from(
        [
            np.float32,
            np.float64,
            np.int64,
            np.uint8,
            bool,
            np.complex64,
            "U5",
            "S3",
            "M8[s]",
            "m8[s]",
            object,
        ]
    ),
    method=st.sampled_from(METHODS),
)
def test_any_array_is_answered_or_refused(fitted, shape, dtype, method):
    X = np.zeros(shape, dtype=dtype)
    try:
        output = getattr(fitted, method)(X)
    except (ValueError, TypeError, FileNotFoundError) as error:
        assert re.search(r"\bX\b|found array|[Cc]omplex|sample", str(error)), error
    else:
        assert len(output) == len(X)
        assert np.isfinite(output).all()


@pytest.mark.parametrize(
    "X",
    [None, 3, "one path", b"x", {}, {"a": 1}, object(), [], [[]], [[1, 2], [3]], [None], [["a", 1.0]],
     lambda: 0, iter([1]), pd.DataFrame(), pd.Series(dtype=float),
     np.ma.masked_array(np.ones((2, D)), mask=True),
     np.rec.array([(1.0, 2)], dtype=[("a", float), ("b", int)]), torch.zeros(0, D),
     torch.zeros(2, 3, 4, 5, 6)],
    ids=lambda X: type(X).__name__,
)  # fmt: skip
@pytest.mark.parametrize("estimator", ["classifier", "encoder"])
def test_what_is_no_X_at_all(fitted, X, estimator):
    """Refused, with the argument's name (a masked array counts as its data, as in scikit-learn)."""
    use = (
        fitted.predict
        if estimator == "classifier"
        else CLIPImageEncoder("demo", "bundled", device="cpu").transform
    )
    try:
        output = use(X)
    except (ValueError, TypeError) as error:
        assert re.search(r"\bX\b|sample|array", str(error)), error
    else:
        assert isinstance(X, np.ma.MaskedArray)
        assert len(output) == 2


# What is no image or takes long to make of it aside, an image is an image in every layout.
IMAGE_FORMS = {
    "C order": np.ascontiguousarray,
    "Fortran order": np.asfortranarray,
    "read-only": read_only,
    "backwards": lambda X: X[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "torch": torch.tensor,
    "list": list,
    "nested lists": lambda X: X.tolist(),
    "colour": lambda X: np.repeat(X[..., None], 3, axis=3),
    "one channel": lambda X: X[..., None],
    "with transparency": lambda X: np.concatenate([np.repeat(X[..., None], 3, 3), 0 * X[..., None]], 3),
}


@pytest.mark.parametrize("form", IMAGE_FORMS)
def test_images_in_every_form(fitted, digits, embeddings, form):
    X = IMAGE_FORMS[form](digits.images[:9])
    assert_close(answers(fitted, X), answers(fitted, embeddings[:9]), 1e-5)


@pytest.mark.filterwarnings("ignore:the images of X have values up to")
@few
@given(
    image=hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4])),
    )
)
def test_images_of_any_size(fitted, image):
    proba = fitted.predict_proba(image)
    assert np.isfinite(proba).all()
    one_by_one = [fitted.set_params().predict_proba(image[k : k + 1])[0] for k in range(len(image))]
    np.testing.assert_allclose(proba, one_by_one, atol=1e-5)


@few
@given(
    dtype=st.sampled_from([np.int8, np.int16, np.float16, np.float32, np.float64, bool]),
    n=st.integers(1, 3),
)
def test_images_of_another_type_are_refused(fitted, dtype, n):
    with pytest.raises(ValueError, match=r"X has shape .* expected uint8 from 0 to 255"):
        fitted.predict(np.ones((n, 8, 8), dtype=dtype))


# -------------------------------------------------------------------- labels

LABELS = {
    "str": st.text(min_size=1, max_size=8).filter(lambda s: "\0" not in s and s.replace("_", " ").strip()),
    "int": st.integers(-(2**62), 2**62),
    "negative": st.integers(-100, -1),
    "huge": st.integers(2**53, 2**63 - 1),
    "small": st.integers(0, 3),
}
AS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "object": lambda y: np.array(y, dtype=object),
    "Series": lambda y: pd.Series(y, index=range(5, 5 + len(y))),
    "column": lambda y: np.array(y),
}


def names_for(n):
    return [f"class {k}" for k in range(n)]


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("container", AS)
@pytest.mark.filterwarnings("ignore:y has the label")  # that looks like a missing value
@few
@given(data=st.data())
def test_labels_of_every_type_come_back_as_they_are(kind, container, data):
    labels = data.draw(st.lists(LABELS[kind], min_size=2, max_size=6, unique=True))
    y = data.draw(st.lists(st.sampled_from(labels), min_size=1, max_size=20))
    given_y = AS[container](y)
    mapping = dict(zip(labels, names_for(len(labels))))
    checked = check_labels(given_y)
    classes, names, target = resolve_labels(mapping, checked)
    assert classes.tolist() == sorted(labels)
    assert [mapping[label] for label in classes.tolist()] == names
    assert [classes.tolist()[k] for k in target] == y
    seen = sorted(set(y))
    if len(seen) > 1:  # no class_names: the labels are their own names
        try:
            classes, names, target = resolve_labels(None, checked)
        except ValueError as error:
            assert "class_names" in str(error)
        else:
            assert classes.tolist() == seen
            assert [classes.tolist()[k] for k in target] == y


NUMPY_TYPES = [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.float32, np.float64]


@pytest.mark.parametrize("dtype", NUMPY_TYPES)
def test_numpy_labels_are_positions(classifier, embeddings, digits, dtype):
    y = digits.target[LABELLED[:8]]
    expected = classifier(max_epochs=1).fit(embeddings[LABELLED[:8]], y)
    clf = classifier(max_epochs=1).fit(embeddings[LABELLED[:8]], y.astype(dtype))
    np.testing.assert_array_equal(clf.clean_logits(embeddings[:9]), expected.clean_logits(embeddings[:9]))
    np.testing.assert_array_equal(clf.predict(embeddings[:9]), expected.predict(embeddings[:9]))


def test_inside_of_estimators_that_number_the_labels(embeddings, digits):
    """VotingClassifier passes 0 to C - 1 in the sorted order of the names."""
    names = np.array(digits.class_names)[digits.target]

    def vote(class_names):
        clf = DualPromptClassifier(
            class_names, model_name="demo", pretrained="bundled", device="cpu", max_epochs=3, random_state=0
        )
        return VotingClassifier([("a", clf)], voting="soft").fit(embeddings[:200], names[:200]), clf

    ensemble, clf = vote(sorted(digits.class_names))
    alone = clf.fit(embeddings[:200], names[:200])
    np.testing.assert_array_equal(ensemble.predict(embeddings), alone.predict(embeddings))
    assert ensemble.score(embeddings[200:], names[200:]) > 0.6
    mapped, _ = vote({name: name for name in digits.class_names})
    np.testing.assert_array_equal(mapped.predict(embeddings), alone.predict(embeddings))


@pytest.mark.parametrize("class_names", [["no", "yes"], {False: "no", True: "yes"}, None])
def test_booleans_as_labels(embeddings, class_names):
    y = np.array([True, False, True, True])
    clf = DualPromptClassifier(
        class_names, model_name="demo", pretrained="bundled", device="cpu", max_epochs=1, random_state=0
    ).fit(embeddings[:4], y)
    assert set(clf.predict(embeddings[:20]).tolist()) <= {False, True}
    np.testing.assert_array_equal(clf.classes_, [False, True])


@few
@given(
    y=st.lists(
        st.one_of(
            st.none(), st.floats(), st.text(max_size=3), st.integers(-5, 15), st.booleans(),
            st.binary(max_size=2), st.tuples(st.integers()), st.complex_numbers(allow_nan=False),
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_any_labels_are_taken_or_refused(fitted, embeddings, y):
    """Mixed and broken labels: positions of the ten classes, or an error that names y."""
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", DataConversionWarning)  # of labels in a column
            checked = check_labels(y)
            classes, _, target = resolve_labels(fitted.class_names, checked)
    except (ValueError, TypeError) as error:
        assert re.search(r"\by\b|label|class|Unknown", str(error)), error
    else:
        for label, k in zip(checked.tolist(), target):
            assert classes[k] == label


@pytest.mark.parametrize(
    "y",
    [
        np.array([0, (1, 2), 3, None], dtype=object),
        [0, 1, 2, 3, 4],
        [0, 1, 2],
        [[0, 1], [1, 0], [1, 1], [0, 0]],
        [0, 1, 2, 10],
        [0, 1, 2, -1],
        [0, 1, 2, 2**70],
        [0j, 1j, 2j, 3j],
        np.array([0, 1, 2, 3j], dtype=object),
        ["a", "b", "c", b"\x80"],
    ],
)
def test_labels_that_do_not_fit(classifier, embeddings, y):
    with pytest.raises((ValueError, TypeError), match=r"\by\b|Unknown label|labels"):
        classifier(max_epochs=1).fit(embeddings[:4], y)


# -------------------------------------------------------------------- class names

NAMES = st.lists(st.text(max_size=12), min_size=0, max_size=5)


@few
@given(names=NAMES)
def test_class_names_of_any_text(embeddings, names):
    """Unicode, emoji, control characters, underscores, empty and equal names."""
    clf = DualPromptClassifier(
        names,
        model_name="demo",
        pretrained="bundled",
        device="cpu",
        max_epochs=1,
        n_context=2,
        random_state=0,
    )
    y = np.arange(4) % max(1, len(names))
    try:
        clf.fit(embeddings[:4], y)
    except ValueError as error:
        assert re.search("class_names|class name|class_names contains", str(error)), error
        return
    proba = clf.predict_proba(embeddings[:5])
    assert proba.shape == (5, len(names))
    assert np.isfinite(proba).all()
    assert clf.zero_shot_proba(embeddings[:5]).shape == (5, len(names))
    shown = [name.replace("_", " ") for name in names]
    assert len(set(shown)) == len(names)  # names that look the same to CLIP were refused


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", ""], r"class_names contains ''"),
        (["a", "  \t"], r"class_names contains '  \\t'"),
        (["a", "_" * 9], r"class_names contains '_________'"),
        (["a", "a"], r"class_names contains 'a' more than once"),
        (["sea_lake", "sea lake"], r"'sea_lake' and 'sea lake' give the same tokens"),
        (["dog", "Cat", " cat "], r"'Cat' and ' cat ' give the same tokens"),
        (["a", "word " * 200], r"class name 'word word .* is too long"),
        (["a", "x" * 100_000], r"class name 'xxx.* is too long"),
        (["a", "\U0001f600" * 60], r"class name .* is too long"),
    ],
)  # fmt: skip
def test_class_names_that_are_refused(embeddings, names, message):
    demo = {"model_name": "demo", "pretrained": "bundled", "device": "cpu"}
    with pytest.raises(ValueError, match=message):
        DualPromptClassifier(names, max_epochs=1, **demo).fit(embeddings[:4], [0, 1, 0, 1])
    if len(names[1]) != 60:  # which fits into a prompt without a learned context
        for call in ("fit", "zero_shot_proba"):
            arguments = ([0, 1, 0, 1],) if call == "fit" else ()
            with pytest.raises(ValueError, match=message):
                getattr(TipAdapterClassifier(names, **demo), call)(embeddings[:4], *arguments)


@pytest.mark.parametrize(
    "names",
    [
        ["Łódź", "北京"],
        ["مرحبا", "שלום"],
        ["😀", "😢"],
        ["annual_crop", "sea_lake"],
        ["{}", "{0}"],
        ["<start>", "%s"],
    ],
)
def test_class_names_of_every_script(embeddings, names):
    clf = DualPromptClassifier(
        names,
        model_name="demo",
        pretrained="bundled",
        device="cpu",
        max_epochs=1,
        n_context=2,
        random_state=0,
    ).fit(embeddings[:4], [names[k % 2] for k in range(4)])
    assert clf.classes_.tolist() == sorted(names)
    assert set(clf.predict(embeddings[:9]).tolist()) <= set(names)
    assert np.isfinite(clf.zero_shot_proba(embeddings[:3])).all()


# -------------------------------------------------------------------- n_instances and pools


@pytest.mark.parametrize("name", available_strategies())
@settings(few, max_examples=8)
@given(data=st.data())
def test_every_strategy_on_every_pool(learner_for, embeddings, name, data):
    n_pool = data.draw(st.integers(1, 50))
    n = data.draw(st.integers(1, n_pool))
    start = data.draw(st.integers(0, 1700))
    as_type = data.draw(st.sampled_from([int, np.int8, np.int64, np.uint16]))
    pool = embeddings[start : start + n_pool]
    strategy = get_strategy(name)
    kwargs = {"random_state": 0} if "random_state" in signature(strategy).parameters else {}
    learner = learner_for(name)
    result = strategy(learner, pool, as_type(n), **kwargs)
    rows = np.asarray(result[0] if query_returns_metrics() else result)
    assert rows.shape == (n,)
    assert len(set(rows.tolist())) == n
    assert rows.min() >= 0
    assert rows.max() < n_pool
    double = strategy(learner, pool.astype(np.float64), n, **kwargs)
    if name in ("negative-prompt", "random"):  # no distances whose last digits decide
        np.testing.assert_array_equal(np.asarray(double[0] if query_returns_metrics() else double), rows)


@many
@given(
    n=st.one_of(st.integers(-5, 60), st.floats(), st.booleans(), st.none(), st.text(max_size=2)),
    n_pool=st.integers(0, 50),
)
def test_numbers_of_instances(n, n_pool):
    fits = isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= n_pool
    if fits:
        assert validation.check_n_instances(n, n_pool) == n
        return
    with pytest.raises((ValueError, TypeError), match=r"n_instances=|X_pool is empty"):
        validation.check_n_instances(n, n_pool)


@many
@given(data=st.data(), n_classes=st.integers(1, 6), n_pool=st.integers(1, 50))
def test_equal_shares(data, n_classes, n_pool):
    """The rule of the paper: floor(n / C) lowest of each class, or all it has; always n rows."""
    scores = data.draw(
        hnp.arrays(np.float64, n_pool, elements=st.sampled_from([-100.0, 0.0, 0.5, 17.0, 1e30]))
    )
    predicted = data.draw(hnp.arrays(np.int64, n_pool, elements=st.integers(0, n_classes - 1)))
    n = data.draw(st.integers(1, n_pool))
    for remainder in selection.REMAINDERS:
        rows = selection.select_per_class(scores, predicted, n, n_classes, remainder)
        assert len(rows) == len(set(rows.tolist())) == n
        for k in range(n_classes):
            size, share = (predicted == k).sum(), n // n_classes
            taken = predicted[rows] == k
            assert taken.sum() >= min(size, share)
            left = np.setdiff1d(np.flatnonzero(predicted == k), rows)
            if taken.any() and len(left):
                assert scores[rows[taken]].max() <= scores[left].min()


@few
@given(n_per_class=st.integers(0, 60), exclude=st.sets(st.integers(0, 29)))
def test_mining(fitted, embeddings, n_per_class, exclude):
    rows, labels = mine_confident(fitted, embeddings[:30], n_per_class, exclude=sorted(exclude))
    predicted = fitted.predict(embeddings[:30])
    assert not set(rows.tolist()) & exclude
    assert len(rows) == len(set(rows.tolist()))
    np.testing.assert_array_equal(labels, predicted[rows])
    left = np.setdiff1d(np.arange(30), sorted(exclude))
    expected = sum(min(n_per_class, (predicted[left] == k).sum()) for k in range(10))
    assert len(rows) == expected


@settings(few, max_examples=6)
@given(
    n=st.integers(1, 24),
    batch_size=st.integers(1, 30),
    n_pseudo=st.integers(0, 9),
    pseudo=st.integers(1, 30),
)
def test_batches_of_every_size(embeddings, digits, n, batch_size, n_pseudo, pseudo):
    clf = make_classifier(digits, max_epochs=1, batch_size=batch_size, pseudo_batch_size=pseudo)
    extra = {"X_pseudo": embeddings[30 : 30 + n_pseudo], "y_pseudo": digits.target[30 : 30 + n_pseudo]}
    clf.fit(embeddings[:n], digits.target[:n], **(extra if n_pseudo else {}))
    steps = max(-(-n // batch_size), -(-n_pseudo // pseudo))
    assert len(clf.history_[0]["batches"]) == steps
    assert np.isfinite(clf.clean_logits(embeddings[:5])).all()


@settings(few, max_examples=6)
@given(n_pool=st.integers(1, 50), n_per_class=st.integers(1, 60))
def test_round_zero_on_every_pool(embeddings, digits, n_pool, n_per_class):
    clf = make_classifier(digits, max_epochs=1).fit_unlabeled(embeddings[:n_pool], n_per_class)
    zero_shot = clf.zero_shot_proba(embeddings[:n_pool]).argmax(axis=1)
    np.testing.assert_array_equal(clf.pseudo_labels_, zero_shot[clf.pseudo_rows_])
    assert len(clf.pseudo_rows_) == sum(min(n_per_class, (zero_shot == k).sum()) for k in range(10))


def test_random_sampling_is_not_about_values(embeddings):
    """A strategy that looks at no value takes a pool of anything."""
    for pool in (embeddings[:5], list("abcde"), pd.DataFrame({"a": range(5)}), torch.zeros(5, 2)):
        result = random_sampling(None, pool, 2, random_state=0)
        assert len(result[0] if query_returns_metrics() else result) == 2


@many
@given(
    labels=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=8, unique=True),
    other=st.integers(-(2**62), 2**62),
)
def test_unknown_labels_are_named(labels, other):
    classes = np.sort(np.array(labels))
    if other in labels:
        assert classes[encode_labels(np.array([other]), classes)[0]] == other
        return
    with pytest.raises(ValueError, match=rf"y\[1\] is {other}, which is not a label"):
        encode_labels(np.array([labels[0], other]), classes)


def test_the_table_is_backed():
    """Every row of docs/inputs.md names tests that exist."""
    root = Path(__file__).parents[1]
    lines = (root / "docs" / "inputs.md").read_text(encoding="utf-8").splitlines()
    rows = [
        line
        for line in lines
        if line.startswith("| ") and not line.startswith(("| ---", "| input", "| what"))
    ]
    assert len(rows) > 25
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        for name in named:
            assert f"def {name}(" in tests, name
