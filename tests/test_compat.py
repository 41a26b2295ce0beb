"""modAL's loops with every installed version, arrays and DataFrames alike."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from modAL.batch import ranked_batch, uncertainty_batch_sampling
from modAL.density import information_density
from modAL.disagreement import (
    consensus_entropy_sampling,
    max_disagreement_sampling,
    vote_entropy_sampling,
)
from modAL.models import ActiveLearner, Committee
from modAL.uncertainty import (
    classifier_margin,
    classifier_uncertainty,
    entropy_sampling,
    margin_sampling,
    uncertainty_sampling,
)
from modAL.utils import make_linear_combination, make_product, make_query_strategy
from modAL.utils.selection import multi_argmax
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modal_clip_dual import (
    CLIPImageEncoder,
    _compat,
    negative_prompt_sampling,
    negative_prompt_uncertainty,
    random_sampling,
)


@pytest.fixture
def paths(digits, tmp_path):
    names = [str(tmp_path / f"{k}.png") for k in range(60)]
    for name, image in zip(names, digits.images):
        Image.fromarray(image).save(name)
    return names


def forms(digits, embeddings, paths):
    return {
        "embeddings": embeddings[:60],
        "images": digits.images[:60],
        "list of images": list(digits.images[:60]),
        "paths": np.array(paths),
        "list of paths": list(paths),
        "frame of paths": pd.DataFrame({"path": paths}),
        "frame of embeddings": pd.DataFrame(embeddings[:60]).add_prefix("e"),
    }


def rows_of(X, rows):
    if isinstance(X, pd.DataFrame):
        return X.iloc[rows]
    return [X[k] for k in rows] if isinstance(X, list) else X[rows]


@pytest.mark.parametrize("unfitted", [False, True])
@pytest.mark.parametrize(
    "form",
    [
        "embeddings",
        "images",
        "list of images",
        "paths",
        "list of paths",
        "frame of paths",
        "frame of embeddings",
    ],
)
def test_loop(classifier, digits, embeddings, paths, form, unfitted):
    X, y = forms(digits, embeddings, paths)[form], digits.target[:60]
    start = {} if unfitted else {"X_training": rows_of(X, range(10)), "y_training": y[:10]}
    learner = ActiveLearner(
        classifier(max_epochs=2), query_strategy=negative_prompt_sampling, **start
    )
    expected = 0 if unfitted else 10
    for _ in range(2):
        chosen, instances = learner.query(X, n_instances=12)
        assert len(chosen) == len(instances) == 12
        learner.teach(instances, y[chosen])
        expected += 12
    assert len(learner.X_training) == len(learner.y_training) == expected
    assert type(learner.X_training) is type(X)
    assert learner.predict_proba(X).shape == (60, 10)
    assert 0 <= learner.score(X, y) <= 1


def test_teach_on_new_samples_only_and_bootstrap(classifier, embeddings, digits):
    learner = ActiveLearner(classifier(max_epochs=1))
    learner.fit(embeddings[:20], digits.target[:20])
    learner.teach(embeddings[20:30], digits.target[20:30], only_new=True)
    # modAL 0.4.1 remembers such samples, 0.4.2 does not.
    assert len(learner.X_training) in (20, 30)
    assert len(learner.estimator.history_) == 1
    learner.teach(embeddings[30:40], digits.target[30:40], bootstrap=True)
    assert learner.predict_proba(embeddings[:5]).shape == (5, 10)


@pytest.mark.parametrize("strategy", [uncertainty_sampling, margin_sampling, entropy_sampling])
def test_modals_own_strategies(fitted, embeddings, strategy):
    chosen, _ = ActiveLearner(fitted, query_strategy=strategy).query(embeddings, n_instances=9)
    assert len(set(chosen.tolist())) == 9


def rows_in(answer):
    """Rows of what a strategy or a helper of either modAL returns: them alone, or with metrics."""
    return np.asarray(answer[0] if isinstance(answer, tuple) else answer)


def test_ranked_batches_over_our_uncertainty(fitted, embeddings, digits):
    """modAL's ranked batch, fed with the negative prompt's utility: spread, and led by it."""
    learner = ActiveLearner(fitted)
    learner.X_training, learner.y_training = embeddings[:20], digits.target[:20]
    pool = np.concatenate([np.repeat(embeddings[100:101], 5, axis=0), embeddings[200:240]])
    uncertainty = negative_prompt_uncertainty(learner, pool)
    arguments = {"n_instances": 6, "metric": "euclidean", "n_jobs": None}
    rows = rows_in(ranked_batch(learner, pool, uncertainty, **arguments))
    assert len(set(rows.tolist())) == 6
    assert (rows < 5).sum() <= 1  # of equal samples one is enough
    flat = rows_in(ranked_batch(learner, pool, np.zeros(45), **arguments))
    assert flat.tolist() != rows.tolist()


def combine(kind):
    if kind == "linear":
        return make_linear_combination(
            classifier_uncertainty, negative_prompt_uncertainty, weights=[0.25, 0.75]
        )
    return make_product(classifier_margin, negative_prompt_uncertainty, exponents=[1, 2])


@pytest.mark.parametrize("kind", ["linear", "product"])
def test_combinations_of_utilities(fitted, embeddings, kind):
    learner, pool = ActiveLearner(fitted), embeddings[:80]
    ours = negative_prompt_uncertainty(fitted, pool)
    if kind == "linear":
        expected = 0.25 * classifier_uncertainty(fitted, pool) + 0.75 * ours
    else:
        expected = classifier_margin(fitted, pool) * ours**2
    np.testing.assert_allclose(combine(kind)(learner, pool), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "product"])
def test_strategy_made_of_a_combination(classifier, embeddings, digits, kind):
    strategy = make_query_strategy(combine(kind), lambda scores: multi_argmax(scores, n_instances=7))
    learner = ActiveLearner(
        classifier(max_epochs=1), strategy, X_training=embeddings[:20], y_training=digits.target[:20]
    )
    pool = embeddings[20:120]
    expected = np.argsort(-combine(kind)(learner, pool), kind="stable")[:7]
    assert set(rows_in(strategy(learner, pool)).tolist()) == set(expected.tolist())
    learner.teach(pool[expected], digits.target[20:120][expected])
    assert len(learner.X_training) == 27


def test_density_beside_our_uncertainty(fitted, embeddings):
    """modAL's density of the embeddings, as the weight of the utility: dense and doubtful first."""
    pool = fitted.transform(embeddings[:60])
    density = information_density(pool, "cosine")
    assert density.shape == (60,)
    weighted = negative_prompt_uncertainty(fitted, pool) * density
    strategy = make_query_strategy(
        lambda learner, X: negative_prompt_uncertainty(learner, X) * information_density(X, "cosine"),
        lambda scores: multi_argmax(scores, n_instances=3),
    )
    made = rows_in(strategy(ActiveLearner(fitted), pool))
    assert set(made.tolist()) == set(np.argsort(-weighted)[:3].tolist())


