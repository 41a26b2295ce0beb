"""Compare settings of BayesAdapterClassifier, and query rules that use its posterior, on the digits.

    python examples/compare_bayes_adapter.py --seeds 5

The first table has accuracy and calibration error of P(correct) at 12, 36, 72 and 160 random labels for the default
prior, the one of the authors' code, the same without draws, and Bayes' rule; then for the same labels in two halves,
the second by `partial_fit`.  The second table has the accuracy after twelve random labels and five rounds of twelve
more, by each query rule, and paired tests against random ones.  Every fit is stored in `--out`; the same
command continues where it was stopped.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from modal_clip_dual import BayesAdapterClassifier, CLIPImageEncoder, bald_sampling, random_sampling
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import compare_pairs, expected_calibration_error, run_active_learning
from modal_clip_dual.evaluation.text import percent

LABELS = (12, 36, 72, 160)
AUTHORS = {"prior_scale": 0.1, "kl_weight": "authors"}
SETTINGS = {
    "defaults": {},
    "the authors' prior and weight": AUTHORS,
    "the same, no draws (n_samples=0)": {**AUTHORS, "n_samples": 0},
    "Bayes' rule (kl_weight=1)": {"kl_weight": 1.0},
    "defaults, in two halves by partial_fit": {},
    "Bayes' rule, in two halves by partial_fit": {"kl_weight": 1.0},
}
RULES = {
    "random": random_sampling,
    "bald": bald_sampling,
    "bald, score='entropy'": partial(bald_sampling, score="entropy"),
    "bald, score='variation-ratio'": partial(bald_sampling, score="variation-ratio"),
}


def fits(seed, X, y, make):
    """Yield a row per setting and number of labels."""
    order = np.random.default_rng(seed).permutation(len(y))
    test, pool = order[:599], order[599:]
    for name, params in SETTINGS.items():
        for n in LABELS:
            clf = make(random_state=seed, **params)
            if "halves" in name:
                for rows in (pool[: n // 2], pool[n // 2 : n]):
                    clf.partial_fit(X[rows], y[rows])
            else:
                clf.fit(X[pool[:n]], y[pool[:n]])
            right = clf.predict(X[test]) == y[test]
            ece = expected_calibration_error(clf.predict_correct_proba(X[test]), right)
            yield {"part": "settings", "strategy": name, "n_labels": n, "accuracy": right.mean(), "ece": ece}


def rounds(seed, X, y, make):
    """Yield a row per query rule and round."""
    order = np.random.default_rng(seed).permutation(len(y))
    test, pool = order[:599], order[599:]
    for name, rule in RULES.items():
        records = run_active_learning(
            make(), rule, X[pool], y[pool], X[test], y[test], n_instances=12, n_rounds=6,
            first_query=np.arange(12), random_state=seed,
        )  # fmt: skip
        for record in records:
            yield {"part": "rules", "strategy": name, "ece": record["ece_correct"]} | {
                key: record[key] for key in ("round", "n_labels", "accuracy")
            }


def main() -> None:
    """Run what is not stored yet and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="results")
    args = parser.parse_args()
    digits = load_digits_images()
    X, y = CLIPImageEncoder("demo", "bundled", verbose=0).transform(digits.images), digits.target
    make = partial(BayesAdapterClassifier, digits.class_names, model_name="demo", pretrained="bundled", verbose=0)
    path = Path(args.out) / "bayes-adapter.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seeds):
        for part, function in {"settings": fits, "rules": rounds}.items():
            stored = pd.read_csv(path) if path.exists() else pd.DataFrame({"part": [], "seed": []})
            if not ((stored["part"] == part) & (stored["seed"] == seed)).any():
                rows = pd.DataFrame([{"seed": seed} | row for row in function(seed, X, y, make)])
                pd.concat([stored, rows]).to_csv(path, index=False)
    frame = pd.read_csv(path)
    one, two = (frame[frame["part"] == part] for part in ("settings", "rules"))
    print("| accuracy / calibration error | " + " | ".join(map(str, LABELS)) + " |\n" + "|---" * 5 + "|")
    for name, rows in one.groupby("strategy", sort=False):
        by = rows.groupby("n_labels")[["accuracy", "ece"]].mean() * 100
        print(f"| {name} | " + " | ".join(f"{by['accuracy'][n]:.1f} / {by['ece'][n]:.1f}" for n in LABELS) + " |")
    print("\n| query rule | accuracy after 72 labels |\n|---|---|")
    for name, rows in two[two["round"] == 6].groupby("strategy", sort=False):
        print(f"| {name} | {percent(rows['accuracy'])} |")
    if args.seeds > 1:
        print("\n| against random | points | p, corrected | smallest there could be |\n|---|---|---|---|")
        for row in compare_pairs(two, statistic=6, reference="random").itertuples():
            print(
                f"| {row.strategy} | {100 * row.mean_difference:+.1f} | {row.p_corrected:.3g} "
                f"| {row.min_p_corrected:.3g} |"
            )


if __name__ == "__main__":
    main()
