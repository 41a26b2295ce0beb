import numpy as np
import pandas as pd
import pytest
from PIL import Image

from modal_clip_dual.evaluation import (
    compare_pairs,
    expected_calibration_error,
    plot_learning_curves,
    plot_queried_images,
    plot_reliability,
    plot_risk_coverage,
    plot_win_matrix,
    summarize,
)
from modal_clip_dual.evaluation.metrics import calibration_bins
from modal_clip_dual.evaluation.plots._style import COLORS, style_of
from modal_clip_dual.strategies import available_strategies


def frame_of(strategies, n_seeds=5, estimators=("selection",), seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            {"data": "A", "estimator": e, "strategy": s, "seed": k, "round": r, "n_labels": 10 * r,
             "accuracy": rng.random(), "nll": rng.random()}
            for e in estimators for s in strategies for k in range(n_seeds) for r in (1, 2, 3)
        ]
    )  # fmt: skip


def drawn(ax):
    """Every line that the legend knows, by its label."""
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def saved(ax, tmp_path):
    """What was drawn can be drawn: no warning of fonts or layout."""
    ax.figure.savefig(tmp_path / "figure.png")
    return (tmp_path / "figure.png").stat().st_size > 0


# Learning curves


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_curves_are_the_means(metric, tmp_path):
    frame = frame_of(["a", "b$"])
    ax = plot_learning_curves(frame.sample(frac=1, random_state=0), metric=metric, band=None)
    for name, label in (("a", "a"), ("b$", r"b\$")):
        expected = frame[frame["strategy"] == name].groupby("n_labels")[metric].mean()
        assert drawn(ax)[label].get_ydata().tolist() == pytest.approx(expected.tolist())
        assert drawn(ax)[label].get_xdata().tolist() == [10, 20, 30]
    assert ax.get_ylabel() == {"accuracy": "test accuracy", "nll": "nll"}[metric]
    assert not ax.collections
    assert saved(ax, tmp_path)


def test_bands():
    frame = frame_of(["a"])
    summary = summarize(frame)
    heights = {}
    for band in ("std", "interval"):
        (area,) = plot_learning_curves(frame, band=band).collections
        corners = area.get_paths()[0].vertices
        heights[band] = [corners[corners[:, 0] == x, 1] for x in (10, 20, 30)]
    for k, row in summary.iterrows():
        low, high = heights["std"][k].min(), heights["std"][k].max()
        assert (low, high) == pytest.approx((row["mean"] - row["std"], row["mean"] + row["std"]))
        low, high = heights["interval"][k].min(), heights["interval"][k].max()
        assert (low, high) == pytest.approx((row["low"], row["high"]))


def test_band_of_one_seed_is_no_error(tmp_path):
    for band in ("std", "interval"):
        assert saved(plot_learning_curves(frame_of(["a"], 1), band=band), tmp_path)


def test_estimators_have_their_own_lines_and_strategies_their_colours():
    lines = drawn(plot_learning_curves(frame_of(["a", "b"], estimators=("x", "y"))))
    assert set(lines) == {"a (x)", "b (x)", "a (y)", "b (y)"}
    assert lines["a (x)"].get_color() == lines["a (y)"].get_color() != lines["b (x)"].get_color()
    assert lines["a (x)"].get_linestyle() == lines["b (x)"].get_linestyle()
    assert lines["a (x)"].get_linestyle() != lines["a (y)"].get_linestyle()


def test_as_many_strategies_as_there_are_stay_apart(tmp_path):
    names = available_strategies()
    assert len(names) >= 19
    ax = plot_learning_curves(frame_of(names, 2))
    looks = [(line.get_color(), line.get_marker()) for line in drawn(ax).values()]
    assert len(looks) == len(set(looks)) == len(names)
    assert saved(ax, tmp_path)
    # The legend is beside the axes, not on the curves, and within the figure.
    box = ax.get_legend().get_window_extent()
    assert box.x0 >= ax.get_window_extent().x1
    assert box.x1 <= ax.figure.bbox.x1
    assert len({(s["color"], s["marker"]) for s in map(style_of, range(49))}) == 49


def test_strategies_that_not_every_estimator_has():
    frame = pd.concat([
        frame_of(["a", "b"], estimators=("one",)), frame_of(["a"], estimators=("two",))
    ])  # fmt: skip
    assert len(drawn(plot_learning_curves(frame))) == 3


def test_names_that_begin_with_an_underscore_are_in_the_legend():
    ax = plot_learning_curves(frame_of(["_mine", "b"]))
    assert [text.get_text().strip() for text in ax.get_legend().get_texts()] == ["_mine", "b"]
    ax = plot_risk_coverage({"_z": [0.1, 0.2]}, [True, False])
    assert ax.get_legend().get_texts()[0].get_text().strip().startswith("_z (AURC")


