"""Negative-prompt sampling: scores, fall-back to zero-shot, every kind of classifier."""

import numpy as np
import pytest
from modAL.models import ActiveLearner, Committee
from modAL.uncertainty import classifier_uncertainty
from modAL.utils.combination import make_linear_combination, make_product, make_query_strategy
from modAL.utils.selection import multi_argmax
from precision import of_probabilities
from references import literal
from scipy.special import expit, softmax
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from template import StrategyTemplate, refused

from modal_clip_dual import negative_prompt_sampling, negative_prompt_uncertainty
from modal_clip_dual.strategies import _ranking


class Given:
    """A classifier with given class probabilities and clean logits, row by row of X."""

    def __init__(self, proba, z):
        self.proba, self.z = np.asarray(proba, dtype=float), np.asarray(z, dtype=float)
        self.classes_ = np.arange(self.proba.shape[1])

    def predict_proba(self, X):
        return self.proba[np.ravel(X).astype(int)]

    def clean_logits(self, X):
        return self.z[np.ravel(X).astype(int)]


class SaysWhetherRight:
    """A classifier with class probabilities and P(correct), and nothing else."""

    def __init__(self, proba, correct):
        self.proba, self.correct = np.asarray(proba, dtype=float), np.asarray(correct, dtype=float)

    def predict_proba(self, X):
        return self.proba[np.ravel(X).astype(int)]

    def predict_correct_proba(self, X):
        return self.correct[np.ravel(X).astype(int)]


def random_case(n=60, C=4, seed=0, scale=5.0):
    rng = np.random.default_rng(seed)
    clf = Given(rng.dirichlet(np.ones(C), size=n), rng.normal(size=(n, C)) * scale)
    return clf, np.arange(n)[:, None]


def literal_confidence(clf, score):
    """The three scores of method.md, sample by sample."""
    values = []
    for proba, z in zip(clf.proba, clf.z):
        y = int(proba.argmax())
        if score == "clean":
            values.append(z[y])
        elif score == "normalized":
            values.append(softmax(z)[y])
        else:
            values.append(z[y] - max(z[k] for k in range(len(z)) if k != y))
    return np.array(values)


