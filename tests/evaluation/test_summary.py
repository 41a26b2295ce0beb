import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from modal_clip_dual.evaluation import (
    area_under_learning_curve,
    compare_pairs,
    labels_to_reach,
    paper_table,
    summarize,
)
from modal_clip_dual.evaluation._inference import (
    METHODS,
    holm,
    mean_interval,
    sign_flip_p_values,
    wilcoxon_p_values,
)
from modal_clip_dual.evaluation._paper import COLUMNS, TABLE_1, ZERO_SHOT, paper_accuracy

ROOT = Path(__file__).parents[2]


def runs(strategy, curves, labels=(10, 20, 40), **constant):
    """Rows of a strategy, from one list of accuracies per seed."""
    return pd.DataFrame(
        [
            {**constant, "strategy": strategy, "seed": seed, "round": k + 1, "n_labels": labels[k],
             "budget": labels[k] / 1000, "accuracy": accuracy}
            for seed, curve in enumerate(curves)
            for k, accuracy in enumerate(curve)
        ]
    )  # fmt: skip


def many(strategies=("random", "margin", "badge"), n_seeds=6, data=("A",), seed=0):
    """Random accuracies of whole test samples, with ties."""
    rng = np.random.default_rng(seed)
    return pd.concat(
        [
            runs(s, 0.5 + rng.integers(0, 20, (n_seeds, 3)) / 50, data=d, estimator="selection")
            for d in data
            for s in strategies
        ],
        ignore_index=True,
    )


# summarize


def test_summary_against_a_loop():
    frame = many(data=("B", "A")).sample(frac=1, random_state=0).drop(index=[3, 17])
    frame.loc[30, "accuracy"] = np.nan
    summary = summarize(frame, n_resamples=200, random_state=3)
    assert len(summary) == 18
    for _, row in summary.iterrows():
        chosen = frame
        for key in ("data", "estimator", "strategy", "round", "n_labels"):
            chosen = chosen[chosen[key] == row[key]]
        values = [v for v in chosen["accuracy"] if not math.isnan(v)]
        mean = sum(values) / len(values)
        assert row["n_seeds"] == len(values)
        assert row["mean"] == pytest.approx(mean)
        variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
        assert row["std"] == pytest.approx(math.sqrt(variance))
        low, high = mean_interval(np.array([values]), 0.95, 200, 3)
        assert (row["low"], row["high"]) == pytest.approx((low[0], high[0]))
    assert sorted(set(summary["n_seeds"])) == [5, 6]


def test_summary_of_one_seed_and_of_none():
    frame = runs("random", [[0.5, np.nan]])
    summary = summarize(frame)
    assert summary["n_seeds"].tolist() == [1, 0]
    assert summary["mean"].tolist()[0] == 0.5
    assert np.isnan(summary[["std", "low", "high"]].to_numpy()).all()
    assert np.isnan(summary["mean"].iloc[1])


def test_summary_of_a_frame_with_the_needed_columns_alone_and_other_metrics():
    frame = pd.DataFrame(
        {"strategy": pd.Categorical(["a", "a"], categories=["b", "a"]), "seed": [0, 1],
         "n_labels": 5, "nll": [1, 3]}
    )  # fmt: skip
    summary = summarize(frame, "nll", method="t")
    assert list(summary.columns) == ["strategy", "n_labels", "mean", "std", "low", "high", "n_seeds"]
    assert summary["mean"].tolist() == [2]
    assert summary["high"].iloc[0] == pytest.approx(2 + stats.t.ppf(0.975, 1))


# Intervals


