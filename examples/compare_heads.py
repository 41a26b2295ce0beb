"""Compare heads on frozen embeddings with prompts, over the number of labels.

    python examples/compare_heads.py --data digits --seeds 10
    python examples/compare_heads.py --data photos.npz --model lite-clip.json --weights lite-clip.safetensors
    python examples/compare_heads.py --data digits --names shifted --learners "logistic regression" DualLinear

Labels are drawn at random, the same for all; learners that use a pool get the whole one.  It prints Markdown:
accuracy at each number of labels, AUROC and calibration error of P(correct), how far the accuracy that a learner
estimates from P(correct) is off, seconds per fit, and paired differences to `--reference` with p-values (t-test,
Holm's correction over a row).  Every fit is stored in `--out`; the same command continues where it was stopped.

An .npz holds x (n, D) embeddings, y (n,) numbers, names (C,), split (n,) "train" or "test", and for learners without
prompts t (C, D) text embeddings and tau, the temperature.  `--model` and `--weights` name the CLIP that they came
from, an open_clip name or a configuration file; prompts need it.

With `--names shifted` each class has the name of the next one, with `random` vectors stand in for the text: what do
learners do whose names mean nothing?  Those with prompts are left out then.
"""

import argparse
import csv
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

from modal_clip_dual import (
    PAPER_SETTINGS,
    BayesAdapterClassifier,
    CLIPImageEncoder,
    DualLinearClassifier,
    DualPromptClassifier,
    DualPromptLearner,
    TipAdapterClassifier,
)
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.clip.templates import template_embeddings
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import auroc_of_correctness, expected_calibration_error

PER_CLASS = (0, 0.5, 1, 2, 4, 8, 16, 32)


class ZeroShot(ClassifierMixin, BaseEstimator):
    """Zero-shot CLIP, which learns nothing."""

    def __init__(self, clf):
        self.clf = clf

    def fit(self, X, y):
        self.classes_ = np.arange(len(self.clf.class_names))
        return self

    def predict_proba(self, X):
        return self.clf.zero_shot_proba(X)


def logistic(X, y):
    """Fit logistic regression; if every class has two labels, cross-validation chooses the penalty."""
    fewest = np.bincount(y)[np.unique(y)].min()
    if len(np.unique(y)) < 2:
        return None
    if fewest < 2:
        return LogisticRegression(C=10.0, max_iter=2000).fit(X, y)
    folds = StratifiedKFold(min(5, fewest), shuffle=True, random_state=0)
    grid = {"Cs": [1, 10, 100, 1000], "scoring": "neg_log_loss", "max_iter": 2000}
    with warnings.catch_warnings():  # newer releases warn about their defaults
        warnings.simplefilter("ignore")
        return LogisticRegressionCV(cv=folds, use_legacy_attributes=False, l1_ratios=(0,), **grid).fit(X, y)


class Data:
    """A pool and a test set of embeddings, with the arguments of classifiers."""

    def __init__(self, args):
        self._load(args)
        if getattr(args, "names", "given") == "given":
            return
        if not self.text:
            backbone = load_backbone(**self.clip)
            text = template_embeddings(backbone, self.names, ["a photo of a {}."]).numpy()
            self.text = {"text_embeddings": text, "logit_scale": float(backbone.logit_scale)}
        text = self.text["text_embeddings"]
        other = np.random.default_rng(0).standard_normal(text.shape).astype(np.float32)
        self.text["text_embeddings"] = np.roll(text, 1, axis=0) if args.names == "shifted" else other
        self.clip = None

    def _load(self, args):
        if args.data == "digits":
            digits = load_digits_images()
            self.names, self.y = digits.class_names, digits.target
            self.X = CLIPImageEncoder("demo", "bundled", verbose=0).transform(digits.images)
            self.fixed, self.text = None, {}
            self.clip = {"model_name": "demo", "pretrained": "bundled"}
            return
        with np.load(args.data) as file:
            self.X, self.y = file["x"].astype(np.float32), file["y"].astype(int)
            self.names = [str(name) for name in file["names"]]
            self.fixed = np.flatnonzero(file["split"] == "train"), np.flatnonzero(file["split"] == "test")
            self.text = {"text_embeddings": file["t"].astype(np.float32), "logit_scale": 1 / float(file["tau"])}
        self.clip = None
        if args.model is not None:
            import open_clip

            name = args.model
            if name.endswith(".json"):
                open_clip.add_model_config(name)
                name = Path(name).stem
            self.clip = {"model_name": name, "pretrained": args.weights}

    def split(self, seed):
        """Return rows of the pool and of the test set; a fixed split is kept, the digits' is drawn."""
        if self.fixed is not None:
            return self.fixed
        order = np.random.default_rng(seed).permutation(len(self.y))
        return order[599:], order[:599]


