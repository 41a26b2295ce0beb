"""One seed, one result, whatever draws, wherever it runs; and the global generators are left alone."""

import json
import os
import pickle
import random
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LABELLED, make_classifier, make_learner
from PIL import Image
from sklearn.base import clone

from modal_clip_dual import DualPromptLearner, mine_confident
from modal_clip_dual._compat import query_returns_metrics
from modal_clip_dual.active import Protocol
from modal_clip_dual.data import load_digits_images
from modal_clip_dual.data.augmentation import RandomResizedCrop, augmented
from modal_clip_dual.data.preprocessing import preprocessing_of
from modal_clip_dual.evaluation import (
    compare_pairs,
    compare_strategies,
    run_active_learning,
    summarize,
)
from modal_clip_dual.strategies import available_strategies, get_strategy

N = 120


class GlobalState:
    """The global generators of Python, NumPy and torch, set from a seed; must be as they were."""

    def __init__(self, seed):
        self.seed = seed

    def __enter__(self):
        random.seed(self.seed)
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)
        self.before = self.state()

    def __exit__(self, kind, *args):
        if kind is None:
            assert self.state() == self.before, "a global generator was drawn from"

    @staticmethod
    def state():
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def same_and_untouched(compute, equal=np.testing.assert_array_equal):
    """What `compute` gives, the same under other global states, none of which it touches."""
    results = []
    for seed in (0, 1):
        with GlobalState(seed):
            results.append(compute())
    equal(*results)
    return results[0]


def test_the_check_sees_draws():
    for draw in (random.random, np.random.rand, lambda: torch.rand(1)):
        with pytest.raises(AssertionError, match="a global generator"), GlobalState(0):
            draw()


# -------------------------------------------------------------------- the classifier


def trained(method, digits, embeddings, **params):
    X, y = embeddings[LABELLED[:20]], digits.target[LABELLED[:20]]
    clf = make_classifier(digits, max_epochs=2, **params)
    if method == "fit":
        clf.fit(X, y)
    elif method == "fit with pseudo-labels":
        clf.fit(X, y, X_pseudo=embeddings[:9], y_pseudo=digits.target[:9])
    elif method == "fit_unlabeled":
        clf.fit_unlabeled(embeddings[:60], 2)
    elif method == "partial_fit":
        clf.fit(X, y).partial_fit(X[:8], y[:8])
    elif method == "fit with visual prompts":
        clf.set_params(visual_prompts="vpt-deep", net_params={"module__n_visual_tokens": 2}, max_epochs=1)
        clf.fit(digits.images[:20], digits.target[:20])
        return clf.clean_logits(digits.images[:30])
    return clf.clean_logits(embeddings[:50])


TRAININGS = (
    "fit", "fit with pseudo-labels", "fit_unlabeled", "partial_fit", "fit with visual prompts",
)  # fmt: skip


@pytest.mark.parametrize("method", TRAININGS)
def test_training(digits, embeddings, method):
    first = same_and_untouched(lambda: trained(method, digits, embeddings))
    other = trained(method, digits, embeddings, random_state=1)
    assert np.abs(first - other).max() > 1e-4  # the seed counts
    state = np.random.RandomState(5)
    a, b = (trained(method, digits, embeddings, random_state=np.random.RandomState(5)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    before = state.get_state()[2]
    trained(method, digits, embeddings, random_state=state)
    assert state.get_state()[2] != before  # a generator of the user's is drawn from
    with GlobalState(0):
        trained(method, digits, embeddings, random_state=None)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.RMSprop])
def test_training_with_another_optimizer(digits, embeddings, optimizer):
    params = {"optimizer": optimizer, "optimizer__lr": 1e-3}
    same_and_untouched(lambda: trained("fit", digits, embeddings, net_params=params))


@pytest.mark.parametrize("complement", ["uniform", "all", "hard"])
def test_complements(digits, embeddings, complement):
    same_and_untouched(lambda: trained("fit", digits, embeddings, complement=complement))


def test_fitting_again_is_fitting(digits, embeddings):
    """An integer seed gives every fit the same draws, after whatever came before."""
    X, y = embeddings[:20], digits.target[:20]
    clf = make_classifier(digits, max_epochs=2)
    expected = clf.fit(X, y).clean_logits(X)
    clf.partial_fit(X[:5], y[:5])
    clf.fit_unlabeled(X, 1)
    for again in (clf, clone(clf), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(again.fit(X, y).clean_logits(X), expected)


@pytest.mark.parametrize("method", TRAININGS)
def test_going_on_after_pickling(digits, embeddings, method):
    """A pickled estimator predicts and trains on to the same numbers as the one it was made of."""
    images = method == "fit with visual prompts"
    X, y = (digits.images[:20] if images else embeddings[:20]), digits.target[:20]
    clf = make_classifier(digits, max_epochs=1)
    if images:
        clf.set_params(visual_prompts="vpt-shallow", net_params={"module__n_visual_tokens": 2})
    clf.fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.clean_logits(X), clf.clean_logits(X))
    outputs = [each.partial_fit(X[:8], y[:8]).clean_logits(X) for each in (clf, again)]
    np.testing.assert_array_equal(*outputs)


