"""TestTimeCentroids against a literal loop, Renyi's entropy against scipy, and the promise to change nothing else."""

import pickle

import numpy as np
import pytest
from conftest import LABELLED, make_classifier
from modAL.models import ActiveLearner
from modAL.uncertainty import margin_sampling
from precision import EPS, of_probabilities, of_tower
from scipy.stats import entropy as scipy_entropy
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modal_clip_dual import (
    BayesAdapterClassifier,
    CLIPImageEncoder,
    DualLinearClassifier,
    DualPromptLearner,
    TestTimeCentroids,
    TipAdapterClassifier,
)
from modal_clip_dual.test_time._certainty import renyi_entropy, shares, weights_of
from modal_clip_dual.test_time.centroids import text_components

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


def unit(v):
    return v / np.sqrt((v * v).sum())


def softmax(logits):
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def literal(embeddings, text, scale, *, alpha=0.5, beta=1.0, k0=1.0, assign="merged", first=1, sign=1):
    """The algorithm, one sample and one class at a time, in float64.  ``sign=-1`` is the printed weight."""
    text = np.array([unit(t) for t in text.astype(np.float64)])
    left, _, _ = np.linalg.svd(text.T, full_matrices=False)  # columns are singular vectors
    basis = left[:, first:]
    projector = basis @ basis.T

    def certainty(p):
        renyi = np.log((p**alpha).sum()) / (alpha - 1)  # Re(p) as printed, minus the entropy
        return -renyi if sign < 0 else 1 + renyi / np.log(len(p))

    centroids = [unit(projector @ t) for t in text]
    counts = [k0] * len(text)
    online = []
    for v in embeddings.astype(np.float64):
        projected = unit(projector @ v)
        p = softmax(np.array([scale * (unit(v) @ t) for t in text]))
        q = softmax(np.array([scale * (projected @ w) for w in centroids]))
        a, b = certainty(p), beta * certainty(q)
        merged = (a * p + b * q) / (a + b)
        online.append(merged)
        best = int(np.argmax(merged if assign == "merged" else q))
        centroids[best] = unit(counts[best] * centroids[best] + projected)
        counts[best] += 1
    return np.array(online), np.array(centroids), np.array(counts)


@pytest.fixture
def zero_shot(digits):
    return make_classifier(digits)


@pytest.mark.parametrize(
    "params, literal_params",
    [
        ({}, {}),
        ({"assign": "centroid", "beta": 2.0}, {"assign": "centroid", "beta": 2.0}),
        ({"project": "span", "start_count": 0, "alpha": 2.0}, {"first": 0, "k0": 0.0, "alpha": 2.0}),
        ({"merge": "printed"}, {"sign": -1}),
    ],
)
def test_is_the_literal_loop(zero_shot, embeddings, demo, params, literal_params):
    X = embeddings[:150]
    text = zero_shot.zero_shot_coef()
    online, centroids, counts = literal(X, text, demo.logit_scale, **literal_params)
    adapted = TestTimeCentroids(zero_shot, **params)
    # Text logits are computed in float32, the rest in float64; merged views multiply their error by at most a few.
    bound = 10 * of_probabilities(demo.logit_scale)
    np.testing.assert_allclose(adapted.adapt_predict_proba(X), online, atol=bound)
    np.testing.assert_allclose(adapted.centroids_ @ adapted.components_, centroids, atol=1e-4)
    np.testing.assert_array_equal(adapted.counts_, counts)
    assert counts.sum() == 150 + 10 * literal_params.get("k0", 1)


def test_predictions_between_adaptations_change_nothing(zero_shot, embeddings):
    adapted = TestTimeCentroids(zero_shot).adapt(embeddings[:100])
    before = pickle.dumps(adapted), {k: v.copy() for k, v in vars(adapted).items() if k.endswith("_")}
    first = adapted.predict_proba(embeddings[100:200])
    np.testing.assert_array_equal(adapted.predict_proba(embeddings[100:200]), first)
    reordered = adapted.predict_proba(embeddings[100:200][::-1])[::-1]
    np.testing.assert_allclose(reordered, first, atol=20 * EPS)
    for name, value in before[1].items():
        np.testing.assert_array_equal(getattr(adapted, name), value)
    adapted.adapt(embeddings[100:200])
    assert np.abs(adapted.predict_proba(embeddings[100:200]) - first).max() > 1e-3