class TestNegativePromptSampling(StrategyTemplate):
    strategy = staticmethod(negative_prompt_sampling)
    any_classifier = False
    lacking = (("embeddings", r"method clean_logits\(X\)"), ("svc", r"method clean_logits\(X\)"))

    @pytest.mark.parametrize("score", ["clean", "normalized", "margin"])
    @pytest.mark.parametrize("remainder", ["per-class", "global"])
    def test_param_score(self, score, remainder):
        clf, X = random_case()
        confidence = literal_confidence(clf, score)
        predicted = clf.proba.argmax(1)
        for n in (1, 3, 4, 7, 60):
            rows = self.rows(clf, X, n, score=score, remainder=remainder)
            assert rows.tolist() == literal(confidence, predicted, n, 4, remainder)
        with pytest.raises(ValueError, match=refused("score", "entropy")):
            self.rows(clf, X, score="entropy")

    @pytest.mark.parametrize("remainder", ["per-class", "global"])
    def test_score_of_any_classifier_that_says_whether_it_is_right(self, remainder, monkeypatch):
        rng = np.random.default_rng(1)
        clf, X = SaysWhetherRight(rng.dirichlet(np.ones(4), size=60), rng.random(60)), np.arange(60)[:, None]
        for part in (1000, 7):
            monkeypatch.setattr(_ranking, "POOL_ROWS", part)
            for n in (1, 7, 60):
                rows = self.rows(clf, X, n, score="correct", remainder=remainder)
                assert rows.tolist() == literal(clf.correct, clf.proba.argmax(1), n, 4, remainder)
            uncertainty = negative_prompt_uncertainty(clf, X, score="correct")
            np.testing.assert_allclose(uncertainty, 1 - clf.correct, atol=1e-15)
        with pytest.raises(TypeError, match=r"method clean_logits\(X\).*got SaysWhetherRight"):
            self.rows(clf, X)

    def test_correct_is_clean_for_uniform_complements(self, fitted, embeddings):
        """The same order, but where float32 has rounded two probabilities to one."""
        clean = negative_prompt_uncertainty(fitted, embeddings)
        correct = negative_prompt_uncertainty(fitted, embeddings, score="correct")
        np.testing.assert_allclose(correct, clean, atol=1e-5)
        rows = self.rows(fitted, embeddings, 30, score="correct")
        chosen = self.rows(fitted, embeddings, 30)
        np.testing.assert_allclose(clean[rows], clean[chosen], atol=1e-5)

    def test_param_remainder(self):
        clf, X = random_case()
        per_class = self.rows(clf, X, 3)
        assert len(set(clf.proba.argmax(1)[per_class])) == 3
        assert set(self.rows(clf, X, 3, remainder="global")) != set(per_class)
        with pytest.raises(ValueError, match=refused("remainder", "none")):
            self.rows(clf, X, remainder="none")

    def test_param_class_balanced(self):
        clf, X = random_case()
        expected = np.argsort(literal_confidence(clf, "clean"))[:10]
        np.testing.assert_array_equal(self.rows(clf, X, 10, class_balanced=False), expected)

    def test_param_random_tie_break(self):
        clf = Given(np.tile([0.9, 0.1], (10, 1)), np.zeros((10, 2)))
        X = np.arange(10)[:, None]
        assert self.rows(clf, X, 2).tolist() == [0, 1]
        drawn = {tuple(self.rows(clf, X, 2, random_tie_break=True)) for _ in range(30)}
        assert len(drawn) > 10

    def test_random_state_decides_ties(self):
        clf = Given(np.tile([0.9, 0.1], (10, 1)), np.zeros((10, 2)))
        X = np.arange(10)[:, None]
        draws = [self.rows(clf, X, 4, True, random_state=3).tolist() for _ in range(2)]
        assert draws[0] == draws[1]
        assert draws[0] != self.rows(clf, X, 4, True, random_state=4).tolist()
        assert self.rows(clf, X, 4, random_state=3).tolist() == [0, 1, 2, 3]

    def test_ranks_where_probabilities_saturate(self):
        """At z = 40 and 60 sigmoid and softmax are both 1 in float32, and in float64 nearly."""
        z = np.array([[60.0, -60.0], [40.0, -40.0], [50.0, -50.0]])
        clf, X = Given(np.tile([1.0, 0.0], (3, 1)), z), np.arange(3)[:, None]
        for score in ("clean", "normalized", "margin"):
            for balanced in (True, False):
                rows = self.rows(clf, X, 3, score=score, class_balanced=balanced)
                assert rows.tolist() == [1, 2, 0], (score, balanced)

    def test_unknown_argument(self, fitted, embeddings):
        with pytest.raises(TypeError, match="n_instance"):
            self.rows(fitted, embeddings, n_instance=3)

    def test_learner_that_was_never_fitted_answers_from_zero_shot(
        self, classifier, embeddings, digits
    ):
        learner = ActiveLearner(classifier(), query_strategy=negative_prompt_sampling)
        chosen, _ = learner.query(embeddings, n_instances=25)
        proba = classifier().zero_shot_proba(embeddings).astype(np.float64)
        predicted = proba.argmax(1)
        # log odds of the prediction, by way of the other classes' sum
        best = proba.max(1)
        others = np.array([sum(np.delete(row, k)) for row, k in zip(proba, predicted)])
        expected = literal(np.log(best) - np.log(others), predicted, 25, 10, "per-class")
        assert chosen.tolist() == expected
        correct = self.rows(learner, embeddings, 25, score="correct")
        assert correct.tolist() == chosen.tolist()  # it has no P(correct) yet, either
        for score in ("normalized", "margin"):
            other = self.rows(learner, embeddings, 25, score=score)
            assert set(other.tolist()) != set(range(25))


