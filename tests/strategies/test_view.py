"""What strategies see of a classifier: predictions, embeddings, labelled samples, linear heads."""

import gc
import weakref
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_learner
from modAL.models import ActiveLearner, Committee
from modAL.uncertainty import entropy_sampling
from scipy import sparse
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from modal_clip_dual import CLIPImageEncoder
from modal_clip_dual.strategies import badge_sampling, coreset_sampling, pcb_sampling
from modal_clip_dual.strategies._points import Points, highest
from modal_clip_dual.strategies.view import View, call_strategy

X, Y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3


def test_embeddings_are_what_reaches_the_classifier(fitted, digits, embeddings):
    logistic = LogisticRegression().fit(X, Y)
    assert View(make_learner(logistic, X, Y), X).embeddings is X
    np.testing.assert_array_equal(View(logistic, X.tolist()).embeddings, X)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(View(make_learner(pipeline, X, Y), X).embeddings, scaled)
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0]}, cv=2).fit(X, Y)
    np.testing.assert_allclose(View(search, X).embeddings, scaled)
    lda = LinearDiscriminantAnalysis().fit(X, Y)
    np.testing.assert_array_equal(View(lda, X).embeddings, lda.transform(X))
    encoder = CLIPImageEncoder("demo", "bundled", device="cpu")
    images = make_pipeline(encoder, LogisticRegression())  # never fitted, the encoder needs none
    np.testing.assert_allclose(View(images, digits.images[:5]).embeddings, embeddings[:5], atol=1e-6)
    np.testing.assert_allclose(View(fitted, digits.images[:5]).embeddings, embeddings[:5], atol=1e-6)


def test_tensors_stay_tensors():
    tensor = torch.tensor(X, requires_grad=True)
    points = Points(View(LogisticRegression(), tensor).embeddings)
    np.testing.assert_allclose(points.x.numpy(), X.astype(np.float32))


@pytest.mark.parametrize(
    "pool", [sparse.csr_matrix(X), np.zeros((4, 8, 8)), np.array(["a.png"]), X.astype(object), X[0]]
)
def test_what_is_no_table_is_refused(pool):
    with pytest.raises(TypeError, match=r"transform\(X\).*or embeddings as X_pool.*LogisticRegression"):
        View(make_learner(LogisticRegression(), X, Y), pool).embeddings


def test_committee_means_squared_distances():
    halves = [make_pipeline(StandardScaler(with_std=False), LogisticRegression()).fit(X * s, Y)
              for s in (1.0, 1.0)]  # fmt: skip
    same = Committee([make_learner(half, X, Y) for half in halves])
    np.testing.assert_allclose(View(same, X).embeddings, X - X.mean(axis=0), atol=1e-12)
    whole = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    mixed = Committee([make_learner(clf, X, Y) for clf in (halves[0], whole)])
    together = View(mixed, X).embeddings
    assert together.shape == (40, 10)

    def squared(E):
        return np.square(E[:, None] - E).sum(axis=2)

    parts = X, StandardScaler().fit_transform(X)
    np.testing.assert_allclose(squared(together), (squared(parts[0]) + squared(parts[1])) / 2)


def test_labelled_samples():
    logistic = LogisticRegression().fit(X, Y)
    embeddings, labels = View(make_learner(logistic, X[:9], Y[:9]), X).labeled()
    np.testing.assert_array_equal(embeddings, X[:9])
    np.testing.assert_array_equal(labels, Y[:9])
    assert View(ActiveLearner(logistic), X).labeled() == (None, None)
    assert View(logistic, X).labeled() == (None, None)
    with pytest.raises(ValueError, match="LogisticRegression does not hold: it has no X_training"):
        View(logistic, X).labeled(required=True)
    assert View(ActiveLearner(logistic), X).labeled(required=True) == (None, None)
    # The members of a Committee: each sample once.
    members = [make_learner(logistic, X[rows], Y[rows]) for rows in ([0, 1, 2], [2, 3], [1, 3])]
    embeddings, labels = View(Committee(members), X).labeled()
    np.testing.assert_array_equal(embeddings, X[:4])
    np.testing.assert_array_equal(labels, Y[:4])


class Drawing:
    """Has draws (2, n, 3) of class probabilities."""

    classes_ = np.arange(3)

    def sample_proba(self, X):
        first = np.eye(3, dtype=np.float32)[np.argmax(X[:, :3], axis=1)]
        return np.stack([first, np.full_like(first, 1 / 3)])


