"""Measure SpuriousFeatureEraser and criterion="background" on digits whose background goes with the class.

    python examples/spurious_features.py --seeds 3 --labels 100 --test 150

Training images have the usual background in 95% of all cases, test images in half.  It prints Markdown: accuracy and
worst-group accuracy (groups: digit above 4 or not, stripes horizontal or vertical), mean and standard
deviation over the seeds, and seconds: of the fit, or of the prediction of all test images.  With `--out FILE`
finished seeds are kept there, and the same command goes on behind them.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from modal_clip_dual import DualPromptClassifier, SpuriousFeatureEraser
from modal_clip_dual.data import load_spurious_digits
from modal_clip_dual.evaluation import worst_group_accuracy

DEMO = {"model_name": "demo", "pretrained": "bundled", "verbose": 0}
ERASERS = {
    "eraser, low-attention": {"background": "low-attention"},
    "eraser, border": {"background": "border"},
    "eraser, shuffle": {"background": "shuffle"},
    "eraser, low-attention, keep prediction": {"background": "low-attention", "keep": "prediction"},
}


def classifiers(names, X, y, seed):
    """Yield name, function that makes a classifier, and seconds of its fit."""

    def fitted(**params):
        start = time.perf_counter()
        clf = DualPromptClassifier(names, random_state=seed, **DEMO, **params).fit(X, y)
        return clf, time.perf_counter() - start

    clf, seconds = fitted()
    yield "prompts", clf, seconds
    for weight in (0.3, 1.0, 3.0):
        background = SpuriousFeatureEraser(clf, "border").background_embeddings(X)
        params = {"criterion__background": background, "criterion__background_weight": weight}
        other, seconds = fitted(criterion="background", net_params=params)
        yield f"background in training (border), weight {weight:g}", other, seconds
    for name, params in ERASERS.items():
        yield name, SpuriousFeatureEraser(clf, random_state=seed, **params), None


def run(seed, args):
    """Return accuracy, worst-group accuracy and seconds of every classifier for one seed."""
    found = {}
    train = load_spurious_digits(0.95, args.contrast, random_state=seed)
    test = load_spurious_digits(0.5, args.contrast, random_state=1000 + seed)
    order = np.random.default_rng(seed).permutation(len(train.target))
    labeled, rows = order[: args.labels], order[-args.test :]
    X, y, group = test.images[rows], test.target[rows], test.group[rows]

    def note(name, predicted, seconds):
        found[name] = [100 * float(np.mean(predicted == y)), 100 * worst_group_accuracy(y, predicted, group), seconds]

    zero_shot = DualPromptClassifier(train.class_names, **DEMO)
    note("zero-shot", zero_shot.zero_shot_proba(X).argmax(1), 0.0)
    for name, clf, seconds in classifiers(train.class_names, train.images[labeled], train.target[labeled], seed):
        start = time.perf_counter()
        predicted = clf.predict(X)
        note(name, predicted, time.perf_counter() - start if seconds is None else seconds)
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--contrast", type=float, default=0.15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    settings = [args.labels, args.test, args.contrast]
    done = json.loads(args.out.read_text()) if args.out and args.out.exists() else {"settings": settings, "seeds": []}
    if done["settings"] != settings:
        parser.error(f"{args.out} has results of labels, test, contrast = {done['settings']}")
    for seed in range(len(done["seeds"]), args.seeds):
        done["seeds"].append(run(seed, args))
        if args.out:
            args.out.write_text(json.dumps(done))
    print("| classifier | accuracy | worst group | seconds |\n|---|---|---|---|")
    for name in done["seeds"][0]:
        figures = [one[name] for one in done["seeds"]]
        accuracy, worst, seconds = np.mean(figures, axis=0)
        spread = np.std(figures, axis=0, ddof=min(1, len(figures) - 1))
        print(f"| {name} | {accuracy:.1f} +- {spread[0]:.1f} | {worst:.1f} +- {spread[1]:.1f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