def test_wrong_curves():
    frame = frame_of(["a"])
    with pytest.raises(ValueError, match=r"2 data sets, \['A', 'B'\]; expected one"):
        plot_learning_curves(pd.concat([frame, frame.assign(data="B")]))
    with pytest.raises(ValueError, match=r"band='sem'; expected one of \('std', 'interval', None\)"):
        plot_learning_curves(frame, band="sem")
    with pytest.raises(ValueError, match="metric='x' is not a measured column"):
        plot_learning_curves(frame, metric="x")


# Reliability


def test_reliability_draws_the_bins_of_the_error(tmp_path):
    rng = np.random.default_rng(0)
    confidence = rng.random(100)
    correct = rng.random(100) < confidence**2
    ax = plot_reliability(confidence, correct, n_bins=7)
    accuracy, stated, _ = calibration_bins(confidence, correct, 7)
    line = drawn(ax)["bins"]
    assert line.get_xdata().tolist() == stated.tolist()
    assert line.get_ydata().tolist() == accuracy.tolist()
    (gaps,) = ax.collections
    ends = [segment[:, 1].tolist() for segment in gaps.get_segments()]
    assert ends == [[a, s] for a, s in zip(accuracy, stated)]
    ece = expected_calibration_error(confidence, correct, 7)
    assert ax.get_title() == f"ECE {ece:.3f}, 100 predictions, 7 bins of 14 or 15"
    assert saved(ax, tmp_path)
    assert plot_reliability(confidence, correct, ax=ax) is ax
    assert plot_reliability([0.5], [1]).get_title().endswith("1 bin of 1")


def test_reliability_of_bins_of_equal_width():
    confidence, correct = np.array([0.1, 0.15, 0.2, 0.9]), np.array([0, 1, 0, 1])
    ax = plot_reliability(confidence, correct, n_bins=5, binning="width")
    assert drawn(ax)["bins"].get_xdata().tolist() == pytest.approx([0.15, 0.9])
    ece = expected_calibration_error(confidence, correct, 5, binning="width")
    assert ax.get_title() == f"ECE {ece:.3f}, 4 predictions, 2 bins of 1 to 3"


# Risk and coverage


def test_risk_coverage_curves_and_their_areas(tmp_path):
    correct = [True, False, True, True]
    ax = plot_risk_coverage({"good": [4, 1, 3, 2], "bad": [1, 4, 2, 3]}, correct)
    lines = drawn(ax)
    assert lines["good (AURC 0.062)"].get_ydata().tolist() == [0, 0, 0, 0.25]
    bad = lines["bad (AURC 0.521)"]
    assert bad.get_ydata().tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert bad.get_xdata().tolist() == [0.25, 0.5, 0.75, 1]
    assert list(lines["random order (0.250)"].get_ydata()) == [0.25, 0.25]
    assert saved(ax, tmp_path)
    single = plot_risk_coverage([4, 1, 3, 2], correct, ax=ax)
    assert single is ax
    assert "score (AURC 0.062)" in drawn(ax)
    with pytest.raises(ValueError, match="empty dict"):
        plot_risk_coverage({}, correct)


# Wins


def literal_wins(values, row, column):
    points = [1 if a > b else 0.5 if a == b else 0 for a, b in zip(values[row], values[column])]
    return round(100 * sum(points) / len(points))


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_wins_against_a_loop(metric, tmp_path):
    names = ["a", "b", "c$"]
    frame = frame_of(names, 8)
    frame[["accuracy", "nll"]] = frame[["accuracy", "nll"]].round(1)  # ties
    frame.loc[frame["strategy"] == "a", "accuracy"] += 2
    ax = plot_win_matrix(frame, metric, statistic=2)
    sign = 1 if metric == "accuracy" else -1
    rows = frame[frame["round"] == 2]
    values = {n: (sign * rows.loc[rows["strategy"] == n, metric]).tolist() for n in names}
    corrected = {
        frozenset(pair): p
        for *pair, p in compare_pairs(frame, metric, 2)[["strategy", "other", "p_corrected"]].to_numpy()
    }
    shown = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    assert set(shown) == {(i, j) for i in range(3) for j in range(3) if i != j}
    for (i, j), text in shown.items():
        star = "*" if corrected[frozenset((names[i], names[j]))] <= 0.05 else ""
        assert text == f"{literal_wins(values, names[i], names[j])}{star}"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", r"c\$"]
    image = ax.get_images()[0].get_array()
    assert image[0, 1] == pytest.approx(float(shown[0, 1].strip("*")), abs=0.5)
    if metric == "accuracy":
        assert shown[0, 1] == "100*"
        assert shown[1, 0] == "0*"
        assert "8 pairs of runs; * p" in ax.get_title()
    assert saved(ax, tmp_path)