def test_draws_and_their_weights(monkeypatch):
    from modal_clip_dual.strategies import _ranking

    logistic = LogisticRegression().fit(X, Y)
    seen = []

    def reduce(draws, weights):
        seen.append((draws.shape, weights.tolist()))
        return weights @ draws[:, :, 0]

    drawn = Drawing().sample_proba(X)[:, :, 0].mean(axis=0)
    np.testing.assert_allclose(View(Drawing(), X).of_draws(reduce), drawn)
    both = Committee([make_learner(clf, X, Y) for clf in (Drawing(), logistic)])
    proba = logistic.predict_proba(X)[:, 0]
    np.testing.assert_allclose(View(both, X).of_draws(reduce), (drawn + proba) / 2)
    np.testing.assert_allclose(View(logistic, X).of_draws(reduce), proba)
    assert seen == [((2, 40, 3), [0.5, 0.5]), ((3, 40, 3), [0.25, 0.25, 0.5]), ((1, 40, 3), [1.0])]
    monkeypatch.setattr(_ranking, "POOL_ROWS", 8 * 15)
    np.testing.assert_allclose(View(both, X).of_draws(reduce), (drawn + proba) / 2)
    assert [shape for shape, _ in seen[3:]] == [(3, 15, 3), (3, 15, 3), (3, 10, 3)]
    other = LogisticRegression().fit(X, Y + 1)
    with pytest.raises(ValueError, match="know different classes"):
        View(Committee([make_learner(clf, X, Y) for clf in (logistic, other)]), X).of_draws(reduce)


def test_linear_heads(fitted, embeddings):
    def logits(classifier, pool):
        E, W, b = View(classifier, pool).linear_head
        return E @ W.T + b

    for params in ({}, {"fit_intercept": False}):
        logistic = LogisticRegression(**params).fit(X, Y)
        np.testing.assert_allclose(logits(logistic, X), logistic.decision_function(X), atol=1e-5)
    binary = LogisticRegression().fit(X, Y == 1)
    z = logits(binary, X)
    np.testing.assert_allclose(z[:, 1] - z[:, 0], binary.decision_function(X), atol=1e-5)
    lda = LinearDiscriminantAnalysis().fit(X, Y)
    np.testing.assert_allclose(logits(lda, X), lda.decision_function(X), atol=1e-4)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    expected = pipeline.decision_function(X)
    np.testing.assert_allclose(logits(make_learner(pipeline, X, Y), X), expected, atol=1e-5)
    z = logits(fitted, embeddings[:50])
    p = np.exp(z - z.max(axis=1, keepdims=True))
    np.testing.assert_allclose(p / p.sum(axis=1, keepdims=True), fitted.predict_proba(embeddings[:50]),
                               atol=1e-4)  # fmt: skip


def test_what_has_no_linear_head_is_refused():
    bagging = BaggingClassifier(LogisticRegression(), 2).fit(X, Y)
    with pytest.raises(TypeError, match="linear in its embeddings.*got BaggingClassifier"):
        View(bagging, X).linear_head
    with pytest.raises(NotFittedError, match="LogisticRegression instance is not fitted"):
        View(ActiveLearner(LogisticRegression()), X).linear_head
    with pytest.raises(TypeError, match="pass one of its learners"):
        View(Committee([make_learner(LogisticRegression().fit(X, Y), X, Y)]), X).linear_head

    class Narrow:
        coef_ = np.ones((3, 2))

    with pytest.raises(TypeError, match="coef_ of Narrow has 2 columns, its embeddings 5"):
        View(Narrow(), X).linear_head


def test_probabilities_of_what_was_never_fitted(classifier, embeddings):
    learner = ActiveLearner(classifier())
    np.testing.assert_array_equal(
        View(learner, embeddings[:9]).proba, classifier().zero_shot_proba(embeddings[:9])
    )
    with pytest.raises(NotFittedError, match="ActiveLearner was never fitted.*random_sampling"):
        View(ActiveLearner(LogisticRegression()), X).proba


def test_everything_is_asked_for_once():
    asked = []

    class Asked(LogisticRegression):
        def predict_proba(self, X):
            asked.append("predict_proba")
            return super().predict_proba(X)

        def transform(self, X):
            asked.append("transform")
            return 2 * X

    count = FunctionTransformer(lambda X: asked.append("step") or X)
    pipeline = make_pipeline(count, Asked()).fit(X, Y)
    asked.clear()
    view = View(make_learner(pipeline, X, Y), X)
    assert asked == []
    for _ in range(2):
        view.proba, view.predicted, view.embeddings, view.classes, view.linear_head
    assert sorted(asked) == ["predict_proba", "step", "transform"]
    part = view.take(np.array([3, 1]))
    np.testing.assert_array_equal(part.embeddings, 2 * X[[3, 1]])