def learners_of(data, wanted):
    """Return functions of (seed, pool, rows, y, state) by name; each returns a fitted classifier or None."""
    frozen = data.clip or {}
    linear = dict(data.text) if data.clip is None or data.text else frozen

    def dual_linear(seed, pool, rows, y, state):
        clf = DualLinearClassifier(data.names, **linear, verbose=0)
        if not len(rows):
            return clf.fit_unlabeled(pool)
        return clf.fit(pool[rows], y, X_pool=pool)

    def without_pool(seed, pool, rows, y, state):
        if not len(rows):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return DualLinearClassifier(data.names, **linear, verbose=0).fit(pool[rows], y)

    def zero_shot(seed, pool, rows, y, state):
        return ZeroShot(DualLinearClassifier(data.names, **linear, verbose=0)).fit(None, None)

    def tip_adapter(seed, pool, rows, y, state):
        return TipAdapterClassifier(data.names, **frozen, verbose=0).fit(pool[rows], y) if len(rows) else None

    def bayes_adapter(seed, pool, rows, y, state):
        clf = BayesAdapterClassifier(data.names, **frozen, random_state=seed, verbose=0)
        return clf.fit(pool[rows], y) if len(rows) else None

    def prompts(seed, pool, rows, y, state):
        clf = DualPromptClassifier(data.names, **frozen, **PAPER_SETTINGS, random_state=seed, verbose=0)
        return clf.fit(pool[rows], y) if len(rows) else None

    def whole_loop(**params):
        def fit(seed, pool, rows, y, state):
            if "learner" not in state:
                clf = DualPromptClassifier(data.names, **frozen, **PAPER_SETTINGS, verbose=0)
                state["learner"] = DualPromptLearner(clf, pool, random_state=seed, **params).start()
            learner = state["learner"]
            new = ~np.isin(rows, learner.rows_)
            if new.any():
                learner.teach(rows=rows[new], y=y[new])
            return learner.estimator

        return fit

    def regression(seed, pool, rows, y, state):
        return logistic(pool[rows], y) if len(rows) else None

    every = {
        "zero-shot": zero_shot,
        "logistic regression": regression,
        "DualLinear without pool": without_pool,
        "Tip-Adapter": tip_adapter,
        "BayesAdapter": bayes_adapter,
        "prompts": prompts,
        "whole loop": whole_loop(),
        "DualLinear": dual_linear,
    }
    if data.clip is None:
        for name in ("Tip-Adapter", "BayesAdapter", "prompts", "whole loop"):
            del every[name]
    return {name: every[name] for name in wanted or every if name in every}


def measured(clf, X, y, unlabeled):
    """Measure a fitted classifier on test samples, and its estimated accuracy on the unlabeled pool."""
    proba = clf.predict_proba(X)
    right = np.asarray(clf.classes_)[proba.argmax(axis=1)] == y
    asked = getattr(clf, "predict_correct_proba", lambda X: clf.predict_proba(X).max(axis=1))
    correct = np.asarray(asked(X), dtype=np.float64)
    pool, truth = unlabeled
    labels = np.asarray(clf.classes_)[clf.predict_proba(pool).argmax(axis=1)]
    return {
        "accuracy": right.mean(),
        "auroc": auroc_of_correctness(correct, right),
        "auroc_max": auroc_of_correctness(proba.max(axis=1), right),
        "ece": expected_calibration_error(correct, right),
        "off": float(np.asarray(asked(pool), dtype=np.float64).mean() - (labels == truth).mean()),
    }


