"""Which samples to label with DualLinearClassifier: every query strategy, from 0 labels on.

    python examples/compare_queries.py --data digits --seeds 10
    python examples/compare_queries.py --data photos.npz --seeds 5

One label per class and round, at random in no round: each strategy chooses from the first query on.  Each seed
splits the samples anew, a third of them to test on.  Prints Markdown: accuracy after every round, and paired
differences to random selection with corrected p-values.  Stored run by run in `--out`; the same command goes on
where it was stopped.  An .npz is as for compare_heads.py.
"""

import argparse

import numpy as np

from modal_clip_dual import DualLinearClassifier
from modal_clip_dual.active import Protocol
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import compare_pairs, compare_strategies
from modal_clip_dual.evaluation.tables import label_table
from modal_clip_dual.strategies import available_strategies


def data_of(name):
    """Return embeddings, labels and an unfitted classifier."""
    if name == "digits":
        digits = load_digits_images()
        clf = DualLinearClassifier(digits.class_names, model_name="demo", pretrained="bundled", verbose=0)
        return clf.transform(digits.images), digits.target, clf
    with np.load(name) as file:
        X, y = file["x"].astype(np.float32), file["y"].astype(int)
        names = [str(entry) for entry in file["names"]]
        text = {"text_embeddings": file["t"].astype(np.float32), "logit_scale": 1 / float(file["tau"])}
    return X, y, DualLinearClassifier(names, **text, verbose=0)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or an .npz file")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--strategies", nargs="*", help="names; all that the head can do by default")
    parser.add_argument("--out", default="results/queries")
    parser.add_argument("--n-jobs", type=int, default=None)
    args = parser.parse_args()
    X, y, clf = data_of(args.data)
    strategies = args.strategies or available_strategies(clf)
    frame = compare_strategies(
        {"DualLinear": clf}, strategies, X, y, protocol=Protocol(args.rounds, per_class=1), loop="full",
        first_query="strategy", seeds=args.seeds, n_jobs=args.n_jobs, path=args.out, verbose=0,
    )  # fmt: skip
    print(label_table(frame))
    if "random" not in strategies:
        return
    pairs = compare_pairs(frame, reference="random").sort_values("mean_difference", ascending=False)
    print("\n| less random, mean over the rounds | points | 95% interval | p | p corrected |\n|---|---|---|---|---|")
    for row in pairs.itertuples():
        points = f"{100 * row.mean_difference:+.1f} | {100 * row.low:+.1f} to {100 * row.high:+.1f}"
        print(f"| {row.strategy} | {points} | {row.p_value:.3g} | {row.p_corrected:.3g} |")


if __name__ == "__main__":
    main()
