"""Compare learners and query strategies: accuracy from 0 labels on, paired tests, effect sizes.

    python examples/compare_learners.py --data digits --seeds 10
    python examples/compare_learners.py --data photos.npz --learners dual-linear logistic-regression
    python examples/compare_learners.py --data photos.npz --model local-dir:FOLDER --learners prompts

One label per class and round, or as many as `--per-class` says.  Each seed splits the samples anew, a third of them
to test on.  A learner that classifies without labels is measured at 0 labels too, and its strategy chooses from the
first query on; the others start from the same random samples.  All learners get the same embeddings.  `prompts` are
trained on the labels with the default settings, `prompts-pool` is `DualPromptLearner` with its defaults, which trains
them on the labels that a `DualLinearClassifier` gives to the pool too, `paper-loop` is `DualPromptLearner` with
PAPER_SETTINGS and its own pseudo-labels.  It prints Markdown: accuracy after every round, each strategy less random
selection of the same learner, and each learner, at random and with its strategies, less logistic regression at
random.  Stored run by run in `--out`; the same command goes on where it was stopped.  `--csv` writes every run and
round, `--figure` draws the curves of CURVES.  An .npz is as for compare_heads.py; prompts and BayesAdapter need its
CLIP as `--model`, in open_clip's words.
"""

import argparse

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from modal_clip_dual import PAPER_SETTINGS, BayesAdapterClassifier, DualLinearClassifier, DualPromptClassifier
from modal_clip_dual.active import Protocol
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.evaluation import compare_pairs, compare_strategies, plot_learning_curves
from modal_clip_dual.evaluation.tables import label_table
from modal_clip_dual.strategies import available_strategies

CURVES = {
    "DualLinearClassifier, auto": "dual-linear, auto",
    "DualPromptClassifier with the pool, auto": "prompts-pool, auto",
    "the paper's loop, negative-prompt": "paper-loop, negative-prompt",
    "logistic regression, random": "logistic-regression, random",
}
MANY = ["random", "auto", "margin", "entropy", "class-balanced-entropy", "correctness", "badge", "typiclust"]
FEW = ["random", "negative-prompt"]
SCORES = ["accuracy", "auroc_correct", "ece_correct", "pool_accuracy", "estimated_accuracy", "train_seconds"]


def data_of(name, model):
    """Return embeddings, labels, and what the classifiers need to know of the text."""
    if name == "digits":
        digits = load_digits_images()
        clip = {"class_names": digits.class_names, "model_name": "demo", "pretrained": "bundled", "verbose": 0}
        return DualLinearClassifier(**clip).transform(digits.images), digits.target, clip, clip
    with np.load(name) as file:
        X, y = file["x"].astype(np.float32), file["y"].astype(int)
        names = {"class_names": [str(entry) for entry in file["names"]], "verbose": 0}
        text = {"text_embeddings": file["t"].astype(np.float32), "logit_scale": 1 / float(file["tau"])}
    return X, y, names | text, names | {"model_name": model, "pretrained": None} if model else None


def learners_of(text, clip):
    """Return by name: an unfitted classifier, strategies, kind of loop, whether it starts without labels, options."""
    linear = DualLinearClassifier(**text)
    learners = {
        "dual-linear": (linear, MANY, "full", True, {}),
        # Embeddings have length 1, so there is little regularization, as usual for linear probes.
        "logistic-regression": (
            LogisticRegression(C=100, max_iter=2000),
            ["random", "margin", "entropy", "badge", "typiclust"], "selection", False, {},
        ),
    }  # fmt: skip
    if clip:
        paper = DualPromptClassifier(**clip, **PAPER_SETTINGS)
        learners |= {
            "bayes-adapter": (BayesAdapterClassifier(**clip), ["random", "margin", "bald"], "selection", False, {}),
            "prompts": (DualPromptClassifier(**clip), FEW, "selection", True, {}),
            "prompts-pool": (DualPromptClassifier(**clip), [*FEW, "auto"], "full", True, {}),
            "paper-loop": (paper, FEW, "full", False, {}),
        }
    return learners


def tests_of(frame, reference):
    """Return a Markdown table of the differences to the reference."""
    pairs = compare_pairs(frame, reference=reference).sort_values("mean_difference", ascending=False)
    lines = [f"| less {reference} | points | 95% interval | effect size | p | p corrected |", "|---" * 6 + "|"]
    for row in pairs.itertuples():
        interval = f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
        lines.append(f"| {row.strategy} | {100 * row.mean_difference:+.1f} | {interval} | {row.effect_size:+.1f} | "
                     f"{row.p_value:.3g} | {row.p_corrected:.3g} |")  # fmt: skip
    lines.append(f"\nThe smallest corrected p that could have come out: {pairs.min_p_corrected.min():.2g}")
    return "\n".join(lines)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, or an .npz file")
    parser.add_argument("--model", help="CLIP of the .npz file, for prompts")
    parser.add_argument("--learners", nargs="+", help="names; all that the data allow by default")
    parser.add_argument("--strategies", nargs="+", help="names, or all; those of each learner by default")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--per-class", type=int, default=1, help="labels per class and round")
    parser.add_argument("--out", default="results/learners", help="folder of the runs")
    parser.add_argument("--csv", help="file for every run and round")
    parser.add_argument("--figure", help="file for the learning curves")
    parser.add_argument("--n-jobs", type=int, default=None)
    args = parser.parse_args()
    X, y, text, clip = data_of(args.data, args.model)
    learners = learners_of(text, clip)
    if unknown := set(args.learners or ()) - set(learners):
        parser.error(f"--learners {' '.join(sorted(unknown))}: expected some of {' '.join(learners)}")
    frames = {}
    for name in args.learners or learners:
        clf, strategies, loop, from_zero, options = learners[name]
        if args.strategies:
            strategies = available_strategies(clf) if args.strategies == ["all"] else args.strategies
        frames[name] = compare_strategies(
            {name: clf}, strategies, X, y, protocol=Protocol(args.rounds, per_class=args.per_class), loop=loop,
            from_zero=from_zero, first_query="strategy" if from_zero else "random", seeds=args.seeds,
            n_jobs=args.n_jobs, path=args.out, verbose=0, **options,
        )  # fmt: skip
        print(f"\n**{name}**\n\n{label_table(frames[name])}", flush=True)
        if "random" in set(frames[name].strategy) and frames[name].strategy.nunique() > 1:
            print("\n" + tests_of(after_queries(frames[name]), "random"), flush=True)
    frame = pd.concat(frames.values(), ignore_index=True)
    if args.csv:
        columns = ["estimator", "strategy", "seed", "n_labels", *(c for c in SCORES if c in frame)]
        frame[columns].to_csv(args.csv, index=False, float_format="%.4f")
    if len(frames) > 1:
        frame["strategy"] = frame.estimator + ", " + frame.strategy
        frame = frame.drop(columns="estimator")
        if args.figure:
            draw(frame, args.figure)
        reference = "logistic-regression, random"
        if reference in set(frame.strategy):
            print("\n" + tests_of(after_queries(frame), reference))


def draw(frame, path):
    """Draw the learning curves of CURVES that there are."""
    titles = {name: title for title, name in CURVES.items()}
    shown = frame[frame.strategy.isin(titles)]
    ax = plot_learning_curves(shown.assign(strategy=shown.strategy.map(titles)))
    ax.figure.savefig(path, dpi=150, bbox_inches="tight")


def after_queries(frame):
    """Return the rounds that all learners have."""
    return frame[frame.n_labels > 0]


if __name__ == "__main__":
    main()
