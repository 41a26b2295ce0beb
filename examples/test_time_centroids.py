"""Measure TestTimeCentroids (BaFTA) on the digits, over the order of the images.

    python examples/test_time_centroids.py --orders 10

It prints Markdown: mean, standard deviation, lowest and highest accuracy over the orders, online (each image is
predicted before it moves a centroid) and afterwards (all images by the centroids at the end).  Three parts:
zero-shot CLIP on all 1,797 digits; views of the images; and classifiers with few labels, whose centroids adapt to a
pool of 1,198 and are tested on 599 others.  `--parts` runs some of them.
"""

import argparse
import warnings

import numpy as np

from modal_clip_dual import (
    BayesAdapterClassifier,
    CLIPImageEncoder,
    DualLinearClassifier,
    DualPromptClassifier,
    TestTimeCentroids,
)
from modal_clip_dual.data import load_digits_images

DEMO = {"model_name": "demo", "pretrained": "bundled", "verbose": 0}
PARTS = ("zero-shot", "views", "labels")
VARIANTS = {
    "default: drop-first, merged, renyi": {},
    "weights as printed": {"merge": "printed"},
    "weights all equal": {"merge": "mean"},
    "assigned by the centroids alone": {"assign": "centroid"},
    "centroids almost alone (beta 100)": {"assign": "centroid", "beta": 100.0},
    "beta 0.3": {"beta": 0.3},
    "beta 3": {"beta": 3.0},
    "text not counted (start_count 0)": {"start_count": 0},
    "text counts as 10 (start_count 10)": {"start_count": 10},
    "project span": {"project": "span"},
    "no projection": {"project": None},
    "no projection, weights as printed": {"project": None, "merge": "printed"},
}
VIEWS = {
    "one view, no centroids": {"n_views": 1, "beta": 0.0},
    "8 views, mean, no centroids": {"n_views": 8, "beta": 0.0, "merge": "mean"},
    "8 views, renyi, no centroids": {"n_views": 8, "beta": 0.0},
    "8 views, as printed, no centroids": {"n_views": 8, "beta": 0.0, "merge": "printed"},
    "8 views, renyi, centroids": {"n_views": 8},
}


def row(name, values):
    values = 100 * np.array(values)
    return f"{name} | {values.mean():.1f} +- {values.std(ddof=1):.1f} | {values.min():.1f} | {values.max():.1f}"


def orders(n, n_orders):
    return [np.random.default_rng(seed).permutation(n) for seed in range(n_orders)]


def zero_shot(X, y, names, n_orders):
    clf = DualPromptClassifier(names, **DEMO)
    print(f"zero-shot, without centroids: {100 * (clf.zero_shot_proba(X).argmax(1) == y).mean():.1f}\n")
    print("| variant | online | lowest | highest | afterwards | lowest | highest |\n|---|---|---|---|---|---|---|")
    for name, params in VARIANTS.items():
        online, after = [], []
        for order in orders(len(y), n_orders):
            adapted = TestTimeCentroids(clf, **params)
            online.append((adapted.adapt_predict_proba(X[order]).argmax(1) == y[order]).mean())
            after.append(adapted.score(X, y))
        print(f"| {row(name, online)} | {row('', after).removeprefix(' | ')} |", flush=True)


def views(images, y, names, n_orders):
    clf = DualPromptClassifier(names, **DEMO)
    print("\n| 300 images, crops without flips | online | lowest | highest |\n|---|---|---|---|")
    for name, params in VIEWS.items():
        found = []
        for seed in range(n_orders):
            order = np.random.default_rng(seed).permutation(len(y))[:300]
            adapted = TestTimeCentroids(clf, views="crop", random_state=seed, **params)
            found.append((adapted.adapt_predict_proba(images[order]).argmax(1) == y[order]).mean())
        print(f"| {row(name, found)} |", flush=True)


def few_labels(X, y, names, n_orders):
    kinds = {
        "BayesAdapterClassifier": lambda: BayesAdapterClassifier(names, max_epochs=100, random_state=0, **DEMO),
        "DualLinearClassifier with the pool": lambda: DualLinearClassifier(names, **DEMO),
    }
    params = {"without": None, "default": {}, "no projection": {"project": None}}
    print("\n| classifier | labels | " + " | ".join(params) + " |\n|---|---|---|---|---|")
    for name, make in kinds.items():
        for n_labels in (12, 36, 72):
            found = {key: [] for key in params}
            for order in orders(len(y), n_orders):
                pool, test = order[599:], order[:599]
                labeled = pool[:n_labels]
                for key, chosen in params.items():
                    clf = make() if chosen is None else TestTimeCentroids(make(), **chosen)
                    takes_pool = chosen is not None or isinstance(clf, DualLinearClassifier)
                    clf.fit(X[labeled], y[labeled], **({"X_pool": X[pool]} if takes_pool else {}))
                    found[key].append(100 * clf.score(X[test], y[test]))
            cells = (f"{np.mean(values):.1f} +- {np.std(values, ddof=1):.1f}" for values in found.values())
            print(f"| {name} | {n_labels} | {' | '.join(cells)} |", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args(argv)
    digits = load_digits_images()
    X = CLIPImageEncoder("demo", "bundled", verbose=0).transform(digits.images)
    y, names = digits.target, digits.class_names
    if "zero-shot" in args.parts:
        zero_shot(X, y, names, args.orders)
    if "views" in args.parts:
        views(digits.images, y, names, args.orders)
    if "labels" in args.parts:
        with warnings.catch_warnings():  # of classes without a label among the first few
            warnings.simplefilter("ignore")
            few_labels(X, y, names, args.orders)


if __name__ == "__main__":
    main()
