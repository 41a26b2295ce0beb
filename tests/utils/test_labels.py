"""Labels, what they are called, and who numbers them."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier

from modal_clip_dual import DualPromptClassifier, TestTimeCentroids
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


def test_labels_that_were_not_passed_are_called_by_their_argument(fitted_learner):
    learner, _ = fitted_learner
    requires = "^this call requires {0} to be passed, but the target {0} is None; expected a 1-d array"
    for call, name in (
        (lambda: check_labels(None, "y_pool"), "y_pool"),
        (lambda: learner.run(None), "oracle"),
        (lambda: learner.teach(rows=[5], y=None), "y"),
        (lambda: learner.relabel([1], None), "y"),
        (lambda: classifier(None).fit(np.eye(2, 128), None), "y"),
    ):
        with pytest.raises(ValueError, match=requires.format(name)):
            call()


def test_nan_never_becomes_a_class():
    with pytest.raises(ValueError, match=r"y\[0\] is missing \(nan\)"):
        classifier(["nan", "bread"]).fit(np.eye(2, 128), [np.nan, "bread"])
    with pytest.warns(UserWarning, match="y has the label 'nan': a missing value"):
        resolve_labels(None, np.array([np.nan, "bread"]))
    assert resolve_labels(["nan", "bread"], np.array(["nan", "bread"]))[2].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 1.5], "1.5, no whole number. Unknown label type: continuous"),
        (np.array([0, 1, 1.5, 2.5], dtype=np.float16), "1.5, no whole number"),
        (np.array([0, 1, 0.5], dtype=object), "0.5, no whole number"),
        (np.array([True, 1, 0.5], dtype=object), "0.5, no whole number"),
        (pd.Series([0, 1, -0.5], index=[7, 8, 9]), "-0.5, no whole number"),
        (torch.tensor([0, 1, 1.5]), "1.5, no whole number"),
        ([0, 1, 1 + 2**-52], "1.0000000000000002, no whole number"),
        ([0, 1, np.inf], "inf: Input labels contains infinity"),
        ([0, 1, -1e300], r"-1e\+300, too large for a whole number"),
        (np.array([0, 1, "a"], dtype=object), "'a', a str, beside 0. Unknown label type: unknown; .* of one type"),
        (np.array(["a", "b", 1.5], dtype=object), "1.5, a float, beside 'a'"),
        (np.array(["a", "b", {"a": 1}], dtype=object), "{'a': 1}, a dict. Unknown label type: unknown"),
        (np.array(["a", "b", b"c"], dtype=object), "b'c', a bytes"),
        (["a", "b", ("c", "d")], r"\('c', 'd'\), a sequence among labels; expected one label each"),
    ],
    ids=repr,
)
def test_labels_that_are_none_are_named_by_row(y, message):
    with pytest.raises(ValueError, match=rf"^labels\[2\] is {message}"):
        check_labels(y, "labels")


def test_whole_numbers_in_columns_of_objects():
    for y in ([0, 1, 2.0], [0, 1, np.int8(2)], [False, 1, 2.0]):
        assert check_labels(np.array(y, dtype=object)).tolist() == [0, 1, 2]
    assert check_labels([2.0**53, -(2.0**62)]).tolist() == [2**53, -(2**62)]


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
    for call in (learner.teach, learner.relabel):
        with pytest.raises(ValueError, match=r"^y\[1\] is 1.5, no whole number"):
            call(rows=[1, 2], y=[1, 1.5])
    with pytest.raises(ValueError, match=r"^y\[1\] is 1.5, no whole number"):
        classifier(None).fit(learner.X_pool[:2], [1, 1.5])
    assert learner.rows_.tolist() == [0, 1, 2]


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
        ([*"1234567890"], [1, 2, 9], True),  # 0 never occurs, and positions are others than the names
        (["1 star", "2 stars", "3 stars"], [1, 2, 1], True),
        (["level 2", "level 1", "level 0"], [0, 2], True),
        (["level 0", "level 1", "level 2"], [1, 2], False),
        (["1 star", "2 stars", "3 stars"], [0, 1, 2], False),
        (["BMW 3", "Audi 1", "Ford 7"], [1, 2], False),  # numbers with gaps count nothing
        (["1 of 2", "2 of 2"], [1, 1], False),
        (["zero", "one", "two", "three"], [1, 2, 3], False),  # a labeled part without a zero
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


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 2, 3], r"y\[2\] is 3, .* from 0. If these begin at 1, pass y - 1, or a mapping: (class_names=.*)$"),
        ([0, 2, 3], r"y\[2\] is 3, which is not a label of class_names; expected one of \[0, 1, 2\]$"),
        ([2, -1, 0], r"y\[1\] is -1, .*. pandas and scikit-learn give -1 to what is missing"),
        ([1, 2, 4], r"expected one of \[0, 1, 2\]$"),
    ],
)
def test_positions_that_somebody_else_counted(y, message):
    names = ["cat", "dog", "bird"]
    with pytest.raises(ValueError, match=message) as caught:
        resolve_labels(names, np.array(y))
    if "mapping" in message:
        advised = eval(re.search(message, str(caught.value))[1].removeprefix("class_names="), {"names": names})
        classes, called, target = resolve_labels(advised, np.array(y))
        assert classes[target].tolist() == y and [called[k] for k in target] == names
    with pytest.raises(ValueError, match=r"\]$"):  # labels of a mapping count from where it says
        resolve_labels({5: "cat", 6: "dog"}, np.array(y))


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
    "voting": lambda clf, n_jobs=None: VotingClassifier([("a", clf), ("b", clf)], voting="soft", n_jobs=n_jobs),
    "bagging": lambda clf, n_jobs=None: BaggingClassifier(clf, 3, max_samples=300, random_state=0, n_jobs=n_jobs),
    "stacking": lambda clf, n_jobs=None: StackingClassifier([("a", clf)], LogisticRegression(), cv=2, n_jobs=n_jobs),
    "voting of bagging": lambda clf, n_jobs=None: VotingClassifier(
        [("a", BaggingClassifier(clf, 2, bootstrap=False, random_state=0)), ("b", clf)], n_jobs=n_jobs
    ),
    "voting of search": lambda clf, n_jobs=None: VotingClassifier(
        [("a", GridSearchCV(clf, {"alpha": [1.0]}, cv=2))], n_jobs=n_jobs
    ),
    "voting of a wrapper": lambda clf, n_jobs=None: VotingClassifier([("a", TestTimeCentroids(clf))], n_jobs=n_jobs),
    "cross_val_predict": lambda clf, n_jobs=None: CrossValidated(clf, n_jobs),
}


class CrossValidated:
    """Of more folds than joblib takes from its generator at once."""

    def __init__(self, clf, n_jobs):
        self.clf, self.n_jobs = clf, n_jobs

    def fit(self, X, y):
        proba = cross_val_predict(self.clf, X, y, cv=7, method="predict_proba", n_jobs=self.n_jobs)
        self.found = np.unique(y)[proba.argmax(axis=1)]
        return self

    def predict(self, X):
        return self.found


def class_names_in_every_form(names):
    return {
        "sorted": sorted(names),
        "unsorted": names,
        "mapping": {name: name for name in names},
        "None": None,
    }


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("inside", INSIDE)
def test_numbers_of_other_estimators_mean_what_they_were_made_of(embeddings, digits, inside, n_jobs):
    """Whatever the form of the names, and though a class has no label.

    In threads, as in worker processes, the ensemble is not among the calling functions.
    """
    names = np.array(digits.class_names)[digits.target]
    rows = np.flatnonzero(names != "five")[:300]
    X, y = embeddings[rows], names[rows]
    present = sorted(set(y.tolist()))
    expected = INSIDE[inside](classifier(present)).fit(X, y).predict(X)  # positions, as they are numbered
    assert np.mean(expected == y) > 0.6
    with parallel_config("threading"):
        for form, class_names in class_names_in_every_form(digits.class_names).items():
            ensemble = INSIDE[inside](classifier(class_names), n_jobs).fit(X, y)
            np.testing.assert_array_equal(ensemble.predict(X), expected, err_msg=form)


def test_inside_of_calibration(embeddings, digits):
    """Its predictions out of fold are those of cross_val_predict; it takes no class without a label."""
    X, y = embeddings[:300], np.array(digits.class_names)[digits.target[:300]]
    found = {}
    with parallel_config("threading"):
        for form, class_names in class_names_in_every_form(digits.class_names).items():
            model = CalibratedClassifierCV(classifier(class_names), cv=2, ensemble=False, n_jobs=2).fit(X, y)
            found[form] = model.predict_proba(embeddings)
    for form, proba in found.items():
        np.testing.assert_allclose(proba, found["sorted"], atol=1e-5, err_msg=form)
    assert np.mean(model.predict(X) == y) > 0.6


@pytest.mark.parametrize("inside", ["voting", "bagging", "voting of bagging", "cross_val_predict"])
def test_integers_as_labels_that_are_numbered(embeddings, digits, inside):
    """Positions in the names, of which one has no label: number 5 is label 6."""
    rows = np.flatnonzero(digits.target != 5)[:300]
    X, y = embeddings[rows], digits.target[rows]
    present = [name for k, name in enumerate(digits.class_names) if k != 5]
    expected = INSIDE[inside](classifier(dict(zip(sorted(set(y.tolist())), present)))).fit(X, y).predict(X)
    found = INSIDE[inside](classifier(digits.class_names)).fit(X, y).predict(X)
    np.testing.assert_array_equal(found, expected)
    named = np.array(digits.class_names)[y]
    by_name = np.array(digits.class_names)[expected]
    assert np.mean(by_name == named) > 0.6


def test_the_classifier_inside_goes_on(embeddings, digits, tmp_path):
    """It predicts numbers, is saved and loaded; a fit of its own has labels of its own."""
    names = np.array(digits.class_names)[digits.target]
    rows = np.arange(200)
    ensemble = INSIDE["voting"](classifier(digits.class_names)).fit(embeddings[rows], names[rows])
    inner = ensemble.estimators_[0]
    alone = classifier(sorted(digits.class_names)).fit(embeddings[rows], names[rows])
    np.testing.assert_array_equal(ensemble.classes_[inner.predict(embeddings)], alone.predict(embeddings))
    inner.save(tmp_path / "inner.npz")
    loaded = TipAdapterClassifier.load(tmp_path / "inner.npz")
    np.testing.assert_array_equal(loaded.predict(embeddings), inner.predict(embeddings))
    again = clone(inner).fit(embeddings[rows], digits.target[rows])
    plain = classifier(digits.class_names).fit(embeddings[rows], digits.target[rows])
    np.testing.assert_array_equal(again.predict(embeddings), plain.predict(embeddings))
    inner.fit(embeddings[rows], digits.target[rows]).set_params(class_names=sorted(digits.class_names))
    with pytest.raises(ValueError, match="class_names has changed since the fit"):
        inner.predict(embeddings)


def test_a_label_without_a_name_is_told_as_the_ensemble_was_given_it(embeddings, digits):
    names = np.array(digits.class_names)[digits.target[:100]]
    names[3] = "sevn"
    with pytest.raises(ValueError, match="y of VotingClassifier has the label 'sevn', which is not a label of clas"):
        INSIDE["voting"](classifier(digits.class_names)).fit(embeddings[:100], names)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("inside", [OneVsRestClassifier, OneVsOneClassifier, OutputCodeClassifier])
def test_one_class_against_others_is_refused(embeddings, digits, inside, n_jobs):
    names = np.array(digits.class_names)[digits.target[:100]]
    with parallel_config("threading"):
        for class_names, shown in ((digits.class_names, "names 10 classes"), (None, "is None")):
            with pytest.raises(ValueError, match=f"passes labels 0 and 1, .* class_names {shown}"):
                inside(classifier(class_names), n_jobs=n_jobs).fit(embeddings[:100], names)


@pytest.mark.parametrize("inside", [OneVsRestClassifier, OneVsOneClassifier])
def test_one_class_against_the_other(embeddings, digits, inside):
    rows = np.flatnonzero(np.isin(digits.target, [0, 1]))[:80]
    names = np.array(["zero", "one"])[digits.target[rows]]
    for class_names in (["one", "zero"], ["zero", "one"], None):
        found = inside(classifier(class_names)).fit(embeddings[rows[:20]], names[:20]).predict(embeddings[rows])
        assert np.mean(found == names) > 0.9


def test_in_workers_where_the_labels_cannot_be_seen(monkeypatch):
    """A worker's calls begin with scikit-learn's function for it; here no clone knows anything."""
    code = "def _fit_single_estimator(call):\n    call()\n"
    scope = {"__name__": "sklearn.ensemble._base"}
    exec(code, scope)
    for class_names in (["b", "a"], ["a", "b", "c"], None, {0: "a", 1: "b"}):
        with pytest.raises(ValueError, match="labels cannot be seen .* names of all labels, sorted, or n_jobs=None"):
            scope["_fit_single_estimator"](lambda: resolve_labels(class_names, np.array([0, 1])))
    scope["_fit_single_estimator"](lambda: resolve_labels(["a", "b"], np.array([0, 1])))