def test_halves_one_after_the_other_are_the_whole(zero_shot, embeddings):
    whole = TestTimeCentroids(zero_shot).adapt(embeddings[:100])
    halves = TestTimeCentroids(zero_shot).adapt(embeddings[:40]).adapt(embeddings[40:100])
    np.testing.assert_allclose(halves.centroids_, whole.centroids_, atol=1e-5)
    np.testing.assert_array_equal(halves.counts_, whole.counts_)
    start = TestTimeCentroids(zero_shot).predict_proba(embeddings[:9])
    np.testing.assert_array_equal(whole.reset().predict_proba(embeddings[:9]), start)
    assert not hasattr(whole, "centroids_")


@pytest.mark.parametrize("n_classes, dim", [(10, 128), (5, 4), (3, 7)])
def test_the_projection_drops_what_all_classes_share(n_classes, dim):
    text = np.random.default_rng(0).normal(size=(n_classes, dim)) + 2.0
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    components = text_components(text, "drop-first")
    P = components.T @ components
    rank = min(n_classes, dim) - 1
    assert components.shape == (rank, dim)
    np.testing.assert_allclose(P @ P, P, atol=1e-12)
    assert np.linalg.matrix_rank(P) == rank
    first = np.linalg.svd(text.T)[0][:, 0]
    np.testing.assert_allclose(P @ first, 0, atol=1e-12)
    span = text_components(text, "span")
    np.testing.assert_allclose(text @ span.T @ span, text, atol=1e-12)
    np.testing.assert_array_equal(text_components(text, None), np.eye(dim))


def test_two_classes_keep_the_plane(demo, embeddings):
    """Without the first direction one would be left, on which there is only a sign."""
    for project in ("drop-first", "span"):
        two = TipAdapterClassifier(["three", "seven"], **DEMO)
        adapted = TestTimeCentroids(two, project=project).adapt(embeddings[:30])
        assert adapted.components_.shape == (2, 128)
        assert len(np.unique(adapted.predict_proba(embeddings[:30])[:, 0].round(3))) > 5


def test_renyi_entropy_and_its_limits():
    p = np.random.default_rng(0).dirichlet(np.ones(7), size=20)
    shannon = scipy_entropy(p, axis=1)
    np.testing.assert_allclose(renyi_entropy(p, 1), shannon, rtol=1e-12)
    for alpha in (1 - 1e-6, 1 + 1e-6):
        np.testing.assert_allclose(renyi_entropy(p, alpha), shannon, atol=1e-5)
    least = -np.log(p.max(axis=1))
    np.testing.assert_allclose(renyi_entropy(p, np.inf), least, rtol=1e-12)
    # H_alpha is at most alpha / (alpha - 1) times the min-entropy, and at least it
    np.testing.assert_allclose(renyi_entropy(p, 1e4), least, rtol=1e-3)
    np.testing.assert_allclose(renyi_entropy(p, 0.5), 2 * np.log(np.sqrt(p).sum(axis=1)), rtol=1e-12)
    for alpha in (0.5, 1, 3, np.inf):
        np.testing.assert_allclose(renyi_entropy(np.full(7, 1 / 7), alpha), np.log(7), rtol=1e-12)
        assert renyi_entropy(np.eye(7)[0], alpha) == 0