def test_what_is_made_for_a_query_goes_with_it():
    """At once, not when Python next looks for circles: pools are large."""
    made = []

    def double(X):
        made.append(weakref.ref(twice := 2 * X))
        return twice

    pipeline = make_pipeline(FunctionTransformer(double), LogisticRegression()).fit(X, Y)
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0]}, cv=2).fit(X, Y)
    made.clear()
    gc.disable()
    try:
        for strategy in (coreset_sampling, badge_sampling, partial(pcb_sampling, base="entropy")):
            strategy(make_learner(search, X[:9], Y[:9]), X[9:], 3)
    finally:
        gc.enable()
    assert len(made) == 4  # the pool three times, the labelled samples once
    assert [ref() for ref in made] == [None] * 4


def test_what_a_pipeline_of_ones_own_says_is_heard():
    """A subclass with a method of its own is asked itself; scikit-learn's only hand on."""

    class Halved(Pipeline):
        def predict_proba(self, X):
            return super().predict_proba(X) / 2

    steps = [("scale", StandardScaler()), ("logistic", LogisticRegression())]
    plain, halved = Pipeline(steps).fit(X, Y), Halved(steps).fit(X, Y)
    np.testing.assert_allclose(View(plain, X).proba, plain.predict_proba(X))
    np.testing.assert_allclose(View(halved, X).proba, plain.predict_proba(X) / 2)
    np.testing.assert_allclose(View(halved, X).embeddings, steps[0][1].transform(X))


class Says:
    """A classifier with given probabilities and P(correct)."""

    classes_ = np.arange(3)

    def __init__(self, proba, right):
        self.proba, self.right = np.array(proba, dtype=np.float32), np.array(right)

    def predict_proba(self, X):
        return self.proba

    def predict_correct_proba(self, X):
        return self.right


def test_committee_members_that_disagree_share_out_their_doubt():
    """By hand: both predict 0; they predict 0 and 1, and 0 wins; a member that is certain of 1."""
    one = Says([[0.8, 0.1, 0.1], [0.9, 0.05, 0.05], [0.7, 0.2, 0.1]], [0.9, 0.8, 0.6])
    two = Says([[0.6, 0.2, 0.2], [0.3, 0.6, 0.1], [0.0, 1.0, 0.0]], [0.5, 0.4, 0.7])
    members = [make_learner(clf, X[:3], Y[:3]) for clf in (one, two)]
    ranking = View(Committee(members), X[:3]).rank("correct")
    np.testing.assert_array_equal(ranking.predicted, [0, 0, 1])
    expected = [
        (0.9 + 0.5) / 2,
        (0.8 + (1 - 0.4) * 0.3 / (0.3 + 0.1)) / 2,
        ((1 - 0.6) * 0.2 / (0.2 + 0.1) + 0.7) / 2,
    ]
    np.testing.assert_allclose(ranking.confidence, expected, rtol=1e-6)
    np.testing.assert_allclose(ranking.uncertainty, 1 - ranking.confidence)
    alone = View(make_learner(two, X[:3], Y[:3]), X[:3]).rank("correct")
    np.testing.assert_array_equal(alone.confidence, two.right)


def test_strategies_called_with_a_view():
    """Ours and modAL's compute nothing that it has; others get the classifier itself."""
    lengths = []
    count = FunctionTransformer(lambda X: lengths.append(len(X)) or X)
    learner = make_learner(make_pipeline(count, LogisticRegression()).fit(X, Y), X[:5], Y[:5])
    pool, seen = X[:30], []

    def other(classifier, X_pool, n_instances=1):
        seen.append(classifier)
        return np.arange(n_instances)

    for strategy in (coreset_sampling, partial(badge_sampling, random_state=0), entropy_sampling):
        expected, _ = call_strategy(strategy, learner, pool, 4, 0)
        view = View(learner, pool)
        view.proba, view.embeddings
        lengths.clear()
        rows, _ = call_strategy(strategy, view, pool, 4, 0)
        np.testing.assert_array_equal(rows, expected)
        assert 30 not in lengths
    call_strategy(other, view, pool, 4, 0)
    assert seen == [learner]
    # Of other samples it is no view.
    rows, _ = call_strategy(entropy_sampling, view, X[30:], 4, 0)
    np.testing.assert_array_equal(rows, call_strategy(entropy_sampling, learner, X[30:], 4, 0)[0])
    rows, _ = call_strategy(coreset_sampling, view, X[30:], 4, 0)
    np.testing.assert_array_equal(rows, call_strategy(coreset_sampling, learner, X[30:], 4, 0)[0])