def test_intervals_follow_their_seed_and_no_other_row():
    values = np.random.default_rng(0).random((4, 6))
    together = mean_interval(values, random_state=5)
    alone = [mean_interval(row[None], random_state=5) for row in values]
    np.testing.assert_allclose(together, np.concatenate(alone, axis=1))
    assert not np.allclose(together, mean_interval(values, random_state=6), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_interval_of_equal_seeds_is_their_value(method, n):
    low, high = mean_interval(np.full((1, n), 0.1), method=method)
    assert low[0] == high[0] == pytest.approx(0.1)


@pytest.mark.parametrize("method", METHODS)
def test_intervals_move_with_the_metric(method):
    values = np.random.default_rng(0).random((3, 6))
    low, high = mean_interval(values, method=method)
    assert (low < values.mean(axis=1)).all()
    assert (values.mean(axis=1) < high).all()
    moved = mean_interval(100 * values + 7, method=method)
    np.testing.assert_allclose(moved, [100 * low + 7, 100 * high + 7])
    narrow = mean_interval(values, 0.5, method=method)
    assert (narrow[1] - narrow[0] < high - low).all()


@pytest.mark.parametrize(("method", "name"), [("percentile", "percentile"), ("bca", "BCa")])
def test_percentiles_are_scipys_but_for_chance(method, name):
    values = np.random.default_rng(0).beta(2, 5, size=12) ** 2
    expected = stats.bootstrap(
        (values,), np.mean, method=name, n_resamples=40_000, rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = mean_interval(values[None], 0.95, 40_000, 0, method)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=0.003)
    other = stats.bootstrap(
        (values,), np.mean, method="BCa" if method == "percentile" else "percentile",
        n_resamples=40_000, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert abs(other.high - expected.high) > 0.01  # so that the two could not be mixed up


def test_students_t_is_scipys():
    values = np.random.default_rng(0).random(4)
    expected = stats.t.interval(0.9, 3, values.mean(), stats.sem(values))
    low, high = mean_interval(values[None], 0.9, method="t")
    assert (low[0], high[0]) == pytest.approx(expected)


def test_studentized_interval_against_every_resample():
    values = np.array([0.1, 0.2, 0.5, 0.6])
    t = []
    for draw in itertools.product(values, repeat=4):
        error = np.std(draw, ddof=1) / 2
        if error > 1e-12:
            t.append((np.mean(draw) - values.mean()) / error)
    error = np.std(values, ddof=1) / 2
    farthest = 2 * stats.t.ppf(0.9, 3)
    upper, lower = np.clip(np.quantile(t, [0.9, 0.1]), -farthest, farthest)
    low, high = mean_interval(values[None], 0.8, 100_000)
    expected = (values.mean() - upper * error, values.mean() - lower * error)
    assert (low[0], high[0]) == pytest.approx(expected, abs=0.01)


def test_studentized_interval_has_limits():
    # Resamples of two seeds that nearly agree have next to no error.
    values = np.array([[0.8, 0.80001, 0.7, 0.6]])
    low, _ = mean_interval(values)
    t_low, _ = mean_interval(values, method="t")
    assert values.mean() - low[0] == pytest.approx(2 * (values.mean() - t_low[0]))
    few = values[:, :3]
    np.testing.assert_array_equal(mean_interval(few), mean_interval(few, method="t"))


@pytest.mark.parametrize(
    ("n", "skewed", "least", "most"),
    [(3, False, 0.93, 0.97), (5, False, 0.92, 0.97), (10, False, 0.93, 0.97),
     (20, False, 0.93, 0.97), (5, True, 0.90, 0.94), (20, True, 0.92, 0.965)],
)  # fmt: skip
def test_coverage_of_the_default_interval(n, skewed, least, most):
    # 2,000 experiments: a standard error of 0.005.
    rng = np.random.default_rng(n)
    values = 1 - rng.exponential(size=(2000, n)) if skewed else rng.standard_normal((2000, n))
    low, high = mean_interval(values, n_resamples=999)
    assert least < ((low <= 0) & (0 <= high)).mean() < most


def test_coverage_tells_percentiles_from_the_default():
    values = np.random.default_rng(0).standard_normal((2000, 5))
    low, high = mean_interval(values, n_resamples=999, method="percentile")
    assert ((low <= 0) & (0 <= high)).mean() == pytest.approx(0.84, abs=0.025)


# Areas and labels


def test_area_by_hand():
    frame = many()
    areas = area_under_learning_curve(frame.sample(frac=1, random_state=0))
    assert len(areas) == 18
    for _, row in areas.iterrows():
        run = frame[(frame["strategy"] == row["strategy"]) & (frame["seed"] == row["seed"])]
        a, b, c = run.sort_values("n_labels")["accuracy"]
        assert row["area"] == pytest.approx((10 * (a + b) / 2 + 20 * (b + c) / 2) / 30)
        assert (row["first_labels"], row["last_labels"]) == (10, 40)


def test_area_of_a_constant_of_one_round_and_of_missing_values():
    frame = pd.concat([runs("a", [[0.3, 0.3, 0.3]]), runs("b", [[0.4]]), runs("c", [[0.4, np.nan]])])
    areas = area_under_learning_curve(frame)["area"].tolist()
    assert areas[:2] == pytest.approx([0.3, 0.4])
    assert np.isnan(areas[2])


def test_labels_to_reach_by_hand():
    frame = pd.concat(
        [
            runs("random", [[0.4, 0.5, 0.7], [0.6, 0.7, 0.7]]),  # mean 0.5, 0.6, 0.7
            runs("margin", [[0.6, 0.7, 0.8], [0.5, 0.8, 0.6]]),  # mean 0.55, 0.75, 0.7
            runs("poor", [[0.1, 0.2, 0.3], [0.1, 0.2, 0.66]]),
        ]
    )
    table = labels_to_reach(frame, 0.65).set_index("strategy")
    assert table.loc["random", "labels"] == pytest.approx(30)
    assert table.loc["margin", "labels"] == pytest.approx(15)
    assert table.loc["margin", "saving"] == pytest.approx(0.5)
    assert table.loc[["poor"], ["labels", "saving"]].isna().all(axis=None)
    assert table["n_reached"].tolist() == [2, 2, 1]
    assert table["n_seeds"].tolist() == [2, 2, 2]
    runs_ = labels_to_reach(frame, 0.65, by="run").set_index(["strategy", "seed"])
    assert runs_.loc[("random", 0), "labels"] == pytest.approx(35)
    assert runs_.loc[("random", 1), "labels"] == pytest.approx(15)
    assert runs_.loc[("margin", 0), "saving"] == pytest.approx(1 - 15 / 35)
    assert runs_.loc[("margin", 1), "labels"] == pytest.approx(15)
    assert runs_.loc[("margin", 1), "saving"] == pytest.approx(0)
    assert runs_["saving"].isna().tolist() == [False] * 4 + [True, False]


def test_labels_at_the_first_round_and_exactly_at_a_round():
    frame = runs("random", [[0.5, 0.6, 0.4]])
    for target, labels in ((0.5, 10), (0.2, 10), (0.6, 20)):
        assert labels_to_reach(frame, target)["labels"].item() == labels
    assert np.isnan(labels_to_reach(frame, 0.600001)["labels"].item())


def test_reference_that_never_reaches_the_target_gives_no_saving():
    frame = pd.concat([runs("random", [[0.1, 0.2, 0.3]]), runs("margin", [[0.1, 0.5, 0.9]])])
    table = labels_to_reach(frame, 0.5)
    assert table["labels"].isna().tolist() == [True, False]
    assert table["saving"].isna().all()
    assert labels_to_reach(frame, 0.5, reference=None)["saving"].isna().all()
    assert labels_to_reach(frame, 0.3, reference="margin")["saving"].tolist() == pytest.approx(
        [1 - 40 / 15, 0]
    )


def test_savings_are_within_a_data_set_and_estimator():
    frame = pd.concat(
        [
            runs("random", [[0, 1]], (10, 20), data="A", estimator="x"),
            runs("random", [[0, 1]], (20, 60), data="B", estimator="x"),
            runs("margin", [[0, 1]], (10, 14), data="A", estimator="x"),
            runs("margin", [[0, 1]], (20, 40), data="B", estimator="x"),
        ]
    )
    assert labels_to_reach(frame, 0.5)["saving"].tolist() == pytest.approx([0, 0, 0.2, 0.25])
    with pytest.raises(ValueError, match=r"reference='random' has no run with data='A', estimator='x'"):
        labels_to_reach(frame.iloc[2:], 0.5)


def test_lower_metrics_are_reached_from_above():
    frame = runs("random", [[1.0, 0.5, 0.3]]).rename(columns={"accuracy": "nll"})
    assert labels_to_reach(frame, 0.75, "nll")["labels"].item() == pytest.approx(15)
    assert np.isnan(labels_to_reach(frame, 0.2, "nll")["labels"].item())


def test_mean_curve_is_over_rounds_that_all_seeds_have():
    frame = pd.concat([runs("random", [[0.2, 0.4, 0.6]]), runs("random", [[0.4, 0.6]]).assign(seed=1)])
    # Mean 0.3 and 0.5; the third round, of the better or worse seed alone, is no part of it.
    assert labels_to_reach(frame, 0.4)["labels"].item() == pytest.approx(15)
    assert np.isnan(labels_to_reach(frame, 0.55)["labels"].item())
    apart = pd.concat([runs("random", [[0.2]]), runs("random", [[0.2]], (11,)).assign(seed=1)])
    with pytest.raises(ValueError, match="strategy='random': its 2 seeds.*no common n_labels"):
        labels_to_reach(apart, 0.1)


# Tests


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


# The paper's table


def test_the_papers_figures_are_those_of_the_notes():
    assert list(TABLE_1) == ["DTD", "Caltech101", "EuroSAT", "Aircraft", "Flowers102", "UCF101"]
    assert list(ZERO_SHOT) == list(TABLE_1)
    assert sum(ZERO_SHOT.values()) == pytest.approx(334.1)
    for cells in TABLE_1.values():
        assert len(cells) == len(COLUMNS) == 9
        assert all(len(cell) == 3 for cell in cells)
        assert all(10 < f < 100 for cell in cells for f in cell if f is not None)
        assert [cell[0] is None for cell in cells] == [k in (2, 4) for k in range(9)]
    # A sum per column, added up by hand from the printed table.
    full = [sum(row[-1][k] for row in TABLE_1.values()) for k in range(3)]
    assert full == pytest.approx([414.2, 425.0, 448.3])
    selection = [sum(row[-2][k] for row in TABLE_1.values()) for k in range(3)]
    assert selection == pytest.approx([373.1, 402.5, 436.6])


@pytest.mark.parametrize(
    ("arguments", "figure"),
    [(("DTD", "random", 1), 38.4), (("caltech-101", "cec", 5), 92.8),
     (("FGVC Aircraft", "alfa-mix", 2), 20.2), (("eurosat", "negative-prompt", 2), 86.8),
     (("eurosat", "negative-prompt", 2, "full"), 91.4), (("UCF101", "uncertain-gcn", 5), 73.1),
     (("Flowers102", "zero-shot", 0), 67.3)],
)  # fmt: skip
def test_paper_accuracy(arguments, figure):
    assert paper_accuracy(*arguments) == figure


@pytest.mark.parametrize(
    "arguments",
    [("DTD", "coreset", 1), ("DTD", "random", 3), ("digits", "random", 1), ("DTD", "margin", 1),
     ("DTD", "random", 1, "full"), ("DTD", "full", 1), ("DTD", "zero-shot", 1)],
)  # fmt: skip
def test_no_paper_accuracy(arguments):
    assert np.isnan(paper_accuracy(*arguments))


def paper_runs():
    labels = (28, 56, 84, 112, 140)  # of 2,820: 0.993% a round
    frame = pd.concat(
        [
            runs("random", [[0.38, 0.44, 0, 0, 0.54], [0.40, 0.46, 0, 0, 0.54]], labels,
                 data="DTD", estimator="selection"),
            runs("my|way_%", [[0.5, 0.6], [0.5, 0.6]], labels, data="DTD", estimator="selection"),
            runs("negative-prompt", [[0.521]], labels, data="DTD", estimator="full"),
            runs("random", [[0.9]], labels, data="my & data", estimator="selection"),
        ],
        ignore_index=True,
    )  # fmt: skip
    return frame.assign(budget=frame["n_labels"] / 2820)


def test_table_as_markdown():
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")]
             for line in paper_table(paper_runs()).splitlines()]  # fmt: skip
    assert lines[0] == ["data (accuracy in % at 1 / 2 / 5% of the pool)", "random", "my\\|way\\_%",
                        "negative-prompt"]  # fmt: skip
    assert lines[2:] == [
        ["DTD (selection)", "39.0 +- 1.4 / 45.0 +- 1.4 / 54.0 +- 0.0",
         "50.0 +- 0.0 / 60.0 +- 0.0 / -", "-"],
        ["DTD (selection), paper", "38.4 / 44.2 / 54.1", "-", "-"],
        ["DTD (full)", "-", "-", "52.1 / - / -"],
        ["DTD (full), paper", "-", "-", "52.0 / - / -"],
        ["my \\& data (selection)", "90.0 / - / -", "-", "-"],
    ]  # fmt: skip
    without = paper_table(paper_runs(), with_paper=False)
    assert "paper" not in without
    assert len(without.splitlines()) == 5
    other = paper_table(paper_runs(), with_paper={"full": "selection"})
    assert "48.1" in other
    assert "38.4" not in other


def test_table_as_latex():
    lines = paper_table(paper_runs(), format="latex").splitlines()
    assert lines[0] == r"\begin{tabular}{lccc}"
    assert lines[2] == (
        r"data (accuracy in \% at 1 / 2 / 5\% of the pool) & random & my\textbar{}way\_\% & "
        r"negative-prompt \\"
    )
    assert lines[4].startswith(r"DTD (selection) & 39.0 $\pm$ 1.4 / 45.0 $\pm$ 1.4 / 54.0 $\pm$ 0.0 & ")
    assert lines[-3].startswith(r"my \& data (selection) & 90.0 / - / - & - & - \\")
    assert all(line.count(" & ") == 3 for line in lines if line.endswith(r"\\"))


def test_latex_and_markdown_escapes():
    frame = paper_runs()
    frame["strategy"] = frame["strategy"].replace("random", "a\\b^c~{d}#$\n<e>*`[f]")
    assert r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}\{d\}\#\$ " in paper_table(
        frame, format="latex"
    )
    markdown = paper_table(frame)
    assert r"a\\b^c\~{d}\#\$ \<e\>\*\`\[f\]" in markdown
    assert len(markdown.splitlines()) == 6  # the line break of the name is none


