"""Paired tests between strategies."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from frames import many, runs
from scipy import stats

from modal_clip_dual.evaluation import compare_pairs
from modal_clip_dual.evaluation._intervals import mean_interval
from modal_clip_dual.evaluation.significance import holm, sign_flip_p_values, wilcoxon_p_values


def brute_force(differences):
    """Share of all changes of sign with a mean as far from zero."""
    n = len(differences)
    far = 0
    for signs in itertools.product([-1, 1], repeat=n):
        total = math.fsum(s * d for s, d in zip(signs, differences))
        far += abs(total) >= abs(math.fsum(differences)) - 1e-12
    return far / 2**n


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_permutation_against_every_change_of_sign(n):
    rng = np.random.default_rng(n)
    differences = np.round(rng.integers(-5, 8, (n, 20)) / 50, 12)  # with ties and zeros
    expected = [brute_force(column) for column in differences.T.tolist()]
    np.testing.assert_allclose(sign_flip_p_values(differences), expected)
    assert len(set(expected)) > 1 or n == 1


def test_permutation_against_scipy():
    differences = np.random.default_rng(0).normal(0.3, 1, (9, 1))
    expected = stats.permutation_test((differences[:, 0],), np.mean, permutation_type="samples",
                                      n_resamples=np.inf).pvalue  # fmt: skip
    assert sign_flip_p_values(differences)[0] == pytest.approx(expected)


def test_drawn_changes_of_sign_beyond_sixteen_pairs():
    # 17 pairs are drawn; the exact p-value, from sums of whole numbers.
    differences = np.arange(17.0) - 5
    counts = np.zeros(400)
    counts[200] = 1
    for d in differences.astype(int):
        counts = (np.roll(counts, d) + np.roll(counts, -d)) / 2
    exact = counts[np.abs(np.arange(400) - 200) >= differences.sum()].sum()
    drawn = sign_flip_p_values(differences[:, None], 50_000, 0)[0]
    assert drawn == pytest.approx(exact, abs=0.004)
    assert drawn == sign_flip_p_values(differences[:, None], 50_000, 0)[0]
    assert drawn != sign_flip_p_values(differences[:, None], 50_000, 1)[0]
    same = np.ones((40, 1))
    assert sign_flip_p_values(same, 99)[0] == pytest.approx(0.01)  # never zero
    assert sign_flip_p_values(same[:16], 99)[0] == 2 / 2**16


def test_wilcoxon_is_scipys_and_equal_runs_are_no_error():
    differences = np.random.default_rng(0).normal(0.4, 1, (8, 2))
    differences[:, 1] = 0
    expected = stats.wilcoxon(differences[:, 0], method="exact").pvalue
    assert wilcoxon_p_values(differences).tolist() == pytest.approx([expected, 1])


def literal_holm(p_values):
    """Adjusted p-value by its definition: of the k-th smallest, the largest (m - j + 1) p_(j), j <= k."""
    m = len(p_values)
    ranked = sorted(p_values)
    result = []
    for p in p_values:
        k = ranked.index(p) + 1
        result.append(min(1, max((m - j + 1) * ranked[j - 1] for j in range(1, k + 1))))
    return result


def test_holm_by_hand_and_by_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([]).tolist() == []
    rng = np.random.default_rng(0)
    for m in range(1, 30):
        p_values = np.round(rng.random(m) ** 3, 2).tolist()
        assert holm(p_values).tolist() == pytest.approx(literal_holm(p_values))


@pytest.mark.parametrize("statistic", ["area", 2])
@pytest.mark.parametrize("test", ["permutation", "wilcoxon"])
def test_comparison_against_a_loop(statistic, test):
    frame = many(data=("A", "B"), n_seeds=3).sample(frac=1, random_state=0)
    table = compare_pairs(frame, statistic=statistic, test=test)
    values = {}
    for (d, s, seed), run in frame.groupby(["data", "strategy", "seed"]):
        run = run.sort_values("n_labels")
        y = run["accuracy"].tolist()
        area = (10 * (y[0] + y[1]) / 2 + 20 * (y[1] + y[2]) / 2) / 30
        values[d, s, seed] = area if statistic == "area" else y[1]
    names = frame["strategy"].unique().tolist()
    assert [tuple(pair) for pair in table[["strategy", "other"]].to_numpy()] == list(
        itertools.combinations(names, 2)
    )
    for _, row in table.iterrows():
        d = np.round([values[a, row["strategy"], s] - values[a, row["other"], s]
                      for a in "AB" for s in range(3)], 12)  # fmt: skip
        assert row["n_pairs"] == 6
        assert row["mean_difference"] == pytest.approx(d.mean())
        low, high = mean_interval(d[None])
        assert (row["low"], row["high"]) == pytest.approx((low[0], high[0]))
        assert row["effect_size"] == pytest.approx(stats.ttest_1samp(d, 0).statistic / np.sqrt(len(d)))
        nonzero = d[d != 0]
        expected = brute_force(d) if test == "permutation" else stats.wilcoxon(nonzero).pvalue
        assert row["p_value"] == pytest.approx(expected)
        assert row["min_p_value"] == pytest.approx(2 / 2 ** len(nonzero))
    assert table["p_corrected"].tolist() == pytest.approx(literal_holm(table["p_value"].tolist()))
    assert table["min_p_corrected"].tolist() == pytest.approx(
        literal_holm(table["min_p_value"].tolist())
    )
    plain = compare_pairs(frame, statistic=statistic, test=test, correction=None)
    assert plain["p_corrected"].tolist() == table["p_value"].tolist()


def test_effect_size_without_a_spread():
    other = runs("b", [[1], [1]])
    assert compare_pairs(pd.concat([runs("a", [[0.5], [0.5]]), other]))["effect_size"].tolist() == [-np.inf]
    assert np.isnan(compare_pairs(pd.concat([runs("a", [[1], [1]]), other]))["effect_size"]).all()
    one = pd.concat([runs("a", [[0.5]]), runs("b", [[1]])])
    assert np.isnan(compare_pairs(one)["effect_size"]).all()


def test_five_seeds_cannot_be_significant():
    frame = pd.concat([runs("a", [[k / 10] for k in range(5)]), runs("b", [[1]] * 5)])
    row = compare_pairs(frame).iloc[0]
    assert row["p_value"] == row["min_p_value"] == 2 / 32
    frame = pd.concat([runs(s, [[0.5]] * 5) for s in "ab"])
    assert compare_pairs(frame)[["p_value", "min_p_value"]].iloc[0].tolist() == [1, 1]


def test_comparison_with_a_reference_and_several_estimators():
    frame = pd.concat([many(), many(("badge", "random"), 4, seed=1).assign(estimator="full")])
    table = compare_pairs(frame, reference="random")
    assert table["strategy"].tolist() == ["margin", "badge", "badge"]
    assert set(table["other"]) == {"random"}
    assert table["estimator"].tolist() == ["selection", "selection", "full"]
    assert table["n_pairs"].tolist() == [6, 6, 4]
    every = compare_pairs(frame).query("strategy == 'random' and estimator == 'selection'")
    assert table["mean_difference"].iloc[:2].tolist() == pytest.approx(
        (-every["mean_difference"]).tolist()
    )


def test_missing_pairs_are_named():
    frame = many(("random", "margin"), 3, ("A", "B"))
    lost = frame[(frame["strategy"] == "margin") & (frame["seed"] == 2) & (frame["data"] == "B")]
    with pytest.raises(ValueError, match=r"\(estimator='selection', data='B', seed=2, strategy='margin'\)"):
        compare_pairs(frame.drop(lost.index))
    frame.loc[lost.index[0], "accuracy"] = np.nan
    with pytest.raises(ValueError, match="no accuracy of round 1: .*seed=2, strategy='margin'"):
        compare_pairs(frame, statistic=1)
    assert len(compare_pairs(frame, statistic=2)) == 1
    with pytest.raises(ValueError, match=r"over different numbers of labels: \{.*'10 to 20'"):
        compare_pairs(many(n_seeds=2).drop(index=[2]))