@pytest.mark.parametrize(
    ("answer", "error", "received"),
    [
        (np.arange(30)[::-1], ValueError, "30 rows"),
        ([7], ValueError, "1 row"),
        ([], ValueError, "0 rows"),
        (np.zeros(3, int), ValueError, "row 0 3 times"),
        ([4, 9, 4], ValueError, "row 4 2 times"),
        ([0, 1, -1], ValueError, "row -1"),
        ([0, 1, 30], ValueError, "row 30"),
        ([0.0, 1.0, 2.5], TypeError, r"rows of type float64, such as 0\.0"),
        (["0", "1", "2"], TypeError, "rows of type <U1, such as '0'"),
        (np.arange(30) < 3, TypeError, "a boolean mask, which numpy.flatnonzero makes rows of"),
        ([True, False, True], TypeError, "a boolean mask, which numpy.flatnonzero makes rows of"),
        (np.arange(3)[:, None], ValueError, r"rows of shape \(3, 1\)"),
        (None, ValueError, "None"),
        (7, ValueError, "7"),
        ([[0], [1, 2]], ValueError, r"\[\[0\], \[1, 2\]\]"),
        ((0, 1, 2), ValueError, r"\(0, 1, 2\)"),
        ((0, 1), ValueError, r"\(0, 1\)"),
        (([0, 1, 1], np.ones(3)), ValueError, "row 1 2 times"),
    ],
    ids=repr,
)
def test_answers_that_are_no_rows_are_refused(answer, error, received):
    def greedy(classifier, X_pool, n_instances=1, depth=1):
        return answer

    hint = r"; a tuple is read as \(rows, scores\)" if isinstance(answer, tuple) else ""
    expected = "expected 3 distinct whole numbers from 0 to 29, rows of X_pool, since n_instances=3"
    for strategy in (greedy, partial(partial(greedy), depth=2)):
        with pytest.raises(error, match=f"^the query strategy greedy returned {received}; {expected}{hint}$"):
            call_strategy(strategy, None, X[:30], 3, 0)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, np.uint8, pd.Series])
def test_rows_may_come_in_any_kind_of_array_and_with_anything_else(kind):
    class Strategy:
        def __call__(self, classifier, X_pool, n_instances=1):
            return answer

    for answer in (kind([29, 0]), (kind([29, 0]), [0.5, 0.25])):  # the older form of modAL has samples there
        rows, scores = call_strategy(Strategy(), None, X[:30], 2, 0)
        assert rows.tolist() == [29, 0]
        assert scores == (answer[1] if isinstance(answer, tuple) else None)
    answer = kind([30, 0])
    with pytest.raises(ValueError, match="the query strategy Strategy returned row 30"):
        call_strategy(Strategy(), None, X[:30], 2, 0)


def test_distances_by_blocks(monkeypatch):
    from scipy.spatial.distance import cdist

    from modal_clip_dual.strategies import _points

    for block in (8, 64, 1 << 23):
        monkeypatch.setattr(_points, "BLOCK", block)
        points, others = Points(X), torch.tensor(X[:7], dtype=torch.float32)
        expected = cdist(X, X[:7], "sqeuclidean")
        np.testing.assert_allclose(points.nearest(others), expected.min(axis=1), atol=1e-5)
        np.testing.assert_allclose(points.to(others[3]), expected[:, 3], atol=1e-5)


def test_embeddings_that_are_not_finite_are_refused():
    for value in (np.nan, np.inf, 1e30):  # the square of the last is not finite in float32
        broken = X.copy()
        broken[[7, 9], 2] = value
        with pytest.raises(ValueError, match="X_pool: the embedding of row 7 is not finite"):
            Points(broken)


def test_read_only_and_mapped_pools_are_taken_as_they_are(tmp_path):
    np.save(tmp_path / "pool.npy", X.astype(np.float32))
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    points = Points(mapped)
    assert points.x.data_ptr() == mapped.ctypes.data  # nothing was copied


def test_highest():
    values = torch.tensor([1.0, 3.0, 3.0, 2.0])
    assert highest(values) == 1
    rng = np.random.default_rng(0)
    assert {highest(values, rng) for _ in range(40)} == {1, 2}
