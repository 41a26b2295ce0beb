"""Compare scores that say whether a predicted label is right, over the same predictions.

    python examples/compare_correctness.py --data digits --seeds 10
    python examples/compare_correctness.py --data photos.npz --bases "logistic regression" DualLinear

Each base classifier is fitted to 12, 36, 72 and 160 labels, drawn at random, or the first 12 at random and the
others by the base's own margin.  Every score judges the predictions of that same fit on the test set.  It prints
Markdown: accuracy, and by score AUROC, area under the risk-coverage curve, calibration error (for probabilities),
coverage at 95% accuracy, how far the mean of P(correct) over the unlabeled pool is from the accuracy there, and how
often its 90% interval holds it; then paired differences of the AUROC to the largest probability, with permutation
tests and Holm's correction.  Every fit is stored in `--out`; the same command continues where it was stopped.

`scores_of` lists the scores: one that is added there becomes a row of every table.  An .npz is as
`compare_heads.py` takes it.
"""

import argparse
import csv
import hashlib
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from compare_heads import Data
from scipy.special import entr
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression

from modal_clip_dual import (
    BayesAdapterClassifier,
    ClassCodeClassifier,
    CorrectnessRegressor,
    DirichletMetaClassifier,
    DualLinearClassifier,
    DualPromptClassifier,
)
from modal_clip_dual.correctness.calibrated import Odds, answers_out_of_fold, calibrate
from modal_clip_dual.evaluation import (
    area_under_risk_coverage,
    auroc_of_correctness,
    compare_pairs,
    coverage_at_accuracy,
    expected_calibration_error,
)
from modal_clip_dual.scores import SCORES
from modal_clip_dual.utils.pool import pool_argument

LABELS = (12, 36, 72, 160)
REFERENCE = "largest probability"
METHODS = ("predict_correct_proba", "predict_logits", "clean_logits", "transform")


class Remembered(ClassifierMixin, BaseEstimator):
    """A classifier that is fitted once to the same samples, so that all scores share the fits out of fold."""

    fits = {}  # of one seed, number of labels and base

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, X, y, X_pool=None):
        key = hashlib.sha256(X.tobytes() + y.tobytes()).hexdigest(), type(self.estimator).__name__
        if key not in self.fits:
            pool = {} if X_pool is None else pool_argument(self.estimator, X_pool)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                self.fits[key] = clone(self.estimator).fit(X, y, **pool)
        self.fitted_ = self.fits[key]
        self.classes_ = self.fitted_.classes_
        return self

    def predict(self, X):
        return self.fitted_.predict(X)

    def predict_proba(self, X):
        return self.fitted_.predict_proba(X)

    def __getattr__(self, name):
        if name in METHODS and hasattr(self.estimator, name):
            return getattr(self.fitted_, name)
        raise AttributeError(name)


def bases_of(data, wanted, seed):
    """Return classifiers by name, not fitted."""
    clip = dict(data.clip or {}, verbose=0)
    linear = dict(data.text or data.clip, verbose=0)
    every = {"logistic regression": LogisticRegression(C=10.0, max_iter=2000)}
    every["DualLinear"] = DualLinearClassifier(data.names, **linear)
    if data.clip is not None:
        every["BayesAdapter"] = BayesAdapterClassifier(data.names, random_state=seed, **clip)
        every["prompts"] = DualPromptClassifier(data.names, random_state=seed, **clip)
    return {name: Remembered(every[name]) for name in wanted or every if name in every}


