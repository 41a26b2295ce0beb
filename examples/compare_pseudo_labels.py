"""Compare pseudo-labels on the digits: who gives them, whether they are right, and what they gain.

    python examples/compare_pseudo_labels.py --parts sources --seeds 10
    python examples/compare_pseudo_labels.py --parts sources --seeds 10 --settings default
    python examples/compare_pseudo_labels.py --parts second-opinion without-labels --seeds 5

`sources`: text prompts with PAPER_SETTINGS (without augmentation) or the default settings in the paper's loop, random
labels for 1% of the pool a round, the same for all.  Each way of getting pseudo-labels has its rows: how many there
are, how many of them are right, and the accuracy on 599 digits to test on.  Every run is stored in `--out`; the same
command goes on where it was stopped.

`second-opinion`: two prompt learners are trained on the same 60 random labels, from different random starts.  For
the other digits the table has, by threshold, how many labels of the first one are kept and how many of them are
right: those that the second one accepts (`collaborative_pseudo_labels`), those that the first one accepts itself,
and as many of those with the largest probability as the second one accepts.

`without-labels`: the accuracy on 599 digits of zero-shot CLIP, of the members of `CollaborativePromptClassifier` and
of its final models: logistic regressions on embeddings, or the whole image tower, trained on what is kept.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from modal_clip_dual import (
    PAPER_SETTINGS,
    CLIPImageEncoder,
    CollaborativePromptClassifier,
    DualPromptClassifier,
    DualPromptLearner,
    FineTunedClassifier,
    collaborative_pseudo_labels,
    random_sampling,
)
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import compare_pairs
from modal_clip_dual.evaluation.text import percent

PARTS = ("sources", "second-opinion", "without-labels")
SOURCES = {
    "none": {"n_per_class": 0},
    "own, 16 per class": {"pseudo_labels": "own"},
    "collaborative, 16 per class": {"pseudo_labels": "collaborative"},
    "transductive, 16 per class": {"pseudo_labels": "transductive", "n_per_class": 16},
    "transductive, the whole pool": {"pseudo_labels": "transductive", "n_per_class": None},
}
SETTINGS = {"paper": PAPER_SETTINGS | {"augment": None}, "default": {}}
KINDS = ("second model accepts", "itself accepts", "largest probability, as many as the second accepts")


def kept(one, two, X, y, threshold):
    """Share that is kept and share of it that is right, by kind."""
    shares = {}
    for kind, judge in zip(KINDS, (two, one)):
        rows, labels = collaborative_pseudo_labels(one, judge, X, threshold=threshold)
        shares[kind] = len(rows) / len(y), (labels == y[rows]).mean()
    n = round(shares[KINDS[0]][0] * len(y))
    proba = one.predict_proba(X)
    surest = np.argsort(-proba.max(axis=1), kind="stable")[:n]
    shares[KINDS[2]] = n / len(y), (one.classes_[proba[surest].argmax(axis=1)] == y[surest]).mean()
    return shares


def of_source(name, seed, X, y, clip, settings):
    """Return the rounds of one run of the paper's loop."""
    order = np.random.default_rng(seed).permutation(len(y))
    test, pool = order[:599], order[599:]
    clf = DualPromptClassifier(**clip, **SETTINGS[settings])
    learner = DualPromptLearner(
        clf, X[pool], query_strategy=random_sampling, y_pool=y[pool], random_state=seed, **SOURCES[name]
    )
    rounds = []

    def on_round(record):
        kept = {column: record[column] for column in ("n_labels", "n_pseudo", "pseudo_accuracy")}
        fitted = hasattr(learner.estimator, "classes_")
        proba = getattr(learner.estimator, "predict_proba" if fitted else "zero_shot_proba")(X[test])
        accuracy = (proba.argmax(axis=1) == y[test]).mean()
        rounds.append({"settings": settings, "strategy": name, "seed": seed, **kept, "accuracy": accuracy})

    on_round(learner.start().log_[-1])  # without a label
    learner.run(y[pool], on_round=on_round)
    return pd.DataFrame(rounds)


