"""GCNAL: the product with an adjacency matrix that is never made, and the training."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from modAL.models import ActiveLearner
from sklearn.linear_model import LogisticRegression
from template import StrategyTemplate, refused
from test_coreset import brute_force

from modal_clip_dual.strategies import gcnal, gcnal_sampling
from modal_clip_dual.strategies.gcnal import column_sums, propagate, train_graph_network


def dense_adjacency(nodes):
    """(S - I) D^-1 + I with S = V V^T and D the column sums of S - I, at least 1."""
    similarity = nodes @ nodes.T - torch.eye(len(nodes), dtype=nodes.dtype)
    degrees = similarity.sum(dim=0).clamp(min=1.0)
    return similarity @ torch.diag(1 / degrees) + torch.eye(len(nodes), dtype=nodes.dtype)


def nodes_of(n, D=6, seed=0, shift=0.5):
    values = np.random.default_rng(seed).normal(size=(n, D)) + shift
    return F.normalize(torch.tensor(values), dim=1)


class TestGCNALSampling(StrategyTemplate):
    strategy = staticmethod(gcnal_sampling)
    fast = {"n_epochs": 3}
    draws = False
    lacking = (("images", r"method transform\(X\)"),)

    @pytest.mark.parametrize("shift", [0.0, 0.5])
    def test_propagation_equals_that_by_the_dense_matrix(self, shift):
        nodes = nodes_of(50, shift=shift)
        values = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        actual = propagate(nodes, column_sums(nodes), values)
        torch.testing.assert_close(actual, dense_adjacency(nodes) @ values)

    @pytest.mark.parametrize("dropout", [0.0, 0.3])
    def test_training_equals_that_on_the_dense_graph(self, dropout):
        """Kipf and Welling's two layers, binary cross-entropy by its formula, 20 steps of Adam."""
        nodes, n_unlabeled = nodes_of(40).float(), 30
        rng = np.random.default_rng(7)
        scores, hidden = train_graph_network(nodes, n_unlabeled, 8, dropout, 20, 1e-2, 5e-4, 1.2, rng)

        A = dense_adjacency(nodes)
        generator = torch.Generator().manual_seed(int(np.random.default_rng(7).integers(2**31)))
        weights = []
        for shape, width in (((6, 8), 8), ((8,), 8), ((8, 1), 1), ((1,), 1)):
            draw = (2 * torch.rand(shape, generator=generator) - 1) / width**0.5
            weights.append(torch.nn.Parameter(draw))
        W1, b1, W2, b2 = weights

        def forward(training):
            h = F.relu(A @ (nodes @ W1) + b1)
            kept = h
            if training and dropout:
                mask = torch.rand(h.shape, generator=generator) >= dropout
                kept = h * mask / (1 - dropout)
            return torch.sigmoid(A @ (kept @ W2) + b2)[:, 0], h

        optimizer = torch.optim.Adam(weights, lr=1e-2, weight_decay=5e-4)
        for _ in range(20):
            s, _ = forward(True)
            unlabeled = torch.log(1 - s[:n_unlabeled]).mean()
            loss = -torch.log(s[n_unlabeled:]).mean() - 1.2 * unlabeled
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        expected_scores, expected_hidden = forward(False)
        torch.testing.assert_close(scores, expected_scores.detach(), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(hidden, expected_hidden.detach(), atol=1e-4, rtol=1e-3)

    def test_labelled_nodes_score_higher(self, learner, embeddings):
        nodes = F.normalize(torch.tensor(np.concatenate([embeddings[:300], learner.X_training])), dim=1)
        near = torch.cat([nodes[:300], nodes[300:301].expand(20, -1)])
        scores, _ = train_graph_network(
            near, 300, 32, 0.3, 200, 1e-2, 5e-4, 1.2, np.random.default_rng(0)
        )
        assert scores[300:].mean() > scores[:300].mean() + 0.1

    @pytest.fixture
    def network(self, monkeypatch):
        """What the network finds: fixed scores and hidden values; records its settings."""
        calls = []

        def train(nodes, n_unlabeled, *settings):
            calls.append((n_unlabeled, *settings[:-1]))
            rng = np.random.default_rng(0)
            hidden = torch.tensor(rng.normal(size=(len(nodes), 4)), dtype=torch.float32)
            return torch.linspace(0, 1, len(nodes)), hidden

        monkeypatch.setattr(gcnal, "train_graph_network", train)
        return calls

    def test_param_selection(self, learner, embeddings, network):
        hidden = np.random.default_rng(0).normal(size=(160, 4)).astype(np.float32)
        expected, _ = brute_force(hidden[:100], hidden[100:], 20)
        rows = self.rows(learner, embeddings[:100], 20, selection="core")
        assert rows.tolist() == expected
        rows = self.rows(learner, embeddings[:100], 20, selection="uncertain")
        expected = np.argsort(abs(np.linspace(0, 1, 160)[:100] - 0.1), kind="stable")[:20]
        np.testing.assert_array_equal(rows, expected)
        with pytest.raises(ValueError, match=refused("selection", "best")):
            self.rows(learner, embeddings, selection="best")

    def test_param_margin(self, learner, embeddings, network):
        for margin in (0.0, 0.5, 1.0):
            rows = self.rows(learner, embeddings[:100], 5, selection="uncertain", margin=margin)
            expected = np.argsort(abs(np.linspace(0, 1, 160)[:100] - margin), kind="stable")[:5]
            assert set(rows) == set(expected)
        with pytest.raises(ValueError, match=refused("margin", 2)):
            self.rows(learner, embeddings, margin=2)

    # (argument, its default, another value, a wrong one)
    SETTINGS = (
        ("n_hidden", 128, 16, 0),
        ("dropout", 0.3, 0.0, 1.0),
        ("n_epochs", 200, 7, 0),
        ("lr", 1e-3, 0.1, 0.0),
        ("weight_decay", 5e-4, 0.0, -1.0),
        ("unlabeled_weight", 1.2, 0.5, 0.0),
    )

    def check_setting(self, name, learner, embeddings, network):
        names = [setting[0] for setting in self.SETTINGS]
        _, default, other, wrong = self.SETTINGS[names.index(name)]
        self.rows(learner, embeddings[:100])
        self.rows(learner, embeddings[:100], **{name: other})
        assert [call[1 + names.index(name)] for call in network] == [default, other]
        assert network[0][0] == 100
        with pytest.raises(ValueError, match=refused(name, wrong)):
            self.rows(learner, embeddings[:100], **{name: wrong})

    def test_param_n_hidden(self, learner, embeddings, network):
        self.check_setting("n_hidden", learner, embeddings, network)

    def test_param_dropout(self, learner, embeddings, network):
        self.check_setting("dropout", learner, embeddings, network)

    def test_param_n_epochs(self, learner, embeddings, network):
        self.check_setting("n_epochs", learner, embeddings, network)

    def test_param_lr(self, learner, embeddings, network):
        self.check_setting("lr", learner, embeddings, network)

    def test_param_weight_decay(self, learner, embeddings, network):
        self.check_setting("weight_decay", learner, embeddings, network)

    def test_param_unlabeled_weight(self, learner, embeddings, network):
        self.check_setting("unlabeled_weight", learner, embeddings, network)

    def test_param_max_samples(self, learner, embeddings, network):
        rows = self.rows(learner, embeddings[:200], 10, max_samples=50, random_state=0)
        assert network[-1][0] == 50
        part = np.sort(np.random.default_rng(0).permutation(200)[:50])
        assert set(rows.tolist()) <= set(part.tolist())
        self.check(self.rows(learner, embeddings[:200], 60, max_samples=50), 60, 200)
        with pytest.raises(ValueError, match=refused("max_samples", 0)):
            self.rows(learner, embeddings, max_samples=0)

    def test_random_state_decides_the_network(self, learner, embeddings):
        kwargs = {"selection": "uncertain", "n_epochs": 3}
        drawn = {tuple(self.rows(learner, embeddings, 5, random_state=s, **kwargs)) for s in range(4)}
        assert len(drawn) == 4

    def test_before_the_first_labels_samples_are_random(self, embeddings):
        learner = ActiveLearner(LogisticRegression())
        rows = [self.rows(learner, embeddings[:99], 5, random_state=seed).tolist() for seed in (0, 0, 1)]
        assert rows[0] == rows[1] != rows[2]

    def test_what_is_no_learner_is_refused(self, fitted, embeddings):
        with pytest.raises(ValueError, match="does not hold: it has no X_training"):
            self.rows(fitted, embeddings[:30], 3)

    def test_param_random_tie_break(self, learner, embeddings, monkeypatch):
        flat = torch.full((110,), 0.5), torch.zeros(110, 2)
        monkeypatch.setattr(gcnal, "train_graph_network", lambda *args: flat)
        for selection in ("core", "uncertain"):
            pool = embeddings[:50]
            rows = self.rows(learner, pool, 5, selection=selection)
            assert rows.tolist() == [0, 1, 2, 3, 4]
            drawn = {tuple(self.rows(learner, pool, 5, True, selection=selection)) for _ in range(20)}
            assert len(drawn) > 15
