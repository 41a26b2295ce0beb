"""Benchmarks of the inner parts, under pytest-benchmark; no part of the test run.

    pip install pytest-benchmark
    pytest -n 0 tests/benchmarks/bench_core.py --benchmark-columns=median,iqr,rounds

Each group holds what is to be compared; the figures in brackets are ratios to the fastest.  The
bundled CLIP, so that all of it takes a minute; text_encoding.py, round.py and scale.py measure
the same on towers and pools of full size.
"""

import numpy as np
import pytest
import torch

pytest.importorskip("pytest_benchmark")

from modal_clip_dual import DualPromptClassifier, negative_prompt_sampling
from modal_clip_dual.clip.backbone import load_backbone
from modal_clip_dual.nn.text_encoder import PromptedTextEncoder
from modal_clip_dual.utils.selection import select_per_class

WORDS = "river highway forest meadow orchard harbour station market garden tower".split()
NAMES = [f"{a} {b}" for a in WORDS for b in WORDS]


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    return rng.normal(size=(100_000, 128)).astype(np.float32)


@pytest.fixture(scope="module")
def classifier(pool):
    clf = DualPromptClassifier(
        NAMES, model_name="demo", pretrained="bundled", max_epochs=1, device="cpu", random_state=0
    )
    return clf.fit(pool[:100], np.arange(100))


@pytest.mark.benchmark(group="a step of the text side, C = 100")
@pytest.mark.parametrize("path", ["full", "truncated", "prefix-sharing"])
def test_text_step(benchmark, path):
    encoder = PromptedTextEncoder(load_backbone("demo", "bundled", "cpu"), NAMES, 16, path)
    contexts = torch.zeros(2, 16, encoder.width).requires_grad_()

    def step():
        torch.autograd.grad(encoder(contexts)[..., 0].sum(), contexts)

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="100,000 embeddings of 128 numbers, C = 100")
@pytest.mark.parametrize("what", ["torch.mm", "predict_proba", "predict_correct_proba", "query"])
def test_scoring(benchmark, classifier, pool, what):
    both = torch.randn(128, 200)
    call = {
        "torch.mm": lambda: torch.mm(torch.from_numpy(pool), both),
        "query": lambda: negative_prompt_sampling(classifier, pool, 100),
    }.get(what, lambda: getattr(classifier, what)(pool))
    benchmark(call)


@pytest.mark.benchmark(group="choosing 100 of 100,000")
@pytest.mark.parametrize("rule", ["argsort", "per-class", "global"])
def test_selection(benchmark, rule):
    rng = np.random.default_rng(0)
    scores, predicted = rng.normal(size=100_000), rng.integers(100, size=100_000)
    if rule == "argsort":
        benchmark(lambda: np.argsort(scores, kind="stable")[:100])
    else:
        benchmark(lambda: select_per_class(scores, predicted, 100, 100, rule))


@pytest.mark.benchmark(group="a fit of 100 labels, 5 epochs")
@pytest.mark.parametrize("compiled", [False, True])
def test_fit(benchmark, pool, compiled):
    clf = DualPromptClassifier(
        NAMES[:10], model_name="demo", pretrained="bundled", max_epochs=5, device="cpu",
        net_params={"compile": True} if compiled else None, random_state=0,
    )  # fmt: skip
    y = np.arange(100) % 10
    benchmark.pedantic(lambda: clf.fit(pool[:100], y), rounds=5, warmup_rounds=1)
