"""Measure SmoothedClassifier on the digits: certified accuracy, votes as a score, and votes as a query strategy.

    python examples/certify.py --images 40 --figure certified.png

It prints Markdown: certified accuracy at radii 0 to 0.75 and abstentions, of zero-shot CLIP and of an adapter with
100 labels, without and with the linear denoiser, which is fitted on other images; how well the share of the vote
ranks right labels before wrong ones; and the accuracy of active learning with three strategies.  `--parts` runs
some of these.
"""

import argparse
import time

import numpy as np
from modAL.models import ActiveLearner
from modAL.uncertainty import margin_sampling

from modal_clip_dual import BayesAdapterClassifier, DualPromptClassifier, SmoothedClassifier, random_sampling
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import auroc_of_correctness, certified_accuracy, plot_certified_accuracy
from modal_clip_dual.strategies import smoothing_sampling

DEMO = {"model_name": "demo", "pretrained": "bundled", "verbose": 0}
PARTS = ("certify", "score", "query")
RADII = (0.0, 0.25, 0.5, 0.75)


def adapter(names):
    return BayesAdapterClassifier(names, max_epochs=100, random_state=0, **DEMO)


def certified(digits, args):
    X, y, names = digits.images, digits.target, digits.class_names
    order = np.random.default_rng(0).permutation(len(y))
    test, labeled, pool = order[: args.images], order[300:400], order[400:1400]
    bases = {
        "zero-shot": DualPromptClassifier(names, **DEMO),
        "adapter, 100 labels": adapter(names).fit(X[labeled], y[labeled]),
    }
    head = " | ".join(f"r = {radius:g}" for radius in RADII)
    print(f"| classifier | sigma | denoiser | without noise | {head} | abstains | s per image |\n|{'---|' * 10}")
    curves = {}
    for name, base in bases.items():
        if not name.startswith(tuple(args.bases)):
            continue
        plain = 100 * (base.proba_of_pixels(base.input_pixels(X[test])).argmax(1) == y[test]).mean()
        for sigma in args.sigmas:
            for denoiser in (None, "wiener"):
                smoothed = SmoothedClassifier(base, sigma, denoiser=denoiser, n_estimate=args.draws, random_state=0)
                if denoiser:
                    smoothed.fit_denoiser(X[pool])
                start = time.perf_counter()
                labels, radii = smoothed.certify(X[test])
                seconds = (time.perf_counter() - start) / len(test)
                curves[f"{name}, sigma {sigma:g}, {denoiser or 'no denoiser'}"] = labels, radii
                shares = " | ".join(f"{100 * certified_accuracy(labels, radii, y[test], r):.1f}" for r in RADII)
                abstains = f"{100 * np.isnan(radii).mean():.1f} | {seconds:.2f}"
                print(f"| {name} | {sigma:g} | {denoiser} | {plain:.1f} | {shares} | {abstains} |", flush=True)
    if args.figure:
        shown = {name: curve for name, curve in curves.items() if name.startswith("zero-shot")}
        plot_certified_accuracy(shown, y[test]).figure.savefig(args.figure, dpi=150)


def as_a_score(digits, n_seeds):
    X, y, names = digits.images, digits.target, digits.class_names
    print("\n| classifier | AUROC of the largest probability | of the vote share, sigma 0.1 | sigma 0.25 |")
    print("|---|---|---|---|")
    found = {}
    for seed in range(n_seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        test, labeled = order[:150], order[300:340]
        bases = {"zero-shot": DualPromptClassifier(names, **DEMO), "adapter, 40 labels": adapter(names)}
        bases["adapter, 40 labels"].fit(X[labeled], y[labeled])
        for name, base in bases.items():
            proba = base.proba_of_pixels(base.input_pixels(X[test]))
            right = proba.argmax(1) == y[test]
            scores = [auroc_of_correctness(proba.max(1), right)]
            for sigma in (0.1, 0.25):
                shares = SmoothedClassifier(base, sigma, n_select=30, random_state=seed).predict_proba(X[test])
                # The share of the label that is judged, which need not be the one that wins the vote.
                scores.append(auroc_of_correctness(shares[np.arange(len(test)), proba.argmax(1)], right))
            found.setdefault(name, []).append(100 * np.array(scores))
    for name, scores in found.items():
        pairs = zip(np.mean(scores, axis=0), np.std(scores, axis=0, ddof=1))
        print(f"| {name} | {' | '.join(f'{mean:.1f} +- {sd:.1f}' for mean, sd in pairs)} |", flush=True)


def as_a_query(digits, n_seeds):
    X, y, names = digits.images, digits.target, digits.class_names
    strategies = {
        "smoothing (sigma 0.1)": smoothing_sampling, "margin": margin_sampling, "random": random_sampling,
    }  # fmt: skip
    print("\n| strategy | 20 labels | 40 | 60 | 80 |\n|---|---|---|---|---|")
    for name, strategy in strategies.items():
        found = []
        for seed in range(n_seeds):
            order = np.random.default_rng(seed).permutation(len(y))
            test, first, left = order[:599], order[600:620], order[620:920]
            clf = adapter(names)
            if strategy is smoothing_sampling:
                clf = SmoothedClassifier(clf, 0.1, n_select=10, random_state=seed)
            learner = ActiveLearner(clf, strategy, X_training=X[first], y_training=y[first])
            scores = []
            while True:
                fitted = getattr(learner.estimator, "estimator_", learner.estimator)
                scores.append(100 * fitted.score(X[test], y[test]))
                if len(scores) == 4:
                    break
                extra = {"random_state": seed} if strategy is random_sampling else {}
                rows, images = learner.query(X[left], n_instances=20, **extra)
                learner.teach(images, y[left[rows]])
                left = np.delete(left, rows)
            found.append(scores)
        pairs = zip(np.mean(found, axis=0), np.std(found, axis=0, ddof=1))
        print(f"| {name} | {' | '.join(f'{mean:.1f} +- {sd:.1f}' for mean, sd in pairs)} |", flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--bases", nargs="+", choices=("zero-shot", "adapter"), default=("zero-shot", "adapter"))
    parser.add_argument("--sigmas", nargs="+", type=float, default=(0.25, 0.5))
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5, help="of the second and third table")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--figure")
    args = parser.parse_args(argv)
    digits = load_digits_images()
    if "certify" in args.parts:
        certified(digits, args)
    if "score" in args.parts:
        as_a_score(digits, args.seeds)
    if "query" in args.parts:
        as_a_query(digits, args.seeds)


if __name__ == "__main__":
    main()