def test_the_two_readings_of_the_weight_are_opposites():
    sure, unsure = np.array([0.98, 0.01, 0.01]), np.array([0.4, 0.3, 0.3])
    ours = shares(weights_of(np.stack([sure, unsure]), 0.5, "renyi"))
    printed = shares(weights_of(np.stack([sure, unsure]), 0.5, "printed"))
    assert ours[0] > 0.9 > 0.5 > printed[0]
    renyi = [np.log((p**0.5).sum()) / (0.5 - 1) for p in (sure, unsure)]
    np.testing.assert_allclose(printed, np.array(renyi) / sum(renyi), rtol=1e-12)
    np.testing.assert_array_equal(shares(weights_of(np.full((4, 3), 1 / 3), 0.5, "renyi")), np.full(4, 0.25))
    np.testing.assert_array_equal(shares(weights_of(np.eye(3), 0.5, "printed")), np.full(3, 1 / 3))


@pytest.mark.parametrize("wrap", [lambda clf: clf, FrozenEstimator])
def test_without_centroids_it_is_the_wrapped_classifier(fitted, embeddings, wrap):
    adapted = TestTimeCentroids(wrap(fitted), beta=0).adapt(embeddings[:50])
    np.testing.assert_array_equal(adapted.predict_proba(embeddings), fitted.predict_proba(embeddings))
    np.testing.assert_array_equal(adapted.predict(embeddings), fitted.predict(embeddings))
    changed = TestTimeCentroids(wrap(fitted)).adapt(embeddings[:50])
    assert np.abs(changed.predict_proba(embeddings) - fitted.predict_proba(embeddings)).max() > 0.01


def test_the_wrapped_classifier_is_not_changed(fitted, digits, embeddings):
    before = {name: value.copy() for name, value in fitted.fitted_state()[1].items()}
    proba = fitted.predict_proba(embeddings[:50])
    params = fitted.get_params()
    adapted = TestTimeCentroids(fitted, n_views=2, random_state=0)
    adapted.adapt(digits.images[:20], digits.target[:20]).predict(digits.images[:20])
    after = fitted.fitted_state()[1]
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    np.testing.assert_array_equal(fitted.predict_proba(embeddings[:50]), proba)
    assert fitted.get_params() == params and fitted.cache == "memory"


def test_labeled_samples_enter_with_their_class(zero_shot, digits, embeddings):
    X, y = embeddings[LABELLED], digits.target[LABELLED]
    adapted = TestTimeCentroids(zero_shot, project=None).adapt(X, y)
    np.testing.assert_array_equal(adapted.counts_, 1 + np.bincount(y, minlength=10))
    assert adapted.score(embeddings, digits.target) > 0.8 > 0.73
    with pytest.raises(ValueError, match="y"):
        adapted.adapt(X, y + 5)
    with pytest.raises(ValueError, match="inconsistent"):
        adapted.adapt(X, y[:3])
    np.testing.assert_array_equal(adapted.counts_, 1 + np.bincount(y, minlength=10))


def test_views_are_of_the_image_alone(zero_shot, digits):
    X = digits.images[:6]
    for views in ("crop", "crop-flip", lambda image: image.rotate(np.random.uniform(-20, 20))):
        state = np.random.get_state()[1].copy()
        adapted = TestTimeCentroids(zero_shot, n_views=4, views=views, random_state=0).adapt(X)
        np.testing.assert_array_equal(np.random.get_state()[1], state)
        whole = adapted.predict_proba(X)
        bound = 20 * of_tower() * 21.8  # batches of other sizes round otherwise
        for row in (0, 3):
            np.testing.assert_allclose(adapted.predict_proba(X[row : row + 1])[0], whole[row], atol=bound)
        one = TestTimeCentroids(zero_shot, random_state=0).adapt(X).predict_proba(X)
        assert np.abs(one - whole).max() > 1e-3
    same = TestTimeCentroids(zero_shot, n_views=4, views=lambda image: image, beta=0)
    np.testing.assert_allclose(same.predict_proba(X), zero_shot.zero_shot_proba(X), atol=bound)


