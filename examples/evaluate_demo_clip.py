"""Measure the bundled CLIP on scikit-learn's handwritten digits, which it never saw.

It prints the zero-shot accuracy of several templates on all 1,797 scans, the accuracy of a
linear probe (5-fold cross-validation, `LogisticRegression` on the image embeddings), the
size of the weights and the seconds it takes to load them.
"""

import time
from importlib.resources import files

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from modal_clip_dual import DualPromptClassifier
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.data import load_digits_images

TEMPLATES = [
    "{}",
    "a photo of a {}.",
    "a photo of the number {}.",
    "a handwritten {}.",
    "a low resolution scan of the digit {}.",
]


def main():
    start = time.perf_counter()
    backbone = load_backbone("demo", "bundled", "cpu")
    print(f"loaded in {time.perf_counter() - start:.2f} s (torch and open_clip imported before)")
    weights = files("modal_clip_dual") / "assets" / "demo_clip" / "open_clip_model.safetensors"
    n_parameters = sum(parameter.numel() for parameter in backbone.model.parameters())
    print(f"weights: {weights.stat().st_size / 1e6:.2f} MB; {n_parameters / 1e6:.2f} million parameters")
    print(f"1 / tau: {backbone.logit_scale:.1f}")

    digits = load_digits_images()
    for template in [*TEMPLATES, TEMPLATES]:
        clf = DualPromptClassifier(
            digits.class_names,
            model_name="demo",
            pretrained="bundled",
            template=template,
            device="cpu",
            verbose=0,
        )
        accuracy = (clf.zero_shot_proba(digits.images).argmax(axis=1) == digits.target).mean()
        shown = repr(template) if isinstance(template, str) else "all of them averaged"
        print(f"zero-shot, {shown}: {accuracy:.1%}")

    probe = LogisticRegression(C=100, max_iter=5000)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(probe, clf.transform(digits.images), digits.target, cv=folds)
    print(f"linear probe: {scores.mean():.1%} +- {scores.std(ddof=1):.1%} over 5 folds")


if __name__ == "__main__":
    main()
