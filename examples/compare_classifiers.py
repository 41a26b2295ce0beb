"""Compare prompts with a linear classifier on the same embeddings: accuracy over labels, on the digits.

    python examples/compare_classifiers.py --seeds 5

Selection is random, so that only the classifiers differ: the dual prompts, a plain prompt
(`negative_weight=0`), the whole loop with pseudo-labels, and scikit-learn's logistic regression on the
embeddings of the same CLIP.  It prints Markdown.
"""

import argparse

from sklearn.linear_model import LogisticRegression

from modal_clip_dual import PAPER_SETTINGS, DualPromptClassifier
from modal_clip_dual.active import Protocol
from modal_clip_dual.data import load_benchmark
from modal_clip_dual.evaluation import compare_strategies
from modal_clip_dual.evaluation.tables import label_table


def main() -> None:
    """Run the comparison and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    digits = load_benchmark("digits")
    clf = DualPromptClassifier(digits.class_names, model_name="demo", pretrained="bundled", **PAPER_SETTINGS)
    plain = DualPromptClassifier(**clf.get_params() | {"negative_weight": 0})
    X, X_test = (clf.transform(part) for part in (digits.X_train, digits.X_test))
    data = (X, digits.y_train, X_test, digits.y_test)
    settings = {"protocol": Protocol(args.rounds, fraction=0.01), "seeds": args.seeds, "verbose": 0}
    prompts = {"dual prompts": clf, "plain prompt": plain}
    for estimators, learner in (
        (prompts, "selection"),
        ({"dual prompts, whole loop": clf}, "full"),
        # Embeddings have length 1, so there is little regularization, as usual for linear probes.
        ({f"logistic regression, C={C}": LogisticRegression(C=C, max_iter=2000) for C in (1, 10, 100)}, "selection"),
    ):
        frame = compare_strategies(estimators, ["random"], *data, loop=learner, **settings)
        print(label_table(frame), flush=True)


if __name__ == "__main__":
    main()
