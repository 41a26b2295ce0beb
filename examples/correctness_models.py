"""Compare models of correctness: which tells best whether the labels of one and the same classifier are right?

    python examples/correctness_models.py --seeds 5
    python examples/correctness_models.py --zero-shot --seeds 5
    python examples/correctness_models.py --seconds

All models judge the same labels of the same classifier on 599 digits, those of a `BayesAdapterClassifier` that
learned 1, 4, 8 and 16 labels per class; with --zero-shot, those of zero-shot CLIP, after 40 to 1,000 labels.  The
first row is the largest probability of the classifier itself.  It prints Markdown: AUROC of P(correct), the area
under its risk-coverage curve, its calibration error (15 bins of equal mass), and the difference in AUROC to the first
row; mean +- standard deviation over seeds, percent.  Every figure is stored in --out; the same command continues
where it was stopped.  --seconds measures CPU seconds of fitting, and of scoring 100,000 embeddings.
"""

import argparse
import csv
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

from modal_clip_dual import (
    BayesAdapterClassifier,
    ClassCodeClassifier,
    CorrectnessRegressor,
    DirichletMetaClassifier,
)
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import (
    area_under_risk_coverage,
    auroc_of_correctness,
    expected_calibration_error,
)

N_TEST = 599
DEMO = {"model_name": "demo", "pretrained": "bundled", "verbose": 0}


class Once(BayesAdapterClassifier):
    """A BayesAdapterClassifier that remembers its fits, since all models fit the same copies."""

    fits: dict = {}

    def fit(self, X, y):
        key = X.tobytes(), y.tobytes(), self.random_state
        if key not in self.fits:
            self.fits[key] = dict(vars(super().fit(X, y)))
        vars(self).update(self.fits[key])
        return self


class ZeroShot(ClassifierMixin, BaseEstimator):
    """Zero-shot CLIP, which learns nothing."""

    def __init__(self, clf):
        self.clf = clf

    def fit(self, X, y):
        self.classes_ = np.arange(len(self.clf.class_names))
        return self

    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X):
        return self.clf.zero_shot_proba(X)

    def transform(self, X):
        return self.clf.transform(X)

    def block_features(self, X, kind="tokens"):
        return self.clf.block_features(X, kind)


def models_of(base, seed, images=True):
    """Return the models by name, all around the same classifier; those that look into blocks need images."""
    fixed = {"random_state": seed}
    models = {
        "class codes": ClassCodeClassifier(base, **fixed),
        "class codes, blocks": ClassCodeClassifier(base, layers="blocks", **fixed),
        "Dirichlet": DirichletMetaClassifier(base, **fixed),
        "regression": CorrectnessRegressor(base, **fixed),
        "regression, 5 neighbors": CorrectnessRegressor(base, neighbors=5, **fixed),
        "regression, embedding": CorrectnessRegressor(base, features=["proba", "embedding"], **fixed),
        "regression, attention": CorrectnessRegressor(base, features=["proba", "attention"], **fixed),
        "regression, attention, embedding": CorrectnessRegressor(
            base, features=["proba", "attention", "embedding"], **fixed
        ),
    }
    of_images = {"blocks", "attention"}
    return {name: model for name, model in models.items() if images or not of_images & set(name.split(", "))}


def figures_of(correct, right):
    """Return the figures of P(correct) for labels of which some are right."""
    return {
        "AUROC": auroc_of_correctness(correct, right),
        "AURC": area_under_risk_coverage(correct, right),
        "ECE": expected_calibration_error(correct, right),
        "off": float(np.mean(correct) - np.mean(right)),
    }


def split(y, seed, zero_shot, n):
    """Return training and test rows: n labels per class, or n labels at random."""
    order = np.random.default_rng(seed).permutation(len(y))
    test, pool = order[:N_TEST], order[N_TEST:]
    if zero_shot:
        return pool[:n], test
    return np.concatenate([pool[y[pool] == k][:n] for k in np.unique(y)]), test


