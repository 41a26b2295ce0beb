"""What it costs in accuracy that query strategies take a random part of a large pool.

    python tests/benchmarks/shortcuts.py                              # the digits
    python tests/benchmarks/shortcuts.py --data photos.npz --seeds 5
    python tests/benchmarks/shortcuts.py --inertia 200000             # of k-means alone, beside the slow way

At a million samples k-means is fitted to 50,000 of them (`subsample` of dropquery, typiclust and cec), and the base
of PCB is shown 20,000 (`max_samples`).  Here these numbers are forced down to shares of a small pool, and each
strategy runs beside itself without the shortcut: one label per class and round, the first at random, logistic
regression on the embeddings; seeds split the samples anew, a third of them to test on.  Prints Markdown: accuracy
averaged over the rounds, and paired differences with corrected p-values, a positive one in favor of the shortcut.
Stored run by run in `--out`; the same command goes on where it was stopped.  An .npz holds x (n, D) embeddings and
y (n,) numbers.

`--inertia` clusters made-up unit vectors, 512 wide, in the slow way (mini-batches of all of them, first centers drawn
among 24,576) and in the quick one (of 50,000, first centers among 4,096): seconds of processor time, and the mean
squared distance of all samples to their centers.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
from sklearn.linear_model import LogisticRegression
from strategies import write_pool

from modal_clip_dual import CLIPImageEncoder, get_strategy
from modal_clip_dual.active import Protocol
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import area_under_learning_curve, compare_pairs, compare_strategies
from modal_clip_dual.strategies import _clustering

PARAMETER = {
    "dropquery": "subsample",
    "typiclust": "subsample",
    "cec": "subsample",
    "pcb-badge": "max_samples",
    "pcb-coreset": "max_samples",
    "pcb-entropy": "max_samples",
}


def data_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings and labels."""
    if name == "digits":
        digits = load_digits_images()
        return CLIPImageEncoder("demo", "bundled").transform(digits.images), digits.target
    with np.load(name) as file:
        return file["x"].astype(np.float32), file["y"].astype(int)


def inertia(n: int, seeds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_pool(Path(folder) / "pool.npy", n, 512, 100)
        X = np.load(Path(folder) / "pool.npy")
    print(f"{n:,} x 512, {seeds} seeds\n| clusters | way | processor s | inertia |\n|---|---|---|---|")
    for n_clusters in (100, 500):
        for way in ("slow", "quick"):
            used, found = [], []
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                subsample, first = (None, 24_576) if way == "slow" else (_clustering.SUBSAMPLE, 4096)
                start = time.process_time()
                with mock.patch.object(_clustering, "INIT_SAMPLES", first):
                    rows = _clustering.rows_to_fit(n, subsample, n_clusters, rng)
                    clusters, centers = _clustering.k_means(X, n_clusters, rng, fitted_to=rows)
                used.append(time.process_time() - start)
                parts = [slice(k, k + 1000) for k in range(0, n, 1000)]
                found.append(sum(np.square(X[p] - centers[clusters[p]]).sum() for p in parts) / n)
            spread = f"{np.mean(found):.4f} ({min(found):.4f} to {max(found):.4f})"
            print(f"| {n_clusters} | {way} | {np.mean(used):.1f} | {spread} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or an .npz file")
    parser.add_argument("--strategies", nargs="+", default=list(PARAMETER), choices=list(PARAMETER))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.25, 0.05], help="of the pool")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", default=None, help="folder of the runs")
    parser.add_argument("--n-jobs", type=int, default=None)
    parser.add_argument("--inertia", type=int, metavar="SAMPLES", help="k-means alone")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.inertia:
        inertia(args.inertia, args.seeds)
        return
    X, y = data_of(args.data)
    n_pool = len(X) - int(np.ceil(len(X) / 3))
    arms = {}
    for name in args.strategies:
        arms[f"{name}, all"] = get_strategy(name, **{PARAMETER[name]: None})
        for share in args.shares:
            size = {PARAMETER[name]: round(share * n_pool)}
            arms[f"{name}, {100 * share:g}%"] = get_strategy(name, **size)
    frame = compare_strategies(
        {"logistic regression": LogisticRegression(C=100, max_iter=1000)}, arms, X, y,
        protocol=Protocol(args.rounds, per_class=1), seeds=args.seeds, path=args.out, n_jobs=args.n_jobs, verbose=0,
    )  # fmt: skip
    names = frame["strategy"].str.split(", ", expand=True)
    frame = frame.assign(estimator=names[0], strategy=names[1])  # strategies are compared within each estimator
    table = compare_pairs(frame, reference="all")
    area = area_under_learning_curve(frame).groupby(["estimator", "strategy"])["area"].mean()
    print(f"{args.data}: pool of {n_pool:,}, {args.seeds} seeds, {args.rounds} rounds of {len(set(y))} labels")
    print("| strategy | part | accuracy, all | accuracy, part | difference | 95% interval | p | p corrected |")
    print("|---|---|---|---|---|---|---|---|")
    for row in table.itertuples():
        both = [f"{100 * area[row.estimator, part]:.1f}" for part in (row.other, row.strategy)]
        print(f"| {row.estimator} | {row.strategy} | {both[0]} | {both[1]} | "
              f"{100 * row.mean_difference:+.1f} | {100 * row.low:+.1f} to {100 * row.high:+.1f} | "
              f"{row.p_value:.2g} | {row.p_corrected:.2g} |")  # fmt: skip


if __name__ == "__main__":
    main()
