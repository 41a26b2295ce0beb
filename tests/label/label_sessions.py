"""A folder of digits to label, and sessions on it."""

from pathlib import Path

import pytest
from digits_folder import write_digits

N = 120  # digits in the folder


@pytest.fixture
def folder(tmp_path, digits, monkeypatch):
    """A folder of digits, ``0000.png`` and on, whose embeddings are kept for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_digits(tmp_path / "digits", digits, N)


@pytest.fixture
def truth(digits):
    """Function that gives the class of a file of `folder`."""
    return lambda path: digits.class_names[digits.target[int(Path(path).stem)]]


@pytest.fixture
def make(folder, digits):
    """Function that makes a session on the folder, or goes on with its state file; all are closed at the end."""
    from modal_clip_dual import DualLinearClassifier, DualPromptLearner, auto_sampling
    from modal_clip_dual.label import LabelSession

    made = []

    def make(state="labels.npz", start=True, learner=None, budget=None, **params):
        path = folder / state
        if learner is None and path.exists():
            learner = DualPromptLearner.resume(path)
        elif learner is None:
            names = {name: name for name in digits.class_names}
            estimator = DualLinearClassifier(names, model_name="demo", pretrained="bundled", device="cpu", verbose=0)
            paths = sorted(map(str, folder.rglob("*.png")))
            learner = DualPromptLearner(
                estimator, paths, query_strategy=auto_sampling, path=str(path), budget=budget
            )
        session = LabelSession(learner, **{"n_instances": 10, **params})
        made.append(session)
        if start:
            session.start()
            session.wait()
        return session

    yield make
    for session in made:
        session.close()
