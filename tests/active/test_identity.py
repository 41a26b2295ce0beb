"""Images are known by their bytes: folders that were touched, moved, renamed or thinned out."""

import os
import pickle
import shutil
from hashlib import blake2b

import numpy as np
import pytest
from PIL import Image

from modal_clip_dual import DualPromptLearner, random_sampling
from modal_clip_dual.active import saving
from modal_clip_dual.heads.tip_adapter import TipAdapterClassifier

DEMO = {"model_name": "demo", "pretrained": "bundled", "device": "cpu", "verbose": 0}
N = 20


@pytest.fixture
def paths(digits, tmp_path):
    (tmp_path / "project" / "photos" / "more").mkdir(parents=True)
    found = []
    for k, image in enumerate(digits.images[:N]):
        path = tmp_path / "project" / "photos" / ("more" if k % 3 == 0 else ".") / f"{k:02}.png"
        Image.fromarray(image).save(path)
        found.append(os.path.normpath(path))
    return found


@pytest.fixture
def make(digits):
    def make(paths, **params):
        clf = TipAdapterClassifier(digits.class_names, **DEMO)
        return DualPromptLearner(clf, paths, query_strategy=random_sampling, **params)

    return make


@pytest.fixture
def state(make, paths, digits, tmp_path):
    """The state of a loop with four labels, beside the folder of its images."""
    learner = make(paths, path=tmp_path / "project" / "state.npz")
    learner.teach(rows=[2, 5, 7, 3], y=digits.target[[2, 5, 7, 3]])
    learner.close()
    return tmp_path / "project" / "state.npz"


def goes_on(learner, digits):
    """Whether it has its labels and trains on the right images."""
    assert learner.rows_[:4].tolist() == [2, 5, 7, 3]
    row = learner.unlabeled_[:1]
    learner.teach(rows=row, y=digits.target[row])
    fresh = TipAdapterClassifier(digits.class_names, **DEMO).fit(digits.images[learner.rows_], learner.labels_)
    probe = digits.images[100:120]
    np.testing.assert_allclose(learner.predict_proba(probe), fresh.predict_proba(probe), atol=1e-5)


def test_touched_files_are_the_same(state, paths, digits):
    for path in paths:
        os.utime(path, (1, 1))
    goes_on(DualPromptLearner.resume(state), digits)


def test_state_and_folder_move_together(state, paths, digits, tmp_path):
    shutil.move(tmp_path / "project", tmp_path / "elsewhere")
    learner = DualPromptLearner.resume(tmp_path / "elsewhere" / "state.npz")
    goes_on(learner, digits)
    assert all(str(tmp_path / "elsewhere") in path for path in learner.X_pool)


@pytest.mark.parametrize("how", ["moved", "copied", "flat and renamed"])
def test_relocate_finds_the_same_bytes(state, paths, digits, tmp_path, how):
    folder = tmp_path / "project" / "photos"
    if how == "flat and renamed":
        (tmp_path / "new").mkdir()
        for k, path in enumerate(paths):  # names that lead to other images
            shutil.move(path, tmp_path / "new" / f"{N - 1 - k:02}.png")
    else:
        shutil.copytree(folder, tmp_path / "new")
        if how == "moved":
            shutil.rmtree(folder)
    learner = DualPromptLearner.resume(state, relocate=tmp_path / "new")
    goes_on(learner, digits)
    assert all(str(tmp_path / "new") in path for path in learner.X_pool)
    del learner
    DualPromptLearner.resume(state)  # it has the new places now


def test_folders_that_are_nowhere(state, paths, tmp_path):
    shutil.move(tmp_path / "project" / "photos", tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="none of its files is there, .*relocate=FOLDER"):
        DualPromptLearner.resume(state)
    with pytest.raises(ValueError, match="relocate=.* is no folder"):
        DualPromptLearner.resume(state, relocate=tmp_path / "no")
    with pytest.raises(ValueError, match="pass one of them"):
        DualPromptLearner.resume(state, paths, relocate=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="none of its files is there"):
        DualPromptLearner.resume(state, relocate=tmp_path / "empty")