@pytest.mark.parametrize("score", ["clean", "normalized", "margin"])
def test_uncertainty(score):
    clf, X = random_case(scale=2.0)
    uncertainty = negative_prompt_uncertainty(clf, X, score)
    confidence = literal_confidence(clf, score)
    expected = {
        "clean": 1 - expit(confidence - np.log(3)),
        "normalized": 1 - confidence,
        "margin": 1 - expit(confidence),
    }[score]
    np.testing.assert_allclose(uncertainty, expected, atol=1e-12)
    np.testing.assert_array_equal(np.argsort(-uncertainty), np.argsort(confidence))


@pytest.mark.parametrize("empty", [np.zeros((0, 128), np.float32), [], np.zeros((0, 8, 8), np.uint8)])
def test_uncertainty_of_nothing(fitted, empty):
    with pytest.raises(ValueError, match="X is empty"):
        negative_prompt_uncertainty(fitted, empty)


def test_uncertainty_is_the_complement_of_the_correct_probability(fitted, embeddings):
    np.testing.assert_allclose(
        negative_prompt_uncertainty(fitted, embeddings),
        1 - fitted.predict_correct_proba(embeddings),
        atol=1e-5,
    )


def test_metrics_are_the_uncertainty(fitted, embeddings):
    from modal_clip_dual._compat import query_returns_metrics

    learner = ActiveLearner(fitted, query_strategy=negative_prompt_sampling)
    if not query_returns_metrics():
        pytest.skip("this modAL knows no metrics")
    rows, _, metrics = learner.query(embeddings, n_instances=5, return_metrics=True)
    np.testing.assert_allclose(metrics, negative_prompt_uncertainty(fitted, embeddings)[rows])


def test_composes_with_modals_helpers(fitted, embeddings):
    X = embeddings[:200]
    ours, theirs = negative_prompt_uncertainty(fitted, X), classifier_uncertainty(fitted, X)
    combined = make_linear_combination(
        negative_prompt_uncertainty, classifier_uncertainty, weights=[0.3, 0.7]
    )
    np.testing.assert_allclose(combined(fitted, X), 0.3 * ours + 0.7 * theirs)
    product = make_product(negative_prompt_uncertainty, classifier_uncertainty, exponents=[2, 1])
    np.testing.assert_allclose(product(fitted, X), ours**2 * theirs)

    def five_highest(values):
        return multi_argmax(values, n_instances=5)

    strategy = make_query_strategy(combined, five_highest)
    learner = ActiveLearner(fitted, query_strategy=strategy)
    rows, _ = learner.query(X)
    assert set(rows) == set(np.argsort(-(0.3 * ours + 0.7 * theirs))[:5])


def test_every_wrapping_of_the_estimator_chooses_the_same(classifier, embeddings, digits):
    X, y, pool = embeddings[:40], digits.target[:40], embeddings[100:300]
    clf = classifier(max_epochs=2).fit(X, y)
    expected = TestNegativePromptSampling().rows(clf, pool, 7)
    pipeline = make_pipeline(FunctionTransformer(), classifier(max_epochs=2)).fit(X, y)
    search = GridSearchCV(classifier(), {"max_epochs": [2]}, cv=2).fit(X, y)
    searched_pipeline = GridSearchCV(pipeline, {"dualpromptclassifier__max_epochs": [2]}, cv=2)
    wrapped = {
        "learner": ActiveLearner(clf),
        "pipeline": pipeline,
        "learner of pipeline": ActiveLearner(pipeline),
        "search": search,
        "learner of searched pipeline": ActiveLearner(searched_pipeline.fit(X, y)),
        "committee of twins": Committee([ActiveLearner(clf), ActiveLearner(clf)]),
    }
    for name, classifier_ in wrapped.items():
        rows = TestNegativePromptSampling().rows(classifier_, pool, 7)
        np.testing.assert_array_equal(rows, expected, err_msg=name)


