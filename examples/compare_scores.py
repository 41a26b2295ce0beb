"""Compare settings of `complement` and `score` on the digits, in both kinds of loop.

    python examples/compare_scores.py --seeds 10 --out results/scores --n-jobs 2

There are three ways to train the negative prompt (the drawn complement, all, hard ones) and three scores
to rank by (z, its softmax, its margin), in selection only and in the full loop, where the score also mines
the pseudo-labels.  It prints Markdown: accuracy after every round, tests against the paper's
choice (uniform, clean), and how well each score tells right predictions from wrong ones.  Every
run is stored; the same command continues where it was stopped.
"""

import argparse
from functools import partial

from modal_clip_dual import PAPER_SETTINGS, DualPromptClassifier, negative_prompt_sampling
from modal_clip_dual.evaluation import compare_pairs, compare_strategies, write_report
from modal_clip_dual.evaluation.report import AUROCS
from modal_clip_dual.evaluation.tables import label_table
from modal_clip_dual.evaluation.text import percent
from modal_clip_dual.scores import SCORES

PAPER = "uniform, clean"


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", default="results/scores")
    parser.add_argument("--n-jobs", type=int, default=None)
    args = parser.parse_args()
    clf = partial(DualPromptClassifier, model_name="demo", pretrained="bundled", **PAPER_SETTINGS | {"augment": None})
    frame = compare_strategies(
        {complement: clf(complement=complement) for complement in ("uniform", "all", "hard")},
        {
            score: partial(negative_prompt_sampling, score=score)
            for score, entry in SCORES.items()
            if entry.of_logits is not None  # P(correct) of this classifier ranks as "clean" does
        },
        data="digits",
        loop=["selection", "full"],
        seeds=args.seeds,
        n_jobs=args.n_jobs,
        path=args.out,
    )
    complement = frame["estimator"].str.partition(" ")[0]
    frame = frame.assign(strategy=complement + ", " + frame["strategy"], estimator=frame["loop"])
    print(label_table(frame))
    pairs = compare_pairs(frame, reference=PAPER)
    print(f"\n| learner | difference to {PAPER!r} | points | 95% interval | p | p corrected |")
    print("|---|---|---|---|---|---|")
    for row in pairs.itertuples():
        points = f"{100 * row.mean_difference:+.1f} | {100 * row.low:+.1f} to {100 * row.high:+.1f}"
        print(f"| {row.estimator} | {row.strategy} | {points} | {row.p_value:.3g} | {row.p_corrected:.3g} |")
    print(f"\nsmallest corrected p that could have come out: {pairs['min_p_corrected'].min():.2g}")
    last = frame[frame["round"] == frame["round"].max()]
    print("\n| learner | complement | " + " | ".join(title for _, title in AUROCS) + " | ECE of P(correct) |")
    print("|---" * (len(AUROCS) + 3) + "|")
    for (learner, kind), rows in last.groupby(["loop", complement.loc[last.index]], sort=False):
        cells = [percent(rows[name]) for name, _ in AUROCS] + [percent(rows["ece_correct"])]
        print(f"| {learner} | {kind} | " + " | ".join(cells) + " |")
    print(f"\n{write_report(frame, f'{args.out}/report.html')}")


if __name__ == "__main__":
    main()
