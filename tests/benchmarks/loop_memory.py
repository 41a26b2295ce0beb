"""Resident memory after each round of the whole loop: it must not grow.

    python tests/benchmarks/loop_memory.py --visual-prompts vpt-deep

Six rounds of 1% of the digits; garbage is collected before each reading.
"""

import argparse
import gc

import psutil

from modal_clip_dual import DualPromptClassifier, DualPromptLearner
from modal_clip_dual.data import load_digits_images


def main():
    """Measure and print a line per round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visual-prompts", choices=("vpt-deep", "vpt-shallow", "maple"), default=None)
    args = parser.parse_args()
    X, y, class_names = load_digits_images().values()
    X, y = X[:1198], y[:1198]
    clf = DualPromptClassifier(
        class_names, model_name="demo", pretrained="bundled", augment=None,
        visual_prompts=args.visual_prompts,
    )  # fmt: skip

    def report(record):
        gc.collect()
        mib = psutil.Process().memory_info().rss / 2**20
        print(f"round {record['round']}: {mib:.0f} MiB resident", flush=True)

    DualPromptLearner(clf, X, pseudo_labels="own").run(y, on_round=report)


if __name__ == "__main__":
    main()