def test_views_merged_by_the_formula(zero_shot, digits, embeddings, demo):
    """Of four views that are the image or its mirror image, by hand."""
    mirrored = zero_shot.zero_shot_proba(digits.images[:5, :, ::-1].copy())
    plain = zero_shot.zero_shot_proba(digits.images[:5])
    flip = lambda image: image.transpose(0)  # noqa: E731
    adapted = TestTimeCentroids(zero_shot, n_views=3, views=flip, beta=0)
    for merge in ("renyi", "mean"):
        actual = adapted.set_params(merge=merge).predict_proba(digits.images[:5])
        for k in range(5):
            p = np.stack([plain[k], mirrored[k], mirrored[k]]).astype(np.float64)
            weights = np.ones(3)
            if merge == "renyi":
                weights = 1 - 2 * np.log(np.sqrt(p).sum(axis=1)) / np.log(10)
            np.testing.assert_allclose(actual[k], weights @ p / weights.sum(), atol=1e-4)


def test_in_learners_pipelines_and_the_loop(digits, embeddings):
    make = lambda: TestTimeCentroids(BayesAdapterClassifier(digits.class_names, **DEMO, max_epochs=5))  # noqa: E731
    X, y = embeddings[LABELLED], digits.target[LABELLED]
    learner = ActiveLearner(make(), margin_sampling, X_training=X[:30], y_training=y[:30])
    rows, samples = learner.query(embeddings[:50], n_instances=3)
    learner.teach(samples, digits.target[rows], X_pool=embeddings[:200])
    assert learner.estimator.counts_.sum() == 10 + 33 + 200
    pipeline = make_pipeline(CLIPImageEncoder("demo", "bundled", device="cpu"), make())
    assert pipeline.fit(digits.images[:30], digits.target[:30]).predict(digits.images[:3]).shape == (3,)
    loop = DualPromptLearner(make(), embeddings[:100], query_strategy=margin_sampling)
    rows, _ = loop.query(n_instances=5)
    loop.teach(embeddings[rows], digits.target[rows])
    assert loop.estimator.counts_.sum() == 10 + 5 + 100
    searched = clone(make()).set_params(beta=0.5, estimator__lr=0.2)
    assert searched.get_params()["estimator__lr"] == 0.2


def test_other_heads_with_a_pool(digits, embeddings):
    X, y = embeddings[LABELLED], digits.target[LABELLED]
    for head in (DualLinearClassifier(digits.class_names, **DEMO), TipAdapterClassifier(digits.class_names, **DEMO)):
        adapted = TestTimeCentroids(head).fit(X, y, X_pool=embeddings[:300])
        assert adapted.score(embeddings, digits.target) > 0.75
    unlabeled = TestTimeCentroids(DualLinearClassifier(digits.class_names, **DEMO)).fit_unlabeled(X)
    assert unlabeled.predict(X).shape == (60,)
    assert not hasattr(TestTimeCentroids(TipAdapterClassifier()), "fit_unlabeled")


def test_bad_input_is_refused_before_any_work(zero_shot, digits, embeddings):
    with pytest.raises(ValueError, match="holds embeddings, of which there are no views.*n_views=1"):
        TestTimeCentroids(zero_shot, n_views=2).adapt(embeddings[:5])
    wrongs = {"project": "first", "alpha": 0, "beta": -1, "assign": "both", "n_views": 0, "merge": "max"}
    for name, wrong in wrongs.items():
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            TestTimeCentroids(zero_shot, **{name: wrong}).adapt(embeddings[:5])
    with pytest.raises(TypeError, match=r"LogisticRegression without transform, zero_shot_coef"):
        TestTimeCentroids(LogisticRegression()).fit(embeddings[:20], digits.target[:20])
    with pytest.raises(NotFittedError, match="never fitted"):
        TestTimeCentroids(TipAdapterClassifier(**DEMO)).predict(embeddings[:5])
    adapted = TestTimeCentroids(TipAdapterClassifier(digits.class_names, **DEMO)).adapt(embeddings[:5])
    three = ["one", "two", "six"]
    adapted.estimator.set_params(class_names=three).fit(embeddings[:3], np.array(three))
    with pytest.raises(ValueError, match="fitted anew; call reset"):
        adapted.predict(embeddings[:5])
