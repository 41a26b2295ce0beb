"""BADGE: factored distances against materialised gradients, and the draws of k-means++."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from template import StrategyTemplate

from modal_clip_dual.strategies import badge_gradient_norm, badge_sampling
from modal_clip_dual.strategies._points import Points
from modal_clip_dual.strategies.badge import _draw, _Gradients, _k_means_plus_plus


def materialised(proba, embeddings):
    """Ash et al., Eq. 1, with the prediction as label: (n, C * D) in float64."""
    rows = []
    for p, v in zip(np.asarray(proba, np.float64), np.asarray(embeddings, np.float64)):
        a = p.copy()
        a[p.argmax()] -= 1
        rows.append(np.outer(a, v).ravel())
    return np.array(rows)


def random_case(n=40, C=5, D=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(C), size=n).astype(np.float32), rng.normal(size=(n, D))


class TestBadgeSampling(StrategyTemplate):
    strategy = staticmethod(badge_sampling)
    draws = True
    in_row_order = (1,)  # the others are drawn
    lacking = (("svc", r"method predict_proba\(X\)"), ("images", r"method transform\(X\)"))

    def test_distances_equal_those_of_materialised_gradients(self):
        proba, embeddings = random_case()
        gradients = _Gradients(proba, Points(embeddings))
        full = materialised(proba, embeddings)
        for row in range(len(full)):
            expected = cdist(full, full[[row]], "sqeuclidean")[:, 0]
            np.testing.assert_allclose(gradients.to(row).numpy(), expected, atol=1e-5)

    def test_gradient_norm(self, learner, embeddings):
        full = materialised(learner.predict_proba(embeddings[:100]), embeddings[:100])
        norms = badge_gradient_norm(learner, embeddings[:100])
        np.testing.assert_allclose(norms, np.linalg.norm(full, axis=1), rtol=1e-3, atol=1e-6)
        assert self.rows(learner, embeddings[:100]) == [norms.argmax()]
        rows = self.rows(learner, embeddings[:100], 8, random_state=1)
        metrics = self.metrics(learner, embeddings[:100], 8, random_state=1)
        np.testing.assert_allclose(metrics, norms[rows])

    def test_sure_predictions_keep_their_digits(self):
        """1 - P of the prediction is the sum of the other classes, also where P rounds to 1."""
        proba = np.array([[1.0, 1e-9, 0.0], [1.0, 2e-9, 0.0]], dtype=np.float32)
        gradients = _Gradients(proba, Points(np.ones((2, 1))))
        expected = np.sqrt(2) * np.array([1e-9, 2e-9])
        np.testing.assert_allclose(gradients.squared_norms.sqrt().numpy(), expected, rtol=1e-5)

    def test_seeding_has_the_probabilities_of_k_means_plus_plus(self):
        """Chi-square of the second and third row among 6, with 5 and 19 degrees of freedom."""
        proba, embeddings = random_case(n=6, C=3, D=2, seed=3)
        full = materialised(proba, embeddings)
        squared = cdist(full, full, "sqeuclidean")
        first = int((full**2).sum(axis=1).argmax())
        gradients, rng = _Gradients(proba, Points(embeddings)), np.random.default_rng(0)
        n = 4000
        drawn = np.array([_k_means_plus_plus(gradients, 3, rng) for _ in range(n)])
        assert (drawn[:, 0] == first).all()
        observed, expected = [], []
        for second in range(6):
            if second == first:
                assert not (drawn[:, 1] == second).any()
                continue
            p_second = squared[first, second] / squared[first].sum()
            weights = np.minimum(squared[first], squared[second])
            for third in set(range(6)) - {first, second}:
                pair = (drawn[:, 1] == second) & (drawn[:, 2] == third)
                observed.append(pair.sum())
                expected.append(n * p_second * weights[third] / weights.sum())
        observed, expected = np.array(observed), np.array(expected)
        assert abs(expected.sum() - n) < 1e-6
        assert ((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum() < 43.8  # p = 0.001

    def test_draw(self):
        import torch

        rng = np.random.default_rng(0)
        weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0])
        counts = np.bincount([_draw(weights, rng) for _ in range(4000)], minlength=5)
        assert counts[[0, 2, 4]].sum() == 0
        assert abs(counts[3] - 3000) < 4 * np.sqrt(4000 * 0.75 * 0.25)
        assert _draw(torch.zeros(3), rng) is None

    def test_agrees_with_scikit_activeml(self, digits, embeddings):
        """The same first sample, and given its samples the same probabilities of each next one.

        But for one thing: scikit-activeml takes the origin for a chosen sample, too, by starting
        from the squared norms.
        """
        pool = pytest.importorskip("skactiveml.pool")
        from skactiveml.classifier import SklearnClassifier

        X, y = embeddings[:300], digits.target[:300].astype(float)
        y[60:] = np.nan
        clf = SklearnClassifier(LogisticRegression(max_iter=300), classes=range(10)).fit(X, y)
        theirs, utilities = pool.Badge(random_state=0).query(
            X, y, clf, fit_clf=False, batch_size=10, return_utilities=True
        )
        proba = clf.predict_proba(X[60:])
        gradients = _Gradients(proba, Points(X[60:]))
        assert theirs[0] - 60 == int(gradients.squared_norms.argmax())
        rows, squared = np.array(theirs) - 60, gradients.squared_norms.numpy()
        for k, row in enumerate(rows[:-1]):
            squared = np.minimum(squared, gradients.to(int(row)).numpy())
            squared[rows[: k + 1]] = 0
            expected = np.nan_to_num(utilities[k + 1, 60:])
            np.testing.assert_allclose(squared / squared.sum(), expected, atol=1e-4)

    def test_param_random_tie_break(self):
        class Sure:
            classes_ = np.arange(2)

            def predict_proba(self, X):
                return np.tile([0.5, 0.5], (len(X), 1))

        X = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
        assert self.rows(Sure(), X).tolist() == [0]
        assert {int(self.rows(Sure(), X, 1, True)[0]) for _ in range(30)} == {0, 1}