@pytest.mark.parametrize("loss", ["binary", "log"])
def test_expected_error_reduction(classifier, embeddings, digits, loss):
    """It fits a clone per candidate and label, so few of each."""
    from modAL.expected_error import expected_error_reduction

    rows = [int(np.flatnonzero(digits.target == k)[0]) for k in (0, 1)]
    learner = ActiveLearner(
        classifier(max_epochs=1, n_context=1), X_training=embeddings[rows], y_training=digits.target[rows]
    )
    before = learner.predict_proba(embeddings[:9])
    chosen = rows_in(expected_error_reduction(learner, embeddings[50:54], loss=loss, n_instances=2))
    assert len(set(chosen.astype(int).tolist())) == 2
    np.testing.assert_array_equal(learner.predict_proba(embeddings[:9]), before)


def test_deep_active_learner(classifier, embeddings, digits):
    """modAL 0.4.2's learner for skorch nets; 0.4.1 has none."""
    from modAL import models

    if not hasattr(models, "DeepActiveLearner"):
        pytest.skip("this modAL has no DeepActiveLearner")
    learner = models.DeepActiveLearner(classifier(max_epochs=1), query_strategy=negative_prompt_sampling)
    learner.fit(embeddings[:20], digits.target[:20])
    rows, instances = learner.query(embeddings[20:80], n_instances=10)
    assert len(set(np.asarray(rows).tolist())) == len(instances) == 10
    learner.teach(instances, digits.target[20:80][rows])
    assert learner.predict_proba(embeddings[:5]).shape == (5, 10)


def test_what_a_deep_active_learner_asks_of_an_estimator(classifier, embeddings, digits):
    """Its constructor, `fit` and `teach` in the calls that they make, also where it is missing."""
    clf = classifier(max_epochs=3)
    assert clf.initialize() is clf
    assert not hasattr(clf, "classes_")
    with pytest.raises(ValueError, match="'lr' parameter"):
        classifier(lr=-1).initialize()
    clf.fit(embeddings[:20], digits.target[:20])
    before = clf.predict_proba(embeddings[:5])
    np.testing.assert_array_equal(clf.initialize().predict_proba(embeddings[:5]), before)
    clf.max_epochs, clf.batch_size = 2, 5  # its properties num_epochs and batch_size
    clf.partial_fit(embeddings[20:30], digits.target[20:30])
    assert [len(row["batches"]) for row in clf.history_] == [2, 2, 2, 2, 2]
    assert len(clf.history_) == 5


