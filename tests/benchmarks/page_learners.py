"""Seconds of a round of what learns behind the page of `modal-clip-dual label`, and how often it is right.

    OMP_NUM_THREADS=1 python tests/benchmarks/page_learners.py
    OMP_NUM_THREADS=1 python tests/benchmarks/page_learners.py --calibration own --learners dual-linear

A pool of digits, the bundled CLIP, labels chosen by `auto`, as on the page.  Prints a Markdown table, a line for each
round: seconds of its training, and the accuracy on the images without a label.
"""

import argparse

import numpy as np

from modal_clip_dual import DualLinearClassifier, DualPromptClassifier, DualPromptLearner, auto_sampling
from modal_clip_dual.data import load_digits_images

LEARNERS = {"dual-linear": DualLinearClassifier, "prompts": DualPromptClassifier}


def main() -> None:
    """Run the loops and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--learners", nargs="+", choices=list(LEARNERS), default=list(LEARNERS))
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=20, help="labels of a round")
    parser.add_argument("--calibration", default="auto")
    args = parser.parse_args()
    digits = load_digits_images()
    rows = np.random.default_rng(0).permutation(len(digits.target))[: args.images]
    X, y = digits.images[rows], digits.target[rows]
    print("| learner | labels | seconds | accuracy |\n|---|---|---|---|")
    for name in args.learners:
        clf = LEARNERS[name](digits.class_names, model_name="demo", pretrained="bundled", verbose=0)
        clf.transform(X)  # the CLIP is loaded and the images are encoded
        learner = DualPromptLearner(
            clf, X, query_strategy=auto_sampling, y_pool=y, calibration=args.calibration
        ).start()
        for round_ in range(args.rounds + 1):
            if round_:
                chosen, _ = learner.query(n_instances=args.batch)
                learner.teach(rows=chosen, y=y[chosen])
            record = learner.log_[-1]
            seconds, accuracy = record["train_seconds"], record["accuracy"]
            print(f"| {name} | {record['n_labels']} | {seconds:.1f} | {accuracy:.1%} |", flush=True)


if __name__ == "__main__":
    main()