class Setting:
    """One fitted base with its labeled samples, its pool and a judge that is fitted to both."""

    def __init__(self, base, judge, X, y, pool, left, seed):
        self.base, self.judge, self.X, self.y, self.pool, self.left, self.seed = base, judge, X, y, pool, left, seed
        self.fitted = clone(base).fit(X, y, X_pool=pool)
        self.answers = {}

    def calibrated(self, judged, weights, out_of_fold=True, confidence="proba"):
        """Return P(correct) for the test set, for the unlabeled pool, and the interval there."""
        key = judged, confidence
        if out_of_fold and key not in self.answers:

            def fit(rows):
                X, y = self.X[rows], self.y[rows]
                one, other = (clone(part).fit(X, y, X_pool=self.pool) for part in (self.base, self.judge))
                return Odds(one, other if judged else None, confidence)

            rng = np.random.default_rng([self.seed, 7])
            self.answers[key] = list(answers_out_of_fold(fit, self.X, self.y, 5, rng))
        judge = clone(self.judge).fit(self.X, self.y, X_pool=self.pool) if judged else None
        odds = Odds(self.fitted, judge, confidence)
        found, _, _ = calibrate(self.answers[key] if out_of_fold else [], odds, self.pool, weights)

        def ask(X):
            return found.proba(odds.of(X)[1])

        return ask, lambda: found.accuracy(odds.of(self.left)[1])[1:]

    def wrapped(self, kind, **params):
        """Return P(correct) by a meta-estimator of the same base."""
        clf = kind(self.base, random_state=self.seed, **params).fit(self.X, self.y, X_pool=self.pool)
        return clf.predict_correct_proba, None


def of_proba(function):
    """A score that is a function of class probabilities."""
    return lambda setting: (lambda X: function(setting.fitted.predict_proba(X).astype(np.float64)), None)


