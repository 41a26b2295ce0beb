"""How many of scikit-learn's own checks pass: on a CLIP as wide as the data, and on the bundled one.

    PYTHONPATH=tests python tests/benchmarks/scikit_learn_checks.py
"""

import warnings

import sklearn
from sklearn.utils.estimator_checks import check_estimator
from test_common import AnyWidth

from modal_clip_dual import DualPromptClassifier


def main():
    warnings.simplefilter("ignore")
    params = {"max_epochs": 3, "n_context": 2, "complement": "all", "batch_size": 256, "random_state": 0}
    wide = AnyWidth(device="cpu", verbose=0, **params)
    bundled = DualPromptClassifier(model_name="demo", pretrained="bundled", device="cpu", verbose=0, **params)
    print(f"scikit-learn {sklearn.__version__}")
    for name, estimator in {"a CLIP as wide as the data": wide, "the bundled CLIP": bundled}.items():
        done = check_estimator(estimator, on_fail=None, on_skip=None)
        passed = sum(result["status"] == "passed" for result in done)
        skipped = sum(result["status"] == "skipped" for result in done)
        failed = [result["check_name"] for result in done if result["status"] not in ("passed", "skipped")]
        print(f"{name}: {passed} of {len(done)} passed, {skipped} skipped; others: {', '.join(failed)}", flush=True)


if __name__ == "__main__":
    main()