def test_rows_whose_files_are_gone_are_named_and_come_back(state, paths, digits, tmp_path):
    gone = [1, 5]
    for row in gone:
        shutil.move(paths[row], tmp_path / f"{row}")
    with pytest.warns(UserWarning, match=r"files of the pool are gone: rows \[1, 5\] \('.*01.png', ...\)"):
        learner = DualPromptLearner.resume(state)
    assert learner.rows_.tolist() == [2, 7, 3] and not set(gone) & set(learner.unlabeled_)
    with pytest.raises(ValueError, match=r"rows \[1\] were dropped, or their files are gone"):
        learner.teach(rows=[1], y=[1])
    learner.teach(rows=[8], y=[8])
    assert learner.y_training.tolist() == digits.target[[2, 7, 3, 8]].tolist()
    assert len(learner.query(n_instances=len(learner.unlabeled_))[0]) == N - 6
    learner.drop([1])  # for good
    del learner
    for row in gone:
        shutil.move(tmp_path / f"{row}", paths[row])
    learner = DualPromptLearner.resume(state)
    assert learner.rows_.tolist() == [2, 5, 7, 3, 8] and 1 not in learner.unlabeled_
    learner.forget([1])
    assert 1 in learner.unlabeled_


def test_files_that_are_away_for_a_moment_while_the_loop_runs(make, paths, digits, tmp_path):
    learner = make(paths)
    learner.teach(rows=[2, 5, 7], y=digits.target[[2, 5, 7]])
    for row in (4, 5):
        shutil.move(paths[row], tmp_path / f"{row}")
    assert learner.look_for_files().tolist() == [4, 5] and learner.rows_.tolist() == [2, 7]
    learner.teach(rows=[9], y=[9])
    assert learner.y_training.tolist() == digits.target[[2, 7, 9]].tolist()
    shutil.move(tmp_path / "5", paths[5])
    assert learner.look_for_files().tolist() == [4] and learner.rows_.tolist() == [2, 5, 7, 9]
    learner.train()  # the label counts again
    assert learner.log_[-1]["n_labels"] == 4
    for row in set(range(len(paths))) - {4}:
        shutil.move(paths[row], tmp_path / f"{row}")
    with pytest.raises(FileNotFoundError, match="X_pool: none of its files is there"):
        learner.look_for_files()
    assert learner.rows_.tolist() == [2, 5, 7, 9]


def test_a_file_that_goes_while_the_loop_runs(make, paths, digits):
    learner = make(paths)
    learner.teach(rows=[2, 5, 7], y=digits.target[[2, 5, 7]])
    os.remove(paths[4])
    gone = r"files are gone, rows \[4\] \('.*04.png'\); drop\(rows\) goes on"
    for action in (learner.query, lambda: learner.teach(rows=[9], y=[9]), lambda: learner.skip([9])):
        with pytest.raises(FileNotFoundError, match=gone):
            action()
    learner.drop([4])
    learner.teach(rows=[9], y=[9])
    assert 4 not in learner.query(n_instances=15)[0]
    with pytest.raises(FileNotFoundError, match="these stay dropped"):
        learner.forget([4])
    os.remove(paths[5])  # one with a label
    learner.drop([5])
    assert learner.rows_.tolist() == [2, 7, 9] and learner.log_[-1]["n_labels"] == 3


