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
