"""Measure how well each score tells right predictions from wrong ones, on the digits.

It trains on a few random labels, several times, and measures on all other digits: accuracy;
AUROC for "the prediction is right" of the clean logit z at the prediction (the paper's
score), of softmax(z) over the classes, and of the largest softmax probability; and the
calibration error of P(correct).  There is one row per way to train, the last without a negative
prompt.  It prints a Markdown table, in percent, mean +- standard deviation.
"""

import argparse

import numpy as np
import pandas as pd
from sklearn.base import clone

from modal_clip_dual import PAPER_SETTINGS, DualPromptClassifier, random_sampling
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import run_active_learning

SETTINGS = {
    "uniform complement (default)": {},
    "all complements": {"complement": "all"},
    "hard complements": {"complement": "hard"},
    "uniform, detached positive": {"net_params": {"module__detach_positive": True}},
    "hard, detached positive": {"complement": "hard", "net_params": {"module__detach_positive": True}},
    "uniform, gradient not clipped": {"gradient_clip_value": None},
    "negative_weight=0": {"negative_weight": 0.0},
}
COLUMNS = {
    "accuracy": "accuracy",
    "auroc_clean": "AUROC z",
    "auroc_normalized": "AUROC softmax(z)",
    "auroc_max_proba": "AUROC max softmax",
    "ece_correct": "ECE of P(correct)",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    digits = load_digits_images()
    clf = DualPromptClassifier(
        digits.class_names, model_name="demo", pretrained="bundled", device="cpu", verbose=0, **PAPER_SETTINGS
    )
    X = clf.transform(digits.images)
    rows = []
    for name, params in SETTINGS.items():
        for seed in range(args.seeds):
            order = np.random.default_rng(seed).permutation(len(X))
            train, test = order[: args.labels], order[args.labels :]
            (record,) = run_active_learning(
                clone(clf).set_params(**params),
                random_sampling, X[train], digits.target[train], X[test], digits.target[test],
                n_instances=args.labels, n_rounds=1, random_state=seed,
            )  # fmt: skip
            rows.append({"training": name, **record})
    print("| training | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, runs in pd.DataFrame(rows).groupby("training", sort=False):
        cells = [f"{100 * runs[c].mean():.1f} +- {100 * runs[c].std():.1f}" for c in COLUMNS]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
