"""Compare pseudo-labels that a second model accepts with those of one model alone, on the digits.

    python examples/compare_pseudo_labels.py --seeds 10

Two prompt learners are trained on the same 60 random labels, from different random starts.  For the other digits the
first table has, by threshold, how many labels of the first one are kept and how many of them are right: those
that the second one accepts (`collaborative_pseudo_labels`), those that the first one accepts itself, and as many
of those with the largest probability as the second one accepts.  The second table is without labels: the accuracy
on 599 digits of zero-shot CLIP, of the members of `CollaborativePromptClassifier` and of its final models.
"""

import argparse

import numpy as np
import pandas as pd
from scipy.stats import ttest_rel

from modal_clip_dual import (
    CLIPImageEncoder,
    CollaborativePromptClassifier,
    DualPromptClassifier,
    collaborative_pseudo_labels,
)
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation.text import percent

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


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    digits = load_digits_images()
    X, y = CLIPImageEncoder("demo", "bundled", verbose=0).transform(digits.images), digits.target
    clip = {"class_names": digits.class_names, "model_name": "demo", "pretrained": "bundled", "verbose": 0}
    print("| complement | threshold | labels that | kept | right |\n|---|---|---|---|---|")
    for complement in ("uniform", "hard"):
        found = {}
        for seed in range(args.seeds):
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
    scores = {}
    for seed in range(args.seeds):
        order = np.random.default_rng(seed).permutation(len(y))
        test, pool = order[:599], order[599:]
        clf = CollaborativePromptClassifier(DualPromptClassifier(**clip), random_state=seed).fit_unlabeled(X[pool])
        members = [member.score(X[test], y[test]) for member in clf.members_]
        zero_shot = DualPromptClassifier(**clip).zero_shot_proba(X[test]).argmax(axis=1) == y[test]
        figures = {"zero-shot CLIP": zero_shot.mean(), "a member, mean of both": np.mean(members)}
        for name, value in (figures | {"final probes": clf.score(X[test], y[test])}).items():
            scores.setdefault(name, []).append(value)
    print("\n| without labels | accuracy |\n|---|---|")
    for name, values in scores.items():
        print(f"| {name} | {percent(pd.Series(values))} |")
    if args.seeds > 1:
        members, final = scores["a member, mean of both"], scores["final probes"]
        print(f"\nfinal less member: {100 * np.mean(np.subtract(final, members)):+.1f} points, "
              f"p = {ttest_rel(final, members).pvalue:.2g} (t-test, paired)")  # fmt: skip


if __name__ == "__main__":
    main()