def compare_sources(X, y, clip, seeds, path, settings):
    """Run what is not stored, and print accuracy, pseudo-labels and tests."""
    done = set()
    if path.exists():
        done = set(pd.read_csv(path)[["settings", "strategy", "seed"]].itertuples(index=False, name=None))
    for seed in range(seeds):
        for name in SOURCES:
            if (settings, name, seed) not in done:
                rounds = of_source(name, seed, X, y, clip, settings)
                rounds.to_csv(path, mode="a", header=not path.exists(), index=False)
    frame = pd.read_csv(path)
    frame = frame[(frame.seed < seeds) & (frame.settings == settings)]
    print("| pseudo-labels | | " + " | ".join(map(str, sorted(frame.n_labels.unique()))) + " |")
    print("|---" * (frame.n_labels.nunique() + 2) + "|")
    for name, rows in frame.groupby("strategy", sort=False):
        by_labels = rows.groupby("n_labels")
        print(f"| {name} | accuracy | " + " | ".join(by_labels.accuracy.apply(percent)) + " |")
        if rows.n_pseudo.any():
            print("| | how many | " + " | ".join(f"{n:.0f}" for n in by_labels.n_pseudo.mean()) + " |")
            print("| | right | " + " | ".join(by_labels.pseudo_accuracy.apply(percent)) + " |")
    print("\n| less none | points, mean of the rounds with labels | 95% interval | p corrected |\n|---|---|---|---|")
    for row in compare_pairs(frame[frame.n_labels > 0], reference="none").itertuples():
        interval = f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
        print(f"| {row.strategy} | {100 * row.mean_difference:+.1f} | {interval} | {row.p_corrected:.3g} |")


def second_opinion(X, y, clip, seeds):
    """Print what a second model keeps."""
    print("\n| complement | threshold | labels that | kept | right |\n|---|---|---|---|---|")
    for complement in ("uniform", "hard"):
        found = {}
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(y))
            labeled, left = order[:60], order[60:]
            one, two = (
                DualPromptClassifier(**clip, complement=complement, random_state=2 * seed + k)
                .fit(X[labeled], y[labeled]) for k in (0, 1)
            )  # fmt: skip
            for threshold in ("clean", "correct"):
                for kind, shares in kept(one, two, X[left], y[left], threshold).items():
                    found.setdefault((threshold, kind), []).append(shares)
        for (threshold, kind), shares in found.items():
            share, right = (percent(pd.Series(column)) for column in zip(*shares))
            print(f"| {complement} | {threshold} | {kind} | {share} | {right} |")


def without_labels(images, y, clip, seeds):
    """Print what two models that label for each other know before the first label."""
    scores = {}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        test, pool = order[:599], order[599:]
        zero_shot = DualPromptClassifier(**clip).zero_shot_proba(images[test]).argmax(axis=1) == y[test]
        figures = {"zero-shot CLIP": zero_shot.mean()}
        tower = FineTunedClassifier(**clip, layers="all", margin=0.0, average=None, lr=3e-4, n_steps=200)
        for name, final in (("final probes", "probe"), ("final image towers", tower)):
            clf = CollaborativePromptClassifier(DualPromptClassifier(**clip), final=final, random_state=seed)
            clf.fit_unlabeled(images[pool])
            figures["a member, mean of both"] = np.mean([one.score(images[test], y[test]) for one in clf.members_])
            figures[name] = clf.score(images[test], y[test])
        for name, value in figures.items():
            scores.setdefault(name, []).append(value)
    print("\n| without labels | accuracy |\n|---|---|")
    for name, values in scores.items():
        print(f"| {name} | {percent(pd.Series(values))} |")
    members = scores["a member, mean of both"]
    for name in ("final probes", "final image towers") if seeds > 1 else ():
        print(f"\n{name} less member: {100 * np.mean(np.subtract(scores[name], members)):+.1f} points, "
              f"p = {ttest_rel(scores[name], members).pvalue:.2g} (t-test, paired)")  # fmt: skip


def main() -> None:
    """Run the parts and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--settings", choices=SETTINGS, default="paper", help="of the prompts of sources")
    parser.add_argument("--out", type=Path, default=Path("pseudo-labels.csv"), help="file of the runs of sources")
    args = parser.parse_args()
    digits = load_digits_images()
    X, y = CLIPImageEncoder("demo", "bundled", verbose=0).transform(digits.images), digits.target
    clip = {"class_names": digits.class_names, "model_name": "demo", "pretrained": "bundled", "verbose": 0}
    if "sources" in args.parts:
        compare_sources(X, y, clip, args.seeds, args.out, args.settings)
    if "second-opinion" in args.parts:
        second_opinion(X, y, clip, args.seeds)
    if "without-labels" in args.parts:
        without_labels(digits.images, y, clip, args.seeds)


if __name__ == "__main__":
    main()
