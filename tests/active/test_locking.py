"""One process per state file; two learners of one process do not overwrite each other."""

import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

from modal_clip_dual import DualPromptLearner, random_sampling
from modal_clip_dual.active import locking
from modal_clip_dual.heads.tip_adapter import TipAdapterClassifier

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}

HOLDER = """
import sys
sys.path.insert(0, {folder!r})
from modal_clip_dual.active import locking
class Owner:
    pass
owner = Owner()
try:
    lease = locking.claim({path!r}, owner)
except RuntimeError as error:
    print(error, flush=True)
else:
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path):
    """Start another process that claims a file; its first line, and itself."""
    started = []

    def other(path):
        script = HOLDER.format(path=str(path), folder=os.getcwd())
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process.stdout.readline().strip(), process

    yield other
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def make(embeddings, digits, tmp_path):
    def make():
        clf = TipAdapterClassifier(digits.class_names, **DEMO)
        return DualPromptLearner(clf, embeddings[:40], query_strategy=random_sampling, path=tmp_path / "state.npz")

    return make


def test_a_second_process_is_told_who_has_it(make, other, embeddings, digits, tmp_path):
    learner = make().start()
    said, _ = other(tmp_path / "state.npz")
    assert f"in use by process {os.getpid()} on {locking.socket.gethostname()} since 20" in said
    learner.teach(rows=[0, 1], y=digits.target[:2])  # it has it still
    learner.close()
    said, process = other(tmp_path / "state.npz")
    assert said == "held"
    saved = (tmp_path / "state.npz").read_bytes()
    with pytest.raises(RuntimeError, match=f"in use by process {process.pid} on "):
        learner.skip([3])
    with pytest.raises(RuntimeError, match=f"in use by process {process.pid} on "):
        DualPromptLearner.resume(tmp_path / "state.npz", embeddings[:40])
    assert (tmp_path / "state.npz").read_bytes() == saved and 3 in learner.unlabeled_
    process.communicate("\n")
    learner.skip([3])
    assert 3 not in learner.unlabeled_
    del learner
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.npz"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_the_lock_of_a_dead_process_is_taken_over(make, other, tmp_path):
    said, process = other(tmp_path / "state.npz")
    assert said == "held"
    process.kill()
    process.wait()
    assert json.loads((tmp_path / "state.npz.holder").read_text())["pid"] == process.pid
    make().start()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.npz"]


def test_two_learners_of_one_process(make, embeddings, digits, tmp_path):
    path, X, y = tmp_path / "state.npz", embeddings[:40], digits.target
    make().query(n_instances=4)
    first, second = DualPromptLearner.resume(path, X), DualPromptLearner.resume(path, X)
    first.teach(rows=[0, 1], y=y[:2])
    before = dict(vars(second))
    with pytest.raises(RuntimeError, match="was written by another learner since"):
        second.teach(rows=[2, 3], y=y[2:4])
    assert all(vars(second)[name] is before[name] for name in before) and not len(second.rows_)
    assert DualPromptLearner.resume(path, X).rows_.tolist() == [0, 1]
    first.teach(rows=[4], y=y[4:5])


def test_a_state_file_that_is_gone_is_written_again(make, digits, tmp_path):
    learner = make().start()
    (tmp_path / "state.npz").unlink()
    learner.teach(rows=[0, 1], y=digits.target[:2])
    with np.load(tmp_path / "state.npz") as saved:
        assert saved["rows"].tolist() == [0, 1]


def test_a_copy_has_no_lock(make, digits):
    learner = make().start()
    copy = pickle.loads(pickle.dumps(learner))
    copy.teach(rows=[0, 1], y=digits.target[:2])
    with pytest.raises(RuntimeError, match="was written by another learner"):
        learner.teach(rows=[2], y=digits.target[2:3])


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_to_a_state_file_is_that_file(embeddings, tmp_path):
    """A save through the link went beside the file that it leads to, and took no lock of it."""
    clf = TipAdapterClassifier(["cat", "dog"], model_name="demo", pretrained="bundled", device="cpu", verbose=0)
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "state.npz", tmp_path / "link.npz"
    learner = DualPromptLearner(clf, embeddings[:20], path=real).start()
    learner.close()
    link.symlink_to(real)
    again = DualPromptLearner.resume(link, embeddings[:20])
    assert (tmp_path / "real" / "state.npz.lock").exists() and not (tmp_path / "link.npz.lock").exists()
    again.teach(rows=[0], y=["cat"], train=False)
    again.close()
    assert link.is_symlink()
    assert DualPromptLearner.resume(real, embeddings[:20]).labels_.tolist() == ["cat"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder in which root cannot write, too")
def test_a_folder_that_cannot_be_written_to_is_not_in_use():
    class Owner:
        pass

    with pytest.raises(OSError, match="path='/proc/state.npz': no file can be written to its folder"):
        locking.claim("/proc/state.npz", Owner())