def test_pipeline_transforms_the_pool(classifier, digits):
    """The estimator inside sees what the steps before it make of X."""
    invert = FunctionTransformer(lambda images: 255 - images)
    pipeline = make_pipeline(invert, classifier(max_epochs=2))
    pipeline.fit(255 - digits.images[:40], digits.target[:40])
    clf = pipeline[-1]
    np.testing.assert_allclose(
        negative_prompt_uncertainty(pipeline, 255 - digits.images[:100]),
        negative_prompt_uncertainty(clf, digits.images[:100]),
    )


def test_never_fitted_pipeline_answers_from_zero_shot(classifier, digits):
    clf = classifier()
    pipeline = make_pipeline(FunctionTransformer(), classifier())
    np.testing.assert_allclose(
        negative_prompt_uncertainty(ActiveLearner(pipeline), digits.images[:50]),
        negative_prompt_uncertainty(clf, digits.images[:50]),
    )


def test_committee_averages_its_members(classifier, embeddings, digits, demo):
    members = [
        classifier(max_epochs=2, random_state=seed).fit(embeddings[:40], digits.target[:40])
        for seed in (0, 1)
    ]
    committee = Committee([ActiveLearner(member) for member in members])
    mean = Given(
        np.mean([member.predict_proba(embeddings) for member in members], axis=0),
        np.mean([member.clean_logits(embeddings) for member in members], axis=0),
    )
    np.testing.assert_allclose(
        negative_prompt_uncertainty(committee, embeddings),
        negative_prompt_uncertainty(mean, np.arange(len(embeddings))),
        atol=of_probabilities(demo.logit_scale),
        rtol=0,
    )


@pytest.mark.parametrize("wrap", [lambda clf: clf, ActiveLearner])
def test_other_classifiers_are_refused_with_the_missing_method(wrap, embeddings, digits):
    clf = LogisticRegression(max_iter=50).fit(embeddings[:50], digits.target[:50])
    with pytest.raises(TypeError, match=r"method clean_logits\(X\).*got .*LogisticRegression"):
        negative_prompt_sampling(wrap(clf), embeddings[:50])


def test_unfitted_uncertainty_is_that_of_the_zero_shot_probabilities(classifier, embeddings):
    clf = classifier()
    best = clf.zero_shot_proba(embeddings).max(axis=1)
    for score in ("clean", "normalized", "margin"):
        uncertainty = negative_prompt_uncertainty(clf, embeddings, score)
        assert ((uncertainty >= 0) & (uncertainty <= 1)).all()
    np.testing.assert_allclose(negative_prompt_uncertainty(clf, embeddings), 1 - best, atol=1e-5)


@pytest.mark.parametrize("wrap", ["bagging", "search without refit"])
def test_fitted_copies_are_not_answered_from_zero_shot(classifier, embeddings, digits, wrap):
    clf = classifier(max_epochs=1)
    wrapper = {
        "bagging": BaggingClassifier(clf, n_estimators=2),
        "search without refit": GridSearchCV(clf, {"lr": [0.01]}, cv=2, refit=False),
    }[wrap].fit(embeddings[:60], digits.target[:60])
    with pytest.raises(TypeError, match="fits copies|got GridSearchCV"):
        negative_prompt_sampling(wrapper, embeddings[:20])


def test_committee_of_different_classes_is_refused(classifier, embeddings, digits):
    X, y = embeddings[:200], digits.target[:200]
    members = []
    for classes in ([0, 1], [1, 2]):
        rows = np.isin(y, classes)
        clf = classifier(max_epochs=1).set_params(class_names=None)
        members.append(ActiveLearner(clf, X_training=X[rows], y_training=y[rows]))
    with pytest.raises(ValueError, match="Committee know different classes"):
        negative_prompt_sampling(Committee(members), X)
    half = [ActiveLearner(classifier(max_epochs=1)), members[0]]
    half[1].estimator.set_params(class_names=digits.class_names).fit(X[:20], y[:20])
    with pytest.raises(ValueError, match="fit all or none"):
        negative_prompt_sampling(Committee(half), X)
