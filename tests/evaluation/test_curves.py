"""Means, areas and labels to a target of learning curves."""

import math

import numpy as np
import pandas as pd
import pytest
from frames import many, runs
from scipy import stats

from modal_clip_dual.evaluation import area_under_learning_curve, labels_to_reach, summarize
from modal_clip_dual.evaluation._intervals import mean_interval


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


def test_rows_without_round_are_not_left_out():
    frame = many()
    mine = frame[frame["strategy"] == "random"].assign(strategy="mine")
    both = pd.concat([frame.assign(round=frame["n_labels"] // 10), mine])
    assert set(summarize(both)["strategy"]) == {*frame["strategy"], "mine"}
