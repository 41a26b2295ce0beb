"""Gestures per label on the page of `modal-clip-dual label`, by a scripted person who knows the truth.

    python tests/benchmarks/gestures.py --grids 10 --seeds 3

The person labels the digits of scikit-learn with the bundled CLIP, through `LabelSession`, as the page does.
Counted, per 100 labels:

- grid, mouse: a click on each wrong image and a key for its class, then Enter for the rest;
- grid, arrows: arrow keys (left and right) to each wrong image, in the order of the page, in place of the click;
- grid, jumps: the full stop, which goes to the next doubtful image, up to the last wrong one; a key for the class
  of a wrong one goes on to the next by itself;
- one by one: a key for every image, Enter or a number.

Prints a Markdown table, a line per grid, means over the seeds.
"""

import argparse

import numpy as np

from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.label import LabelSession


def order_of_the_page(grid, class_names):
    """Rows as they stand on the page: by predicted class, the doubtful ones first."""
    known = sorted(zip(grid.rows, grid.names, grid.correct), key=lambda t: (class_names.index(t[1]), t[2]))
    return [row for row, _, _ in known]


def doubtful_first(grid, class_names):
    """Rows in the order in which the jumps visit them."""
    place = {row: k for k, row in enumerate(order_of_the_page(grid, class_names))}
    known = sorted(zip(grid.correct, (place[row] for row in grid.rows), grid.rows))
    return [row for _, _, row in known]


def jumps(order, wrong):
    """Keys of a person who visits the images in an order, up to the last wrong one.

    The first jump leads to the first image; from a wrong one, its class leads on.
    """
    keys = 0
    left = set(wrong)
    moved = False
    for row in order:
        if not left:
            break
        keys += not moved  # a jump
        moved = row in left
        keys += moved  # its class
        left.discard(row)
    return keys


def answer(session, truth):
    """Correct the wrong ones, confirm the rest; return how many images there were, and the gestures of each way."""
    grid, predicted = session.grid, session.grid.predicted()
    order = order_of_the_page(grid, session.class_names)
    wrong = [row for row in order if predicted[row] != truth[row]]
    session.say([(row, "label", truth[row]) for row in wrong])
    session.confirm(grid.number)
    session.wait()
    places = [0, *(order.index(row) for row in wrong)]  # the first image is where the arrows start
    arrows = int(np.abs(np.diff(places)).sum())
    ways = {
        "grid, mouse": 2 * len(wrong) + 1,
        "grid, arrows": arrows + len(wrong) + 1,
        "grid, jumps": jumps(doubtful_first(grid, session.class_names), wrong) + 1,
        "one by one": len(order),
    }
    return len(order), len(wrong), ways


def run(seed, n_grids, batch):
    digits = load_digits_images()
    pool = np.random.default_rng(seed).permutation(len(digits.images))
    truth = [digits.class_names[digits.target[k]] for k in pool]
    names = {name: name for name in digits.class_names}
    estimator = DualLinearClassifier(names, model_name="demo", pretrained="bundled", device="cpu", verbose=0)
    learner = DualPromptLearner(
        estimator, digits.images[pool], query_strategy=auto_sampling, random_state=seed
    )
    session = LabelSession(learner, n_instances=batch)
    session.start()
    session.wait()
    counted = [answer(session, truth) for _ in range(n_grids)]
    session.close()
    return counted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grids", type=int, default=10)
    parser.add_argument("--batch", type=int, default=20, help="images of a grid")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    runs = [run(seed, args.grids, args.batch) for seed in range(args.seeds)]
    ways = list(runs[0][0][2])
    print(f"| grid | labels so far | wrong of {args.batch} | {' | '.join(ways)} |\n|{'---|' * (len(ways) + 3)}")
    for k in range(args.grids):
        wrong = np.mean([run[k][1] for run in runs])
        shares = [100 * np.mean([run[k][2][way] / run[k][0] for run in runs]) for way in ways]
        print(f"| {k + 1} | {k * args.batch} | {wrong:.1f} | {' | '.join(f'{share:.0f}' for share in shares)} |")
    total = [
        100 * sum(part[2][way] for run in runs for part in run) / sum(part[0] for run in runs for part in run)
        for way in ways
    ]
    wrong = np.mean([part[1] for run in runs for part in run])
    print(f"| all | | {wrong:.1f} | {' | '.join(f'{share:.0f}' for share in total)} |")


if __name__ == "__main__":
    main()
