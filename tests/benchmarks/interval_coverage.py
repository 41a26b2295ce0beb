"""How often the intervals of `summarize` hold the true mean, in simulated experiments.

    python tests/benchmarks/interval_coverage.py

A line per method and metric; for 3, 5, 10 and 20 seeds the share of 95% intervals that hold the
true mean, and after a slash their median width relative to Student's t.  The metrics: normal;
skewed, one minus an exponential, as of runs that are mostly good; and collapsing, normal but for
one run in seven (15%) that falls by 5 standard deviations.
"""

import argparse

import numpy as np

from modal_clip_dual.evaluation._intervals import METHODS, mean_interval


def experiments(kind: str, shape: tuple[int, int], rng):
    """Values of (experiments, seeds), and their true mean."""
    if kind == "skewed":
        return 1 - rng.exponential(size=shape), 0.0
    values = rng.standard_normal(shape)
    if kind == "collapsing":
        return values - 5 * (rng.random(shape) < 0.15), -0.75
    return values, 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=1999)
    args = parser.parse_args()
    for kind in ("normal", "skewed", "collapsing"):
        for method in METHODS:
            cells = []
            for n in (3, 5, 10, 20):
                values, mean = experiments(kind, (args.experiments, n), np.random.default_rng(n))
                widths = {}
                for name in {method, "t"}:
                    low, high = mean_interval(values, 0.95, args.resamples, 0, name)
                    widths[name] = np.median(high - low)
                    if name == method:
                        share = np.mean((low <= mean) & (mean <= high))
                cells.append(f"{n:2d} seeds {share:.3f} / {widths[method] / widths['t']:.2f}")
            print(f"{kind:<10}  {method:<11}  {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
