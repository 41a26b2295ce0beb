"""The losses against method.md's formulas in plain numpy."""

import numpy as np
import pytest
import torch

from modal_clip_dual.nn.criteria.dual import DualPromptLoss, negative_prompt_loss


def numpy_parts(s_pos, s_neg, y, tau):
    """L1 per sample, z and clean probabilities of Eq. 3 and 4, in float64 loops."""
    n, C = s_pos.shape
    l1 = np.empty(n)
    z = np.empty((n, C))
    p = np.empty((n, C))
    for i in range(n):
        l1[i] = -s_pos[i, y[i]] / tau + np.log(sum(np.exp(s_pos[i, k] / tau) for k in range(C)))
        for k in range(C):
            z[i, k] = (s_pos[i, k] - s_neg[i, k]) / tau
            p[i, k] = 1 / (1 + np.exp(-z[i, k]))
    return l1, z, p


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    n, C, tau = 200, 7, 0.07
    s_pos = rng.uniform(-0.3, 0.3, (n, C))
    s_neg = rng.uniform(-0.3, 0.3, (n, C))
    return s_pos, s_neg, rng.integers(C, size=n), tau


def outputs_of(s_pos, s_neg, tau):
    positive = torch.tensor(s_pos / tau, dtype=torch.float32)
    return positive, torch.tensor((s_pos - s_neg) / tau, dtype=torch.float32)


def test_l1_is_cross_entropy_when_weight_is_zero(case):
    s_pos, s_neg, y, tau = case
    l1, _, _ = numpy_parts(s_pos, s_neg, y, tau)
    outputs = outputs_of(s_pos, s_neg, tau)
    assert DualPromptLoss(negative_weight=0)(outputs, torch.tensor(y)).item() == pytest.approx(
        l1.mean(), abs=1e-5
    )


@pytest.mark.parametrize("complement", ["all", "hard"])
def test_exact_complements(case, complement):
    s_pos, s_neg, y, tau = case
    _, _, p = numpy_parts(s_pos, s_neg, y, tau)
    expected = []
    for i in range(len(y)):
        others = [k for k in range(p.shape[1]) if k != y[i]]
        weights = np.exp(s_pos[i, others] / tau) if complement == "hard" else np.ones(len(others))
        weights /= weights.sum()
        expected.append(-np.log(p[i, y[i]]) - weights @ np.log(1 - p[i, others]))
    positive, z = outputs_of(s_pos, s_neg, tau)
    actual = negative_prompt_loss(z, torch.tensor(y), complement, positive)
    assert actual.item() == pytest.approx(np.mean(expected), abs=1e-5)


def test_uniform_complement_is_one_draw_of_another_class(case):
    s_pos, s_neg, y, tau = case
    _, _, p = numpy_parts(s_pos, s_neg, y, tau)
    _, z = outputs_of(s_pos, s_neg, tau)
    seen = set()
    for row in range(3):
        values = {
            k: -np.log(p[row, y[row]]) - np.log(1 - p[row, k]) for k in range(7) if k != y[row]
        }
        for seed in range(60):
            generator = torch.Generator().manual_seed(seed)
            loss = negative_prompt_loss(
                z[[row]], torch.tensor(y[[row]]), "uniform", generator=generator
            ).item()
            nearest = min(values, key=lambda k: abs(values[k] - loss))
            assert values[nearest] == pytest.approx(loss, abs=1e-5)
            seen.add((row, nearest))
    assert len(seen) == 3 * 6  # every other class is drawn, the label never


def test_uniform_draw_has_the_exact_mean_as_expectation(case):
    s_pos, s_neg, y, tau = case
    _, z = outputs_of(s_pos, s_neg, tau)
    y = torch.tensor(y)
    generator = torch.Generator().manual_seed(0)
    draws = [negative_prompt_loss(z, y, "uniform", generator=generator).item() for _ in range(400)]
    standard_error = np.std(draws) / 20
    exact = negative_prompt_loss(z, y, "all").item()
    assert abs(np.mean(draws) - exact) < 4 * standard_error


def test_total_is_l1_plus_weighted_l2(case):
    s_pos, s_neg, y, tau = case
    l1, _, _ = numpy_parts(s_pos, s_neg, y, tau)
    outputs = outputs_of(s_pos, s_neg, tau)
    y = torch.tensor(y)
    l2 = negative_prompt_loss(outputs[1], y, "all").item()
    total = DualPromptLoss(negative_weight=0.3, complement="all")(outputs, y).item()
    assert total == pytest.approx(l1.mean() + 0.3 * l2, abs=1e-5)


def test_sign_is_the_corrected_one():
    # With the printed sign the loss would fall without bound as z grows for every class.
    y = torch.tensor([0, 1])
    small, large = (negative_prompt_loss(torch.full((2, 3), z), y, "all") for z in (1.0, 30.0))
    assert large > small
    right = torch.tensor([[30.0, -30.0, -30.0], [-30.0, 30.0, -30.0]])
    assert negative_prompt_loss(right, y, "all").item() == pytest.approx(0, abs=1e-5)


