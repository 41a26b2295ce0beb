"""Memory, threads and open files over a long run: none of them may grow.

    python tests/benchmarks/long_run.py --rounds 200

Query, teach and predict, round after round, on 500 of the bundled digits, one epoch per training.
Garbage is collected before each reading.  When the pool runs out of unlabelled digits, a new
learner starts on the same one, as a service would that goes on for weeks.
"""

import argparse
import gc
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from modal_clip_dual import DualPromptClassifier, DualPromptLearner
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.strategies import get_strategy


def parse():
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--every", type=int, default=20, help="rounds between two readings")
    parser.add_argument("--pool", type=int, default=500)
    parser.add_argument("--instances", type=int, default=5, help="labels per round")
    parser.add_argument("--strategy", default="negative-prompt")
    parser.add_argument("--files", action="store_true", help="image files, in place of arrays")
    parser.add_argument("--n-jobs", type=int, default=None, help="workers that read the files")
    parser.add_argument("--visual-prompts", choices=("vpt-deep", "vpt-shallow", "maple"), default=None)
    return parser.parse_args()


def main():
    """Measure and print a line every few rounds, and the growth at the end."""
    args = parse()
    X, y, class_names = load_digits_images().values()
    X, y = X[: args.pool], y[: args.pool]
    with tempfile.TemporaryDirectory() as folder:
        if args.files:
            paths = [str(Path(folder, f"{k}.png")) for k in range(len(X))]
            for path, image in zip(paths, X):
                Image.fromarray(image).save(path)
            X = np.array(paths)
        run(args, X, y, class_names, Path(folder))


def run(args, X, y, class_names, folder):
    """All rounds, with their state saved as in a real project."""
    process, began, readings = psutil.Process(), time.perf_counter(), []
    learner = None
    for round_ in range(1, args.rounds + 1):
        if learner is None or len(learner.unlabeled_) < args.instances:
            (folder / "state.npz").unlink(missing_ok=True)
            clf = DualPromptClassifier(
                class_names, model_name="demo", pretrained="bundled", max_epochs=1, device="cpu",
                visual_prompts=args.visual_prompts, net_params={"module__n_visual_tokens": 4}, augment=None,
                verbose=0,
                n_jobs="auto" if args.n_jobs is None else args.n_jobs,
            )  # fmt: skip
            learner = DualPromptLearner(
                clf, X, n_per_class=2, pseudo_labels="own", query_strategy=get_strategy(args.strategy),
                path=folder / "state.npz",
            )  # fmt: skip
        rows, _ = learner.query(n_instances=args.instances)
        learner.teach(y=y[rows], rows=rows)
        learner.predict_proba(X[:50])
        if round_ % args.every == 0:
            gc.collect()
            # Descriptors, where the system counts them: pipes and sockets leak too.
            files = process.num_fds() if psutil.POSIX else len(process.open_files())
            reading = process.memory_info().rss / 2**20, process.num_threads(), files
            readings.append(reading)
            print("round {:4d}: {:7.1f} MiB resident, {:3d} threads, {:3d} open files, {:4.0f} s".format(
                round_, *reading, time.perf_counter() - began), flush=True)  # fmt: skip
    first, last = readings[0], readings[-1]
    print(
        f"from round {args.every} to {args.rounds}: {last[0] - first[0]:+.1f} MiB, {last[1] - first[1]:+d} "
        f"threads, {last[2] - first[2]:+d} open files"
    )


if __name__ == "__main__":
    main()