def test_committee_with_names_as_labels(classifier, embeddings, digits):
    """modAL keeps votes in an array of numbers: strategies that count them need integer labels."""
    names = np.array(digits.class_names)[digits.target]
    committee = Committee(
        [ActiveLearner(classifier(max_epochs=1), X_training=embeddings[:20], y_training=names[:20])]
    )
    for strategy in (consensus_entropy_sampling, max_disagreement_sampling, negative_prompt_sampling):
        assert len(rows_in(strategy(committee, embeddings[:40], n_instances=4))) == 4
    with pytest.raises(ValueError, match="could not convert string to float"):
        vote_entropy_sampling(committee, embeddings[:40], n_instances=4)


def test_rebagged_committee(classifier, embeddings, digits):
    """modAL's bootstrap draws rows with replacement: maybe without some class."""
    learners = [
        ActiveLearner(
            classifier(max_epochs=1, random_state=seed),
            X_training=embeddings[:12], y_training=digits.target[:12], bootstrap_init=True,
        )
        for seed in range(2)
    ]  # fmt: skip
    committee = Committee(learners, query_strategy=max_disagreement_sampling)
    committee.rebag()
    assert committee.vote_proba(embeddings[:7]).shape == (7, 2, 10)
    assert len(committee.query(embeddings[:40], n_instances=4)[0]) == 4


@pytest.mark.parametrize(
    "strategy",
    [
        vote_entropy_sampling,
        consensus_entropy_sampling,
        max_disagreement_sampling,
        negative_prompt_sampling,
    ],
)
def test_committee(classifier, embeddings, digits, strategy):
    learners = [
        ActiveLearner(
            classifier(max_epochs=1, random_state=seed),
            X_training=embeddings[:20],
            y_training=digits.target[:20],
        )
        for seed in range(2)
    ]
    committee = Committee(learners, query_strategy=strategy)
    chosen, instances = committee.query(embeddings, n_instances=10)
    committee.teach(instances, digits.target[chosen])
    assert len(set(chosen.tolist())) == 10
    assert committee.predict_proba(embeddings).shape == (1797, 10)
    np.testing.assert_array_equal(committee.classes_, np.arange(10))


@pytest.mark.parametrize("form", ["images", "paths"])
@pytest.mark.parametrize(
    "strategy",
    [
        negative_prompt_sampling,
        random_sampling,
        entropy_sampling,
        margin_sampling,
        uncertainty_sampling,
        uncertainty_batch_sampling,
    ],
)
def test_pipeline_of_encoder_and_classifier(classifier, digits, paths, form, strategy):
    """Strategies that work on the transformed pool see embeddings, the others the images."""
    X, y = digits.images[:60], digits.target[:60]
    X = np.array(paths) if form == "paths" else X
    encoder = CLIPImageEncoder("demo", "bundled", device="cpu")
    learner = ActiveLearner(
        make_pipeline(encoder, classifier(max_epochs=2)),
        query_strategy=strategy,
        X_training=X[:20],
        y_training=y[:20],
        on_transformed=True,
    )
    same = ActiveLearner(
        classifier(max_epochs=2), query_strategy=strategy, X_training=X[:20], y_training=y[:20]
    )
    np.testing.assert_array_equal(learner.predict_proba(X), same.predict_proba(X))
    chosen, instances = learner.query(X[20:], n_instances=5)
    assert len(set(chosen.tolist())) == 5
    learner.teach(instances, y[20:][chosen])
    assert len(learner.X_training) == 25
    assert learner.predict_proba(X).shape == (60, 10)


def test_query_format(monkeypatch):
    rows, metrics = np.arange(2), np.zeros(2)
    monkeypatch.setattr(_compat, "query_returns_metrics", lambda: True)
    assert _compat.format_query(rows, metrics) == (rows, metrics)
    monkeypatch.setattr(_compat, "query_returns_metrics", lambda: False)
    assert _compat.format_query(rows, metrics) is rows


IMPORTS = {
    "ours first": "import modal_clip_dual; from modAL.models import ActiveLearner",
    "modAL first": "from modAL.models import ActiveLearner; import modal_clip_dual",
    "a part of modAL first": (
        "import modAL.utils.data; import modal_clip_dual; from modAL.models import ActiveLearner"
    ),
}


