"""What a round costs as the pool and the number of classes grow.

    python tests/benchmarks/scale.py scoring    # 1,000,000 x 512: ratio to the bare matrix product
    python tests/benchmarks/scale.py mapped     # the same pool as a memory-mapped file
    python tests/benchmarks/scale.py paths      # 1,000,000 paths, embeddings cached
    python tests/benchmarks/scale.py growth --figure round-cost.png

The text tower is that of a CLIP of random weights with small towers, the embeddings are random
unit vectors.  "scoring" compares, in turns of one run, the product of the pool with both prompts'
text embeddings (torch.mm, one call) with `predict_correct_proba` and with all that a query by
negative-prompt sampling does.  Memory is what is resident at most during a call, less what was
resident before it, in MiB; a mapped file counts as far as its pages are in memory.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from strategies import write_model, write_pool

from modal_clip_dual import DualPromptClassifier, DualPromptLearner, negative_prompt_sampling
from modal_clip_dual.active import Protocol
from modal_clip_dual.evaluation.costs import PeakMemory, resident_mib


def make(model: str, n_classes: int, **params) -> DualPromptClassifier:
    params = {"max_epochs": 2, "device": "cpu", "random_state": 0, "verbose": 0} | params
    names = [f"class {k}" for k in range(n_classes)]
    return DualPromptClassifier(names, model_name=model, pretrained=None, **params)


def measured(function) -> tuple[float, float]:
    """Seconds and MiB of a call."""
    before = resident_mib()
    with PeakMemory() as memory:
        start = time.perf_counter()
        function()
        seconds = time.perf_counter() - start
    return seconds, memory.mib - before


def table(rows: dict[str, list[tuple[float, float]]], base: str | None = None) -> None:
    """Print medians."""
    print("| | seconds | ratio | memory, MiB |\n|---|---|---|---|")
    medians = {name: statistics.median(s for s, _ in values) for name, values in rows.items()}
    for name, values in rows.items():
        ratio = f"{medians[name] / medians[base]:.2f}" if base else ""
        print(f"| {name} | {medians[name]:.2f} | {ratio} | {max(m for _, m in values):.0f} |")


def scoring(args, folder: Path) -> None:
    clf = fitted(args, folder)
    X = np.load(folder / "pool.npy")
    pool = torch.from_numpy(X)
    both = clf.net_.module_.eval().text_embeddings().flatten(0, 1).T.contiguous()
    calls = {
        "torch.mm with both prompts": lambda: torch.mm(pool, both),
        "predict_correct_proba": lambda: clf.predict_correct_proba(X),
        "negative_prompt_sampling, 100 rows": lambda: negative_prompt_sampling(clf, X, 100),
        "predict_proba": lambda: clf.predict_proba(X),
    }
    in_turns(calls, args, "torch.mm with both prompts")


def in_turns(calls: dict, args, base: str | None = None) -> None:
    rows: dict[str, list] = {name: [] for name in calls}
    for turn in range(args.turns + 1):
        for name, call in calls.items():
            result = measured(call)
            if turn:  # the first warms up
                rows[name].append(result)
    print(f"{args.pool:,} x {args.width}, C = {args.classes}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads, medians of {args.turns} turns")  # fmt: skip
    table(rows, base)


def fitted(args, folder: Path) -> DualPromptClassifier:
    write_pool(folder / "pool.npy", args.pool, args.width, args.classes)
    clf = make(write_model(folder / "model", args.width), args.classes)
    head = np.load(folder / "pool.npy", mmap_mode="r")[:500]
    return clf.fit(np.array(head), np.arange(500) % args.classes)


def mapped(args, folder: Path) -> None:
    clf = fitted(args, folder)
    X = np.load(folder / "pool.npy", mmap_mode="r")
    print(f"the file has {X.nbytes >> 20} MiB")
    calls = {
        "negative_prompt_sampling, 100 rows": lambda: negative_prompt_sampling(clf, X, 100),
        "predict_correct_proba": lambda: clf.predict_correct_proba(X),
    }
    in_turns(calls, args)

    def rounds():
        learner = DualPromptLearner(make(clf.model_name, args.classes), X, pseudo_labels="own")
        learner.run(np.zeros(len(X), dtype=int), protocol=Protocol(2, fraction=100 / len(X)))
        print(learner.log[["round", "n_labels", "query_seconds", "train_seconds"]].to_string(index=False))

    seconds, memory = measured(rounds)
    print(f"DualPromptLearner, round 0 and two rounds of 100: {seconds:.1f} s, {memory:.0f} MiB")


def paths(args, folder: Path) -> None:
    """Links to a few images, whose embeddings are put into the cache beforehand."""
    from PIL import Image

    from modal_clip_dual.data.reading import ImageSource

    clf = make(write_model(folder / "model", 64), args.classes)
    (folder / "images").mkdir()
    names = []
    for k in range(args.pool):
        if k % 50_000 == 0:  # a file system allows some 60,000 links to a file
            source = folder / f"{k}.png"
            Image.new("L", (8, 8), k % 255).save(source)
        names.append(str(folder / "images" / f"{k}.png"))
        os.link(source, names[-1])
    X = np.array(names, dtype=object)
    embeddings = np.random.default_rng(0).normal(size=(args.pool, 64)).astype(np.float32)
    backbone = clf._load_backbone(clf.model_name, None)
    keys = ImageSource(X, backbone.preprocessing).keys(backbone.preprocessing)
    assert backbone.embedding_cache.put(dict(zip(keys, embeddings))) == 0
    clf.fit(embeddings[:500], np.arange(500) % args.classes)
    args.width = 64
    calls = {
        "negative_prompt_sampling, embeddings": lambda: negative_prompt_sampling(clf, embeddings, 100),
        "negative_prompt_sampling, paths": lambda: negative_prompt_sampling(clf, X, 100),
    }
    in_turns(calls, args)


def growth(args, folder: Path) -> None:
    """Seconds of a query and of a fit for growing pools and numbers of classes; a figure."""
    from matplotlib.figure import Figure

    model = write_model(folder / "model", args.width)
    write_pool(folder / "pool.npy", args.pool, args.width, 100)
    X = np.load(folder / "pool.npy")
    pools = [args.pool >> k for k in range(6, -1, -1)]
    classes = [10, 20, 50, 100, 200, 500, 1000]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    print("| pool | C | query, s | fit, s |\n|---|---|---|---|")
    for ax, sizes, label in (
        (axes[0], [(n, 100) for n in pools], "samples in the pool (C = 100)"),
        (axes[1], [(pools[-3], c) for c in classes], f"classes C (pool {pools[-3]:,})"),
    ):
        seconds = []
        for n, c in sizes:
            clf = make(model, c)
            y = np.arange(100) % c
            clf.fit(X[:100], y)
            fit = min(measured(lambda: clf.fit(X[:100], y))[0] for _ in range(args.turns))
            clf.predict(X[:10])
            query = [measured(lambda: negative_prompt_sampling(clf, X[:n], 100)) for _ in range(args.turns)]
            seconds.append((min(s for s, _ in query), fit))
            print(f"| {n:,} | {c} | {seconds[-1][0]:.3f} | {seconds[-1][1]:.3f} |", flush=True)
        xs = [n if ax is axes[0] else c for n, c in sizes]
        for k, (name, marker) in enumerate((("query 100", "o"), ("fit, 100 labels, 2 epochs", "s"))):
            ys = [row[k] for row in seconds]
            (line,) = ax.plot(xs, ys, marker=marker, label=name)
            ax.plot(xs, [ys[-1] * x / xs[-1] for x in xs], ls=":", lw=1, color=line.get_color())
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds")
        ax.grid(alpha=0.3, which="both")
    axes[0].legend(frameon=False, title="dotted: proportional")
    figure.savefig(args.figure, dpi=150)
    print(f"figure: {args.figure}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("scoring", "mapped", "paths", "growth"))
    parser.add_argument("--pool", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--figure", default="round-cost.png")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        globals()[args.what](args, Path(folder))


if __name__ == "__main__":
    main()
