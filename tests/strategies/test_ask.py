"""What strategies see of a classifier: embeddings, labelled samples, linear heads."""

import numpy as np
import pytest
import torch
from conftest import make_learner
from modAL.models import ActiveLearner, Committee
from precision import of_tower
from scipy import sparse
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modal_clip_dual import CLIPImageEncoder
from modal_clip_dual.strategies._ask import ask_proba, embed, labelled, linear_head
from modal_clip_dual.strategies._points import Points, highest

X, Y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3


def test_embeddings_are_what_reaches_the_classifier(fitted, digits, embeddings):
    logistic = LogisticRegression().fit(X, Y)
    assert embed(make_learner(logistic, X, Y), X) is X
    np.testing.assert_array_equal(embed(logistic, X.tolist()), X)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    scaled = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(embed(make_learner(pipeline, X, Y), X), scaled)
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0]}, cv=2).fit(X, Y)
    np.testing.assert_allclose(embed(search, X), scaled)
    lda = LinearDiscriminantAnalysis().fit(X, Y)
    np.testing.assert_array_equal(embed(lda, X), lda.transform(X))
    encoder = CLIPImageEncoder("demo", "bundled", device="cpu")
    images = make_pipeline(encoder, LogisticRegression())  # never fitted, the encoder needs none
    np.testing.assert_allclose(embed(images, digits.images[:5]), embeddings[:5], atol=of_tower(), rtol=0)
    np.testing.assert_allclose(embed(fitted, digits.images[:5]), embeddings[:5], atol=of_tower(), rtol=0)


def test_tensors_stay_tensors():
    tensor = torch.tensor(X, requires_grad=True)
    points = Points(embed(LogisticRegression(), tensor))
    np.testing.assert_allclose(points.x.numpy(), X.astype(np.float32))


@pytest.mark.parametrize(
    "pool", [sparse.csr_matrix(X), np.zeros((4, 8, 8)), np.array(["a.png"]), X.astype(object), X[0]]
)
def test_what_is_no_table_is_refused(pool):
    with pytest.raises(TypeError, match=r"transform\(X\).*or embeddings as X_pool.*LogisticRegression"):
        embed(make_learner(LogisticRegression(), X, Y), pool)


def test_committee_means_squared_distances():
    halves = [make_pipeline(StandardScaler(with_std=False), LogisticRegression()).fit(X * s, Y)
              for s in (1.0, 1.0)]  # fmt: skip
    same = Committee([make_learner(half, X, Y) for half in halves])
    np.testing.assert_allclose(embed(same, X), X - X.mean(axis=0), atol=1e-12)
    whole = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    mixed = Committee([make_learner(clf, X, Y) for clf in (halves[0], whole)])
    together = embed(mixed, X)
    assert together.shape == (40, 10)

    def squared(E):
        return np.square(E[:, None] - E).sum(axis=2)

    parts = X, StandardScaler().fit_transform(X)
    np.testing.assert_allclose(squared(together), (squared(parts[0]) + squared(parts[1])) / 2)


def test_labelled_samples():
    logistic = LogisticRegression().fit(X, Y)
    embeddings, labels = labelled(make_learner(logistic, X[:9], Y[:9]))
    np.testing.assert_array_equal(embeddings, X[:9])
    np.testing.assert_array_equal(labels, Y[:9])
    assert labelled(ActiveLearner(logistic)) == (None, None)
    assert labelled(logistic) == (None, None)
    with pytest.raises(ValueError, match="LogisticRegression does not hold: it has no X_training"):
        labelled(logistic, required=True)
    assert labelled(ActiveLearner(logistic), required=True) == (None, None)
    # The members of a Committee: each sample once.
    members = [make_learner(logistic, X[rows], Y[rows]) for rows in ([0, 1, 2], [2, 3], [1, 3])]
    embeddings, labels = labelled(Committee(members))
    np.testing.assert_array_equal(embeddings, X[:4])
    np.testing.assert_array_equal(labels, Y[:4])


def test_linear_heads(fitted, embeddings):
    def logits(classifier, pool):
        E, W, b = linear_head(classifier, pool)
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
        linear_head(bagging, X)
    with pytest.raises(NotFittedError, match="LogisticRegression instance is not fitted"):
        linear_head(ActiveLearner(LogisticRegression()), X)
    with pytest.raises(TypeError, match="pass one of its learners"):
        linear_head(Committee([make_learner(LogisticRegression().fit(X, Y), X, Y)]), X)

    class Narrow:
        coef_ = np.ones((3, 2))

    with pytest.raises(TypeError, match="coef_ of Narrow has 2 columns, its embeddings 5"):
        linear_head(Narrow(), X)


def test_probabilities_of_what_was_never_fitted(classifier, embeddings):
    learner = ActiveLearner(classifier())
    np.testing.assert_array_equal(
        ask_proba(learner, embeddings[:9]), classifier().zero_shot_proba(embeddings[:9])
    )
    with pytest.raises(NotFittedError, match="ActiveLearner was never fitted.*random_sampling"):
        ask_proba(ActiveLearner(LogisticRegression()), X)


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