@pytest.mark.parametrize("order", IMPORTS)
def test_teach_works_whatever_is_imported_first(order):
    code = f"""
import numpy as np, pandas as pd
{IMPORTS[order]}
from sklearn.linear_model import LogisticRegression
for X in (np.eye(6), pd.DataFrame(np.eye(6))):
    y = np.arange(6) % 2
    learner = ActiveLearner(LogisticRegression(), X_training=X[:4], y_training=y[:4])
    learner.teach(X[4:], y[4:])
    learner.fit(X, y)
    try:
        learner.teach(X * np.nan, y)
    except ValueError as error:
        assert "NaN" in str(error)
    else:
        raise AssertionError("NaN was taken")
    learner.force_all_finite = False
    try:
        learner.teach(X * np.nan, y)  # LogisticRegression refuses, modAL must not
    except ValueError as error:
        assert "LogisticRegression does not accept missing values" in str(error)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)


def test_only_broken_calls_are_replaced_and_only_once():
    import modAL.models.base
    import modAL.models.learners
    import modAL.utils.data
    from sklearn.utils import check_X_y

    def state():
        names = [(modAL.models.base, "check_X_y"), (modAL.models.learners, "check_X_y")]
        names += [(modAL.utils.data, "data_vstack"), (modAL.models.base, "data_vstack")]
        return {(m.__name__, name): getattr(m, name) for m, name in names if hasattr(m, name)}

    before = state()
    _compat.mend_modal()
    assert state() == before
    broken = {
        "check_X_y": "force_all_finite" not in _compat.signature(check_X_y).parameters,
        "data_vstack": True,  # Series, and rows of another container
    }
    for (_, name), function in before.items():
        assert hasattr(function, "mended") == broken[name]
        assert not hasattr(getattr(function, "__wrapped__", None), "mended")


def test_package_that_is_imported_twice():
    """As coverage tools and reloads do: one import hook is left, and it does not ask itself."""
    code = """
import sys
import modal_clip_dual
for name in [name for name in sys.modules if name.startswith("modal_clip_dual")]:
    del sys.modules[name]
import modal_clip_dual
from modal_clip_dual import _compat
hooks = [finder for finder in sys.meta_path if type(finder).__name__ == "_MendOnImport"]
assert len(hooks) == 1 and not isinstance(hooks[0], _compat._MendOnImport), hooks
sys.meta_path.insert(0, _compat._MendOnImport())  # and if there were two, they would get along
import numpy as np
from modAL.models import ActiveLearner
from sklearn.linear_model import LogisticRegression
X, y = np.eye(6), np.arange(6) % 2
ActiveLearner(LogisticRegression(), X_training=X[:4], y_training=y[:4]).teach(X[4:], y[4:])
from modAL.models import base, learners
for module in (base, learners):  # which of them has it depends on the release
    check = getattr(module, "check_X_y", None)
    assert not hasattr(getattr(check, "__wrapped__", None), "mended")
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)


# ---------------------------------------------------------------- a teach that is refused changes nothing


def members_of(learner):
    return getattr(learner, "learner_list", [learner])


@pytest.mark.parametrize("committee", [False, True])
def test_refused_teach_changes_nothing(classifier, embeddings, digits, committee):
    names = np.array(digits.class_names)[digits.target]
    X, y = embeddings[:50], names[:50]
    learners = [
        ActiveLearner(classifier(max_epochs=1), X_training=X, y_training=y) for _ in range(2 if committee else 1)
    ]
    learner = Committee(learners) if committee else learners[0]
    before = learner.predict_proba(embeddings[:9])
    for wrong in (["sevn", "one"], [3, 4], ["one"], [None, "one"]):
        with pytest.raises(ValueError, match="y|inconsistent numbers of samples"):
            learner.teach(embeddings[50:52], wrong)
        assert [(len(m.X_training), len(m.y_training)) for m in members_of(learner)] == [(50, 50)] * len(learners)
    with pytest.raises(ValueError, match=r"^y\[0\] is 'sevn'"):
        learner.teach(embeddings[50:52], ["sevn", "one"])
    np.testing.assert_array_equal(learner.predict_proba(embeddings[:9]), before)
    learner.teach(embeddings[50:52], names[50:52])
    assert [len(m.X_training) for m in members_of(learner)] == [52] * len(learners)