def test_predictions_and_embeddings_draw_nothing(fitted, digits, embeddings):
    for method in (
        "predict_proba",
        "clean_logits",
        "predict_correct_proba",
        "zero_shot_proba",
        "transform",
    ):
        same_and_untouched(lambda method=method: getattr(fitted, method)(embeddings[:40]))
    same_and_untouched(lambda: make_classifier(digits, cache=None).transform(digits.images[:20]))
    same_and_untouched(lambda: mine_confident(fitted, embeddings[:40], 3)[0])


# -------------------------------------------------------------------- other processes, workers, batches

SCRIPT = """
import json, sys
import numpy as np
from modal_clip_dual import DualPromptClassifier, DualPromptLearner, get_strategy
from modal_clip_dual.active import Protocol
from modal_clip_dual.data import load_digits_images
X, y, names = load_digits_images().values()
clf = DualPromptClassifier(
    names, model_name="demo", pretrained="bundled", device="cpu", max_epochs=2, random_state=0
)
fit = clf.fit(X[:20], y[:20]).clean_logits(X[:30])
visual = DualPromptClassifier(
    names, model_name="demo", pretrained="bundled", device="cpu", max_epochs=1, random_state=0,
    visual_prompts="vpt-shallow", net_params={"module__n_visual_tokens": 2},
).fit(X[:20], y[:20]).clean_logits(X[:30])
learner = DualPromptLearner(clf, X[:120], n_per_class=2).run(y[:120], protocol=Protocol(2, per_class=1))
print(json.dumps([fit.tolist(), visual.tolist(), learner.rows_.tolist()]))
"""


def test_other_processes_and_hash_seeds():
    """Two processes whose sets and strings hash differently agree to the last bit."""
    outputs = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT],
            env=environment, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(done.stdout))
    assert outputs[0] == outputs[1]


def in_worker(seed):
    """What a worker process of joblib gets: nothing but a seed reaches it."""
    torch.set_num_threads(1)
    X, y, _ = load_digits_images().values()
    clf = make_classifier(load_digits_images(), max_epochs=1, random_state=seed)
    return clf.fit(X[:20], y[:20]).clean_logits(X[:20])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_n_jobs_of_joblib(digits):
    threads = torch.get_num_threads()
    try:
        expected = [in_worker(seed) for seed in (0, 1)]
    finally:
        torch.set_num_threads(threads)
    workers = joblib.Parallel(n_jobs=2)(joblib.delayed(in_worker)(seed) for seed in (0, 1))
    np.testing.assert_array_equal(workers, expected)
    threaded = joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(in_worker)(s) for s in (0, 1))
    np.testing.assert_allclose(threaded, expected, atol=1e-3)


@pytest.mark.parametrize("n_jobs", [2, -1])
def test_n_jobs_of_the_classifier(digits, tmp_path, n_jobs):
    """Augmentation is decided by seed, epoch and row: not by who reads the file."""
    paths = np.array([str(tmp_path / f"{k}.png") for k in range(40)])
    for path, image in zip(paths, digits.images):
        Image.fromarray(image).save(path)

    def fit(n_jobs):
        clf = make_classifier(
            digits, max_epochs=2, visual_prompts="vpt-shallow", n_visual_tokens=1, n_jobs=n_jobs, cache=None
        )
        return clf.fit(paths, digits.target[:40]).clean_logits(paths[:10])

    np.testing.assert_array_equal(same_and_untouched(lambda: fit(n_jobs)), fit(1))


def test_threads_that_train_at_once(digits, embeddings):
    """Estimators share the CLIP; none sees another's draws or text hooks."""
    expected = [trained("fit", digits, embeddings, random_state=seed) for seed in range(4)]
    work = (joblib.delayed(trained)("fit", digits, embeddings, random_state=seed) for seed in range(4))
    for output, alone in zip(joblib.Parallel(n_jobs=4, backend="threading")(work), expected):
        np.testing.assert_allclose(output, alone, atol=1e-3)


# -------------------------------------------------------------------- augmentation


def jitter(image):
    """An augmentation of a user's, which draws from the global generators."""
    shift = np.random.randint(256) + random.randrange(256) + int(torch.randint(256, ()))
    return Image.fromarray(np.uint8((np.asarray(image, dtype=int) + shift) % 256))


@pytest.mark.parametrize("augment", [RandomResizedCrop((32, 32)), jitter], ids=["built in", "callable"])
def test_augmentation(demo, digits, augment):
    image = Image.fromarray(digits.images[0]).convert("RGB")
    preprocessing = preprocessing_of(demo.preprocess)
    first = same_and_untouched(lambda: augmented(augment, image, (3, 7), preprocessing))
    for other in ((3, 8), (4, 7)):
        assert np.any(augmented(augment, image, other, preprocessing) != first)