def measure(seeds, zero_shot, wanted, numbers, path):
    """Measure what is not stored yet, and return all that is: a row per seed, number of labels and model."""
    X, y, class_names = load_digits_images().values()
    fields = ["n", "seed", "model", "AUROC", "AURC", "ECE", "off", "accuracy"]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(",".join(fields) + "\n")
    stored = pd.read_csv(path)
    done = set(zip(stored["n"], stored["seed"], stored["model"]))

    def keep(n, seed, name, figures):
        with open(path, "a", newline="") as file:
            csv.DictWriter(file, fields).writerow({"n": n, "seed": seed, "model": name, **figures})

    for seed in seeds:
        for n in numbers or ((40, 100, 300, 1000) if zero_shot else (1, 4, 8, 16)):
            train, test = split(y, seed, zero_shot, n)
            clf = Once(class_names, **DEMO, random_state=seed)
            base = ZeroShot(clf) if zero_shot else clf
            fitted = base.fit(X[train], y[train])
            labels = fitted.predict(X[test])
            right = labels == y[test]
            largest = np.asarray(fitted.predict_proba(X[test]).max(axis=1), dtype=np.float64)
            if (n, seed, "largest probability") not in done:
                keep(n, seed, "largest probability", figures_of(largest, right) | {"accuracy": right.mean()})
            for name, model in models_of(base, seed).items():
                if (wanted and name not in wanted) or (n, seed, name) in done:
                    continue
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # too few errors to learn from
                    model.fit(X[train], y[train])
                same, correct = model.predict_with_confidence(X[test])
                assert np.array_equal(same, labels)  # all are judged on the same errors
                keep(n, seed, name, figures_of(correct, right))
    return pd.read_csv(path)


def show(frame, zero_shot):
    """Print the tables."""
    numbers, names = sorted(frame["n"].unique()), list(dict.fromkeys(frame["model"]))
    head = "| | " + " | ".join(f"{n} labels" if zero_shot else f"{n} per class" for n in numbers) + " |"
    line = "|---" * (len(numbers) + 1) + "|"
    accuracy = frame[frame["model"] == names[0]].groupby("n")["accuracy"]
    print("accuracy of the classifier: " + ", ".join(f"{100 * accuracy.mean()[n]:.1f}" for n in numbers))
    titles = {
        "AUROC": "AUROC of correctness", "AURC": "area under the risk-coverage curve",
        "ECE": "calibration error of P(correct)", "off": "mean P(correct) less accuracy",
    }  # fmt: skip
    for column, title in titles.items():
        print(f"\n{title}\n\n{head}\n{line}")
        for name in names:
            group = frame[frame["model"] == name].groupby("n")[column]
            mean, std = 100 * group.mean(), 100 * group.std()
            cells = [f"{mean[n]:.1f} +- {std[n]:.1f}" if n in mean else "" for n in numbers]
            print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\nAUROC less that of the largest probability, and in how many seeds it is higher\n\n{head}\n{line}")
    table = frame.pivot_table(index=["n", "seed"], columns="model", values="AUROC")
    for name in names[1:]:
        difference = 100 * (table[name] - table[names[0]])
        difference = difference.dropna().groupby("n")
        mean, won, count = difference.mean(), difference.agg(lambda part: (part > 0).sum()), difference.size()
        cells = [f"{mean[n]:+.1f} ({won[n]:.0f} of {count[n]})" if n in mean else "" for n in numbers]
        print(f"| {name} | " + " | ".join(cells) + " |")


def seconds():
    """Print CPU seconds of fitting on 160 labels, and of scoring 100,000 embeddings."""
    X, y, class_names = load_digits_images().values()
    clf = BayesAdapterClassifier(class_names, **DEMO, random_state=0)
    embeddings = clf.transform(X)
    train, _ = split(y, 0, False, 16)
    many = np.resize(embeddings, (100_000, embeddings.shape[1]))
    many += 0.01 * np.random.default_rng(0).normal(size=many.shape).astype(np.float32)
    print("| CPU seconds | fit, 160 labels | score 100,000 |\n|---|---|---|")
    models = {"the classifier itself": clf, **models_of(clf, 0, images=False)}
    for name, model in models.items():
        start = time.process_time()
        model.fit(embeddings[train], y[train])
        middle = time.process_time()
        model.predict_correct_proba(many)
        print(f"| {name} | {middle - start:.2f} | {time.process_time() - middle:.2f} |", flush=True)


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--zero-shot", action="store_true", help="judge zero-shot CLIP")
    parser.add_argument("--labels", nargs="*", type=int, help="numbers of labels, per class without --zero-shot")
    parser.add_argument("--models", nargs="*", help="names of the table; all by default")
    parser.add_argument("--seconds", action="store_true", help="measure the time only")
    parser.add_argument("--out", default="results", help="folder of what was measured")
    args = parser.parse_args()
    if args.seconds:
        seconds()
        return
    path = Path(args.out) / f"correctness-models{'-zero-shot' if args.zero_shot else ''}.csv"
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    show(measure(seeds, args.zero_shot, args.models, args.labels, path), args.zero_shot)


if __name__ == "__main__":
    main()
