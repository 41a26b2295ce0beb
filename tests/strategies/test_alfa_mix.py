"""ALFA-Mix: the ray of the closed form against mixing anchors in, feature by feature."""

import numpy as np
import pytest
import torch
from conftest import make_learner
from modAL.models import ActiveLearner
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from template import StrategyTemplate, refused

from modal_clip_dual.strategies import alfa_mix_sampling
from modal_clip_dual.strategies.alfa_mix import _anchors, _smallest_change


def literal_candidates(X, W, b, anchors, bound):
    """Parvaneh et al., Eq. 5: shares alpha of each feature, every anchor mixed in."""
    z = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    W, b = torch.tensor(W, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    logits = z @ W.T + b
    predicted = logits.argmax(dim=1)
    loss = torch.nn.functional.cross_entropy(logits, predicted, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, z)
    eps = bound / X.shape[1] ** 0.5
    changed = torch.zeros(len(X), dtype=torch.bool)
    for anchor in torch.tensor(anchors, dtype=torch.float64):
        difference = anchor - z
        scale = eps * difference.norm(dim=1) / gradient.norm(dim=1)
        alpha = scale[:, None] * gradient / difference
        mixed = alpha * anchor + (1 - alpha) * z
        changed |= (mixed @ W.T + b).argmax(dim=1) != predicted
    return changed.numpy()


class TestALFAMixSampling(StrategyTemplate):
    strategy = staticmethod(alfa_mix_sampling)
    committee = False
    draws = True
    in_row_order = (5,)  # of few candidates, more would be drawn
    lacking = (("images", r"method transform\(X\)"),)

    def test_candidates_equal_those_of_mixing(self):
        rng = np.random.default_rng(0)
        X, anchors = rng.normal(size=(200, 8)), rng.normal(size=(4, 8))
        W, b = rng.normal(size=(4, 8)), rng.normal(size=4)
        smallest = _smallest_change(X, W, b, anchors, None)
        found = []
        for bound in (0.01, 0.05, 0.2, 0.5, 1.0):
            expected = literal_candidates(X, W, b, anchors, bound)
            found.append(expected.sum())
            np.testing.assert_array_equal(smallest < bound, expected)
        assert 0 < found[0] < found[-1] < 200  # the test has seen both kinds

    def test_candidates_of_a_real_head(self, fitted, learner, embeddings, digits):
        pool = embeddings[:300]
        anchors = _anchors(learner.X_training, learner.y_training, fitted.classes_)
        smallest = _smallest_change(pool, fitted.coef_, np.zeros(10), anchors, None)
        for bound in (0.2, 0.6, 1.0):
            expected = literal_candidates(pool, fitted.coef_, np.zeros(10), anchors, bound)
            unequal = (smallest < bound) != expected
            assert unequal.sum() <= 1  # float32 against float64 at the edge
        metrics = self.metrics(learner, pool, 10, random_state=0)
        rows = self.rows(learner, pool, 10, random_state=0)
        np.testing.assert_allclose(-metrics, smallest[rows], rtol=1e-4)
        assert np.all(np.diff(metrics) <= 0)

    def test_anchors(self):
        X, y = np.array([[1.0, 0], [3, 0], [0, 5]]), np.array(["a", "a", "c"])
        expected = [[2, 0], [4 / 3, 5 / 3], [0, 5]]  # class b has none: the mean of all
        np.testing.assert_allclose(_anchors(X, y, np.array(["a", "b", "c"])), expected)

    def test_sure_predictions_have_a_direction(self):
        """Where softmax is 1 to the last digit the plain gradient would be 0 / 0."""
        X, W = np.array([[400.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
        smallest = _smallest_change(X, W, np.zeros(2), np.array([[0.0, 0.0]]), None)
        # The ray (-1, 1) / sqrt(2) meets the boundary after 400 / sqrt(2); the step at bound 1
        # is 400 / sqrt(2) as well.
        np.testing.assert_allclose(smallest, [1.0], rtol=1e-5)

    def test_param_eps(self, learner, embeddings, monkeypatch):
        """Candidates of the first bound that has more than are wanted."""
        from modal_clip_dual.strategies import alfa_mix

        smallest = np.linspace(0.05, 2.0, 40)
        monkeypatch.setattr(alfa_mix, "_smallest_change", lambda *args: smallest)
        asked = []
        monkeypatch.setattr(
            alfa_mix,
            "nearest_to_centers",
            lambda rows, n, rng: asked.append(len(rows)) or np.arange(min(n, len(rows))),
        )
        pool = embeddings[:40]
        for eps, n, bound in ((0.2, 2, 0.2), (0.2, 3, 0.4), (0.5, 3, 0.5), (1.0, 3, 1.0), (0.2, 30, 1)):
            self.check(self.rows(learner, pool, n, eps=eps), n, 40)
            assert asked.pop() == (smallest < bound).sum(), (eps, n)
        for wrong in (0.0, 1.1, -1):
            with pytest.raises(ValueError, match=refused("eps", wrong)):
                self.rows(learner, pool, eps=wrong)

    def test_fills_up_with_random_samples(self, learner, embeddings, monkeypatch):
        from modal_clip_dual.strategies import alfa_mix

        smallest = np.full(40, np.inf)
        smallest[[7, 9]] = 0.9, 0.3
        monkeypatch.setattr(alfa_mix, "_smallest_change", lambda *args: smallest)
        drawn = [self.rows(learner, embeddings[:40], 5, random_state=seed) for seed in range(9)]
        for rows in drawn:
            assert rows[:2].tolist() == [9, 7]
            self.check(rows, 5, 40)
        assert len({tuple(rows[2:]) for rows in drawn}) == 9

    def test_before_the_first_labels_samples_are_random(self, embeddings):
        learner = ActiveLearner(LogisticRegression())
        rows = [self.rows(learner, embeddings[:99], 5, random_state=seed).tolist() for seed in (0, 0, 1)]
        assert rows[0] == rows[1] != rows[2]

    def test_what_is_no_learner_is_refused(self, fitted, embeddings):
        with pytest.raises(ValueError, match="DualPromptClassifier does not hold: it has no X_training"):
            self.rows(fitted, embeddings[:30], 3)

    def test_other_heads(self, digits, embeddings):
        """Binary ones, scikit-learn's LDA, whose transform is no input of coef_; and none."""
        X, y = embeddings[:200], digits.target[:200]
        binary = LogisticRegression(max_iter=300).fit(X, y > 4)
        self.check(self.rows(make_learner(binary, X, y > 4), embeddings[200:300], 9), 9, 100)
        lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.5).fit(X, y)
        self.check(self.rows(make_learner(lda, X, y), embeddings[200:300], 9), 9, 100)
        forest = RandomForestClassifier(5).fit(X, y)
        with pytest.raises(TypeError, match="attribute coef_.*ActiveLearner around RandomForest"):
            self.rows(make_learner(forest, X, y), embeddings[200:300], 9)

    def test_visual_prompts(self, classifier, digits):
        clf = classifier(visual_prompts="vpt-shallow", n_visual_tokens=2, max_epochs=1, augment=None)
        learner = ActiveLearner(clf, X_training=digits.images[:10], y_training=digits.target[:10])
        self.check(self.rows(learner, digits.images[10:60], 5), 5, 50)

    def test_param_random_tie_break(self, learner, embeddings):
        rows = [self.rows(learner, embeddings, 5, tie, random_state=0) for tie in (False, True)]
        np.testing.assert_array_equal(*rows)