def run(args):
    """Fit what is not stored yet; return all rows."""
    data = Data(args)
    names = "" if args.names == "given" else f"-{args.names}"
    path = Path(args.out) / f"heads-{Path(args.data).stem}{names}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["learner", "seed", "n_labels"])
    done = set(zip(stored["learner"], stored["seed"], stored["n_labels"]))
    budgets = sorted({round(k * len(data.names)) for k in args.per_class})
    fields = ["data", "learner", "seed", "n_labels", "accuracy", "auroc", "auroc_max", "ece", "off", "seconds"]
    for seed in range(args.seeds):
        pool_rows, test_rows = data.split(seed)
        pool, y_pool = data.X[pool_rows], data.y[pool_rows]
        order = np.random.default_rng([seed, 1]).permutation(len(pool))
        for name, fit in learners_of(data, args.learners).items():
            state = {}
            if all((name, seed, n) in done for n in budgets):
                continue
            for n in budgets:
                rows = order[:n]
                start = time.perf_counter()
                clf = fit(seed, pool, rows, y_pool[rows], state)
                seconds = time.perf_counter() - start
                if clf is None or (name, seed, n) in done:
                    continue
                figures = measured(clf, data.X[test_rows], data.y[test_rows], (pool[order[n:]], y_pool[order[n:]]))
                row = {"data": Path(args.data).stem, "learner": name, "seed": seed, "n_labels": n, **figures}
                new = not path.exists()
                with open(path, "a", newline="") as file:
                    writer = csv.DictWriter(file, fields)
                    if new:
                        writer.writeheader()
                    writer.writerow(row | {"seconds": seconds})
            print(json.dumps({"seed": seed, "learner": name}), flush=True)
    return pd.read_csv(path)


def holm(p_values):
    """Return p-values with Holm's correction, in their order."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return corrected


def show(frame, reference):
    """Print the tables."""
    budgets = sorted(frame["n_labels"].unique())
    names = list(dict.fromkeys(frame["learner"]))
    titles = {
        "accuracy": "accuracy", "auroc": "AUROC of P(correct)", "auroc_max": "AUROC of the largest probability",
        "ece": "calibration error of P(correct)", "off": "estimated less true accuracy of the unlabeled pool",
    }  # fmt: skip
    for column, title in titles.items():
        print(f"\n{title}, percent, mean +- standard deviation over {frame['seed'].nunique()} seeds\n")
        print("| learner | " + " | ".join(map(str, budgets)) + " |\n" + "|---" * (len(budgets) + 1) + "|")
        for name in names:
            rows = frame[frame["learner"] == name].groupby("n_labels")[column]
            mean, std = 100 * rows.mean(), 100 * rows.std()
            cells = [f"{mean[n]:.1f} +- {std[n]:.1f}" if n in mean else "" for n in budgets]
            print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nseconds per fit, mean\n\n| learner | " + " | ".join(map(str, budgets)) + " |")
    print("|---" * (len(budgets) + 1) + "|")
    for name in names:
        mean = frame[frame["learner"] == name].groupby("n_labels")["seconds"].mean()
        print(f"| {name} | " + " | ".join(f"{mean[n]:.2f}" if n in mean else "" for n in budgets) + " |")
    print(f"\n{reference} less each rival, points of accuracy (p, corrected)\n")
    print("| rival | " + " | ".join(map(str, budgets)) + " |\n" + "|---" * (len(budgets) + 1) + "|")
    table = frame.pivot_table(index=["n_labels", "seed"], columns="learner", values="accuracy")
    for name in names:
        if name == reference or reference not in table:
            continue
        cells, p_values = {}, {}
        for n in budgets:
            pair = table.loc[n][[reference, name]].dropna() if name in table else []
            if len(pair) > 1:
                difference = pair[reference] - pair[name]
                cells[n] = 100 * difference.mean()
                if np.ptp(difference) > 1e-9:  # else there is no spread to compare with
                    p_values[n] = ttest_rel(pair[reference], pair[name]).pvalue
        corrected = dict(zip(p_values, holm(list(p_values.values())))) if p_values else {}
        shown = [
            f"{cells[n]:+.1f}" + (f" ({corrected[n]:.2g})" if n in corrected else "") if n in cells else ""
            for n in budgets
        ]
        print(f"| {name} | " + " | ".join(shown) + " |")


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or an .npz file")
    parser.add_argument("--model", help="open_clip name or configuration file of the CLIP of an .npz")
    parser.add_argument("--weights", help="its weights")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--learners", nargs="*", help="names of the table; all by default")
    parser.add_argument("--names", choices=["given", "shifted", "random"], default="given", help="what the text says")
    parser.add_argument("--per-class", nargs="+", type=float, default=PER_CLASS, help="labels per class")
    parser.add_argument("--reference", default="DualLinear")
    parser.add_argument("--out", default="results")
    args = parser.parse_args()
    show(run(args), args.reference)


if __name__ == "__main__":
    main()