@pytest.mark.filterwarnings("ignore:augment=.*hides:UserWarning")
def test_training_with_an_augmentation_that_draws(digits):
    def fit():
        clf = make_classifier(
            digits, max_epochs=2, visual_prompts="vpt-shallow", n_visual_tokens=1, augment=jitter
        )
        return clf.fit(digits.images[:16], digits.target[:16]).clean_logits(digits.images[:16])

    same_and_untouched(fit)


# -------------------------------------------------------------------- strategies and loops


@pytest.mark.parametrize("name", [name for name in available_strategies() if name != "first"])
def test_every_strategy_of_the_registry(learner_for, embeddings, digits, name):
    estimator = learner_for(name).estimator
    learner = make_learner(estimator, embeddings[LABELLED[:20]], digits.target[LABELLED[:20]])
    strategy = get_strategy(name)
    from inspect import signature

    seeded = {"random_state": 3} if "random_state" in signature(strategy).parameters else {}

    def rows():
        result = strategy(learner, embeddings[:N], 7, **seeded)
        return np.asarray(result[0] if isinstance(result, tuple) else result)

    first = same_and_untouched(rows)
    assert len(set(first.tolist())) == 7
    copied = pickle.loads(pickle.dumps(learner))
    result = strategy(copied, embeddings[:N], 7, **seeded)
    np.testing.assert_array_equal(result[0] if isinstance(result, tuple) else result, first)
    if seeded:  # without a seed: fresh draws, and still none of the global generators'
        seeded.clear()
        with GlobalState(0):
            rows()


def test_random_tie_break_of_ours(learner, embeddings):
    pool = np.repeat(embeddings[:1], 30, axis=0)
    for name in ("negative-prompt", "class-balanced-margin"):
        strategy = get_strategy(name, random_tie_break=True, random_state=2)

        def rows(strategy=strategy):
            result = strategy(learner, pool, 5)
            return np.asarray(result[0] if query_returns_metrics() else result)

        assert same_and_untouched(rows).tolist() != list(range(5))


@pytest.mark.parametrize("strategy", ["negative-prompt", "random", "badge", "typiclust"])
@pytest.mark.parametrize("first_query", ["strategy", "random"])
def test_learner_run(digits, embeddings, strategy, first_query):
    X, y = embeddings[:N], digits.target[:N]

    def run(seed=0):
        learner = DualPromptLearner(
            make_classifier(digits, max_epochs=1), X, n_per_class=2, random_state=seed,
            query_strategy=get_strategy(strategy), first_query=first_query,
        )  # fmt: skip
        learner.run(y, protocol=Protocol(2, per_class=1))
        return learner.rows_, learner.pseudo_rows_, learner.estimator.clean_logits(X)

    def equal(a, b):
        for part, other in zip(a, b):
            np.testing.assert_array_equal(part, other)

    first = same_and_untouched(run, equal)
    assert np.abs(first[2] - run(seed=1)[2]).max() > 1e-4


def timeless(frame):
    return frame[[name for name in frame.columns if not name.endswith(("seconds", "_mib"))]]


def equal_frames(a, b):
    pd.testing.assert_frame_equal(timeless(a), timeless(b), check_exact=True)


@pytest.mark.parametrize("loop", ["selection", "full"])
def test_comparison(digits, embeddings, loop):
    """Runs do not depend on their order, nor on which others are done."""
    clf = make_classifier(digits, max_epochs=1)

    def compare(strategies, seeds=2):
        return compare_strategies(
            clf, strategies, embeddings[:N], digits.target[:N], protocol=Protocol(2, per_class=1),
            seeds=seeds, loop=loop, n_per_class=2, verbose=0,
        )  # fmt: skip

    frame = same_and_untouched(lambda: compare(["random", "badge"]), equal_frames)
    alone = compare(["badge"], seeds=[1])
    part = frame[(frame["strategy"] == "badge") & (frame["seed"] == 1)].reset_index(drop=True)
    equal_frames(alone, part)
    assert frame.groupby("seed")["mean_correct"].last().nunique() > 1


def test_one_run(digits, embeddings):
    def run():
        return pd.DataFrame(
            run_active_learning(
                make_classifier(digits, max_epochs=1), get_strategy("random"), embeddings[:N],
                digits.target[:N], embeddings[N : 2 * N], digits.target[N : 2 * N], n_instances=8, n_rounds=2,
            )
        )  # fmt: skip

    same_and_untouched(run, equal_frames)


@pytest.fixture(scope="module")
def results():
    """Invented records of two strategies, three rounds and five seeds."""
    rng = np.random.default_rng(0)
    rows = [
        {"data": "d", "estimator": "e", "learner": "selection", "strategy": strategy, "seed": seed,
         "round": round_, "n_labels": 10 * round_, "budget": round_ / 100, "accuracy": rng.uniform()}
        for strategy in ("a", "b") for seed in range(5) for round_ in (1, 2, 3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_summaries_and_tests(results):
    from inspect import signature

    for function in (summarize, compare_pairs):
        assert "random_state" in signature(function).parameters, function
        same_and_untouched(lambda function=function: function(results), equal_frames)
