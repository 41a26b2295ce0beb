"""Seconds of a training on busy cores, with one thread of torch and with one per core.

    python tests/benchmarks/threads.py --busy 2     # beside two processes that keep the cores busy
    python tests/benchmarks/threads.py --n-jobs 2   # two trainings at a time, in joblib's processes

The second shows what `n_jobs` of a comparison does: joblib gives each process its share of the cores.
"""

import argparse
import os
import subprocess
import sys
import time

SPIN = "while True: pass"
WORK = """
import time
import numpy as np
from modal_clip_dual import DualPromptClassifier

X, y = np.random.default_rng(0).normal(size=(64, 128)).astype("f4"), np.arange(64) % 10
names = [f"class {k}" for k in range(10)]
clf = DualPromptClassifier(names, model_name="demo", pretrained="bundled", verbose=0, max_epochs=1, random_state=0)
clf.fit(X, y)
start, used = time.perf_counter(), time.process_time()
clf.fit(X, y)
print(f"{time.perf_counter() - start:.2f} s, {time.process_time() - used:.2f} s of processor time")
"""


def beside_others(n_busy: int) -> None:
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(n_busy)]
    try:
        for threads in (1, os.cpu_count()):
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            command = [sys.executable, "-c", WORK]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            load = os.getloadavg()[0]
            print(f"{threads} threads, {n_busy} busy processes, load {load:.1f}: {done.stdout.strip()}")
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def train(fits: int) -> tuple[int, float]:
    """Train once to warm up, then ``fits`` times; threads of torch and seconds."""
    import numpy as np
    import torch

    from modal_clip_dual import DualPromptClassifier

    X, y = np.random.default_rng(0).normal(size=(64, 128)).astype("f4"), np.arange(64) % 10
    names = [f"class {k}" for k in range(10)]
    params = {"model_name": "demo", "pretrained": "bundled", "verbose": 0, "max_epochs": 1, "random_state": 0}
    clf = DualPromptClassifier(names, **params)
    clf.fit(X, y)
    start = time.perf_counter()
    for _ in range(fits):
        clf.fit(X, y)
    return torch.get_num_threads(), time.perf_counter() - start


def side_by_side(n_jobs: int, fits: int = 5) -> None:
    from joblib import Parallel, delayed, parallel_config

    for name in [name for name in os.environ if name.endswith("_NUM_THREADS")]:
        del os.environ[name]  # joblib leaves alone what the user has set
    for threads in (None, os.cpu_count()):
        with parallel_config(backend="loky", inner_max_num_threads=threads):
            done = Parallel(n_jobs)(delayed(train)(fits) for _ in range(n_jobs))
        seconds = max(seconds for _, seconds in done)
        what = "joblib's choice" if threads is None else "all cores each"
        print(f"{n_jobs} processes, {what} ({done[0][0]} threads), load {os.getloadavg()[0]:.1f}: "
              f"{fits} trainings in {seconds:.2f} s")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="processes beside it (default: the cores)")
    parser.add_argument("--n-jobs", type=int, help="trainings at a time, in place of busy processes")
    args = parser.parse_args()
    if args.n_jobs:
        side_by_side(args.n_jobs)
    else:
        beside_others(args.busy)


if __name__ == "__main__":
    main()