def test_minimiser_is_inflated_by_log_of_rivals():
    """The claim behind predict_correct_proba: logit p* = logit eta + log(C - 1)."""
    C, eta = 10, 0.5
    z = torch.zeros(C, requires_grad=True)
    optimizer = torch.optim.Adam([z], lr=0.05)
    # Class 0 is right with probability eta, each other with (1 - eta) / (C - 1).
    weight = torch.tensor([eta] + [(1 - eta) / (C - 1)] * (C - 1))
    for _ in range(800):
        per_label = torch.stack(
            [negative_prompt_loss(z[None], torch.tensor([k]), "all") for k in range(C)]
        )
        optimizer.zero_grad()
        (weight @ per_label).backward()
        optimizer.step()
    assert torch.sigmoid(z[0]).item() == pytest.approx(0.9, abs=1e-3)
    assert torch.sigmoid(z[0] - np.log(C - 1)).item() == pytest.approx(eta, abs=2e-3)


def test_hard_weights_carry_no_gradient(case):
    s_pos, s_neg, y, tau = case
    positive, z = (x.requires_grad_() for x in outputs_of(s_pos, s_neg, tau))
    loss = negative_prompt_loss(z, torch.tensor(y), "hard", positive)
    assert torch.autograd.grad(loss, positive, allow_unused=True)[0] is None


def test_extreme_logits_stay_finite():
    z = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    for y in (torch.tensor([0, 1]), torch.tensor([1, 0])):
        for complement in ("uniform", "all", "hard"):
            loss = negative_prompt_loss(z, y, complement, z.detach())
            assert torch.isfinite(loss)
            assert torch.isfinite(torch.autograd.grad(loss, z)[0]).all()


def test_unknown_complement():
    with pytest.raises(ValueError, match="complement='none'"):
        negative_prompt_loss(torch.zeros(1, 2), torch.tensor([0]), "none")


@pytest.mark.parametrize("complement", ["uniform", "all", "hard"])
@pytest.mark.parametrize("pair", [tuple, list])
def test_weights_of_samples(case, complement, pair):
    """1 / n for all is the mean; a sample of weight 0 does not count."""
    s_pos, s_neg, y, tau = case
    outputs, y = outputs_of(s_pos, s_neg, tau), torch.tensor(y)
    n = len(y)

    def loss(target):
        return DualPromptLoss(0.7, complement, seed=4)(outputs, target).item()

    assert loss(pair([y, torch.full((n,), 1 / n)])) == pytest.approx(loss(y), rel=1e-5)
    assert loss(pair([y, torch.full((n,), 2 / n)])) == pytest.approx(2 * loss(y), rel=1e-5)
    weight = torch.zeros(n)
    weight[:10] = 0.1
    first = [part[:10] for part in outputs]
    if complement != "uniform":  # draws depend on the number of samples
        expected = DualPromptLoss(0.7, complement)(first, y[:10]).item()
        assert loss(pair([y, weight])) == pytest.approx(expected, rel=1e-5)
    each = negative_prompt_loss(outputs[1], y, "all", weight=weight)
    assert each.item() == pytest.approx(negative_prompt_loss(first[1], y[:10], "all").item(), rel=1e-5)


def test_draws_are_those_of_the_seed(case):
    s_pos, s_neg, y, tau = case
    outputs, y = outputs_of(s_pos, s_neg, tau), torch.tensor(y)
    state = torch.get_rng_state()

    def first_two(seed):
        loss = DualPromptLoss(seed=seed)
        return loss(outputs, y).item(), loss(outputs, y).item()

    assert first_two(3) == first_two(3)
    assert first_two(3)[0] != first_two(3)[1]  # a new draw at every step
    assert first_two(3) != first_two(4)
    default = DualPromptLoss()
    assert default(outputs, y).item() == first_two(0)[0]
    assert (default.negative_weight, default.complement) == (1.0, "uniform")
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(0)
    l1 = torch.nn.functional.cross_entropy(outputs[0], y)
    expected = l1 + negative_prompt_loss(outputs[1], y, generator=generator)
    assert expected.item() == pytest.approx(first_two(0)[0], rel=1e-6)


def test_nothing_is_drawn_without_a_negative_prompt(case):
    s_pos, s_neg, y, tau = case
    loss = DualPromptLoss(negative_weight=0)
    loss((outputs_of(s_pos, s_neg, tau)[0], None), torch.tensor(y))
    assert loss._generator is None


def test_two_classes_have_one_complement(case):
    z = torch.tensor([[0.3, -1.2], [2.0, 0.1]])
    y = torch.tensor([0, 1])
    values = [negative_prompt_loss(z, y, c, z).item() for c in ("uniform", "all", "hard")]
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)


def test_hard_needs_the_positive_logits():
    with pytest.raises(ValueError, match="complement='hard' needs positive_logits, which is None$"):
        negative_prompt_loss(torch.zeros(1, 2), torch.tensor([0]), "hard")
    with pytest.raises(ValueError, match=r"complement='none'; expected one of \('uniform', 'all', 'hard'\)"):
        negative_prompt_loss(torch.zeros(1, 2), torch.tensor([0]), "none")