def test_committee_whose_second_member_fails_is_as_before(embeddings, digits):
    class Failing(LogisticRegression):
        def fit(self, X, y):
            if len(X) > 60:
                raise RuntimeError("no more")
            return super().fit(X, y)

    X, y = embeddings[:60], digits.target[:60]
    learners = [ActiveLearner(one, X_training=X, y_training=y) for one in (LogisticRegression(), Failing())]
    committee = Committee(learners)
    before = [learner.estimator.coef_.copy() for learner in learners]
    with pytest.raises(RuntimeError, match="no more"):
        committee.teach(embeddings[60:70], digits.target[60:70])
    for learner, coef in zip(learners, before):
        np.testing.assert_array_equal(learner.estimator.coef_, coef)
        assert len(learner.X_training) == len(learner.y_training) == 60


CONTAINERS = {
    "Series, list": (pd.Series, list),
    "list, Series": (list, pd.Series),
    "Series, Series": (pd.Series, pd.Series),
    "Categorical, list": (pd.Categorical, list),
    "array, Series": (np.array, pd.Series),
    "list, array": (list, np.array),
}


@pytest.mark.parametrize("case", CONTAINERS)
@pytest.mark.parametrize("table", [False, True])
def test_teach_in_other_containers(classifier, embeddings, digits, case, table):
    first, second = CONTAINERS[case]
    names = np.array(digits.class_names)[digits.target]
    X = pd.DataFrame(embeddings[:50], columns=[f"e{k}" for k in range(128)]) if table else embeddings[:50]
    learner = ActiveLearner(classifier(max_epochs=1), X_training=X, y_training=first(names[:50]))
    learner.teach(embeddings[50:52], second(names[50:52]))
    np.testing.assert_array_equal(np.asarray(learner.X_training), embeddings[:52])
    assert list(learner.y_training) == names[:52].tolist()


def test_labels_of_two_kinds_are_refused_whole(embeddings):
    y = np.array(["a", "b", "a", "b"])
    learner = ActiveLearner(LogisticRegression(), X_training=embeddings[:4], y_training=y)
    with pytest.raises(ValueError, match="the new training data and label"):
        learner.teach(embeddings[4:6], [0, 1])
    assert len(learner.X_training) == 4


def test_learners_are_shown_cloned_and_asked_for_parameters(embeddings, digits):
    known = {"X_training": embeddings[:60], "y_training": digits.target[:60]}
    learner = ActiveLearner(LogisticRegression(C=3), **known, bootstrap_init=True)
    assert learner.get_params()["bootstrap_init"] is True
    assert learner.get_params()["estimator__C"] == 3
    assert ActiveLearner(LogisticRegression()).get_params()["bootstrap_init"] is False
    assert "ActiveLearner(" in repr(learner)
    copied = clone(ActiveLearner(LogisticRegression(), **known))
    assert copied.predict(embeddings[:5]).shape == (5,)
    committee = Committee([ActiveLearner(LogisticRegression()), ActiveLearner(LogisticRegression())])
    assert "Committee(" in repr(committee)
    assert len(clone(committee)) == 2


@pytest.mark.parametrize("form", ["array", "frame", "frame with labels"])
def test_expected_error_reduction_by_its_definition(embeddings, digits, form):
    """Against the plain formula: the expected uncertainty of the rest, by candidate and label."""
    from modAL.expected_error import expected_error_reduction

    rows = np.concatenate([np.flatnonzero(digits.target == k)[:3] for k in (0, 1)])
    pool = embeddings[np.concatenate([np.flatnonzero(digits.target == k)[5:8] for k in (0, 1)])][:, :8]
    X, y = embeddings[rows][:, :8], digits.target[rows]
    learner = ActiveLearner(LogisticRegression(), X_training=X, y_training=y)
    errors = []
    for k in range(6):
        rest = np.delete(pool, k, axis=0)
        proba = learner.predict_proba(pool[k : k + 1])[0]
        fits = [LogisticRegression().fit(np.vstack([X, pool[k]]), np.append(y, label)) for label in (0, 1)]
        errors.append(sum(p * (1 - fit.predict_proba(rest).max(1)).sum() for p, fit in zip(proba, fits)))
    if form != "array":
        index = [7, 7, 3, 1, 0, 2] if form == "frame with labels" else None
        names = list("abcdefgh")
        learner = ActiveLearner(LogisticRegression(), X_training=pd.DataFrame(X, columns=names), y_training=y)
        pool = pd.DataFrame(pool, columns=names, index=index)
    chosen = rows_in(expected_error_reduction(learner, pool, n_instances=2))
    assert set(np.asarray(chosen).astype(int).tolist()) == set(np.argsort(errors)[:2].tolist())