@pytest.mark.parametrize("saved", [True, False])
def test_a_file_that_holds_another_image_while_the_loop_runs(make, paths, digits, tmp_path, saved):
    """It was trained on with its old label; now it is named, and the loop goes on without it or with the old file."""
    learner = make(paths, path=tmp_path / "state.npz" if saved else None)
    learner.teach(rows=[2, 5, 7, 3], y=digits.target[[2, 5, 7, 3]])
    shutil.copy2(paths[3], tmp_path / "old.png")
    probe = learner.predict_proba(digits.images[100:120])
    Image.fromarray(digits.images[50]).save(paths[3])
    learner.estimator.predict(paths)  # by now the process knows the new bytes
    learner.teach(rows=[8], y=[8], train=False)  # what people say is taken in whatever the files hold
    changed = r"files hold other images than when the loop read them, rows \[3\] \('.*03.png'\); drop\(rows\) goes on"
    for action in (
        learner.query,
        learner.train,
        lambda: learner.teach(rows=[9], y=[9]),
        lambda: learner.relabel([5], [1]),
        lambda: learner.skip([5]),
    ):
        with pytest.raises(ValueError, match=changed) as info:
            action()
        assert pickle.loads(pickle.dumps(info.value)).rows.tolist() == [3]
    assert learner.rows_.tolist() == [2, 5, 7, 3, 8] and len(learner.log_) == 2
    shutil.copy(tmp_path / "old.png", paths[3])  # the old bytes at another time
    learner.train()
    assert learner.X_training.tolist() == [paths[row] for row in (2, 5, 7, 3, 8)]
    learner.forget([8])
    np.testing.assert_allclose(learner.predict_proba(digits.images[100:120]), probe, atol=1e-6)
    Image.fromarray(digits.images[50]).save(paths[3])
    learner.drop([3])
    assert learner.rows_.tolist() == [2, 5, 7]
    with pytest.raises(ValueError, match=changed):
        learner.forget([3])  # it would count again, with the label of before
    assert learner.extend([paths[3]]).tolist() == [N]
    learner.teach(rows=[N], y=digits.target[[50]])
    goes_on_with = [2, 5, 7, N]
    assert learner.rows_.tolist() == goes_on_with
    fresh = TipAdapterClassifier(digits.class_names, **DEMO).fit(digits.images[[2, 5, 7, 50]], learner.labels_)
    np.testing.assert_allclose(
        learner.predict_proba(digits.images[100:120]), fresh.predict_proba(digits.images[100:120]), atol=1e-5
    )
    if saved:
        learner.close()
        assert DualPromptLearner.resume(tmp_path / "state.npz").rows_.tolist() == goes_on_with


def test_touched_files_are_the_same_while_the_loop_runs(make, paths, digits):
    learner = make(paths)
    learner.teach(rows=[2, 5, 7, 3], y=digits.target[[2, 5, 7, 3]])
    for path in paths:
        os.utime(path, (1, 1))
    goes_on(learner, digits)
    assert len(learner.query(n_instances=3)[0]) == 3


def test_a_file_that_comes_back_as_another_image(state, make, paths, digits, tmp_path):
    learner = make(paths)
    learner.teach(rows=[2, 5, 7], y=digits.target[[2, 5, 7]])
    os.remove(paths[5])
    assert learner.look_for_files().tolist() == [5]
    Image.fromarray(digits.images[50]).save(paths[5])
    assert not len(learner.look_for_files())
    with pytest.raises(ValueError, match=r"hold other images .* rows \[5\]"):
        learner.train()
    shutil.copy(paths[5], paths[6])
    resumed = DualPromptLearner.resume(state, drop=[5, 6])
    resumed.forget([6], train=False)  # what `resume` left out is compared with what was saved, too
    with pytest.raises(ValueError, match=r"hold other images .* rows \[6\]"):
        resumed.query()


def test_other_images_in_old_places(state, paths, digits):
    Image.fromarray(digits.images[50]).save(paths[6])
    with pytest.raises(ValueError, match=r"differs from the saved learner's in 1 of 20 rows, .* \[6\]; .*drop=\[6\]"):
        DualPromptLearner.resume(state)
    learner = DualPromptLearner.resume(state, drop=[6])
    assert 6 not in learner.unlabeled_
    goes_on(learner, digits)
    assert learner.log_[-1]["changes"] == [{"what": "drop", "rows": [6], "annotator": None}]


def test_pools_that_are_passed(state, paths, digits, tmp_path):
    with pytest.raises(ValueError, match="X_pool has 19 rows, the saved learner's had 20"):
        DualPromptLearner.resume(state, paths[1:])
    shutil.move(tmp_path / "project" / "photos", tmp_path / "new")
    moved = [path.replace(os.path.join("project", "photos"), "new") for path in paths]
    Image.fromarray(digits.images[N]).save(tmp_path / "another.png")
    learner = DualPromptLearner.resume(state, [*moved, tmp_path / "another.png"])
    assert learner.unlabeled_[-1] == N
    goes_on(learner, digits)
    assert learner.log_[-1]["changes"] == [{"what": "extend", "rows": [N]}]


