"""Errors name the argument that holds a file, and the rows as the caller counts them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modal_clip_dual import (
    BayesAdapterClassifier,
    CLIPImageEncoder,
    DualLinearClassifier,
    DualPromptClassifier,
    DualPromptLearner,
    TipAdapterClassifier,
)
from modal_clip_dual.data import UnreadableImagesError
from modal_clip_dual.strategies import correctness_sampling

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}


@pytest.fixture
def two_broken(tmp_path, digits):
    """12 files, of which 3 and 9 are broken."""
    paths = []
    for k in range(12):
        paths.append(str(tmp_path / f"{k}.png"))
        if k in (3, 9):
            Path(paths[-1]).write_bytes(b"no image")
        else:
            Image.fromarray(digits.images[k]).save(paths[-1])
    return paths


def test_the_argument_that_holds_the_file_is_named(two_broken, embeddings, digits):
    names, few = digits.class_names, (embeddings[:10], digits.target[:10])
    calls = {
        "X_pool": [
            lambda: DualLinearClassifier(names, **DEMO).fit(*few, X_pool=two_broken),
            lambda: DualLinearClassifier(names, **DEMO).fit_unlabeled(two_broken),
            lambda: DualPromptClassifier(names, **DEMO).fit_unlabeled(two_broken),
            lambda: DualPromptLearner(DualLinearClassifier(names, **DEMO), two_broken).start(),
        ],
        "X_pseudo": [
            lambda: DualPromptClassifier(names, **DEMO).fit(
                two_broken[4:9], [1] * 5, X_pseudo=two_broken, y_pseudo=[1] * 12
            ),
            lambda: DualPromptClassifier(names, **DEMO).fit(None, None, X_pseudo=two_broken, y_pseudo=[1] * 12),
        ],
        "X": [
            lambda: DualLinearClassifier(names, **DEMO).fit(two_broken, [1] * 12, X_pool=embeddings),
            lambda: BayesAdapterClassifier(names, **DEMO).fit(two_broken, [1] * 12),
        ],
    }
    for name, several in calls.items():
        for call in several:
            with pytest.raises(UnreadableImagesError, match=rf"^2 of 12 .* {name}\[3\]: .*; {name}\[9\]") as info:
                call()
            assert info.value.rows.tolist() == [3, 9]
            assert info.value.paths == [two_broken[3], two_broken[9]]


@pytest.mark.parametrize("kind", [DualLinearClassifier, BayesAdapterClassifier, TipAdapterClassifier])
def test_rows_are_those_of_the_call_where_weights_leave_some_out(two_broken, digits, kind):
    weight = np.ones(12)
    weight[[0, 1, 9]] = 0
    with pytest.raises(UnreadableImagesError, match=r"^X\[3\]: ") as info:
        kind(digits.class_names, **DEMO).fit(two_broken, [1] * 12, weight)
    assert info.value.rows.tolist() == [3]


def test_rows_are_those_of_the_pool_where_a_loop_reads_a_part(two_broken, tmp_path, digits):
    """Dropped by the rows of the error, the loop goes on; before, another image was dropped."""
    good = [path for k, path in enumerate(two_broken) if k not in (3, 9)]
    learner = DualPromptLearner(
        DualLinearClassifier(digits.class_names, **DEMO), good, query_strategy=correctness_sampling
    ).start()
    learner.drop([0, 1])
    late = [tmp_path / "late0.png", tmp_path / "late1.png"]
    for path, image in zip(late, digits.images[20:]):
        Image.fromarray(image).save(path)
    assert learner.extend([str(late[0]), good[0], str(late[1])]).tolist() == [10, 11, 12]
    for path in late:  # broken since
        path.write_bytes(b"no image")
    with pytest.raises(UnreadableImagesError, match=r"^2 of 13 files .* X_pool\[10\]: .*; X_pool\[12\]") as info:
        learner.query(n_instances=2)
    with pytest.raises(UnreadableImagesError, match=r"X_pool\[10\]"):
        learner.teach(rows=[5], y=[5])
    learner.drop(info.value.rows)
    rows, _ = learner.query(n_instances=2)
    assert len(rows) == 2 and learner.rows_.tolist() == [5]


def test_files_that_cannot_be_read_do_not_get_into_a_pool(two_broken, digits):
    good = [path for k, path in enumerate(two_broken) if k not in (3, 9)]
    learner = DualPromptLearner(DualLinearClassifier(digits.class_names, **DEMO), good[:5]).start()
    with pytest.raises(UnreadableImagesError, match=r"^2 of 5 files .* X_new\[1\]: .*; X_new\[4\]") as info:
        learner.extend([good[5], two_broken[3], good[6], good[7], two_broken[9]])
    assert info.value.rows.tolist() == [1, 4]
    assert len(learner.X_pool) == 5 and len(learner.unlabeled_) == 5
    assert learner.extend(good[5:]).tolist() == [5, 6, 7, 8, 9]


def test_folders_and_addresses_are_no_files(tmp_path):
    encoder = CLIPImageEncoder(**DEMO)
    with pytest.raises(FileNotFoundError, match=r"X\[0\]: '.*' is a folder; expected files, which .*list_images"):
        encoder.transform([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"X\[1\]: 'https://.*' is an address; .* nothing is downloaded"):
        encoder.transform([__file__, "https://example.org/cat.png"])


def test_what_is_read_item_by_item_is_named(embeddings, digits):
    clf = DualLinearClassifier(digits.class_names, **DEMO)
    prompts = DualPromptClassifier(digits.class_names, **DEMO)
    X, y = embeddings[:5], digits.target[:5]
    pseudo = {"X_pseudo": X, "y_pseudo": y}
    for name, call in {
        "X": lambda: prompts.fit((row for row in X), y, **pseudo),
        "y": lambda: prompts.fit(X, (label for label in y), **pseudo),
        "X_pseudo": lambda: prompts.fit(X, y, X_pseudo=(row for row in X), y_pseudo=y),
        "y_pseudo": lambda: prompts.fit(X, y, X_pseudo=X, y_pseudo=iter(y)),
        "sample_weight": lambda: prompts.fit(X, y, (1.0 for _ in y)),
        "X_pool": lambda: DualPromptLearner(clf, (row for row in X)).unlabeled_,
    }.items():
        with pytest.raises(TypeError, match=f"^{name} is a [a-z_]*, which is read item by item; expected"):
            call()
    with pytest.raises(TypeError, match=r"^X_pseudo is 3 \(int\); expected image embeddings"):
        prompts.fit(X, y, X_pseudo=3, y_pseudo=y)
    for call in (
        lambda: clf.fit(embeddings[:5], digits.target[:5], X_pool=(row for row in embeddings)),
        lambda: clf.fit_unlabeled(row for row in embeddings),
    ):
        with pytest.raises(TypeError, match="X_pool is a generator, which is read item by item; expected"):
            call()


def test_a_mask_is_no_list_of_rows(embeddings, digits):
    learner = DualPromptLearner(DualLinearClassifier(digits.class_names, **DEMO), embeddings[:50]).start()
    with pytest.raises(ValueError, match=r"rows is a mask of shape \(50,\); .*numpy.flatnonzero\(mask\)"):
        learner.skip(np.arange(50) == 7)
