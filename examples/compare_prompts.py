"""Compare kinds of prompts, each with the paper's and with the default settings, over the number of labels.

    python examples/compare_prompts.py --seeds 3
    python examples/compare_prompts.py --kinds text --seeds 10 --labels 2 60
    python examples/compare_prompts.py --kinds text --data photos.npz --model local-dir:FOLDER

Digits and the bundled CLIP: 599 scans to test on, labels drawn at random from the rest, the same for all.  Or an .npz
of embeddings as for compare_heads.py, with its CLIP as `--model` in open_clip's words: text prompts only, its own
training and test rows.  The settings "paper" are PAPER_SETTINGS without augmentation (a mirrored digit is none),
"default" what the classifier does by itself, "no-offsets" the default without offsets to the class names, "own" the
default with contexts of its own for each class in their place, and "free" the default without the pull to the
hand-written text, and so without offsets.  Seed k draws by NumPy's permutation of seed k.  It prints Markdown: mean
accuracy, standard deviation and worst difference to zero-shot CLIP, and processor seconds per fit.  Every fit is
stored in `--out`; the same command continues where it was stopped.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import pandas as pd

from modal_clip_dual import PAPER_SETTINGS, DualPromptClassifier
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.nn.prompts import VISUAL_PROMPTS

KINDS = {"text": None, **{name.replace("_", "-"): name.replace("_", "-") for name in VISUAL_PROMPTS}}
SETTINGS = {
    "paper": {**PAPER_SETTINGS, "augment": None},
    "default": {},
    "free": {"criterion": "dual"},
    "no-offsets": {"net_params": {"module__name_offsets": False}},
    "own": {"net_params": {"module__class_specific_context": True}},
    "words": {"context_init": "a photo of a"},
    "warm-up": {"net_params": {"callbacks__cosine_decay__warmup": True}},
}
N_TEST = 599
COLUMNS = ("kind", "settings", "n_labels", "seed", "accuracy", "zero_shot", "auroc", "seconds")


def data_of(name, model):
    """Return samples, labels, the arguments of a classifier, and the test rows of an .npz or None."""
    if name == "digits":
        digits = load_digits_images()
        clip = {"class_names": digits.class_names, "model_name": "demo", "pretrained": "bundled"}
        return digits.images, digits.target, clip, None
    with np.load(name) as file:
        clip = {"class_names": [str(entry) for entry in file["names"]], "model_name": model}
        clip["pretrained"] = "bundled" if model == "demo" else None
        return file["x"].astype(np.float32), file["y"].astype(int), clip, file["split"] == "test"


def run(kind, settings, n_labels, seed, X, y, clip, is_test):
    """Return one line of the results."""
    from sklearn.metrics import roc_auc_score

    order = np.random.default_rng(seed).permutation(len(y))
    is_test = np.isin(np.arange(len(y)), order[:N_TEST]) if is_test is None else is_test
    test, rows = order[is_test[order]], order[~is_test[order]][:n_labels]
    clf = DualPromptClassifier(
        **clip, visual_prompts=KINDS[kind], random_state=seed, verbose=0, **SETTINGS[settings]
    )
    zero_shot = (np.argmax(clf.zero_shot_proba(X[test]), axis=1) == y[test]).mean()
    start = time.process_time()
    clf.fit(X[rows], y[rows])
    seconds = time.process_time() - start
    right = clf.predict(X[test]) == y[test]
    auroc = roc_auc_score(right, clf.predict_correct_proba(X[test])) if 0 < right.mean() < 1 else np.nan
    return kind, settings, n_labels, seed, right.mean(), zero_shot, auroc, seconds


def table(results):
    """Return the results as Markdown, a line per kind and settings."""
    lines = ["| prompts | settings | " + " | ".join(f"{n}" for n in sorted(results.n_labels.unique())) + " |"]
    lines.append("|---" * (results.n_labels.nunique() + 2) + "|")
    seconds = []
    for (kind, settings), rows in results.groupby(["kind", "settings"], sort=False):
        cells, times = [], []
        for n in sorted(results.n_labels.unique()):
            part = rows[rows.n_labels == n]
            if part.empty:
                cells.append("")
                times.append("")
                continue
            worst = 100 * (part.accuracy - part.zero_shot).min()
            cells.append(f"{100 * part.accuracy.mean():.1f} ± {100 * part.accuracy.std():.1f} ({worst:+.1f})")
            times.append(f"{part.seconds.mean():.1f}")
        lines.append(f"| {kind} | {settings} | " + " | ".join(cells) + " |")
        seconds.append(f"| {kind} | {settings} | " + " | ".join(times) + " |")
    last = results[results.n_labels == results.n_labels.max()].groupby(["kind", "settings"], sort=False).auroc.mean()
    auroc = ", ".join(f"{kind} {settings} {100 * value:.0f}" for (kind, settings), value in last.items())
    return "\n".join(
        ["Accuracy, mean ± standard deviation (worst difference to zero-shot), by number of labels:\n", *lines,
         "\nProcessor seconds per fit:\n", *lines[:2], *seconds,
         f"\nAUROC of P(correct) with {results.n_labels.max()} labels: {auroc}"]
    )  # fmt: skip


def main():
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["paper", "default"])
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 2, 5, 10, 20, 40, 60, 80, 200])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="first of the seeds")
    parser.add_argument("--out", type=Path, default=Path("prompts.csv"), help="file of the results")
    parser.add_argument("--data", default="digits", help="digits, or an .npz file")
    parser.add_argument("--model", help="CLIP of the .npz file")
    args = parser.parse_args()
    if args.data != "digits" and (args.model is None or args.kinds != ["text"]):
        parser.error("--data: embeddings go with --kinds text, and with their CLIP as --model")
    data = data_of(args.data, args.model)
    if not args.out.exists():
        args.out.write_text(",".join(COLUMNS) + "\n")
    done = {tuple(row) for row in pd.read_csv(args.out)[list(COLUMNS[:4])].itertuples(index=False)}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for kind in args.kinds:
            for settings in args.settings:
                for n_labels in args.labels:
                    if (kind, settings, n_labels, seed) in done:
                        continue
                    line = run(kind, settings, n_labels, seed, *data)
                    with args.out.open("a", newline="") as file:
                        csv.writer(file).writerow(line)
    print(table(pd.read_csv(args.out)))


if __name__ == "__main__":
    main()
