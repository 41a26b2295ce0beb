"""Labels, what they are called, and who numbers them."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier

from modal_clip_dual import DualPromptClassifier
from modal_clip_dual.heads.tip_adapter import TipAdapterClassifier
from modal_clip_dual.utils.labels import check_labels, check_meaning, resolve_labels

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


def classifier(class_names):
    return TipAdapterClassifier(class_names, **DEMO)


# ---------------------------------------------------------------- missing labels

NAMES = ["cat", "dog", "cat", None]


@pytest.mark.parametrize(
    "y",
    [
        NAMES,
        ["cat", "dog", "cat", np.nan],
        ("cat", "dog", "cat", pd.NA),
        np.array(NAMES, dtype=object),
        np.array([0.0, 1.0, 2.0, np.nan]),
        np.array([0, 1, 2, np.float32("nan")], dtype=object),
        pd.Series(NAMES),
        pd.Series(NAMES, dtype="string"),
        pd.Series(pd.Categorical(NAMES)),
        pd.Categorical(NAMES),
        pd.Series([0, 1, 2, None], dtype="Int64"),
        pd.Series([0, 1, 2, np.nan]),
        pd.DataFrame({"label": NAMES}),
        np.ma.masked_array([0, 1, 2, 3], mask=[False, False, False, True]),
    ],
    ids=lambda y: type(y).__name__,
)
def test_missing_labels_are_named_by_row(y):
    with pytest.raises(ValueError, match=r"^labels\[3\] is missing \(.*expected a label for every sample"):
        check_labels(y, "labels")


def test_nan_never_becomes_a_class():
    with pytest.raises(ValueError, match=r"y\[0\] is missing \(nan\)"):
        classifier(["nan", "bread"]).fit(np.eye(2, 128), [np.nan, "bread"])
    with pytest.warns(UserWarning, match="y has the label 'nan': a missing value"):
        resolve_labels(None, np.array([np.nan, "bread"]))
    assert resolve_labels(["nan", "bread"], np.array(["nan", "bread"]))[2].tolist() == [1, 0]


def test_labels_that_numpy_would_ask_for_items_are_refused():
    class Endless:
        def __getitem__(self, k):
            raise AssertionError("an item was asked for")

    with pytest.raises(TypeError, match=r"y is a Endless.*expected a 1-d array of class labels"):
        check_labels(Endless())


def test_row_in_the_message_is_that_of_the_call(fitted_learner):
    learner, names = fitted_learner
    with pytest.raises(ValueError, match=r"^y\[1\] is 'oen', which is not a label"):
        learner.teach(rows=[5, 6], y=[names[0], "oen"])


@pytest.fixture
def fitted_learner(embeddings, digits):
    from modal_clip_dual import DualPromptLearner

    names = np.array(digits.class_names)
    learner = DualPromptLearner(classifier(digits.class_names), embeddings[:60], n_per_class=0)
    learner.teach(rows=[0, 1, 2], y=names[digits.target[:3]])
    return learner, names


# ---------------------------------------------------------------- positions and names


@pytest.mark.parametrize(
    ("names", "y", "ambiguous"),
    [
        ([str(k) for k in range(1, 11)], [1, 2, 9], True),
        (["1", "10", "2"], [1, 2, 1], True),
        (["01", "02", "03"], [1, 2, 2], True),
        (["1.0", "2.0", "3"], [1, 2, 2], True),
        (["2", "1", "cat"], [1, 2, 1], True),
        ([str(k) for k in range(10)], [1, 2, 9], False),  # positions are the names
        ([str(k) for k in range(1, 11)], [0, 1, 2], False),  # there is no class 0
        (["cat", "dog", "2"], [0, 1, 2], False),
        ([str(k) for k in range(1, 11)], ["1", "2", "9"], False),
    ],
)
def test_numbers_that_may_be_names_are_warned_of(names, y, ambiguous):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classes, resolved, target = resolve_labels(names, np.array(y))
    assert ("class_names numbers as text" in " ".join(str(w.message) for w in caught)) == ambiguous
    called = [resolved[k] for k in target]
    assert called == ([names[k] for k in y] if isinstance(y[0], int) else y)


def test_what_the_warning_advises(embeddings, digits):
    """Names as text, and a mapping for positions, mean what they say and warn of nothing."""
    names = [str(k) for k in range(1, 11)]
    y = digits.target[:60]
    named = classifier(names).fit(embeddings[:60], (y + 1).astype(str))
    mapped = classifier(dict(enumerate(names))).fit(embeddings[:60], y)
    np.testing.assert_array_equal(named.predict(embeddings).astype(int), mapped.predict(embeddings) + 1)


REVERSED = ["c", "b", "a"]


@pytest.mark.parametrize(
    ("class_names", "changed"),
    [
        (["a", "b", "c"], False),
        (["a", "b", "c", "d"], False),
        (["a", "b"], False),
        (None, False),
        (REVERSED, True),
        (["new", "a", "b", "c"], True),
        ({0: "a", 1: "b", 2: "c"}, False),
        ({0: "b", 1: "a", 2: "c"}, True),
    ],
)
def test_positions_keep_their_meaning(class_names, changed):
    classes = np.arange(3)
    if changed:
        with pytest.raises(ValueError, match=r"class_names has changed since the fit: label 0 stood for 'a'"):
            check_meaning(class_names, classes, ["a", "b", "c"])
    else:
        check_meaning(class_names, classes, ["a", "b", "c"])
    if not isinstance(class_names, dict):  # labels that are names mean themselves
        check_meaning(class_names, np.array(["a", "b", "c"]), ["a", "b", "c"])


def test_other_order_after_a_fit_is_refused_until_the_next(embeddings, digits):
    clf = DualPromptClassifier(digits.class_names, **DEMO, max_epochs=1, random_state=0)
    clf.fit(embeddings[:60], digits.target[:60])
    before = clf.predict(embeddings)
    clf.set_params(class_names=digits.class_names[::-1])
    for call in (clf.predict, clf.clean_logits, clf.zero_shot_proba, lambda X: clf.partial_fit(X[:4], [0, 1, 2, 3])):
        with pytest.raises(ValueError, match="label 0 stood for 'zero' and would now stand for 'nine'"):
            call(embeddings)
    clf.set_params(class_names=[*digits.class_names, "ten"])
    np.testing.assert_array_equal(clf.predict(embeddings), before)
    clf.set_params(class_names=digits.class_names[::-1]).fit(embeddings[:60], 9 - digits.target[:60])
    assert np.mean(clf.predict(embeddings) == 9 - digits.target) > 0.5


# ---------------------------------------------------------------- forms of class names


FORMS = [pd.Series, pd.Index, pd.Categorical, np.array, tuple, lambda names: dict.fromkeys(names).keys()]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_class_names(embeddings, digits, form, tmp_path):
    given = form(digits.class_names)
    clf = clone(classifier(given)).fit(embeddings[:60], digits.target[:60])
    expected = classifier(digits.class_names).fit(embeddings[:60], digits.target[:60])
    np.testing.assert_array_equal(clf.predict_proba(embeddings), expected.predict_proba(embeddings))
    clf.save(tmp_path / "clf.npz")
    loaded = TipAdapterClassifier.load(tmp_path / "clf.npz")
    assert list(loaded.class_names) == digits.class_names
    assert repr(clf).startswith("TipAdapterClassifier(class_names=")


def test_names_by_position_instead_of_positions_by_name(embeddings):
    """torchvision's ``class_to_idx`` is the wrong way round; the message shows the right one."""
    with pytest.raises(ValueError, match=r"class_names maps names to int; .* such as \{0: 'cat', 1: 'dog'\}"):
        classifier({"cat": 0, "dog": 1}).fit(embeddings[:2], [0, 1])


