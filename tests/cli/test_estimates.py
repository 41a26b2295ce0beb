"""How long a benchmark takes, and what makes it take longer."""

import os
import time

import pytest
import torch

from modal_clip_dual.cli.estimates import crowded, duration, shortest


def test_a_single_delay_does_not_count():
    delays = iter([0.3, 0.0, 0.3])
    assert shortest(lambda: time.sleep(next(delays))) < 0.2


@pytest.mark.parametrize(
    ("load", "threads", "told"), [(0.1, 2, False), (0.9, 2, False), (2.0, 2, True), (11.0, 2, True), (11.0, 1, False)]
)
def test_threads_that_would_wait_for_each_other_are_told(monkeypatch, load, threads, told):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    advice = crowded()
    assert (advice is not None) == told
    if told:
        assert f"{load:.0f} processes share the 2 cores" in advice and "OMP_NUM_THREADS=1" in advice


def test_units():
    assert [duration(s) for s in (12.4, 120, 7200)] == ["12 seconds", "2 minutes", "2.0 hours"]


def test_images_behind_one_frozen_tower_count_once(digits, monkeypatch):
    """One training step and one image take a second each here, so that the estimate can be counted."""
    from modal_clip_dual import DualLinearClassifier, DualPromptClassifier
    from modal_clip_dual.active import Protocol
    from modal_clip_dual.cli import estimates
    from modal_clip_dual.evaluation.plan import find_samples, make_plan

    def seconds(work):
        return 64.0 if work.func.__name__ == "transform" else 4.0  # 64 images, 4 steps of 16

    monkeypatch.setattr(estimates, "shortest", seconds)
    frozen = {"class_names": digits.class_names, "model_name": "demo", "pretrained": "bundled", "device": "cpu"}
    prompts = DualPromptClassifier(**frozen, max_epochs=3)
    other = DualPromptClassifier(**frozen, max_epochs=3, lr=0.1)
    learners = {"a": prompts, "b": other, "c": DualLinearClassifier(**frozen)}
    samples = find_samples(digits.images[:90], digits.target[:90], digits.images[:10], digits.target[:10])
    plan = make_plan(samples, learners, ["random", "entropy"], Protocol(2, per_class=2), seeds=1)
    steps = 3 * (2 + 3)  # 20 labels and 40, in batches of 16
    assert estimates.estimate_seconds(plan, plan.runs) == 100 + 2 * 2 * steps
    # An epoch with pseudo-labels, 64 a step, has 2 steps for a pool of 90, 3 for 16 of each class, 1 for 60 samples;
    # its 20 labels have 2 steps, 40 have 3.
    monkeypatch.setattr(estimates, "MOST_TRANSDUCED", 60)
    for k, steps in (("auto", 1 + 2 + 3), (None, 2 + 2 + 3), (16, 3 + 3 + 3)):
        full = make_plan(samples, {"a": prompts}, "random", Protocol(2, per_class=2), "full", k, seeds=1)
        assert estimates.estimate_seconds(full, full.runs) == 100 + 3 * steps
    alone = make_plan(samples, {"c": learners["c"]}, "random", Protocol(2, per_class=2), seeds=1)
    assert estimates.estimate_seconds(alone, alone.runs) == 100
