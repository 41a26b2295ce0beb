"""What training on five names does to five others, and training on clean digits to changed ones.

    python examples/base_to_new.py --part names
    python examples/base_to_new.py --part shift

The data are scikit-learn's digits, the model is the bundled CLIP.  Every seed draws the test images, the labels and,
in the first part, which five names are trained on ("base"); the other five are "new".  The learned prompts, or the
learned image tower, are then asked about the new names, of which they saw neither an image nor a word.  In the
second part ten names are trained on, and the test images are rotated or noisy.  It prints Markdown tables: accuracy
in percent, mean and standard deviation over the seeds, and CPU seconds per fit.  Every fit is stored in `--out`; the
same command continues where it was stopped.

Learning rates and numbers of steps suit the bundled CLIP, which is small.  The weights of PromptSRC's terms, its
average, the margin and the average of CLIPood are the papers'.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.base import clone

from modal_clip_dual import DualPromptClassifier, FineTunedClassifier
from modal_clip_dual.data import load_digits_images

DEMO = {"model_name": "demo", "pretrained": "bundled", "verbose": 0}
SHOTS = 16  # labels per class
START = "start (zero-shot CLIP)"


def prompts(names, seed, steps, **params):
    """Return prompts trained without augmentation, for about so many steps."""
    epochs = round(steps * 16 / (SHOTS * len(names)))
    settings = {"max_epochs": epochs, "batch_size": 16, "lr": 0.01, "augment": None, "random_state": seed}
    settings["criterion"] = "dual"
    return DualPromptClassifier(names, **DEMO, **settings | params)


def learners_of_names(names, seed, steps):
    """Return unfitted classifiers by name."""
    ivlp = {"visual_prompts": "ivlp", "n_context": 4}
    fine = {**DEMO, "lr": 1e-4, "n_steps": steps, "random_state": seed}
    no_average = {"criterion__average": None}
    return {
        "text prompts": prompts(names, seed, steps),
        "text prompts, PromptSRC": prompts(names, seed, steps, criterion="promptsrc"),
        "IVLP": prompts(names, seed, steps, **ivlp),
        "IVLP, three terms": prompts(names, seed, steps, **ivlp, criterion="promptsrc", net_params=no_average),
        "IVLP, PromptSRC": prompts(names, seed, steps, **ivlp, criterion="promptsrc"),
        "last block": FineTunedClassifier(names, margin=0.0, average=None, **fine),
        "last block, CLIPood": FineTunedClassifier(names, **fine),
    }


def with_names(clf, names, X):
    """Return predicted positions in other names by what a classifier has learned."""
    if isinstance(clf, FineTunedClassifier):  # its images, the frozen CLIP's texts
        return zero_shot(names, clf.transform(X))
    settings, arrays = clf.fitted_state()
    other = clone(clf).set_params(class_names=names)
    numbers = {"classes": list(range(len(names))), "classes_dtype": "<i8", "names": names}
    return other.restore_state(settings | numbers, arrays).predict(X)


def zero_shot(names, X):
    return DualPromptClassifier(names, **DEMO).zero_shot_proba(X).argmax(axis=1)


def some_of_each(y, rng, test):
    """Return rows of `SHOTS` samples per class that are not in the test set."""
    rows = [np.setdiff1d(np.flatnonzero(y == k), test) for k in np.unique(y)]
    return np.concatenate([rng.permutation(part)[:SHOTS] for part in rows])


class Stored:
    """Rows of a table in a file, to which each new one is appended."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.frame = pd.read_csv(path) if self.path.exists() else pd.DataFrame(columns=["learner", "seed"])

    def has(self, learner, seed):
        return bool(((self.frame["learner"] == learner) & (self.frame["seed"] == seed)).any())

    def add(self, row):
        print(row, flush=True)
        self.frame = pd.DataFrame([*self.frame.to_dict("records"), row])
        self.frame.to_csv(self.path, index=False)