# ---------------------------------------------------------------- inside of estimators that number labels

INSIDE = {
    "voting": lambda clf: VotingClassifier([("a", clf)], voting="soft"),
    "bagging": lambda clf: BaggingClassifier(clf, 2, random_state=0),
    "stacking": lambda clf: StackingClassifier([("a", clf)], LogisticRegression(), cv=2),
    "voting of bagging": lambda clf: VotingClassifier([("a", BaggingClassifier(clf, 2, random_state=0))]),
    "cross_val_predict": lambda clf: CrossValidated(clf),
}


class CrossValidated:
    def __init__(self, clf):
        self.clf = clf

    def fit(self, X, y):
        cross_val_predict(self.clf, X, y, cv=2, method="predict_proba")


@pytest.mark.parametrize("inside", INSIDE)
def test_numbers_of_other_estimators_are_never_silently_wrong(embeddings, digits, inside):
    X, y = embeddings[:400], digits.target[:400]
    names = np.array(digits.class_names)[y]
    seen = y != 5
    make = INSIDE[inside]
    make(classifier(sorted(digits.class_names))).fit(X, names)  # right, without a word
    make(classifier(digits.class_names)).fit(X, y)  # positions are numbered as they are
    with pytest.raises(ValueError, match=r"passes 0 for the label 'eight', but class_names has 'zero'"):
        make(classifier(digits.class_names)).fit(X, names)
    with pytest.raises(ValueError, match=r"passes 1 for the label 'four', but class_names has 'five'"):
        make(classifier(sorted(digits.class_names))).fit(X[seen], names[seen])
    with pytest.raises(ValueError, match=r"passes 5 for the label 6, but class_names has 'five'"):
        make(classifier(digits.class_names)).fit(X[seen], y[seen])
    with pytest.warns(UserWarning, match=r"numbers the labels .* class_names=\['eight', 'five'"):
        make(classifier(None)).fit(X, names)


def test_what_the_error_advises_is_right(embeddings, digits):
    X, names = embeddings[:400], np.array(digits.class_names)[digits.target[:400]]
    seen = names != "five"
    ensemble = INSIDE["voting"](classifier(sorted(set(names[seen])))).fit(X[seen], names[seen])
    alone = classifier(sorted(set(names[seen]))).fit(X[seen], names[seen])
    np.testing.assert_array_equal(ensemble.predict(embeddings), alone.predict(embeddings))


@pytest.mark.parametrize("inside", [OneVsRestClassifier, OneVsOneClassifier])
def test_one_class_against_others_is_refused(embeddings, digits, inside):
    names = np.array(digits.class_names)[digits.target[:100]]
    with pytest.raises(ValueError, match="passes labels 0 and 1, .* names 10 classes"):
        inside(classifier(digits.class_names)).fit(embeddings[:100], names)
    with pytest.warns(UserWarning, match="class_names is None: prompts call the classes"):
        inside(classifier(None)).fit(embeddings[:100], names)


def test_in_workers_where_the_labels_cannot_be_seen(monkeypatch):
    """A worker's calls begin with scikit-learn's function for it, without the estimator itself."""
    code = "def _fit_single_estimator(call):\n    call()\n"
    scope = {"__name__": "sklearn.ensemble._base"}
    exec(code, scope)
    with pytest.warns(UserWarning, match="only if the names are sorted and every class has a label"):
        scope["_fit_single_estimator"](lambda: resolve_labels(["b", "a"], np.array([0, 1])))
    with pytest.warns(UserWarning, match="only if the names are sorted"):
        scope["_fit_single_estimator"](lambda: resolve_labels(["a", "b", "c"], np.array([0, 1])))
    scope["_fit_single_estimator"](lambda: resolve_labels(["a", "b"], np.array([0, 1])))