def test_table_as_frame():
    table = paper_table(paper_runs(), format="frame")
    row = table[(table["strategy"] == "random") & (table["percent"] == 2)].iloc[0]
    assert row["mean"] == pytest.approx(45)
    assert row["std"] == pytest.approx(math.sqrt(2))
    assert (row["n_labels"], row["n_seeds"], row["paper"]) == (56, 2, 44.2)
    assert len(table) == 7


@pytest.mark.parametrize(
    ("labels", "pool", "percent", "fits"),
    [((12,), 1198, 1, True), ((16,), 1198, 1, False), ((28, 56, 84, 112, 140), 2820, 5, True),
     ((1,), 60, 1, False), ((1,), 60, 2, True), ((11,), 1000, 1, False),
     ((20,), 1000, 2, True), ((20,), 1000, 1, False)],
)  # fmt: skip
def test_budgets_agree_within_the_rounding_of_each_round(labels, pool, percent, fits):
    frame = runs("random", [[0.5] * len(labels)], labels, data="DTD")
    frame["budget"] = frame["n_labels"] / pool
    if fits:
        table = paper_table(frame, rounds=(percent,), format="frame")
        assert table["n_labels"].tolist() == [labels[-1]]
    else:
        with pytest.raises(ValueError, match="no run has a budget of any of these percentages"):
            paper_table(frame, rounds=(percent,))