@pytest.mark.filterwarnings("ignore:X_pool holds the saved learner's samples at other rows")
@pytest.mark.parametrize("new", [0, 2])
def test_what_is_saved_follows_the_samples_to_other_rows(state, paths, digits, tmp_path, new):
    """A folder that is listed anew may have another order, and new files between the old ones."""
    before = DualPromptLearner.resume(state)
    before.skip([0])
    before.drop([11])
    asked, _ = before.query(n_instances=3)
    before.teach(rows=asked[:2], y=digits.target[asked[:2]], train=False)
    labels = dict(zip(before.rows_.tolist(), before.labels_.tolist()))
    log = before.log_
    del before
    late = [str(tmp_path / f"late{k}.png") for k in range(new)]
    for k, path in enumerate(late):
        Image.fromarray(digits.images[N + k]).save(path)
    listed = [*late[:1], *paths[::-1], *late[1:]]
    place = {row: listed.index(paths[row]) for row in range(N)}
    with pytest.warns(UserWarning, match="holds the saved learner's samples at other rows; labels and log follow"):
        learner = DualPromptLearner.resume(state, listed)
    found = dict(zip(learner.rows_.tolist(), learner.labels_.tolist()))
    assert found == {place[row]: label for row, label in labels.items()}
    assert place[0] not in learner.unlabeled_ and place[11] not in learner.unlabeled_
    assert {listed.index(path) for path in late} <= set(learner.unlabeled_)
    assert learner._query["rows"] == [place[row] for row in asked]
    for old, now in zip(log, learner.log_):
        assert now["rows"] == (None if old["rows"] is None else [place[row] for row in old["rows"]])
    learner.forget([place[0]])
    learner.train()
    added = [change["rows"] for change in learner.log_[-1]["changes"] if change["what"] == "extend"]
    assert added == ([[listed.index(path) for path in late]] if new else [])
    assert learner.X_training.tolist() == [listed[row] for row in learner.rows_]
    del learner
    again = DualPromptLearner.resume(state)  # from here on the new order is the saved one
    assert again.paths_ == listed and dict(zip(again.rows_.tolist(), again.labels_.tolist())) == found
    with pytest.raises(ValueError, match="X_pool differs from the saved learner's"):
        DualPromptLearner.resume(state, [*listed[1:], listed[1]])


@pytest.mark.filterwarnings("ignore:X_pool holds the saved learner's samples at other rows")
def test_embeddings_in_another_order(make, embeddings, digits, tmp_path):
    pool = np.concatenate([embeddings[:N], embeddings[:2]])  # two come twice
    learner = make(pool, path=tmp_path / "state.npz")
    learner.teach(rows=[0, N, 5], y=digits.target[[0, 0, 5]])
    del learner
    order = np.random.default_rng(0).permutation(len(pool))
    learner = DualPromptLearner.resume(tmp_path / "state.npz", pool[order])
    np.testing.assert_array_equal(pool[order][learner.rows_], pool[[0, N, 5]])
    assert len(set(learner.rows_.tolist())) == 3
    assert learner.labels_.tolist() == digits.target[[0, 0, 5]].tolist()


@pytest.mark.parametrize("form", ["list", "float64", "float16", "float32"])
@pytest.mark.parametrize("given", ["float32", "float64"])
def test_embeddings_are_known_by_their_numbers_in_any_type(make, embeddings, digits, tmp_path, given, form):
    numbers = embeddings[: N + 5].astype("float16")  # which every type can hold
    learner = make(numbers[:N].astype(given), path=tmp_path / "state.npz")
    learner.teach(rows=[2, 5, 7], y=digits.target[[2, 5, 7]])
    learner.extend(numbers[N:].tolist() if form == "list" else numbers[N:].astype(form))
    assert learner.X_pool.dtype == given and np.array_equal(learner.X_pool, numbers)
    predicted = learner.predict(embeddings)
    learner.close()
    again = DualPromptLearner.resume(
        tmp_path / "state.npz", numbers.tolist() if form == "list" else numbers.astype(form)
    )
    assert again.rows_.tolist() == [2, 5, 7] and len(again.unlabeled_) == N + 2
    np.testing.assert_array_equal(again.predict(embeddings), predicted)
    other = numbers.astype("float64")
    other[4, 0] += 0.01
    again.close()
    with pytest.raises(ValueError, match=r"differs .* in 1 of 25 rows, the first of them \[4\]"):
        DualPromptLearner.resume(tmp_path / "state.npz", other)


def test_a_pool_narrower_than_float32_keeps_the_digits_of_new_samples(make, embeddings, digits):
    learner = make(embeddings[:N].astype("float16"))
    learner.teach(rows=[2, 5, 7], y=digits.target[[2, 5, 7]])
    learner.extend(embeddings[N : N + 5])
    np.testing.assert_array_equal(learner.X_pool[N:], embeddings[N : N + 5])