def test_too_few_seeds_for_a_star_are_said_to_be():
    frame = frame_of(["a", "b"], 5)
    frame.loc[frame["strategy"] == "a", "accuracy"] += 2
    ax = plot_win_matrix(frame)
    assert [text.get_text() for text in ax.texts] == ["100", "0"]
    assert ax.get_title() == "5 pairs of runs: too few for any star\n(corrected p at least 0.062)"
    assert plot_win_matrix(frame, alpha=0.1).texts[0].get_text() == "100*"


def test_wrong_win_matrices():
    with pytest.raises(ValueError, match=r"2 estimators, \['x', 'y'\]; expected one"):
        plot_win_matrix(frame_of(["a", "b"], estimators=("x", "y")))
    with pytest.raises(ValueError, match="alpha=5; expected a number between 0 and 1"):
        plot_win_matrix(frame_of(["a", "b"]), alpha=5)
    with pytest.raises(ValueError, match="one strategy"):
        plot_win_matrix(frame_of(["a"]))


# Queried images


def test_queried_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 6, 9, 3), dtype=np.uint8)
    predicted, true = [0, 1, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1, 1]
    names = ["a cat that has a very long name", "dog$"]
    axes = plot_queried_images(images, predicted, true, np.arange(7) / 10, names, n_columns=3)
    assert axes.shape == (7,)
    titles = [ax.get_title() for ax in axes]
    assert titles[1] == "dog\\$\ntrue: dog\\$\nP(correct) 0.10"
    assert titles[2] == "WRONG: dog\\$\ntrue: a cat that has a\nvery long name\nP(correct) 0.20"
    assert [title.startswith("WRONG") for title in titles] == [p != t for p, t in zip(predicted, true)]
    for ax, pixels, p, t in zip(axes, images, predicted, true):
        np.testing.assert_array_equal(ax.get_images()[0].get_array(), pixels)
        spine = ax.spines["left"]
        assert spine.get_edgecolor()[:3] == pytest.approx(rgb(COLORS[0 if p == t else 1]))
        assert (spine.get_linestyle(), spine.get_linewidth()) == (("-", 1) if p == t else ("--", 3))
    grid = axes[3].get_subplotspec()
    assert (grid.rowspan.start, grid.colspan.start) == (1, 0)
    assert saved(axes[0], tmp_path)


def rgb(color):
    return tuple(int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))


def test_queried_files_grey_images_and_labels_that_are_names(tmp_path):
    from matplotlib.figure import Figure

    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for k, path in enumerate(paths):
        Image.new("RGB", (5, 4), (k, 20, 30)).save(path)
    figure = Figure()
    axes = plot_queried_images(paths, ["x", "y"], ["x", "x"], [1, 0.5], {"x": "cat", "y": "dog"},
                               figure=figure)  # fmt: skip
    assert axes[0].figure is figure
    assert axes[1].get_images()[0].get_array()[0, 0].tolist() == [1, 20, 30]
    assert axes[1].get_title().startswith("WRONG: dog\ntrue: cat")
    grey = np.full((1, 4, 4), 70, dtype=np.uint8)
    (ax,) = plot_queried_images(grey, ["x"], ["x"], [1], ["y", "x"])
    assert ax.get_title().startswith("x\ntrue: x")
    (ax,) = plot_queried_images(grey, [3], [3], [1])
    assert ax.get_title().startswith("3\ntrue: 3")
    with pytest.raises(FileNotFoundError, match="images\\[1\\]"):
        plot_queried_images([paths[0], "none.png"], [0, 0], [0, 0], [1, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"true": [0]}, r"true has shape \(1,\); expected \(2,\)"),
        ({"correct_proba": 0.5}, r"correct_proba has shape \(\)"),
        ({"class_names": ["cat"]}, "no name for 1 of predicted"),
        ({"n_columns": 0}, "n_columns=0"),
        ({"images": np.zeros((2, 3))}, r"shape \(2, 3\), so it holds embeddings"),
    ],
)
def test_wrong_queried_images(change, message):
    images = np.zeros((2, 4, 4), dtype=np.uint8)
    call = {"images": images, "predicted": [0, 1], "true": [0, 0], "correct_proba": [1, 1]} | change
    with pytest.raises(ValueError, match=message):
        plot_queried_images(**call)
