"""Measure SpuriousFeatureEraser and criterion="background" on digits whose background goes with the class.

    python examples/spurious_features.py --seeds 3 --labels 200 --test 200

Training images have the usual background in 95% of all cases, test images in half.  It prints Markdown: accuracy and
worst-group accuracy (groups: digit above 4 or not, stripes horizontal or vertical), mean and standard
deviation over the seeds, and seconds: of the fit, or of the prediction of all test images.
"""

import argparse
import time

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


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--contrast", type=float, default=0.15)
    args = parser.parse_args(argv)
    found = {}
    for seed in range(args.seeds):
        train = load_spurious_digits(0.95, args.contrast, random_state=seed)
        test = load_spurious_digits(0.5, args.contrast, random_state=1000 + seed)
        order = np.random.default_rng(seed).permutation(len(train.target))
        labeled, rows = order[: args.labels], order[-args.test :]
        X, y, group = test.images[rows], test.target[rows], test.group[rows]

        def note(name, predicted, seconds, y=y, group=group):
            figures = 100 * np.mean(predicted == y), 100 * worst_group_accuracy(y, predicted, group), seconds
            found.setdefault(name, []).append(figures)

        zero_shot = DualPromptClassifier(train.class_names, **DEMO)
        note("zero-shot", zero_shot.zero_shot_proba(X).argmax(1), 0.0)
        for name, clf, seconds in classifiers(train.class_names, train.images[labeled], train.target[labeled], seed):
            start = time.perf_counter()
            predicted = clf.predict(X)
            note(name, predicted, time.perf_counter() - start if seconds is None else seconds)
    print("| classifier | accuracy | worst group | seconds |\n|---|---|---|---|")
    for name, figures in found.items():
        accuracy, worst, seconds = np.mean(figures, axis=0)
        spread = np.std(figures, axis=0, ddof=min(1, args.seeds - 1))
        print(f"| {name} | {accuracy:.1f} +- {spread[0]:.1f} | {worst:.1f} +- {spread[1]:.1f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
