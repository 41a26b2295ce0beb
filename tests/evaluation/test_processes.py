"""Comparisons in several processes: joblib's own and a Dask cluster's, and what a killed one costs."""

import json
import os
import re
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
from joblib import cpu_count, parallel_config
from sklearn.linear_model import LogisticRegression

from modal_clip_dual.active import Protocol
from modal_clip_dual.cli import main
from modal_clip_dual.evaluation import compare_strategies, read_results

MEASURED_ANEW = ["train_seconds", "score_seconds", "select_seconds", "peak_memory_mib"]


class Doomed(LogisticRegression):
    """Kills its process the first time, as the system does when memory runs out; later an ordinary estimator."""

    def __init__(self, C=1.0, max_iter=100, flag=None, times=1):
        super().__init__(C=C, max_iter=max_iter)
        self.flag, self.times = flag, times

    def fit(self, X, y):
        fits = len(self.flag.read_text())
        if fits < self.times:
            self.flag.write_text("x" * (fits + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)


class Counting(LogisticRegression):
    """Writes down the threads with which torch, and each library of linear algebra, computes in its process."""

    def __init__(self, C=1.0, max_iter=100, folder=None):
        super().__init__(C=C, max_iter=max_iter)
        self.folder = folder

    def fit(self, X, y):
        import torch
        from threadpoolctl import threadpool_info

        threads = [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]
        (self.folder / f"{os.getpid()}.json").write_text(json.dumps(threads))
        return super().fit(X, y)


@pytest.fixture
def no_limits(monkeypatch):
    """As where nothing is set: torch takes all cores."""
    from joblib.parallel import ParallelBackendBase

    for name in ParallelBackendBase.MAX_NUM_THREADS_VARS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def workers(request):
    """Backends of joblib, two processes each."""
    if request.param == "loky":
        yield request.param
        return
    from dask.distributed import Client, LocalCluster

    with (
        warnings.catch_warnings(),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
        parallel_config(backend="dask"),
    ):
        yield request.param


def compare(embeddings, digits, estimators, **kwargs):
    X, y = embeddings[:240].astype(np.float64), digits.target[:240]
    frame = compare_strategies(
        estimators, ["random", "margin"], X, y, protocol=Protocol(2, per_class=1), seeds=2, verbose=0, **kwargs
    )
    return frame.drop(columns=MEASURED_ANEW)


def both(flag, times=1, sound=None):
    doomed = Doomed(max_iter=200, flag=flag, times=times)
    return {"sound": LogisticRegression(max_iter=200) if sound is None else sound, "doomed": doomed}


@pytest.fixture
def flag(tmp_path):
    file = tmp_path / "fits"
    file.write_text("")
    return file


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
@pytest.mark.parametrize("workers", ["loky", "dask"], indirect=True)
def test_a_killed_worker_and_the_threads_of_all(no_limits, workers, embeddings, digits, flag, tmp_path):
    """It loses its run and no other; each computes with its share of the cores, or they would all wait."""
    sound = LogisticRegression(max_iter=200)
    threads = tmp_path / "threads"
    threads.mkdir()
    expected = compare(embeddings, digits, {"sound": sound, "doomed": sound})
    with warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", "a worker process ended before", RuntimeWarning)
        counting = Counting(max_iter=200, folder=threads)
        actual = compare(embeddings, digits, both(flag, sound=counting), n_jobs=2, path=tmp_path / "out")
    told = [str(warning.message) for warning in told]
    assert len(told) == (workers == "loky")  # Dask starts tasks again by itself
    assert all(re.search(r"ended before its run did.*\d of 8 runs start again", text) for text in told)
    assert flag.read_text() == "x"  # it was killed
    pd.testing.assert_frame_equal(actual, expected, rtol=1e-6)
    seen = {int(file.stem): json.loads(file.read_text()) for file in threads.iterdir()}
    assert seen and os.getpid() not in seen
    share = max(1, cpu_count() // 2) if workers == "loky" else 1  # Dask's processes have one thread here
    for torch_threads, *others in seen.values():
        assert torch_threads == share
        assert others and max(others) <= share


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_an_estimator_that_always_dies_ends_the_comparison(embeddings, digits, flag, tmp_path):
    """What was done by then is stored."""
    from concurrent.futures.process import BrokenProcessPool

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a worker process ended before", RuntimeWarning)
        with pytest.raises(BrokenProcessPool):
            compare(embeddings, digits, both(flag, times=10**6), n_jobs=2, path=tmp_path / "out")
    assert set(read_results(tmp_path / "out")["estimator"]) == {"sound"}


def test_benchmark_on_a_scheduler(tmp_path, capsys):
    """The command with the workers of a Dask cluster writes the table that it writes alone."""
    from dask.distributed import LocalCluster

    command = ["benchmark", "--data", "digits", "--model", "demo", "--learners", "dual-linear,prompts",
               "--strategies", "random", "--seeds", "1", "--rounds", "1", "--epochs", "1",
               "--device", "cpu"]  # fmt: skip
    assert main([*command, "--out", str(tmp_path / "alone")]) == 0
    with warnings.catch_warnings(), LocalCluster(1, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        assert main([*command, "--out", str(tmp_path / "dask"), "--scheduler", address]) == 0
    alone, dask = (read_results(tmp_path / name).drop(columns=MEASURED_ANEW) for name in ("alone", "dask"))
    assert set(alone["estimator"]) == {"DualLinear", "DualPrompt"}
    # Other processes may compute with other threads: two of 599 test images may fall on the other side.
    pd.testing.assert_frame_equal(dask, alone, atol=2 / 599, rtol=0)


def test_no_scheduler(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("modal_clip_dual.cli.benchmark.SECONDS_TO_CONNECT", 0.2)
    command = ["benchmark", "--data", "digits", "--model", "demo", "--out", str(tmp_path / "out")]
    assert main([*command, "--scheduler", "127.0.0.1:9"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()