# Wrong input


FUNCTIONS = [
    summarize,
    area_under_learning_curve,
    lambda frame, **kw: labels_to_reach(frame, 0.5, **kw),
    compare_pairs,
]


def test_rows_without_round_are_not_left_out():
    frame = many()
    mine = frame[frame["strategy"] == "random"].assign(strategy="mine")
    both = pd.concat([frame.assign(round=frame["n_labels"] // 10), mine])
    assert set(summarize(both)["strategy"]) == {*frame["strategy"], "mine"}


def test_paper_table_of_rounds_put_together():
    rounds = [
        pd.DataFrame({"data": "DTD", "strategy": ["random", "margin"], "seed": 0, "round": r,
                      "n_labels": 28 * r, "budget": 0.01 * r, "accuracy": [0.5, 0.6]})
        for r in (1, 2)
    ]  # fmt: skip
    table = paper_table(pd.concat(rounds), with_paper=False)
    assert table == paper_table(pd.concat(rounds, ignore_index=True), with_paper=False)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wrong_frames(function):
    frame = many()
    with pytest.raises(ValueError, match="metric='acuracy' is no measured column.*'accuracy'"):
        function(frame, metric="acuracy")
    with pytest.raises(ValueError, match="metric='seed' is no measured column"):
        function(frame, metric="seed")
    with pytest.raises(ValueError, match="no rows"):
        function(frame.iloc[:0])
    with pytest.raises(ValueError, match="no column 'seed'"):
        function(frame.drop(columns="seed"))
    with pytest.raises(TypeError, match="frame is a list"):
        function([1])
    twice = "a run twice.*data='A', estimator='selection', strategy='random', seed=0, n_labels 10"
    with pytest.raises(ValueError, match=twice):
        function(pd.concat([frame, frame.iloc[:1]]))
    # Other settings under the same names, whose labels are others, so that they could pass for one run.
    mixed = pd.concat([frame, frame.assign(n_labels=frame["n_labels"] + 3)])
    with pytest.raises(ValueError, match=r"other settings or data: .*, round 1;"):
        function(mixed.assign(round=mixed.groupby(mixed["n_labels"] % 10)["n_labels"].rank("dense").astype(int)))
    with pytest.raises(ValueError, match=r"frame\['n_labels'\] has type .*; expected numbers"):
        function(frame.assign(n_labels=frame["n_labels"].astype(str)))
    with pytest.raises(ValueError, match="1 rows without 'strategy'"):
        function(frame.assign(strategy=[None, *frame["strategy"][1:]]))
    with pytest.raises(ValueError, match="infinite"):
        function(frame.assign(accuracy=np.inf))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: summarize(f, confidence_level=95), "confidence_level=95; expected a number between"),
        (lambda f: summarize(f, method="bayes"), "method='bayes'; expected one of 'studentized'"),
        (lambda f: summarize(f, n_resamples=0), "n_resamples=0; expected at least 1"),
        (lambda f: labels_to_reach(f, np.nan), "target=nan; expected a finite"),
        (lambda f: labels_to_reach(f, 0.5, by="seed"), "by='seed'; expected one of"),
        (lambda f: labels_to_reach(f, 0.5, reference="no"), "reference='no'; expected one of 'random'"),
        (lambda f: compare_pairs(f, test="t"), "test='t'; expected one of 'permutation'"),
        (lambda f: compare_pairs(f, correction="fdr"), "correction='fdr'; expected"),
        (lambda f: compare_pairs(f, statistic="mean"), "statistic='mean'; expected one of 'area'"),
        (lambda f: compare_pairs(f, statistic=9), r"statistic=9: .*\[1, 2, 3\]"),
        (lambda f: compare_pairs(f, reference="no"), "reference='no'; expected one of"),
        (lambda f: compare_pairs(f[f["strategy"] == "random"]), "one strategy for each estimator"),
        (lambda f: paper_table(f, format="html"), "format='html'; expected one of 'markdown'"),
        (lambda f: paper_table(f, rounds=()), r"rounds=\(\); expected percentages"),
        (lambda f: paper_table(f, with_paper={"x": "y"}), r"with_paper\['x'\]='y'; expected one of"),
        (lambda f: paper_table(f.drop(columns="budget")), "no column 'budget'"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(many())


def test_importing_the_evaluation_waits_for_its_use():
    code = "import modal_clip_dual.evaluation, sys; print([m for m in {!r} if m in sys.modules])"
    heavy = ("matplotlib", "pandas", "sklearn", "scipy", "numpy", "torch")
    done = subprocess.run([sys.executable, "-c", code.format(heavy)], capture_output=True, text=True,
                          check=True, timeout=300)  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_public_names():
    from modal_clip_dual import evaluation

    for name in evaluation.__all__:
        assert callable(getattr(evaluation, name))
        assert name in dir(evaluation)
