"""Seconds and memory of a fit of dual-linear, and NumPy against torch for what it spends them on.

    python tests/benchmarks/dual_linear.py fit                      # 1,000 classes, 10,000 labels, 1,000,000 rows
    python tests/benchmarks/dual_linear.py fit --classes 100 --labels 800 --rows 100000
    python tests/benchmarks/dual_linear.py numpy-or-torch           # products, softmax, a logistic fit

Embeddings are synthetic: unit vectors around class centers, in a memory-mapped file of float16; the text is a noisy
copy of the centers.  Memory is what is resident at most during the fit, less what was before; pages of the file that
were read count.  Set OMP_NUM_THREADS for the number of cores.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from modal_clip_dual.evaluation.costs import PeakMemory, resident_mib
from modal_clip_dual.heads._dual_linear import fit_dual_linear
from modal_clip_dual.utils.arrays import unit_rows
from modal_clip_dual.utils.text_logistic import fit_logistic, objective


def write_pool(path: Path, centers: np.ndarray, n_rows: int) -> tuple[np.memmap, np.ndarray]:
    """A file of rows around the centers, and their classes."""
    n_classes, width = centers.shape
    target = np.random.default_rng(1).integers(n_classes, size=n_rows)
    pool = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(n_rows, width))
    rng = np.random.default_rng(2)
    for start in range(0, n_rows, 20000):
        part = slice(start, start + 20000)
        noise = rng.standard_normal((len(target[part]), width), dtype=np.float32)
        pool[part] = unit_rows(centers[target[part]] + 4 * noise / np.sqrt(width))
    pool.flush()
    return np.load(path, mmap_mode="r"), target


def fit(args: argparse.Namespace) -> None:
    """Time one fit, and prediction."""
    rng = np.random.default_rng(0)
    centers = unit_rows(rng.standard_normal((args.classes, args.width)))
    text = 50 * unit_rows(centers + 2.0 * unit_rows(rng.standard_normal(centers.shape)))
    with tempfile.TemporaryDirectory() as folder:
        pool, target = write_pool(Path(folder) / "pool.npy", centers, args.rows)
        labeled = rng.permutation(args.rows)[: args.labels]
        X, y = np.asarray(pool[np.sort(labeled)]), target[np.sort(labeled)]
        test = rng.permutation(args.rows)[:4096]
        before = resident_mib()
        with PeakMemory() as memory:
            start, start_cpu = time.perf_counter(), time.process_time()
            fitted = fit_dual_linear(X, y, args.classes, pool=pool, text=text.astype(np.float32))
            seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        rows, start = unit_rows(pool[test]), time.perf_counter()
        right = fitted.logits(rows).argmax(1) == target[test]
        zero_shot = (rows @ text.T).argmax(1) == target[test]
        proba = fitted.correct_proba(rows)
        predicting = time.perf_counter() - start
    print(f"fit: {seconds:.1f} s ({cpu:.1f} s of processor time), {memory.mib - before:.0f} MiB")
    print(f"4,096 rows scored with neighbors: {predicting:.1f} s")
    print(
        f"accuracy {right.mean():.3f} (zero-shot {zero_shot.mean():.3f}), mean P(correct) {proba.mean():.3f}, "
        f"text believed {fitted.text_share:.2f}"
    )
    for name, weight in zip(fitted.head_names, fitted.head_weights):
        print(f"  {name}: {weight:.3f}")


def numpy_or_torch(args: argparse.Namespace) -> None:
    """Time the pieces of a fit in both libraries."""
    import torch

    rng = np.random.default_rng(0)
    z = rng.standard_normal((20 * args.classes, 256), dtype=np.float32)
    means = rng.standard_normal((256, args.classes), dtype=np.float32)
    tz, tm = torch.from_numpy(z), torch.from_numpy(means)

    def softmax() -> None:
        logits = z @ means
        logits -= logits.max(1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(1, keepdims=True)

    timed("product, NumPy", lambda: z @ means)
    timed("product, torch", lambda: tz @ tm)
    timed("product and softmax, NumPy", softmax)
    timed("product and softmax, torch", lambda: (tz @ tm).softmax(1))

    X = z[: args.labels] / 16
    target = rng.integers(args.classes, size=len(X))
    text = rng.standard_normal((len(X), args.classes), dtype=np.float32)
    parameters = rng.standard_normal((X.shape[1] + 1) * args.classes + 1) / 10
    timed("logistic gradient, NumPy", lambda: objective(parameters, X, text, target, np.ones(X.shape[1])))
    tX, tt, ty = torch.from_numpy(X), torch.from_numpy(text), torch.from_numpy(target)

    def gradient() -> None:
        weights = torch.from_numpy(parameters[:-1]).float().reshape(-1, args.classes)
        logits = tX @ weights[:-1] + weights[-1] + parameters[-1] * tt
        logs = logits.log_softmax(1)
        float(-logs.gather(1, ty[:, None]).sum())
        residual = logs.exp_()
        residual[torch.arange(len(ty)), ty] -= 1
        np.concatenate([(tX.T @ residual).numpy().ravel(), residual.sum(0).numpy(), [float((tt * residual).sum())]])

    timed("logistic gradient, torch", gradient)
    start = time.perf_counter()
    fitted = fit_logistic(X, text, target, args.classes, 1.0)
    print(f"logistic fit, SciPy's L-BFGS-B: {time.perf_counter() - start:.2f} s, {fitted.iterations} iterations")


def timed(name: str, call) -> None:
    """Print the least of five times."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    print(f"{name}: {min(seconds):.3f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "numpy-or-torch"])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--labels", type=int, default=10000)
    parser.add_argument("--rows", type=int, default=1000000)
    args = parser.parse_args()
    {"fit": fit, "numpy-or-torch": numpy_or_torch}[args.what](args)
