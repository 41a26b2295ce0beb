"""Seconds and peak memory of one query per strategy; core-set beside scikit-activeml's.

    python tests/benchmarks/strategies.py --pool 1000000 --queries 100
    python tests/benchmarks/strategies.py --against-scikit-activeml

The pool are unit vectors around as many directions as there are classes; the classifier is a
DualPromptClassifier on a CLIP of random weights with small towers, trained on 500 of them, so
that every strategy goes the way it goes for users.  Each strategy runs in a process of its own.
Memory is what is resident at most during the query, less what was resident before it: the pool
and the model.  Seconds of processor time are of all threads together: others on the machine change them less than
those by the clock; the load is that of the whole machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from reading import CONFIG


def write_pool(path: Path, n: int, width: int, n_classes: int) -> None:
    """Write unit vectors (n, width), and their classes beside them."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(n_classes, width)).astype(np.float32)
    y = rng.integers(n_classes, size=n)
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, width))
    for start in range(0, n, 50_000):
        rows = slice(start, start + 50_000)
        block = directions[y[rows]] + 1.5 * rng.normal(size=(len(y[rows]), width)).astype(np.float32)
        X[rows] = block / np.linalg.norm(block, axis=1, keepdims=True)
    X.flush()
    np.save(path.with_suffix(".labels.npy"), y)


def write_model(folder: Path, width: int) -> str:
    """Write a CLIP with small towers and embeddings of the given width; return its name."""
    import open_clip
    import torch

    torch.manual_seed(0)
    folder.mkdir()
    config = CONFIG | {"embed_dim": width}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.save(open_clip.CLIP(**config).state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}"


def measure(name: str, path: Path, model: str, n_classes: int, n_queries: int, device: str) -> dict:
    """Run one strategy on the pool; seconds, MiB, and how many classes it met."""
    from inspect import signature

    from modAL.models import ActiveLearner

    from modal_clip_dual import DualPromptClassifier, get_strategy
    from modal_clip_dual.evaluation.costs import PeakMemory, resident_mib

    warnings.simplefilter("ignore")
    X, y = np.load(path), np.load(path.with_suffix(".labels.npy"))
    clf = DualPromptClassifier(
        [f"class {k}" for k in range(n_classes)], model_name=model, pretrained=None, max_epochs=2,
        device=device, precision="fp32", random_state=0,
    )  # fmt: skip
    learner = ActiveLearner(clf, X_training=X[:500], y_training=y[:500])
    pool, strategy = X[500:], get_strategy(name)
    parameters = signature(strategy).parameters
    kwargs = {"random_state": 0} if "random_state" in parameters else {}
    if "device" in parameters and device != "cpu":
        kwargs["device"] = device
    strategy(learner, pool[:2000], 10, **kwargs)  # imports, and what torch sets up once
    before = resident_mib()
    with PeakMemory() as memory:
        start, used = time.perf_counter(), time.process_time()
        rows = strategy(learner, pool, n_queries, **kwargs)
        seconds, used = time.perf_counter() - start, time.process_time() - used
    rows = np.asarray(rows[0] if isinstance(rows, tuple) else rows)
    assert len(set(rows.tolist())) == n_queries
    return {
        "seconds": seconds,
        "processor": used,
        "load": os.getloadavg()[0],
        "mib": memory.mib - before,
        "classes": len(set(y[500:][rows].tolist())),
    }


def against_scikit_activeml(n: int = 10_000, width: int = 512, n_queries: int = 100) -> None:
    """Print the seconds of both core-sets, in turns, and whether they choose the same."""
    from modAL.models import ActiveLearner
    from skactiveml.pool import CoreSet
    from sklearn.linear_model import LogisticRegression

    from modal_clip_dual import coreset_sampling

    X = np.random.default_rng(0).normal(size=(n + 100, width)).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = np.full(len(X), np.nan)
    y[n:] = np.arange(100) % 10
    learner = ActiveLearner(LogisticRegression())
    learner.X_training, learner.y_training = X[n:], y[n:]
    seconds: dict[str, list[float]] = {"modal_clip_dual": [], "scikit-activeml": []}
    for _ in range(5):
        for name, query in (
            ("modal_clip_dual", lambda: coreset_sampling(learner, X[:n], n_queries)),
            ("scikit-activeml", lambda: CoreSet(random_state=0).query(X, y, batch_size=n_queries)),
        ):
            start = time.perf_counter()
            rows = query()
            seconds[name].append(time.perf_counter() - start)
            if name == "modal_clip_dual":
                ours = np.asarray(rows[0] if isinstance(rows, tuple) else rows)
            else:
                theirs = np.asarray(rows)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    print(f"core-set, {n_queries} of {n:,} x {width}, 100 labelled, medians of 5 turns:")
    for name, median in medians.items():
        print(f"  {name:<16} {median:7.3f} s")
    print(f"  ratio {medians['scikit-activeml'] / medians['modal_clip_dual']:.1f}, "
          f"same choices: {np.array_equal(ours, theirs)}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pool", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--strategies", nargs="+", default=None)
    parser.add_argument("--against-scikit-activeml", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.against_scikit_activeml:
        against_scikit_activeml()
        return
    if args.one:
        name, path, model = args.one
        result = measure(name, Path(path), model, args.classes, args.queries, args.device)
        print(json.dumps(result))
        return
    from modal_clip_dual.strategies import available_strategies

    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool.npy"
        write_pool(pool, args.pool + 500, args.width, args.classes)
        model = write_model(Path(folder) / "model", args.width)
        print(f"{args.queries} of {args.pool:,} x {args.width}, {args.classes} classes, {args.device}")
        print("| strategy | seconds | processor s | load | memory, MiB | classes met |\n|---|---|---|---|---|---|")
        for name in args.strategies or available_strategies():
            sizes = ["--classes", str(args.classes), "--queries", str(args.queries)]
            command = [sys.executable, __file__, "--one", name, str(pool), model, *sizes]
            done = subprocess.run([*command, "--device", args.device], capture_output=True, text=True)
            if done.returncode:
                print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1]} | | | | |", flush=True)
                continue
            r = json.loads(done.stdout.splitlines()[-1])
            times = f"{r['seconds']:.1f} | {r['processor']:.1f} | {r['load']:.1f}"
            print(f"| {name} | {times} | {r['mib']:.0f} | {r['classes']} |", flush=True)


if __name__ == "__main__":
    main()
