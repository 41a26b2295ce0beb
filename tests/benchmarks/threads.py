"""Seconds of a training with one thread of torch and with one per core, while other processes keep the cores busy.

    python tests/benchmarks/threads.py --busy 2
"""

import argparse
import os
import subprocess
import sys

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="processes beside it (default: the cores)")
    args = parser.parse_args()
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(args.busy)]
    try:
        for threads in (1, os.cpu_count()):
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            command = [sys.executable, "-c", WORK]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            load = os.getloadavg()[0]
            print(f"{threads} threads, {args.busy} busy processes, load {load:.1f}: {done.stdout.strip()}")
    finally:
        for process in spinning:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