@pytest.mark.filterwarnings("ignore:X_pool holds the saved learner's samples at other rows")
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
@pytest.mark.parametrize("now", ["float32", "float64"])
def test_old_files_knew_embeddings_by_their_type(make, embeddings, digits, tmp_path, now, order):
    """Those whose pool became float64 when it grew, too: of its keys some are of float32, some of float64."""
    learner = make(embeddings[:N].astype(float), path=tmp_path / "state.npz")
    learner.start()
    learner._keys = saving.keys_of(learner._pool, None).copy()
    for row in range(N // 2, N):
        learner._keys[row] = np.frombuffer(blake2b(learner._pool[row].tobytes(), digest_size=16).digest(), np.uint8)
    learner.teach(rows=[2, 15], y=digits.target[[2, 15]])
    learner.close()
    again = DualPromptLearner.resume(tmp_path / "state.npz", embeddings[:N].astype(now)[order])
    np.testing.assert_array_equal(again.X_pool[again.rows_], embeddings[[2, 15]])
    assert again.labels_.tolist() == digits.target[[2, 15]].tolist()


def test_relative_paths_begin_where_the_learner_was_made(make, paths, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "project")
    relative = [os.path.relpath(path) for path in paths]
    learner = make(relative, path="state.npz")
    monkeypatch.chdir(tmp_path)
    rows, images = learner.query(n_instances=3)
    assert images.tolist() == [relative[row] for row in rows]  # as they were given
    learner.teach(images, digits.target[rows])
    os.mkdir("work")
    monkeypatch.chdir("work")
    Image.fromarray(digits.images[N]).save("late.png")
    with pytest.raises(FileNotFoundError, match="X_new: files do not exist"):
        learner.extend(["late.png"])  # relative to the same place as all others
    learner.extend([os.path.abspath("late.png")])
    assert len(learner.query(n_instances=18)[0]) == 18
    assert not list((tmp_path / "work").glob("*.npz"))
    del learner
    assert DualPromptLearner.resume(tmp_path / "project" / "state.npz").rows_.tolist() == rows.tolist()


def test_old_files_knew_images_by_path_size_and_time(state, paths, digits):
    """As version 0.1.0 wrote them: no annotations, and such keys."""
    from hashlib import blake2b

    settings, arrays = saving.read_state(state, "learner")
    for name in [*settings]:
        if name in ("keys", "due", "changes", "disagreement", "folder", "kind", "versions", "schema"):
            del settings[name]
    settings["log"] = [{k: v for k, v in record.items() if k != "changes"} for record in settings["log"]]
    arrays = {name: array for name, array in arrays.items() if "." not in name or name.startswith("head.")}
    del arrays["trained_rows"], arrays["trained_labels"], arrays["predicted_rows"]
    keys = []
    for path in paths:
        known = f"{path}\0{os.path.getsize(path)}\0{os.stat(path).st_mtime_ns}"
        keys.append(blake2b(known.encode(), digest_size=16).digest())
    arrays["pool_keys"] = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)
    saving.write_state(state, "learner", settings, arrays)
    learner = DualPromptLearner.resume(state)
    assert learner.annotations["time"].isna().all()
    goes_on(learner, digits)
    del learner
    for path in paths:
        os.utime(path, (1, 1))  # by now it knows them by their bytes
    assert len(DualPromptLearner.resume(state).rows_) == 5


def test_paths_of_any_text_are_saved_small(tmp_path):
    """Paths are written at every answer: a text of bytes, not four bytes per character."""
    from PIL import Image

    from modal_clip_dual import DualPromptLearner, TipAdapterClassifier

    paths = [str(tmp_path / name) for name in ("a\nb.png", "ünï 犬.png", "'\"; drop.png")]
    for k, path in enumerate(paths):
        Image.new("RGB", (4, 4), (k, 0, 0)).save(path)
    clf = TipAdapterClassifier(["cat", "dog"], model_name="demo", pretrained="bundled", device="cpu", verbose=0)
    learner = DualPromptLearner(clf, paths, path=tmp_path / "state.npz").start()
    learner.close()
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        assert file["pool_paths_utf8"].nbytes == len("\0".join(paths).encode())
    again = DualPromptLearner.resume(tmp_path / "state.npz")
    assert again.paths_ == paths and list(again.X_pool) == paths