def names_part(seeds, steps, stored):
    """Measure base and new names."""
    X, y, names = load_digits_images().values()
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 5])
        test = rng.permutation(len(y))[:599]
        labeled = some_of_each(y, rng, test)
        sides = np.split(rng.permutation(10), 2)
        part_names = [[names[k] for k in side] for side in sides]
        images, targets = [], []
        for side in sides:
            rows = test[np.isin(y[test], side)]
            images.append(X[rows])
            targets.append(np.argsort(side)[np.searchsorted(np.sort(side), y[rows])])
        rows = labeled[np.isin(y[labeled], sides[0])]
        target = np.argsort(sides[0])[np.searchsorted(np.sort(sides[0]), y[rows])]

        def measured(name, predict, seconds, images=images, targets=targets, names=part_names, seed=seed):
            base, new = (100 * float(np.mean(predict(*pair) == t)) for *pair, t in zip(names, images, targets))
            row = {"learner": name, "seed": seed, "base": base, "new": new}
            row["harmonic mean"] = 2 * base * new / (base + new)
            stored.add(row | {"CPU seconds": seconds})

        if not stored.has("zero-shot CLIP", seed):
            measured("zero-shot CLIP", zero_shot, np.nan)
        for name, clf in learners_of_names(part_names[0], seed, steps).items():
            if stored.has(name, seed):
                continue
            start = time.process_time()
            clf.fit(X[rows], target)
            seconds = time.process_time() - start
            measured(name, lambda names, X, clf=clf: with_names(clf, names, X), seconds)
    return stored.frame


def rotated(images, degrees):
    return np.stack([np.asarray(Image.fromarray(x).rotate(degrees, Image.Resampling.BICUBIC)) for x in images])


def noisy(images, sigma, rng):
    return np.clip(images + rng.normal(0, sigma, images.shape), 0, 255).astype(np.uint8)


TUNED = {
    "raw, no margin": {"margin": 0.0, "average": None},
    "raw": {"average": None},
    "averaged": {},
}


def shift_part(seeds, steps, stored):
    """Measure clean and changed test images."""
    X, y, names = load_digits_images().values()
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 6])
        test = rng.permutation(len(y))[:599]
        rows = some_of_each(y, rng, test)
        domains = {
            "clean": X[test],
            "rotated 20": rotated(X[test], 20),
            "rotated -20": rotated(X[test], -20),
            "noise 40": noisy(X[test], 40, rng),
            "noise 80": noisy(X[test], 80, rng),
        }
        if not stored.has(START, seed):
            frozen = {key: 100 * float(np.mean(zero_shot(names, part) == y[test])) for key, part in domains.items()}
            stored.add({"learner": START, "seed": seed, **frozen, "CPU seconds": np.nan})
        for layers in ("last", "all"):
            for kind, params in TUNED.items():
                name = f"layers={layers!r}, {kind}"
                if stored.has(name, seed):
                    continue
                settings = {"layers": layers, "lr": 1e-4, "n_steps": steps, "random_state": seed}
                clf = FineTunedClassifier(names, **DEMO, **settings, **params)
                start = time.process_time()
                clf.fit(X[rows], y[rows])
                seconds = time.process_time() - start
                accuracy = {key: 100 * clf.score(part, y[test]) for key, part in domains.items()}
                stored.add({"learner": name, "seed": seed, **accuracy, "CPU seconds": seconds})
    frame = stored.frame.copy()
    shifted = [column for column in frame if column.startswith(("rotated", "noise"))]
    frame.insert(len(frame.columns) - 1, "changed, mean", frame[shifted].mean(axis=1))
    return frame


def show(frame):
    """Print a table of means and standard deviations."""
    columns = [column for column in frame if column not in ("learner", "seed")]
    print("\n| | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for name in dict.fromkeys(frame["learner"]):
        rows = frame.loc[frame["learner"] == name, columns]
        cells = [f"{rows[c].mean():.1f} +- {rows[c].std():.1f}" for c in columns[:-1]]
        seconds = rows["CPU seconds"].mean()
        print(f"| {name} | " + " | ".join([*cells, "" if np.isnan(seconds) else f"{seconds:.1f}"]) + " |")


def main() -> None:
    """Run a part and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", choices=("names", "shift"), default="names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", default="results")
    args = parser.parse_args()
    stored = Stored(Path(args.out) / f"base-to-new-{args.part}-{args.steps}.csv")
    show((names_part if args.part == "names" else shift_part)(args.seeds, args.steps, stored))


if __name__ == "__main__":
    main()