def margin(proba):
    two = np.sort(proba, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def of_logits(score):
    """A score of clean logits, out of the table of scores."""

    def ask(setting):
        def confidence(X):
            positive, z = setting.fitted.predict_logits(X)
            return SCORES[score].of_logits(z, positive.argmax(axis=1))[0]

        return confidence, None

    return ask


def scores_of(base):
    """Return by name (function of a Setting, whether it is a probability) for the scores that a base has.

    The function returns the score of the label of each sample of any X, and the interval of the accuracy or None.
    """
    scores = {
        REFERENCE: (of_proba(lambda proba: proba.max(axis=1)), True),
        "margin": (of_proba(margin), False),
        "entropy": (of_proba(lambda proba: -entr(proba).sum(axis=1)), False),
    }
    own = hasattr(base.estimator, "predict_correct_proba")
    if isinstance(base.estimator, DualPromptClassifier):
        scores["z"] = (of_logits("clean"), False)
        scores["softmax of z"] = (of_logits("normalized"), False)
    if own and not isinstance(base.estimator, BayesAdapterClassifier):  # whose own is the largest probability
        scores["own P(correct)"] = (lambda s: (s.fitted.predict_correct_proba, None), True)
    for weights in (None, "strata", "domain"):
        name = f"calibrated, weights {weights}"
        scores[name] = (lambda s, w=weights: s.calibrated(False, w), True)
    if isinstance(base.estimator, DualLinearClassifier):
        scores["own P(correct), calibrated"] = (lambda s: s.calibrated(False, "domain", confidence="correct"), True)
    else:  # it would judge itself
        scores["judge, not calibrated"] = (lambda s: s.calibrated(True, None, out_of_fold=False), True)
        for weights in (None, "strata", "domain"):
            name = f"judge, weights {weights}"
            scores[name] = (lambda s, w=weights: s.calibrated(True, w), True)
    scores["ClassCodeClassifier"] = (lambda s: s.wrapped(ClassCodeClassifier), True)
    scores["DirichletMetaClassifier"] = (lambda s: s.wrapped(DirichletMetaClassifier), True)
    scores["CorrectnessRegressor"] = (lambda s: s.wrapped(CorrectnessRegressor), True)
    return scores


def chosen_rows(base, X, y, strategy, seed):
    """Return the rows of the pool in the order of labeling, for every number of labels."""
    order = np.random.default_rng([seed, 1]).permutation(len(X))
    for n in LABELS:
        if strategy == "margin" and n > LABELS[0]:
            before = order[: LABELS[LABELS.index(n) - 1]]
            rest = order[len(before) :]
            fitted = clone(base).fit(X[before], y[before], X_pool=X)
            order = np.concatenate([before, rest[np.argsort(margin(fitted.predict_proba(X[rest])), kind="stable")]])
        yield n, order[:n], order[n:]


FIELDS = ["data", "base", "labels", "seed", "n_labels", "score", "accuracy", "auroc", "aurc", "ece", "coverage",
          "off", "held", "seconds", "scoring_seconds"]  # fmt: skip


def run(args):
    """Fit what is not stored yet; return all rows."""
    data = Data(args)
    path = Path(args.out) / f"correctness-{Path(args.data).stem}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=FIELDS)
    done = set(zip(stored["base"], stored["labels"], stored["seed"], stored["n_labels"], stored["score"]))
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        pool_rows, test_rows = data.split(seed)
        pool_rows = np.random.default_rng([seed, 2]).permutation(pool_rows)[: args.max_pool]
        X, y, X_test, y_test = data.X[pool_rows], data.y[pool_rows], data.X[test_rows], data.y[test_rows]
        for strategy in args.labels:
            for name, base in bases_of(data, args.bases, seed).items():
                scores = {score: made for score, made in scores_of(base).items() if score not in args.without}
                missing = {n: [s for s in scores if (name, strategy, seed, n, s) not in done] for n in LABELS}
                if not any(missing.values()):
                    continue
                judge = bases_of(data, ["DualLinear"], seed)["DualLinear"]
                for n, rows, left in chosen_rows(base, X, y, strategy, seed):
                    if not missing[n]:
                        continue
                    Remembered.fits.clear()
                    setting = Setting(base, judge, X[rows], y[rows], X, X[left], seed)
                    key = {"data": Path(args.data).stem, "base": name, "labels": strategy}
                    key |= {"seed": seed, "n_labels": n}
                    scores_now = {score: scores[score] for score in missing[n]}
                    measured = measure(setting, X_test, y_test, y[left], scores_now)
                    with open(path, "a", newline="") as file:  # a block at once, so that none is stored in part
                        writer = csv.DictWriter(file, FIELDS)
                        if file.tell() == 0:
                            writer.writeheader()
                        writer.writerows([key | row for row in measured])
                    print(*key.values(), f"accuracy {measured[0]['accuracy']:.3f}", flush=True)
    return pd.read_csv(path)


def measure(setting, X, y, truth, scores):
    """Measure the scores, by name as `scores_of` returns them."""
    right = setting.fitted.predict(X) == y
    accuracy = (setting.fitted.predict(setting.left) == truth).mean()
    rows = []
    for name, (make, is_probability) in scores.items():
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # all answers out of fold may be right
            ask, interval = make(setting)
        fitted = time.perf_counter()
        score = np.asarray(ask(X), dtype=np.float64)
        scored = time.perf_counter()
        row = {
            "score": name, "accuracy": right.mean(), "auroc": auroc_of_correctness(score, right),
            "aurc": area_under_risk_coverage(score, right), "coverage": coverage_at_accuracy(score, right),
            "seconds": fitted - start, "scoring_seconds": scored - fitted,
        }  # fmt: skip
        if is_probability:
            row["ece"] = expected_calibration_error(score, right)
            row["off"] = np.asarray(ask(setting.left), dtype=np.float64).mean() - accuracy
        if interval is not None:
            low, high = interval()
            row["held"] = low <= accuracy <= high
        rows.append(row)
    return rows


TITLES = {
    "auroc": "AUROC", "aurc": "area under the risk-coverage curve", "ece": "calibration error",
    "coverage": "coverage at 95% accuracy", "off": "mean of P(correct) less accuracy, unlabeled pool",
    "held": "share of 90% intervals that hold the accuracy",
}  # fmt: skip


def show(frame):
    """Print the tables."""
    for (base, labels), rows in frame.groupby(["base", "labels"], sort=False):
        whole = rows.groupby(["score", "seed"])["n_labels"].transform("nunique") == len(LABELS)
        rows = rows[whole]
        if rows.empty:
            continue
        seeds_of = rows.groupby("score")["seed"].nunique()
        n_seeds = seeds_of[REFERENCE]
        columns = sorted(rows["n_labels"].unique().tolist())
        rows = rows.assign(shown=[f"{s} ({n} seeds)" if (n := seeds_of[s]) < n_seeds else s for s in rows["score"]])
        once = rows[rows["score"] == REFERENCE].groupby("n_labels")["accuracy"]
        accuracy = ", ".join(f"{100 * once.mean()[n]:.1f} +- {100 * once.std()[n]:.1f}" for n in columns)
        print(f"\n## {base}, {labels} labels, {n_seeds} seeds; accuracy at {columns}: {accuracy}")
        for metric, title in TITLES.items():
            print(f"\n{title}, percent" + (" (largest size of it in brackets)" if metric == "off" else "") + "\n")
            print("| score | " + " | ".join(map(str, columns)) + " |\n" + "|---" * (len(columns) + 1) + "|")
            for name in dict.fromkeys(rows["shown"]):
                by = rows[rows["shown"] == name].dropna(subset=[metric])
                if by.empty:
                    continue
                by = by.assign(value=by[metric].astype(float)).groupby("n_labels")["value"]
                mean, most = 100 * by.mean(), 100 * by.agg(lambda values: values.abs().max())
                off = metric == "off"
                cells = [f"{mean[n]:+.1f} ({most[n]:.1f})" if off else f"{mean[n]:.1f}" for n in columns if n in mean]
                print(f"| {name} | " + " | ".join(cells) + " |")
        every = rows[rows["score"].map(seeds_of) == n_seeds]
        tested = every.assign(strategy=rows["score"], round=every["n_labels"].map(columns.index))
        tested = tested[["strategy", "seed", "round", "n_labels", "auroc"]]
        usable = tested.groupby("seed")["auroc"].transform(lambda values: values.notna().all())
        if n_seeds > 1 and usable.any():
            pairs = compare_pairs(mean_over_rounds(tested[usable]), "auroc", statistic=0, reference=REFERENCE)
            print("\nAUROC, mean over the numbers of labels, less that of the largest probability, points\n")
            print("| score | difference | 95% interval | p, corrected | smallest there could be |")
            print("|---|---|---|---|---|")
            for row in pairs.itertuples():
                print(
                    f"| {row.strategy} | {100 * row.mean_difference:+.1f} | {100 * row.low:+.1f} to "
                    f"{100 * row.high:+.1f} | {row.p_corrected:.3g} | {row.min_p_corrected:.3g} |"
                )
    timed = frame.groupby(["base", "score"], sort=False)[["seconds", "scoring_seconds"]].mean()
    print("\nseconds of a fit of the score, mean; scores after the first that needs them find the copies fitted\n")
    print("| base | score | fit | scoring the test set |\n|---|---|---|---|")
    for (base, score), row in timed.iterrows():
        print(f"| {base} | {score} | {row['seconds']:.2f} | {row['scoring_seconds']:.3f} |")


def mean_over_rounds(frame):
    """Return one row per score and seed, with the mean over the numbers of labels."""
    mean = frame.groupby(["strategy", "seed"], sort=False)["auroc"].mean().reset_index()
    return mean.assign(round=0, n_labels=LABELS[-1])


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or an .npz file")
    parser.add_argument("--model", help="open_clip name or configuration file of the CLIP of an .npz")
    parser.add_argument("--weights", help="its weights")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--bases", nargs="*", help="names of base classifiers; all by default")
    parser.add_argument("--labels", nargs="*", default=["random", "margin"], choices=["random", "margin"])
    parser.add_argument("--without", nargs="*", default=[], help="names of scores that are left out")
    parser.add_argument("--max-pool", type=int, default=1500, help="rows of the pool that are used")
    parser.add_argument("--out", default="results")
    args = parser.parse_args()
    show(run(args))


if __name__ == "__main__":
    main()
